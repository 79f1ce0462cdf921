//! A Thing whose device is missing in the hub: the device is made there, as PTC's connector does (PTC Azure
//! IoT Hub Connector help, "Azure IoT Thing Template").
//!
//! PTC's template asks for it by `CreateAzureIotDevice`. A Thing of another one is noticed when the platform
//! says what it wants to hear of: it does so when a Thing comes up and when its bindings change. That it
//! says so of Things behind a gateway too is assumed.

use std::time::Duration;

use iothub::HubError;
use tokio::{sync::mpsc, time::Instant};

use super::{
    command::{Command, EdgeService, OwnNames, Registry, TwinOf, TwinPart},
    operation::{Failure, Hub},
    outcome::Outcome,
};

/// Things that wait to be looked at; more are not looked at. Many come up together when the platform
/// restarts, and those are no news.
const QUEUE: usize = 1024;
/// One look, and one creation.
const ASK: Duration = Duration::from_secs(30);

/// Takes the names of Things that may be new. Cheap to clone.
#[derive(Clone)]
pub struct Newcomers {
    own: OwnNames,
    queue: mpsc::Sender<String>,
}

impl Newcomers {
    /// Looks in the background, one Thing after the other; ends when the last clone is dropped.
    #[must_use]
    pub fn start(hub: Hub, own: OwnNames) -> Self {
        let (queue, mut things) = mpsc::channel(QUEUE);
        tokio::spawn(async move {
            while let Some(device) = things.recv().await {
                look(&hub, device).await;
            }
        });
        Self { own, queue }
    }

    /// The platform has called this service of an entity.
    pub(super) fn called(&self, service: &EdgeService, entity: &str) {
        let comes_up = matches!(
            service,
            EdgeService::NotifyPropertyUpdate | EdgeService::SynchronizeModelState
        );
        let device = entity.strip_prefix('*').unwrap_or(entity);
        if comes_up && !self.own.contains(device) && self.queue.try_send(device.into()).is_err() {
            tracing::debug!(
                device,
                "too many Things come up to look for the device of each"
            );
        }
    }
}

/// Makes the device if it is missing. Its twin is asked for, since the hub allows ten times as many of these
/// reads as looks into the registry.
async fn look(hub: &Hub, device: String) {
    let twin = Command::Read {
        twin: TwinOf {
            device: device.clone(),
            module: None,
        },
        part: Some(TwinPart::Tags),
        name: String::new(),
        property: String::new(),
    };
    let read = hub.carry_out(twin, Instant::now() + ASK).await;
    if !matches!(read, Err(Failure::Hub(HubError::DeviceNotFound { .. }))) {
        return;
    }
    let create = Command::Registry {
        action: Registry::Create,
        device: device.clone(),
    };
    match hub.carry_out(create, Instant::now() + ASK).await {
        Ok(_) => tracing::info!(device, "a Thing without a device: it is made in the hub"),
        Err(failure) => {
            let response = Outcome::from(failure).response;
            let error = response.error_text().unwrap_or_default();
            tracing::debug!(
                device,
                error,
                "a Thing without a device, which could not be made"
            );
        }
    }
}
