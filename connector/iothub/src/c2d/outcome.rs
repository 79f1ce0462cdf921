//! What AMQP says of messages and of their link → [`HubError`]. Pure.
//!
//! Conditions and their meaning: Microsoft's .NET and Node service SDKs (`AmqpErrorMapper`,
//! `translateError`).

use fe2o3_amqp::link::{DetachError, LinkStateError, SendError};
use fe2o3_amqp_types::{definitions::Error, messaging::Outcome};

use crate::{
    HubError,
    amqp::fault::{closed_for, condition, transport},
    refusal::{Subject, code_in, refused, words},
};

/// What is sent, in an error.
pub(super) const MESSAGE: &str = "the message";
/// The link is lost while nothing is under way on it.
const LINK: &str = "the link for cloud-to-device messages";

/// What became of a message that was handed over.
pub(super) fn settled(device: &str, outcome: Result<Outcome, SendError>) -> Result<(), HubError> {
    match outcome {
        Ok(Outcome::Accepted(_)) => Ok(()),
        Ok(Outcome::Rejected(rejected)) => Err(match rejected.error {
            Some(error) => rejected_for(device, &error),
            None => HubError::Refused {
                what: MESSAGE.into(),
                answer: "without a reason".into(),
            },
        }),
        // "Was not (and will not be) acted upon" (AMQP 1.0, 3.4.4).
        Ok(Outcome::Released(_)) => Err(HubError::NotSent {
            why: "the hub gave the message back".into(),
        }),
        Ok(other) => Err(unknown(&format!("the hub answered {other:?}"))),
        Err(error) => Err(unknown(&error.to_string())),
    }
}

/// A message that was handed over, and whose outcome is lost.
pub(super) fn unknown(cause: &str) -> HubError {
    HubError::OutcomeUnknown {
        what: MESSAGE.into(),
        cause: words(cause),
    }
}

/// A message that could not be handed over: its last frame never got on its way.
pub(super) fn unsent(error: &SendError) -> HubError {
    match error {
        SendError::MessageEncodeError => HubError::NotSent {
            why: "the message cannot be written as AMQP".into(),
        },
        error => HubError::Transport {
            what: format!("{LINK} is lost"),
            cause: words(&error.to_string()),
        },
    }
}

/// Why the hub does not take a message.
fn rejected_for(device: &str, error: &Error) -> HubError {
    let subject = Subject {
        what: MESSAGE,
        id: device,
        right: "ServiceConnect",
    };
    let text = error.description.as_deref().unwrap_or_default();
    let name = condition(&error.condition);
    if let Some(code) = code_in(text).or_else(|| rejection(&name)) {
        return refused(code, subject, text, None);
    }
    HubError::Refused {
        what: MESSAGE.into(),
        answer: words(&format!("{name}: {text}")),
    }
}

/// The code that a condition stands for when a message is rejected.
fn rejection(condition: &str) -> Option<u32> {
    Some(match condition {
        "amqp:not-found" | "com.microsoft:device-not-found" => 404_001,
        "amqp:resource-limit-exceeded" | "com.microsoft:device-maximum-queue-depth-exceeded" => {
            403_004
        }
        "com.microsoft:quota-exceeded" | "com.microsoft:iot-hub-quota-exceeded" => 403_002,
        "com.microsoft:device-container-throttled"
        | "com.microsoft:server-busy"
        | "com.microsoft:throttled" => 429_001,
        "amqp:unauthorized-access" => 401_003,
        "amqp:link:message-size-exceeded" => 413_001,
        "amqp:precondition-failed" | "com.microsoft:precondition-failed" => 412_001,
        "com.microsoft:iot-hub-not-found-error" => 404_002,
        "com.microsoft:timeout" | "amqp:internal-error" => 500_001,
        _ => return None,
    })
}

/// Why the link is gone.
pub(super) fn detached(error: &DetachError) -> HubError {
    match error {
        DetachError::RemoteClosedWithError(error) | DetachError::RemoteDetachedWithError(error) => {
            closed_for(LINK, error)
        }
        error => transport(LINK, error),
    }
}

/// What a failed send tells about the link: only a message that cannot be written leaves it as it is.
pub(super) fn link_after(error: &SendError) -> Result<(), HubError> {
    match error {
        SendError::MessageEncodeError => Ok(()),
        SendError::LinkStateError(
            LinkStateError::RemoteClosedWithError(error)
            | LinkStateError::RemoteDetachedWithError(error),
        ) => Err(closed_for(LINK, error)),
        SendError::Detached(error) => Err(detached(error)),
        error => Err(transport(LINK, error)),
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::{
        definitions::{AmqpError, ErrorCondition, LinkError},
        messaging::{Accepted, Modified, Rejected, Released},
        primitives::Symbol,
    };

    use super::*;
    use crate::Taken;

    fn rejected(condition: impl Into<ErrorCondition>, description: &str) -> Result<(), HubError> {
        let error = Error::new(condition, Some(description.to_owned()), None);
        let outcome = Outcome::Rejected(Rejected { error: Some(error) });
        settled("pump-1", Ok(outcome))
    }

    fn custom(name: &str) -> ErrorCondition {
        ErrorCondition::Custom(Symbol::from(name))
    }

    #[test]
    fn only_accepted_is_done() {
        assert_eq!(settled("d", Ok(Outcome::Accepted(Accepted {}))), Ok(()));
        let released = settled("d", Ok(Outcome::Released(Released {}))).unwrap_err();
        assert_eq!(released.taken(), Taken::No);
        let modified = Modified {
            delivery_failed: Some(true),
            undeliverable_here: None,
            message_annotations: None,
        };
        for outcome in [
            Ok(Outcome::Modified(modified)),
            Err(SendError::LinkStateError(
                LinkStateError::IllegalSessionState,
            )),
            Err(SendError::NonTerminalDeliveryState),
        ] {
            let error = settled("d", outcome).unwrap_err();
            assert!(matches!(error, HubError::OutcomeUnknown { .. }), "{error}");
        }
    }

    #[test]
    fn every_rejection_has_its_meaning() {
        let id = || "pump-1".to_owned();
        for (condition, text, error) in [
            (
                AmqpError::NotFound.into(),
                "gone",
                HubError::DeviceNotFound { id: id() },
            ),
            (
                AmqpError::ResourceLimitExceeded.into(),
                "full",
                HubError::QueueFull { id: id() },
            ),
            (
                custom("com.microsoft:device-container-throttled"),
                "",
                HubError::Throttled { retry_after: None },
            ),
            (
                custom("com.microsoft:quota-exceeded"),
                "",
                HubError::QuotaExceeded,
            ),
            (
                LinkError::MessageSizeExceeded.into(),
                "",
                HubError::TooLarge {
                    what: MESSAGE.into(),
                },
            ),
            (
                AmqpError::UnauthorizedAccess.into(),
                "no right",
                HubError::Denied {
                    what: "the message needs the right ServiceConnect: no right".into(),
                },
            ),
            // What the text says is more than the condition.
            (
                AmqpError::ResourceLimitExceeded.into(),
                "ErrorCode:IotHubQuotaExceeded;used up",
                HubError::QuotaExceeded,
            ),
            (
                AmqpError::NotAllowed.into(),
                "{\"errorCode\":403010}",
                HubError::NotInTier {
                    what: MESSAGE.into(),
                },
            ),
            (
                custom("com.microsoft:argument-error"),
                "bad",
                HubError::Refused {
                    what: MESSAGE.into(),
                    answer: "com.microsoft:argument-error: bad".into(),
                },
            ),
        ] {
            assert_eq!(rejected(condition, text), Err(error), "{text}");
        }
    }
}
