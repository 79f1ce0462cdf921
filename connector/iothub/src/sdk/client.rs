//! One client of the SDK: one AMQP connection, opened and closed within a time.

use std::time::Duration;

use azure_core_amqp::AmqpTransport;
use azure_messaging_eventhubs::{
    ConsumerClient, EventReceiver, RetryOptions, StartLocation, StartPosition,
};
use rustls::crypto::CryptoProvider;
use tokio::time::timeout;

use super::{
    SdkSourceSettings,
    fault::{During, hub_error},
};
use crate::{HubError, Position, Transport};

/// How long a peer that does not answer may delay the end.
const CLOSE: Duration = Duration::from_secs(5);

const OPENING: &str = "connecting to the built-in endpoint";

/// Connects.
///
/// The SDK must not recover anything: it would read again from the first position, without a word.
pub(super) async fn open(settings: &SdkSourceSettings) -> Result<ConsumerClient, HubError> {
    let SdkSourceSettings {
        connection,
        consumer_group,
        application_id,
        tls: _,
        way,
        custom_endpoint,
        request_timeout,
    } = settings;
    // The SDK takes the process's provider, and panics without one.
    if CryptoProvider::get_default().is_none() {
        return Err(HubError::Settings {
            what: "this process has no TLS provider installed; see the documentation of the crate"
                .into(),
        });
    }
    let retry = RetryOptions {
        max_retries: 0,
        ..RetryOptions::default()
    };
    let mut builder = ConsumerClient::builder()
        .with_application_id(application_id.clone())
        .with_consumer_group(consumer_group.clone())
        .with_transport(match way.transport {
            Transport::Amqp => AmqpTransport::Tcp,
            Transport::WebSockets => AmqpTransport::WebSocket,
        })
        .with_retry_options(retry);
    if let Some(endpoint) = custom_endpoint {
        builder = builder.with_custom_endpoint(endpoint.clone());
    }
    let string = connection.expose();
    let opening = builder.open_with_connection_string(&string, None);
    let opened = within(OPENING, *request_timeout, opening).await?;
    opened.map_err(|error| hub_error(&error, During::Asking, OPENING, None))
}

/// Closes, whatever state the client is in.
pub(super) async fn close(client: ConsumerClient) -> Result<(), HubError> {
    const CLOSING: &str = "closing the connection to the built-in endpoint";
    within(CLOSING, CLOSE, client.close())
        .await?
        .map_err(|error| hub_error(&error, During::Asking, CLOSING, None))
}

/// Detaches a receiver whose stream is gone. Needed before its client is closed: a receiver that is
/// just dropped lives on in the client.
pub(super) async fn detach(receiver: EventReceiver) -> Result<(), HubError> {
    const DETACHING: &str = "detaching from a partition";
    within(DETACHING, CLOSE, receiver.close())
        .await?
        .map_err(|error| hub_error(&error, During::Reading, DETACHING, None))
}

/// Waits no longer than `time`.
pub(super) async fn within<T>(
    what: &str,
    time: Duration,
    doing: impl Future<Output = T>,
) -> Result<T, HubError> {
    timeout(time, doing)
        .await
        .map_err(|_| HubError::TimedOut { what: what.into() })
}

/// A position in the SDK's words.
pub(super) fn start(position: Position) -> StartPosition {
    let after = |location| StartPosition {
        location,
        inclusive: false,
    };
    match position {
        Position::Earliest => after(StartLocation::Earliest),
        Position::Latest => after(StartLocation::Latest),
        Position::After(offset) => after(StartLocation::Offset(offset.as_str().to_owned())),
        Position::AfterSequence(sequence) => after(StartLocation::SequenceNumber(sequence)),
        Position::FromTime(ms) => {
            // The filter has no negative times, and the SDK panics on them.
            let since = Duration::from_millis(u64::try_from(ms).unwrap_or(0));
            StartPosition {
                location: StartLocation::EnqueuedTime(std::time::UNIX_EPOCH + since),
                inclusive: true,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;
    use crate::Offset;

    #[test]
    fn positions_are_exclusive_but_for_times() {
        let after = |location| StartPosition {
            location,
            inclusive: false,
        };
        let from = |location| StartPosition {
            location,
            inclusive: true,
        };
        for (position, expected) in [
            (Position::Earliest, after(StartLocation::Earliest)),
            (Position::Latest, after(StartLocation::Latest)),
            (
                Position::After(Offset::new("x")),
                after(StartLocation::Offset("x".into())),
            ),
            (
                Position::AfterSequence(7),
                after(StartLocation::SequenceNumber(7)),
            ),
            (
                Position::FromTime(1500),
                from(StartLocation::EnqueuedTime(
                    UNIX_EPOCH + Duration::from_millis(1500),
                )),
            ),
            (
                Position::FromTime(-1),
                from(StartLocation::EnqueuedTime(UNIX_EPOCH)),
            ),
        ] {
            assert_eq!(start(position), expected);
        }
    }
}
