//! Command → operation on the hub.

use std::time::Duration;

use iothub::{Ack, C2dMessage, C2dSender, HubError, HubRest, MethodCall};
use serde_json::Value as Json;
use tokio::time::Instant;

/// The hub's shortest and longest time to wait for a method's answer (Microsoft Learn, "Understand and
/// invoke direct methods from IoT Hub").
const METHOD_MIN: Duration = Duration::from_secs(5);
const METHOD_MAX: Duration = Duration::from_secs(300);

/// The way to the hub. Cheap to clone.
#[derive(Clone)]
pub struct Hub {
    /// Cloud-to-device messages.
    pub c2d: C2dSender,
    /// Direct methods.
    pub rest: HubRest,
}

impl Hub {
    /// Sends one message to a device. Succeeds once the hub has accepted it.
    ///
    /// # Errors
    /// [`HubError`]; its `taken` tells whether the hub may have it all the same.
    pub async fn send(
        &self,
        device: String,
        body: &Json,
        deadline: Instant,
    ) -> Result<(), HubError> {
        let message = C2dMessage {
            device,
            message_id: format!("{:032x}", rand::random::<u128>()),
            content_type: Some("application/json".into()),
            content_encoding: None,
            body: body.to_string().into(),
            expiry_ms: None,
            ack: Ack::None,
            properties: std::collections::BTreeMap::new(),
        };
        self.c2d.send(message, deadline).await
    }

    /// Calls a direct method and waits for the device's answer.
    ///
    /// # Errors
    /// As [`Self::send`]; also when so little time is left that the hub would refuse it.
    pub async fn invoke(
        &self,
        device: String,
        module: Option<String>,
        name: String,
        payload: Json,
        deadline: Instant,
    ) -> Result<iothub::MethodAnswer, HubError> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left < METHOD_MIN {
            return Err(HubError::NotSent {
                why: "too little time is left for a method".into(),
            });
        }
        let call = MethodCall {
            device,
            module,
            name,
            payload,
            response_timeout: left.min(METHOD_MAX),
            connect_timeout: Duration::ZERO,
        };
        self.rest.invoke(&call).await
    }
}
