//! Direct methods.

use std::time::Duration;

use reqwest::Method;
use serde::Serialize;
use serde_json::Value;

use super::{CONNECT, HubRest, MARGIN, answer::invoked, identity::Identity};
use crate::{HubError, refusal::Subject};

/// Bounds of the hub (Microsoft Learn, "Understand and invoke direct methods from IoT Hub").
const RESPONSE_SECONDS: std::ops::RangeInclusive<u64> = 5..=300;
const CONNECT_SECONDS_MAX: u64 = 300;
/// Largest payload of a method, each way (as above).
const PAYLOAD_MAX: usize = 128 * 1024;
/// Largest answer that is read: a method's payload and what is around it.
const ANSWER_MAX: usize = 2 * PAYLOAD_MAX;

/// A call of a direct method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MethodCall<'a> {
    /// The device.
    pub device: &'a str,
    /// A module of the device.
    pub module: Option<&'a str>,
    /// Name of the method.
    pub name: &'a str,
    /// What the method gets; at most 128 KiB as JSON.
    pub payload: &'a Value,
    /// How long the hub waits for the device's answer. In whole seconds, rounded up; 5 to 300.
    pub response_timeout: Duration,
    /// How long the hub waits for a disconnected device. In whole seconds, rounded up; 0 to 300.
    pub connect_timeout: Duration,
}

/// What the device's method answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodAnswer {
    /// The method's own status; means what the device's program says it means.
    pub status: i32,
    /// What the method returned.
    pub payload: Value,
}

/// A call as the hub takes it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    method_name: &'a str,
    payload: &'a Value,
    response_timeout_in_seconds: u64,
    connect_timeout_in_seconds: u64,
}

impl HubRest {
    /// Calls a direct method and waits for the device's answer. The policy needs the right
    /// ServiceConnect.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::taken`] tells whether the device may have run it.
    pub async fn invoke(&self, call: MethodCall<'_>) -> Result<MethodAnswer, HubError> {
        check(call.payload)?;
        let identity = Identity::new(call.device, call.module)?;
        let id = identity.id();
        let subject = Subject {
            what: "the direct method",
            id: &id,
            right: "ServiceConnect",
        };
        let (response, connect) = seconds(call.response_timeout, call.connect_timeout);
        let body = Body {
            method_name: call.name,
            payload: call.payload,
            response_timeout_in_seconds: response,
            connect_timeout_in_seconds: connect,
        };
        let request = self
            .request_with(Method::POST, &identity.method_path(), &body)
            .timeout(CONNECT + Duration::from_secs(response + connect) + MARGIN);
        self.exchange(request, subject, ANSWER_MAX, invoked).await
    }
}

/// Larger ones the hub refuses; they are not sent.
pub(super) fn check(payload: &Value) -> Result<(), HubError> {
    if payload.to_string().len() > PAYLOAD_MAX {
        return Err(HubError::TooLarge {
            what: "the payload of a direct method".into(),
        });
    }
    Ok(())
}

/// Time-outs for the answer and for the device's connection, as the hub takes them.
pub(super) fn seconds(response: Duration, connect: Duration) -> (u64, u64) {
    let whole = |time: Duration| time.as_secs() + u64::from(time.subsec_nanos() > 0);
    let response = whole(response).clamp(*RESPONSE_SECONDS.start(), *RESPONSE_SECONDS.end());
    (response, whole(connect).min(CONNECT_SECONDS_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Taken, rest::tests::rest};

    fn call() -> MethodCall<'static> {
        MethodCall {
            device: "pump 1/ä?",
            module: None,
            name: "reboot",
            payload: &Value::Null,
            response_timeout: Duration::from_millis(9100),
            connect_timeout: Duration::ZERO,
        }
    }

    #[test]
    fn times_are_whole_seconds_within_the_hubs_bounds() {
        for (response, connect, expected) in [
            (9100, 0, (10, 0)),
            (1000, 1, (5, 1)),
            (301_000, 400_000, (300, 300)),
            (30_000, 2000, (30, 2)),
        ] {
            let (response, connect) = (
                Duration::from_millis(response),
                Duration::from_millis(connect),
            );
            assert_eq!(seconds(response, connect), expected);
        }
    }

    #[tokio::test]
    async fn a_hub_that_cannot_be_reached_has_taken_nothing() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let error = rest(&address).unwrap().invoke(call()).await.unwrap_err();
        assert!(matches!(error, HubError::Transport { .. }), "{error}");
        assert_eq!(error.taken(), Taken::No);
    }

    #[tokio::test]
    async fn a_payload_that_is_too_large_is_not_sent() {
        let payload = Value::String("x".repeat(PAYLOAD_MAX));
        let call = MethodCall {
            payload: &payload,
            ..call()
        };
        let error = rest("127.0.0.1:1").unwrap().invoke(call).await.unwrap_err();
        assert!(matches!(error, HubError::TooLarge { .. }));
    }

    #[tokio::test]
    async fn an_id_cannot_lead_to_another_resource() {
        for device in ["", ".", ".."] {
            let call = MethodCall { device, ..call() };
            let error = rest("127.0.0.1:1").unwrap().invoke(call).await.unwrap_err();
            assert!(
                matches!(error, HubError::DeviceNotFound { .. }),
                "{device}: {error}"
            );
        }
    }
}
