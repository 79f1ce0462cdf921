//! Direct methods.

use std::time::Duration;

use iothub::{HubError, MethodCall};
use serde_json::Value as Json;
use tokio::time::Instant;

use super::{
    Done, Failure, Hub, left,
    limit::{Repeat, Sort},
};

/// The hub's shortest and longest time to wait for a method's answer (Microsoft Learn, "Understand and
/// invoke direct methods from IoT Hub").
const SHORTEST: Duration = Duration::from_secs(5);
const LONGEST: Duration = Duration::from_secs(300);

/// Each piece of a call that is begun counts (Microsoft Learn, "IoT Hub quotas and throttling": 4 KB). Whether the
/// device's answer counts as well is not published.
const PIECE: u32 = 4096;

/// Calls a method and waits for the device's answer.
pub(super) async fn invoke(
    hub: &Hub,
    device: &str,
    module: Option<&str>,
    name: &str,
    payload: &Json,
    deadline: Instant,
) -> Result<Done, Failure> {
    let settings = &hub.settings;
    let connect = Duration::from_secs(settings.method_connect_timeout_seconds.into());
    let response = settings.method_response_timeout_seconds;
    let response = response.map(|seconds| Duration::from_secs(seconds.into()));
    let call = |left: Duration| MethodCall {
        device,
        module,
        name,
        payload,
        response_timeout: response.unwrap_or(LONGEST).min(left - connect).min(LONGEST),
        connect_timeout: connect,
    };
    let length = u32::try_from(payload.to_string().len()).unwrap_or(u32::MAX);
    let pieces = f64::from(length.div_ceil(PIECE).max(1));
    let answer = hub
        .gates
        .pass_large(Sort::Method, pieces, Repeat::IfNotTaken, deadline, || {
            let left = left(deadline);
            // Less the hub does not take, and more nobody waits for.
            let call = (left >= SHORTEST + connect).then(|| call(left));
            async move {
                let Some(call) = call else {
                    return Err(HubError::NotSent {
                        why: "too little time is left for a direct method".into(),
                    });
                };
                hub.ways.rest.invoke(call).await
            }
        });
    Ok(Done::Method(answer.await?))
}
