//! Who works beside whom, as of the last look at the members' Leases.

use std::collections::BTreeSet;

use tokio::sync::watch;

use crate::identity::MemberId;

/// The members that take part, oneself included. A process of its own is the only one. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Members(watch::Receiver<BTreeSet<MemberId>>);

impl Members {
    /// As they are told.
    #[must_use]
    pub fn new(told: watch::Receiver<BTreeSet<MemberId>>) -> Self {
        Self(told)
    }

    /// Who they are. Nobody, until there has been a look.
    #[must_use]
    pub fn now(&self) -> BTreeSet<MemberId> {
        self.0.borrow().clone()
    }

    /// Waits until they are others than when it was waited last.
    pub async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            // Nobody is left who could tell.
            std::future::pending::<()>().await;
        }
    }

    /// How many; at least one.
    #[must_use]
    pub fn count(&self) -> f64 {
        let count = self.0.borrow().len();
        // Beyond it nobody counts.
        f64::from(u16::try_from(count).unwrap_or(u16::MAX).max(1))
    }
}
