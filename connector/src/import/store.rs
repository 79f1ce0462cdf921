//! Where the import of a connector is stored. There is one at a time.

use async_trait::async_trait;

use super::record::{Record, State};
use crate::{claim::ClaimError, identity::MemberId};

/// What a store has.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// Changes with each write; `None` if nothing was ever written.
    pub version: Option<String>,
    /// Who is at it.
    pub holder: Option<MemberId>,
    /// The latest import.
    pub record: Option<Record>,
}

impl Seen {
    /// The import, if it is not over.
    #[must_use]
    pub fn running(&self) -> Option<&Record> {
        let record = self.record.as_ref();
        record.filter(|record| record.state == State::Running)
    }
}

/// Keeps the import.
#[async_trait]
pub trait Store: Send + Sync {
    /// What is stored.
    ///
    /// # Errors
    /// [`ClaimError::Unavailable`] if the store does not say.
    async fn look(&self) -> Result<Seen, ClaimError>;

    /// Stores an import over what was seen with this version, held by this member or by nobody; gives the
    /// new version.
    ///
    /// # Errors
    /// [`ClaimError::Lost`] if it has another version by now; [`ClaimError::Unavailable`] if the store does
    /// not answer, and may have taken it.
    async fn put(
        &self,
        over: Option<&str>,
        record: &Record,
        held: bool,
    ) -> Result<String, ClaimError>;
}
