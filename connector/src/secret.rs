//! Secrets from files: a changed file is tried at the next login, the last one that worked is kept.

use std::{fmt, fs, path::PathBuf, sync::Mutex};

use connector_config::File;

/// Why a secret cannot be read. Names the file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("{field}: file {path}: {source}")]
    Read {
        /// Setting that names the file.
        field: &'static str,
        /// Path of the file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file holds nothing.
    #[error("{field}: file {path} is empty")]
    Empty {
        /// Setting that names the file.
        field: &'static str,
        /// Path of the file.
        path: String,
    },
}

/// A secret in a file.
pub struct SecretFile {
    field: &'static str,
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    tried: Option<String>,
    accepted: Option<String>,
    refused: Option<String>,
}

impl fmt::Debug for SecretFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretFile")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

impl SecretFile {
    /// A secret for the setting `field`.
    #[must_use]
    pub fn new(field: &'static str, file: &File) -> Self {
        Self {
            field,
            path: file.file.clone(),
            state: Mutex::default(),
        }
    }

    /// The file's content as it is now, without white space at its ends.
    ///
    /// # Errors
    /// [`SecretError`] if there is none.
    pub fn read(&self) -> Result<String, SecretError> {
        let path = || self.path.display().to_string();
        let text = fs::read_to_string(&self.path).map_err(|source| SecretError::Read {
            field: self.field,
            path: path(),
            source,
        })?;
        match text.trim() {
            "" => Err(SecretError::Empty {
                field: self.field,
                path: path(),
            }),
            text => Ok(text.to_owned()),
        }
    }

    /// What to present at the next login: the file's content, unless just that was refused while an
    /// older content had worked; then the two take turns, since either may be the one that is valid.
    ///
    /// # Errors
    /// [`SecretError`] if the file has nothing to give and nothing has worked before.
    pub fn present(&self) -> Result<String, SecretError> {
        let read = self.read();
        let mut state = self.lock();
        let refused = state.refused.take();
        let secret = match (read, state.accepted.clone()) {
            (Ok(now), Some(old)) if refused.as_ref() == Some(&now) => old,
            (Ok(now), _) => now,
            (Err(_), Some(old)) => old,
            (Err(error), None) => return Err(error),
        };
        state.tried = Some(secret.clone());
        Ok(secret)
    }

    /// The last presented secret worked.
    pub fn accepted(&self) {
        let mut state = self.lock();
        state.accepted = state.tried.clone();
        state.refused = None;
    }

    /// The last presented secret was refused.
    pub fn refused(&self) {
        let mut state = self.lock();
        state.refused = state.tried.clone();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl alwayson::Credentials for SecretFile {
    fn claims(&self) -> Result<Vec<alwayson::Claim>, String> {
        let value = self.present().map_err(|error| error.to_string())?;
        Ok(vec![alwayson::Claim {
            name: "appKey".into(),
            value,
        }])
    }

    fn accepted(&self) {
        Self::accepted(self);
    }

    fn refused(&self) {
        Self::refused(self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_secret_that_worked_outlives_a_bad_file() {
        let path = std::env::temp_dir().join(format!("secret-{}", rand::random::<u64>()));
        let secret = SecretFile::new("thingworx.appKey", &File::at(&path));
        assert!(
            secret
                .present()
                .unwrap_err()
                .to_string()
                .contains("thingworx.appKey")
        );

        fs::write(&path, "one\n").unwrap();
        assert_eq!(secret.present().unwrap(), "one");
        secret.accepted();

        fs::write(&path, "two").unwrap();
        assert_eq!(secret.present().unwrap(), "two");
        secret.refused();
        assert_eq!(secret.present().unwrap(), "one", "the one that worked");
        secret.refused();
        assert_eq!(
            secret.present().unwrap(),
            "two",
            "the file again: the old one may be revoked"
        );
        secret.accepted();

        fs::write(&path, "").unwrap();
        assert_eq!(secret.present().unwrap(), "two");
        fs::remove_file(&path).unwrap();
        assert_eq!(secret.present().unwrap(), "two");
    }
}
