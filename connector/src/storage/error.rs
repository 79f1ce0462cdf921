//! What can go wrong between us and a storage account, in words that name the remedy and hold no secret.

use connector_config::ReportClass;

use crate::report::Trouble;

/// Longest part of another program's words that is passed on, in characters.
const WORDS: usize = 120;

/// Why a blob could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// The key or the signature is refused, or lacks a right.
    #[error(
        "{place} denies access ({code}); check the connection string: a key must be the account's, a \
         shared access signature must still hold and let blobs be read, created and written"
    )]
    Denied {
        /// The container and its account.
        place: String,
        /// Azure's own word.
        code: String,
    },
    /// There is no such container.
    #[error("{place} does not exist; make it, or correct the name")]
    NotFound {
        /// The container and its account.
        place: String,
    },
    /// Too many requests.
    #[error("{place} takes no more for now ({code})")]
    Throttled {
        /// The container and its account.
        place: String,
        /// Azure's own word.
        code: String,
    },
    /// No answer, or one that may be better next time.
    #[error("{place} cannot be used: {what}")]
    Unreachable {
        /// The container and its account.
        place: String,
        /// What happened.
        what: String,
    },
    /// An answer that this program does not know.
    #[error("{place} answered {code}, which is not expected here")]
    Answer {
        /// The container and its account.
        place: String,
        /// Azure's own word.
        code: String,
    },
}

impl StorageError {
    /// The error behind what the library says. Its own text is not passed on: it holds URLs, and what a
    /// server writes.
    pub(super) fn new(place: &str, error: &object_store::Error) -> Self {
        let place = place.to_owned();
        let text = error.to_string();
        let (status, code) = (status(&text), code(&text));
        let named = code.clone().unwrap_or_else(|| {
            status.map_or_else(|| "no code".into(), |status| status.to_string())
        });
        match (status, code.as_deref()) {
            (_, Some("ContainerNotFound" | "ContainerBeingDeleted" | "ContainerDisabled")) => {
                Self::NotFound { place }
            }
            (Some(401 | 403), _) => Self::Denied { place, code: named },
            (Some(429), _) | (_, Some("ServerBusy")) => Self::Throttled { place, code: named },
            (Some(500..), _) => Self::Unreachable { place, what: named },
            (Some(_), _) => Self::Answer { place, code: named },
            (None, _) => Self::Unreachable {
                place,
                what: innermost(error),
            },
        }
    }
}

/// The status in the library's text: it has no other way to tell.
fn status(text: &str) -> Option<u16> {
    let (_, after) = text.split_once("status code: ")?;
    after.get(..3)?.parse().ok()
}

/// Azure's own word for an error: `<Error><Code>…</Code>` in the body (Microsoft Learn: "Status and error
/// codes", Azure Storage).
fn code(text: &str) -> Option<String> {
    let (_, after) = text.split_once("<Code>")?;
    let (code, _) = after.split_once("</Code>")?;
    let plain = code.len() <= 64 && code.chars().all(|c| c.is_ascii_alphanumeric());
    plain.then(|| code.to_owned())
}

/// The first cause, which is the system's or the TLS library's: no URL is in it.
fn innermost(error: &object_store::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    let text = cause.to_string();
    let words: Vec<_> = text.split_whitespace().collect();
    words.join(" ").chars().take(WORDS).collect()
}

impl StorageError {
    /// What is to be done about it.
    #[must_use]
    pub fn class(&self) -> ReportClass {
        match self {
            Self::Denied { .. } => ReportClass::Denied,
            Self::NotFound { .. } => ReportClass::NotFound,
            Self::Throttled { .. } => ReportClass::Throttled,
            Self::Unreachable { .. } => ReportClass::Transient,
            Self::Answer { .. } => ReportClass::Bug,
        }
    }
}

impl From<StorageError> for Trouble {
    fn from(error: StorageError) -> Self {
        let reason = match &error {
            StorageError::Denied { .. } => "CheckpointStoreDenied",
            StorageError::NotFound { .. } => "CheckpointStoreNotFound",
            StorageError::Throttled { .. } => "CheckpointStoreThrottled",
            StorageError::Unreachable { .. } => "CheckpointStoreUnreachable",
            StorageError::Answer { .. } => "CheckpointStoreAnswer",
        };
        let message = format!("checkpoints.azureBlob: {error}");
        Self::new(error.class(), reason, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(status: &str, code: &str) -> StorageError {
        let answer = format!(
            "Error performing PUT http://h/c/p?sig=secret in 1ms - Server returned non-2xx status code: \
             {status}: <?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>secret</Message></Error>"
        );
        let error = object_store::Error::Generic {
            store: "MicrosoftAzure",
            source: answer.into(),
        };
        StorageError::new("container marks of storage account a77", &error)
    }

    #[test]
    fn azures_answers_become_reasons_and_remedies() {
        for (status, code, reason, says) in [
            (
                "403 Forbidden",
                "AuthenticationFailed",
                "CheckpointStoreDenied",
                "connection string",
            ),
            (
                "404 Not Found",
                "ContainerNotFound",
                "CheckpointStoreNotFound",
                "make it",
            ),
            (
                "409 Conflict",
                "ContainerBeingDeleted",
                "CheckpointStoreNotFound",
                "make it",
            ),
            (
                "503 Unavailable",
                "ServerBusy",
                "CheckpointStoreThrottled",
                "ServerBusy",
            ),
            (
                "500 Internal",
                "OperationTimedOut",
                "CheckpointStoreUnreachable",
                "OperationTimedOut",
            ),
            (
                "400 Bad Request",
                "InvalidInput",
                "CheckpointStoreAnswer",
                "InvalidInput",
            ),
            ("418 Teapot", "what <b>ever", "CheckpointStoreAnswer", "418"),
        ] {
            let trouble = Trouble::from(told(status, code));
            assert_eq!(trouble.reason, reason, "{status} {code}");
            assert!(trouble.message.contains(says), "{}", trouble.message);
            assert!(
                trouble.message.contains("container marks"),
                "{}",
                trouble.message
            );
            assert!(!trouble.message.contains("secret"), "{}", trouble.message);
        }
    }
}
