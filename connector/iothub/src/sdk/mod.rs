//! [`EventSource`] over Microsoft's `azure_messaging_eventhubs`.

mod client;
mod fault;
mod reader;
mod received;

use std::time::Duration;

use async_trait::async_trait;
use azure_messaging_eventhubs::{
    ConsumerClient, EventHubsError,
    models::{EventHubPartitionProperties, EventHubProperties},
};

use crate::{
    Batches, Epoch, EventHubsConnectionString, EventSource, HubError, HubTls, Offset, PartitionId,
    PartitionProperties, Position, SourceIdentity, Transport, Way,
    dial::{Destination, Service, relay::Relay},
};
use fault::{During, hub_error};
use received::unix_ms;

/// How the built-in endpoint is read.
#[derive(Debug, Clone)]
pub struct SdkSourceSettings {
    /// Where, and with which policy.
    pub connection: EventHubsConnectionString,
    /// Consumer group.
    pub consumer_group: String,
    /// Name of this process at the hub; must be unique among all that run at the same time.
    pub application_id: String,
    /// How the certificate is checked on the way through a proxy; without one the SDK takes what the
    /// operating system trusts, or what `SSL_CERT_FILE` names.
    pub tls: HubTls,
    /// How it is reached. A proxy leads to the namespace itself, not to a custom endpoint.
    pub way: Way,
    /// `amqps://host:port` or `amqp://host:port` to connect to instead of the namespace at the transport's
    /// port.
    pub custom_endpoint: Option<String>,
    /// Time-out of everything but waiting for events.
    pub request_timeout: Duration,
}

/// The built-in endpoint of a hub. Checks its certificate against the trust store of the operating
/// system, or what `SSL_CERT_FILE` names: the SDK takes no other.
#[derive(Debug)]
pub struct SdkSource {
    settings: SdkSourceSettings,
    identity: SourceIdentity,
    /// The SDK's way through the proxy.
    _relay: Option<Relay>,
}

impl SdkSource {
    /// Prepares; connects on first use. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`HubError::Transport`] if the way through a proxy could not be laid.
    pub fn new(mut settings: SdkSourceSettings) -> Result<Self, HubError> {
        let identity = SourceIdentity {
            namespace: settings.connection.namespace.clone(),
            hub: settings.connection.entity.clone(),
            consumer_group: settings.consumer_group.clone(),
        };
        let mut relay = None;
        if settings.way.proxy.is_some() {
            let to = Destination {
                host: identity.namespace.clone(),
                address: None,
                service: Service::Events,
            };
            let laid = Relay::start(to, settings.tls.clone(), settings.way.clone())?;
            // What the SDK says there goes on as the settings ask.
            settings.custom_endpoint = Some(laid.endpoint());
            settings.way.transport = Transport::Amqp;
            relay = Some(laid);
        }
        Ok(Self {
            settings,
            identity,
            _relay: relay,
        })
    }

    /// Asks something with a client of its own. Runs on when we are dropped: the client has to be
    /// closed, and its time-outs see to an end.
    async fn ask<T, F>(&self, what: &'static str, question: F) -> Result<T, HubError>
    where
        T: Send + 'static,
        F: Question<T>,
    {
        let settings = self.settings.clone();
        let asking = tokio::spawn(async move {
            let client = client::open(&settings).await?;
            let answer =
                client::within(what, settings.request_timeout, question.put(&client)).await;
            if let Err(error) = client::close(client).await {
                tracing::debug!(%error, "the client was not closed in order");
            }
            answer?.map_err(|error| hub_error(&error, During::Asking, what, None))
        });
        asking.await.unwrap_or_else(|error| {
            Err(HubError::Transport {
                what: what.into(),
                cause: error.to_string(),
            })
        })
    }
}

/// A question to a client.
trait Question<T>: Send + 'static {
    fn put(self, client: &ConsumerClient)
    -> impl Future<Output = Result<T, EventHubsError>> + Send;
}

struct AboutHub;

impl Question<EventHubProperties> for AboutHub {
    async fn put(self, client: &ConsumerClient) -> Result<EventHubProperties, EventHubsError> {
        client.get_eventhub_properties().await
    }
}

struct AboutPartitions(Vec<PartitionId>);

impl Question<Vec<EventHubPartitionProperties>> for AboutPartitions {
    async fn put(
        self,
        client: &ConsumerClient,
    ) -> Result<Vec<EventHubPartitionProperties>, EventHubsError> {
        // One after the other: the client has one link for questions.
        let mut answers = Vec::with_capacity(self.0.len());
        for partition in &self.0 {
            answers.push(client.get_partition_properties(partition.as_str()).await?);
        }
        Ok(answers)
    }
}

fn properties(now: EventHubPartitionProperties) -> PartitionProperties {
    PartitionProperties {
        beginning_sequence: now.beginning_sequence_number,
        last_sequence: now.last_enqueued_sequence_number,
        last_offset: Offset::new(now.last_enqueued_offset),
        last_enqueued_ms: now.last_enqueued_time_utc.map_or(0, unix_ms),
        empty: now.is_empty,
    }
}

#[async_trait]
impl EventSource for SdkSource {
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
        let hub = self.ask("the list of partitions", AboutHub).await?;
        Ok(hub
            .partition_ids
            .into_iter()
            .map(PartitionId::new)
            .collect())
    }

    async fn properties(&self, partition: &PartitionId) -> Result<PartitionProperties, HubError> {
        let one = std::slice::from_ref(partition);
        self.survey(one)
            .await?
            .pop()
            .ok_or_else(|| HubError::Unexpected {
                what: "the state of a partition".into(),
                answer: "nothing".into(),
            })
    }

    async fn survey(
        &self,
        partitions: &[PartitionId],
    ) -> Result<Vec<PartitionProperties>, HubError> {
        let about = AboutPartitions(partitions.to_vec());
        let now = self.ask("the state of partitions", about).await?;
        Ok(now.into_iter().map(properties).collect())
    }

    async fn open(
        &self,
        partition: &PartitionId,
        position: Position,
        epoch: Epoch,
        ahead: u32,
    ) -> Result<Box<dyn Batches>, HubError> {
        reader::open(reader::Order {
            settings: self.settings.clone(),
            partition: partition.clone(),
            position,
            epoch,
            ahead,
        })
        .await
    }

    fn identity(&self) -> &SourceIdentity {
        &self.identity
    }
}
