//! The import of a single process: in a file, or where there is none only in memory.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use super::{
    record::Record,
    store::{Seen, Store},
};
use crate::{
    claim::{ClaimError, write_whole},
    identity::MemberId,
};

/// The store of one process. Nobody else writes it.
pub struct LocalStore {
    path: Option<PathBuf>,
    member: MemberId,
    state: Arc<Mutex<Local>>,
}

#[derive(Default)]
struct Local {
    writes: u64,
    /// An earlier process holds nothing any more, so this is not in the file.
    holder: Option<MemberId>,
    record: Option<Record>,
}

impl LocalStore {
    /// Reads the file; one that cannot be read or is no import counts as none.
    #[must_use]
    pub fn open(path: Option<PathBuf>, member: MemberId) -> Self {
        let read = |path: &Path| {
            let bytes = std::fs::read(path).ok()?;
            let record = serde_json::from_slice(&bytes);
            let path = path.display();
            record
                .inspect_err(
                    |error| tracing::warn!(%path, %error, "no import; a new one replaces it"),
                )
                .ok()
        };
        let state = Local {
            record: path.as_deref().and_then(read),
            ..Local::default()
        };
        Self {
            path,
            member,
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// The same store as another member sees it.
    #[cfg(test)]
    pub(super) fn of(&self, member: MemberId) -> Self {
        Self {
            path: self.path.clone(),
            member,
            state: self.state.clone(),
        }
    }

    fn state(&self) -> MutexGuard<'_, Local> {
        // Whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for LocalStore {
    async fn look(&self) -> Result<Seen, ClaimError> {
        let state = self.state();
        Ok(Seen {
            version: Some(state.writes.to_string()),
            holder: state.holder.clone(),
            record: state.record.clone(),
        })
    }

    async fn put(
        &self,
        over: Option<&str>,
        record: &Record,
        held: bool,
    ) -> Result<String, ClaimError> {
        let version = {
            let mut state = self.state();
            if over != Some(state.writes.to_string().as_str()) {
                return Err(ClaimError::Lost);
            }
            *state = Local {
                writes: state.writes + 1,
                holder: held.then(|| self.member.clone()),
                record: Some(record.clone()),
            };
            state.writes.to_string()
        };
        if let Some(path) = self.path.clone() {
            let record = record.clone();
            let written = tokio::task::spawn_blocking(move || write_whole(&path, &record));
            written
                .await
                .map_err(|error| ClaimError::Unavailable(error.to_string()))?
                .map_err(|error| ClaimError::Unavailable(error.to_string()))?;
        }
        Ok(version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::import::record::Asked;

    #[tokio::test]
    async fn an_import_is_there_after_a_restart_and_held_by_nobody() {
        let path = std::env::temp_dir().join(format!("import-{}.json", rand::random::<u64>()));
        let open = || LocalStore::open(Some(path.clone()), MemberId::new("me"));
        let record = Record::new(Asked {
            template: "T".into(),
            condition: None,
        });
        let store = open();
        let version = store.look().await.unwrap().version;
        assert!(store.look().await.unwrap().record.is_none());
        store.put(version.as_deref(), &record, true).await.unwrap();
        assert_eq!(
            store.look().await.unwrap().holder,
            Some(MemberId::new("me"))
        );
        let again = store.put(version.as_deref(), &record, true).await;
        assert!(matches!(again, Err(ClaimError::Lost)), "{again:?}");

        let seen = open().look().await.unwrap();
        assert_eq!(
            (seen.running(), seen.holder.as_ref()),
            (Some(&record), None)
        );
        std::fs::write(&path, "not json").unwrap();
        assert!(open().look().await.unwrap().record.is_none());
        std::fs::remove_file(&path).unwrap();
    }
}
