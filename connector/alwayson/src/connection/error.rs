//! What can go wrong on the way to a node.

use crate::EncodeError;

/// Decides, together with idempotence, whether something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Settings are wrong.
    User,
    /// Credentials or rights are refused.
    Denied,
    /// Something named does not exist.
    NotFound,
    /// Too much was asked.
    Throttled,
    /// Will pass by itself.
    Transient,
    /// A fault of this program.
    Bug,
}

/// Why a WebSocket to a node is not there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// The URL cannot be used.
    #[error("the URL cannot be used: {0}")]
    Url(String),
    /// There is nothing to log in with.
    #[error("no application key: {0}")]
    Credentials(String),
    /// The node cannot be reached.
    #[error("not reachable: {0}")]
    Unreachable(String),
    /// The certificate is not accepted.
    #[error("its certificate is not accepted: {0}")]
    Tls(String),
    /// Something else than a platform answers there.
    #[error("it does not speak AlwaysOn: {0}")]
    Protocol(String),
    /// The login is refused.
    #[error("login refused: {0}")]
    Denied(String),
    /// The node does not answer.
    #[error("no answer within {0} s")]
    TimedOut(u64),
    /// The connection has ended.
    #[error("the connection was closed: {0}")]
    Closed(String),
}

impl ConnectError {
    /// What kind of error it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Url(_) | Self::Credentials(_) | Self::Tls(_) | Self::Protocol(_) => Class::User,
            Self::Denied(_) => Class::Denied,
            Self::Unreachable(_) | Self::TimedOut(_) | Self::Closed(_) => Class::Transient,
        }
    }
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The node is not connected, or its queue is full; nothing was sent.
    #[error("the node is not connected or takes no more data")]
    NotSent,
    /// It was sent, and no answer came in time. It may have been carried out.
    #[error("no answer in time")]
    TimedOut,
    /// It was sent, and the connection was lost before an answer. It may have been carried out.
    #[error("the connection was lost")]
    Lost,
    /// It has no wire form.
    #[error("{0}")]
    TooLarge(EncodeError),
}

impl RequestError {
    /// What kind of error it is.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::NotSent | Self::TimedOut | Self::Lost => Class::Transient,
            Self::TooLarge(_) => Class::User,
        }
    }
}
