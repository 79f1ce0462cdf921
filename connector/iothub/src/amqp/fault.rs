//! What AMQP says of connections, sessions and links → [`HubError`]. Pure.
//!
//! Conditions and their meaning: Microsoft's .NET and Node service SDKs (`AmqpErrorMapper`,
//! `translateError`).

use fe2o3_amqp::{
    connection,
    link::{ReceiverAttachError, SenderAttachError},
};
use fe2o3_amqp_types::{
    definitions::{Error, ErrorCondition},
    primitives::Symbol,
};

use crate::{
    HubError,
    refusal::{Subject, refused_by_status, words},
};

/// The connection is lost.
const CONNECTION: &str = "the AMQP connection to the hub";

/// Why the connection is gone.
pub(crate) fn closing(closed: Result<(), connection::Error>) -> HubError {
    match closed {
        Ok(()) => transport(CONNECTION, &"closed by the hub"),
        Err(connection::Error::RemoteClosedWithError(error)) => closed_for(CONNECTION, &error),
        Err(error) => transport(CONNECTION, &error),
    }
}

/// Why the connection, a session or a link was refused or closed: `what` was tried.
pub(crate) fn closed_for(what: &str, error: &Error) -> HubError {
    let text = error.description.as_deref().unwrap_or_default();
    let name = condition(&error.condition);
    let subject = Subject {
        what,
        id: "",
        right: "ServiceConnect",
    };
    let status = match name.as_str() {
        "amqp:unauthorized-access" => 401,
        "amqp:not-found" | "com.microsoft:iot-hub-not-found-error" => 404,
        "com.microsoft:device-container-throttled" | "com.microsoft:server-busy" => 429,
        _ => {
            return HubError::Transport {
                what: what.to_owned(),
                cause: words(&format!("{name}: {text}")),
            };
        }
    };
    refused_by_status(status, subject, text, None)
}

/// Why a link to write to was not attached.
pub(crate) fn sender_unattached(what: &str, error: &SenderAttachError) -> HubError {
    match error {
        SenderAttachError::RemoteClosedWithError(error) => closed_for(what, error),
        error => transport(what, error),
    }
}

/// Why a link to read from was not attached.
pub(crate) fn receiver_unattached(what: &str, error: &ReceiverAttachError) -> HubError {
    match error {
        ReceiverAttachError::RemoteClosedWithError(error) => closed_for(what, error),
        error => transport(what, error),
    }
}

/// Something that is not the hub's word.
pub(crate) fn transport(what: &str, cause: &impl std::fmt::Display) -> HubError {
    HubError::Transport {
        what: what.to_owned(),
        cause: words(&cause.to_string()),
    }
}

/// The name of a condition, as it goes over the wire.
pub(crate) fn condition(condition: &ErrorCondition) -> String {
    match condition {
        ErrorCondition::AmqpError(error) => Symbol::from(error).to_string(),
        ErrorCondition::ConnectionError(error) => Symbol::from(error).to_string(),
        ErrorCondition::SessionError(error) => Symbol::from(error).to_string(),
        ErrorCondition::LinkError(error) => Symbol::from(error).to_string(),
        ErrorCondition::Custom(symbol) => symbol.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::definitions::{AmqpError, LinkError};

    use super::*;

    #[test]
    fn a_refused_link_tells_rights_from_weather() {
        let error = |condition: ErrorCondition| Error::new(condition, Some("so".to_owned()), None);
        let closed = |condition| closed_for("the link", &error(condition));
        assert!(matches!(
            closed(AmqpError::UnauthorizedAccess.into()),
            HubError::Denied { .. }
        ));
        assert!(matches!(
            closed(AmqpError::NotFound.into()),
            HubError::NotFound { .. }
        ));
        assert!(matches!(
            closed(LinkError::DetachForced.into()),
            HubError::Transport { .. }
        ));
    }
}
