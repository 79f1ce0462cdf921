//! [`EventSource`] over Microsoft's `azure_messaging_eventhubs`.

use std::time::Duration;

use async_trait::async_trait;

use crate::{
    Batches, Epoch, EventHubsConnectionString, EventSource, HubError, PartitionId,
    PartitionProperties, Position, SourceIdentity,
};

/// How the built-in endpoint is read.
#[derive(Debug, Clone)]
pub struct SdkSourceSettings {
    /// Where, and with which policy.
    pub connection: EventHubsConnectionString,
    /// Consumer group.
    pub consumer_group: String,
    /// Name of this process at the hub; must be unique among all that run at the same time.
    pub application_id: String,
    /// `amqps://host:port` or `amqp://host:port` to connect to instead of the namespace at 5671.
    pub custom_endpoint: Option<String>,
    /// Events that may be under way to us per partition.
    pub prefetch: u32,
    /// Time-out of everything but waiting for events.
    pub request_timeout: Duration,
}

/// The built-in endpoint of a hub.
#[derive(Debug)]
pub struct SdkSource {
    _settings: SdkSourceSettings,
    identity: SourceIdentity,
}

impl SdkSource {
    /// Prepares; connects on first use.
    #[must_use]
    pub fn new(settings: SdkSourceSettings) -> Self {
        let identity = SourceIdentity {
            namespace: settings.connection.namespace.clone(),
            hub: settings.connection.entity.clone(),
            consumer_group: settings.consumer_group.clone(),
        };
        Self {
            _settings: settings,
            identity,
        }
    }
}

#[async_trait]
impl EventSource for SdkSource {
    async fn partitions(&self) -> Result<Vec<PartitionId>, HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }

    async fn properties(&self, _: &PartitionId) -> Result<PartitionProperties, HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }

    async fn open(
        &self,
        _: &PartitionId,
        _: Position,
        _: Epoch,
    ) -> Result<Box<dyn Batches>, HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }

    fn identity(&self) -> &SourceIdentity {
        &self.identity
    }
}
