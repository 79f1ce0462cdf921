//! Errors of the API server, and what is done about them.

use std::time::Duration;

/// Class of an error. It alone decides when a reconcile is tried again, and the metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// What the user wrote is wrong: only a change helps.
    User,
    /// Somebody else was faster, or owns the object.
    Conflict,
    /// The operator lacks a right.
    Denied,
    /// Will pass by itself.
    Transient,
    /// A fault of this program.
    Bug,
}

impl Class {
    /// As metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Conflict => "conflict",
            Self::Denied => "denied",
            Self::Transient => "transient",
            Self::Bug => "bug",
        }
    }

    /// How long to wait before the first and the last of many tries; `None` waits for a change.
    #[must_use]
    pub const fn backoff(self) -> Option<(Duration, Duration)> {
        const MAX: Duration = Duration::from_secs(300);
        match self {
            Self::User => None,
            Self::Conflict | Self::Transient => Some((Duration::from_secs(1), MAX)),
            // Somebody must grant a right first, and no watch tells of it.
            Self::Denied | Self::Bug => Some((Duration::from_secs(15), MAX)),
        }
    }
}

/// Why a call to the API server failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// No answer in time.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// An answer, but not the one hoped for.
    #[error("{message}")]
    Refused {
        /// HTTP status.
        code: u16,
        /// Machine-readable reason.
        reason: String,
        /// What the server said.
        message: String,
    },
    /// No connection, or no sense in the answer.
    #[error("the API server cannot be reached: {0}")]
    Transport(String),
}

impl From<kube::Error> for CallError {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused {
                code: status.code,
                reason: status.reason,
                message: status.message,
            },
            other => Self::Transport(other.to_string()),
        }
    }
}

impl CallError {
    /// Its class.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            // The namespace is going, and all in it: nothing to complain of.
            Self::Refused { message, .. } if message.contains("being terminated") => {
                Class::Transient
            }
            Self::Refused {
                code: 401 | 403, ..
            } => Class::Denied,
            Self::Refused { code: 409, .. } => Class::Conflict,
            Self::Refused {
                code: 400 | 422, ..
            } => Class::User,
            Self::Timeout(_) | Self::Refused { .. } | Self::Transport(_) => Class::Transient,
        }
    }

    /// Whether the object does not exist.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { code: 404, .. })
    }
}

/// Longest wait for one call: the API server itself ends a request after 60 s, and a reconcile that
/// waits that long holds one of few places.
pub const CALL: Duration = Duration::from_secs(15);

/// Waits for a call, but not for ever.
///
/// # Errors
/// [`CallError`].
pub async fn call<T>(
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    call_within(CALL, request).await
}

/// The same, for another time.
///
/// # Errors
/// [`CallError`].
pub async fn call_within<T>(
    time: Duration,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    match tokio::time::timeout(time, request).await {
        Ok(answer) => Ok(answer?),
        Err(_) => Err(CallError::Timeout(time)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_follows_the_status() {
        let class = |code, message: &str| {
            CallError::Refused {
                code,
                reason: String::new(),
                message: message.into(),
            }
            .class()
        };
        let cases = [
            (400, Class::User),
            (401, Class::Denied),
            (403, Class::Denied),
            (404, Class::Transient),
            (409, Class::Conflict),
            (422, Class::User),
            (429, Class::Transient),
            (500, Class::Transient),
            (503, Class::Transient),
        ];
        for (code, expected) in cases {
            assert_eq!(class(code, "no"), expected, "{code}");
        }
        let going = "roles \"x\" is forbidden: because it is being terminated";
        assert_eq!(class(403, going), Class::Transient);
        assert_eq!(CallError::Timeout(CALL).class(), Class::Transient);
    }
}
