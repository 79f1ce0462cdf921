//! The SDK's errors → [`HubError`]. Pure.

use std::error::Error;

use azure_core_amqp::{
    AmqpDescribedError, AmqpError,
    error::{AmqpErrorCondition, AmqpErrorKind},
};
use azure_messaging_eventhubs::{EventHubsError, error::ErrorKind};

use crate::{HubError, refusal::words};

/// When an error came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum During {
    /// Opening a client, or asking for properties.
    Asking,
    /// Before the link to a partition was attached for certain.
    Attaching,
    /// Afterwards.
    Reading,
}

/// What the service itself has said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Said {
    /// Error condition of AMQP.
    condition: Option<AmqpErrorCondition>,
    /// HTTP-like status of `$cbs` and `$management`.
    status: Option<u16>,
    text: String,
}

/// An error at `what`; of a partition, if one was meant.
pub(super) fn hub_error(
    error: &EventHubsError,
    during: During,
    what: &str,
    partition: Option<&str>,
) -> HubError {
    if matches!(error.kind, ErrorKind::InvalidManagementResponse) {
        return HubError::Unexpected {
            what: what.to_owned(),
            answer: "properties are missing".into(),
        };
    }
    match said(error) {
        Some(said) => meaning(&said, during, what, partition.unwrap_or_default()),
        None => HubError::Transport {
            what: what.to_owned(),
            cause: words(&error.to_string()),
        },
    }
}

/// Looks for the service's words: the SDK wraps them in errors of its own.
fn said(error: &EventHubsError) -> Option<Said> {
    if let ErrorKind::ConsumerDisconnected(described) = &error.kind {
        let mut said = described.as_ref().map(described_as).unwrap_or_default();
        said.condition = Some(AmqpErrorCondition::LinkStolen);
        return Some(said);
    }
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        match error.downcast_ref::<AmqpError>().map(AmqpError::kind) {
            Some(AmqpErrorKind::AmqpDescribedError(described)) => {
                return Some(described_as(described));
            }
            Some(AmqpErrorKind::ManagementStatusCode(status, text)) => {
                return Some(Said {
                    condition: None,
                    status: Some(u16::from(*status)),
                    text: text.clone().unwrap_or_default(),
                });
            }
            _ => next = error.source(),
        }
    }
    None
}

fn described_as(described: &AmqpDescribedError) -> Said {
    Said {
        condition: Some(described.condition.clone()),
        status: None,
        text: described.description.clone().unwrap_or_default(),
    }
}

fn meaning(said: &Said, during: During, what: &str, partition: &str) -> HubError {
    let partition = partition.to_owned();
    let answer = words(&said.text);
    let cited = || format!("{what}: {answer}");
    let text = said.text.to_ascii_lowercase();
    // "Receiver '…' with a higher epoch of '6' already exists."
    if text.contains("higher epoch") && text.contains("already exists") {
        return HubError::LowerEpoch { partition };
    }
    // "The supplied offset '…' is invalid. The last offset in the system is '…'", and the same of
    // sequence numbers.
    if text.contains("supplied") && text.contains("is invalid") {
        return HubError::PositionRefused { partition, answer };
    }
    match (&said.condition, said.status) {
        // With other words than those above: "New receiver '…' with higher epoch of '…' is created
        // hence current receiver '…' with epoch '…' is getting disconnected."
        (Some(AmqpErrorCondition::LinkStolen), _) => match during {
            During::Attaching if answer.is_empty() => HubError::LowerEpoch { partition },
            _ => HubError::Evicted { partition },
        },
        (Some(AmqpErrorCondition::UnauthorizedAccess), _) | (_, Some(401 | 403)) => {
            HubError::Denied { what: cited() }
        }
        (Some(AmqpErrorCondition::NotFound), _) | (_, Some(404)) => {
            HubError::NotFound { what: cited() }
        }
        (Some(AmqpErrorCondition::ServerBusyError), _) | (_, Some(429)) => {
            HubError::Throttled { retry_after: None }
        }
        (Some(condition), _) => HubError::Transport {
            what: what.to_owned(),
            cause: words(&format!("{}: {answer}", <&str>::from(condition))),
        },
        (None, status) => HubError::Transport {
            what: what.to_owned(),
            cause: words(&format!("status {}: {answer}", status.unwrap_or_default())),
        },
    }
}

#[cfg(test)]
mod tests {
    use azure_core_amqp::AmqpOrderedMap;

    use super::*;

    fn described(condition: AmqpErrorCondition, text: &str) -> AmqpDescribedError {
        let text = Some(text.to_owned()).filter(|text| !text.is_empty());
        AmqpDescribedError::new(condition, text, AmqpOrderedMap::new())
    }

    fn amqp(condition: AmqpErrorCondition, text: &str) -> EventHubsError {
        AmqpError::from(AmqpErrorKind::AmqpDescribedError(described(
            condition, text,
        )))
        .into()
    }

    fn mapped(error: &EventHubsError, during: During) -> HubError {
        hub_error(error, during, "reading", Some("3"))
    }

    fn partition() -> String {
        "3".into()
    }

    #[test]
    fn eviction_and_a_lower_epoch_are_told_apart() {
        let evicted = "New receiver 'a' with higher epoch of '7' is created hence current receiver \
                       'b' with epoch '6' is getting disconnected.";
        let lower = "Receiver 'a' with a higher epoch of '7' already exists. Receiver 'b' with \
                     epoch 6 cannot be created.";
        let stolen = |text: &str| amqp(AmqpErrorCondition::LinkStolen, text);
        let typed = |text: &str| {
            let described = described(AmqpErrorCondition::LinkStolen, text);
            EventHubsError::from(ErrorKind::ConsumerDisconnected(Some(described)))
        };
        for during in [During::Attaching, During::Reading] {
            for error in [stolen(evicted), typed(evicted)] {
                let partition = partition();
                assert_eq!(mapped(&error, during), HubError::Evicted { partition });
            }
            for error in [stolen(lower), typed(lower)] {
                let partition = partition();
                assert_eq!(mapped(&error, during), HubError::LowerEpoch { partition });
            }
        }
        let silent = EventHubsError::from(ErrorKind::ConsumerDisconnected(None));
        assert_eq!(
            mapped(&silent, During::Attaching),
            HubError::LowerEpoch {
                partition: partition()
            }
        );
        assert_eq!(
            mapped(&silent, During::Reading),
            HubError::Evicted {
                partition: partition()
            }
        );
    }

    #[test]
    fn a_position_of_another_stream_is_refused() {
        for text in [
            "The supplied offset '99' is invalid. The last offset in the system is '5'",
            "The supplied sequence number '99' is invalid. The last sequence number in the system \
             is '5'",
        ] {
            let error = amqp(AmqpErrorCondition::ArgumentError, text);
            assert!(matches!(
                mapped(&error, During::Attaching),
                HubError::PositionRefused { answer, .. } if answer == text
            ));
        }
    }

    #[test]
    fn rights_names_and_weather_are_told_apart() {
        let denied = amqp(AmqpErrorCondition::UnauthorizedAccess, "no Listen");
        assert_eq!(
            mapped(&denied, During::Asking),
            HubError::Denied {
                what: "reading: no Listen".into()
            }
        );
        let missing = amqp(AmqpErrorCondition::NotFound, "no such group");
        assert!(matches!(
            mapped(&missing, During::Asking),
            HubError::NotFound { .. }
        ));
        let busy = amqp(AmqpErrorCondition::ServerBusyError, "");
        assert!(matches!(
            mapped(&busy, During::Asking),
            HubError::Throttled { .. }
        ));
        let forced = amqp(AmqpErrorCondition::LinkDetachForced, "moved");
        assert_eq!(
            mapped(&forced, During::Reading),
            HubError::Transport {
                what: "reading".into(),
                cause: "amqp:link:detach-forced: moved".into()
            }
        );
        let lost = EventHubsError::from(AmqpError::with_message("gone"));
        assert!(matches!(
            mapped(&lost, During::Reading),
            HubError::Transport { .. }
        ));
        let odd = EventHubsError::from(ErrorKind::InvalidManagementResponse);
        assert!(matches!(
            mapped(&odd, During::Asking),
            HubError::Unexpected { .. }
        ));
    }

    #[test]
    fn a_refused_token_is_found_behind_the_sdks_own_errors() {
        let unauthorized = AmqpErrorKind::ManagementStatusCode(401.into(), Some("bad".into()));
        let said = Said {
            condition: None,
            status: Some(401),
            text: "bad".into(),
        };
        let bare = EventHubsError::from(AmqpError::from(unauthorized));
        assert_eq!(super::said(&bare), Some(said.clone()));
        let ErrorKind::AmqpError(inner) = bare.kind else {
            unreachable!()
        };
        let wrapped = AmqpErrorKind::LinkStateError(Box::new(Wrapper(inner)));
        let wrapped = EventHubsError::from(AmqpError::from(wrapped));
        assert_eq!(super::said(&wrapped), Some(said));
        assert!(matches!(
            mapped(&wrapped, During::Asking),
            HubError::Denied { .. }
        ));
    }

    /// As the SDK wraps what fails while it makes a link.
    #[derive(Debug, thiserror::Error)]
    #[error("Failed to ensure receiver")]
    struct Wrapper(#[source] AmqpError);
}
