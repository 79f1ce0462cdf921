//! The hub's senders and its built-in endpoint, proven with this pod's own credentials.

use std::{sync::Arc, time::Duration};

use connector_config::{File, IotHub};
use iothub::{
    C2dSender, EventHubsConnectionString, EventSource, HubAmqpSettings, HubConnectionString,
    HubError, HubRest, HubRestSettings, HubTls, PartitionId, SdkSource, SdkSourceSettings,
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::{RunError, read_file};
use crate::{egress::Hub, identity::MemberId, secret::SecretFile};

/// A proof that takes longer is tried again.
const PROOF: Duration = Duration::from_secs(20);
/// Events that the hub may send ahead of what is taken: one full batch of a lane round.
const PREFETCH: u32 = 1000;
/// Cloud-to-device messages that wait to be sent.
const C2D_QUEUE: usize = 512;

/// Everything that goes to the hub.
pub(super) struct Hubs {
    hub: Hub,
    source: Arc<dyn EventSource>,
}

/// What could not be proven.
#[derive(Debug)]
pub(super) struct Unproven {
    pub(super) what: &'static str,
    pub(super) error: HubError,
}

impl Hubs {
    /// Reads the connection strings and begins to connect.
    pub(super) fn new(
        settings: &IotHub<File, File>,
        member: &MemberId,
        end: CancellationToken,
    ) -> Result<Self, RunError> {
        let IotHub {
            connection_string,
            event_hubs,
            messages: _,
            tls,
        } = settings;
        let connection: HubConnectionString = parse("iotHub.connectionString", connection_string)?;
        let events: EventHubsConnectionString = parse(
            "iotHub.eventHubs.connectionString",
            &event_hubs.connection_string,
        )?;
        let ca = tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let ca = ca
            .map(|file| read_file("iotHub.tls.ca", file))
            .transpose()?;
        let tls = HubTls {
            ca: ca.map(Into::into),
        };
        let amqp = HubAmqpSettings {
            connection: connection.clone(),
            tls: tls.clone(),
            application_id: member.as_str().to_owned(),
            address: None,
            queue: C2D_QUEUE,
        };
        let rest = HubRest::new(HubRestSettings {
            connection,
            tls,
            address: None,
        })
        .map_err(|error| RunError::Settings(format!("iotHub: {error}")))?;
        let source = SdkSource::new(SdkSourceSettings {
            connection: events,
            consumer_group: event_hubs.consumer_group.clone(),
            application_id: member.as_str().to_owned(),
            custom_endpoint: None,
            prefetch: PREFETCH,
            request_timeout: PROOF,
        });
        let hub = Hub {
            c2d: C2dSender::start(amqp, end),
            rest,
        };
        Ok(Self {
            hub,
            source: Arc::new(source),
        })
    }

    /// Proves that messages can be sent and that the built-in endpoint can be read.
    pub(super) async fn prove(
        &self,
    ) -> Result<(Hub, Arc<dyn EventSource>, Vec<PartitionId>), Unproven> {
        let sender = "sending to devices (iotHub.connectionString)";
        let reader = "reading telemetry (iotHub.eventHubs)";
        self.hub.c2d.prove(PROOF).await.map_err(|error| Unproven {
            what: sender,
            error,
        })?;
        let partitions = timeout(PROOF, self.source.partitions())
            .await
            .unwrap_or_else(|_| {
                Err(HubError::TimedOut {
                    what: "the list of partitions".into(),
                })
            })
            .map_err(|error| Unproven {
                what: reader,
                error,
            })?;
        Ok((self.hub.clone(), self.source.clone(), partitions))
    }
}

pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    file: &File,
) -> Result<T, RunError> {
    let text = SecretFile::new(field, file)
        .read()
        .map_err(|error| RunError::Settings(error.to_string()))?;
    text.parse()
        .map_err(|error| RunError::Settings(format!("{field}: {error}")))
}
