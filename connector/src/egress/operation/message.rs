//! Property writes and messages: cloud-to-device.

use std::collections::BTreeMap;

use iothub::{Ack, C2dMessage, HubError};
use jiff::Timestamp;
use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::{
    super::command::Change,
    Done, Failure, Hub,
    limit::{Repeat, Sort},
    twin,
};

/// Carries out the changes of a property write, one after the other.
pub(super) async fn write(
    hub: &Hub,
    device: &str,
    changes: Vec<Change>,
    deadline: Instant,
) -> Result<Done, Failure> {
    if hub.settings.coalesce
        && let Some(values) = values(&changes)
    {
        let _place = hub.gates.lane()?;
        let hub_ = hub.clone();
        let sent = hub
            .lanes
            .send(device, values, deadline, move |device, values, deadline| {
                let hub = hub_.clone();
                async move { send_values(&hub, &device, values, deadline).await }
            });
        sent.await?;
        return Ok(Done::Nothing);
    }
    let all = changes.len();
    for (done, change) in changes.into_iter().enumerate() {
        let carried_out = match change {
            Change::Message(values) => send_values(hub, device, values, deadline)
                .await
                .map_err(Failure::from),
            Change::Twin(change) => twin::change(hub, change, deadline).await,
        };
        carried_out.map_err(|failure| match done {
            0 => failure,
            // Whoever wrote several must know how many of them the device gets.
            done => Failure::Partly {
                done,
                all,
                of: Box::new(failure),
            },
        })?;
    }
    Ok(Done::Nothing)
}

/// The values of changes that are all messages.
fn values(changes: &[Change]) -> Option<Map<String, Json>> {
    let mut all = Map::new();
    for change in changes {
        let Change::Message(values) = change else {
            return None;
        };
        all.extend(values.clone());
    }
    Some(all)
}

/// Sends values in one message.
async fn send_values(
    hub: &Hub,
    device: &str,
    values: Map<String, Json>,
    deadline: Instant,
) -> Result<(), HubError> {
    let mut names = values.keys();
    // One of several says less than nothing.
    let property = names.next().filter(|_| names.next().is_none()).cloned();
    send(
        hub,
        device,
        &Json::Object(values),
        property.as_deref(),
        deadline,
    )
    .await
}

/// Sends one message. Succeeds once the hub has accepted it.
pub(super) async fn send(
    hub: &Hub,
    device: &str,
    body: &Json,
    property: Option<&str>,
    deadline: Instant,
) -> Result<(), HubError> {
    // They would lead to another resource of the hub.
    if matches!(device, "" | "." | "..") {
        return Err(HubError::DeviceNotFound { id: device.into() });
    }
    let settings = &hub.settings;
    let expiry = settings.message_expiry_seconds.map(i64::from);
    let message = C2dMessage {
        device: device.to_owned(),
        // The same over retries, so that the device can tell.
        message_id: hub.mark.id(property),
        content_type: Some("application/json".into()),
        content_encoding: Some("utf-8".into()),
        body: body.to_string().into(),
        expiry_ms: expiry.map(|seconds| Timestamp::now().as_millisecond() + seconds * 1000),
        ack: match settings.feedback {
            true => Ack::Negative,
            false => Ack::None,
        },
        properties: BTreeMap::new(),
    };
    hub.gates
        .pass(Sort::Message, Repeat::IfNotTaken, deadline, || {
            hub.ways.c2d.send(message.clone(), deadline)
        })
        .await
}
