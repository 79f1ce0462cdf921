//! Twins: read on demand, changed by merging.

use std::time::Duration;

use alwayson::Status;
use async_trait::async_trait;
use iothub::{Condition, HubError, TwinPatch, TwinReader};
use serde_json::{Map, Value as Json};
use tokio::time::Instant;

use super::{
    super::{
        command::{ETAG, Refusal, TwinChange, TwinOf, TwinPart},
        outcome::value,
    },
    Done, Failure, Hub,
    limit::{Repeat, Sort},
};

/// As long as ingress waits for a twin.
const INGRESS: Duration = Duration::from_secs(8);

/// Reads a part of a twin, or one key of what the device reports.
pub(super) async fn read(
    hub: &Hub,
    twin: &TwinOf,
    part: Option<TwinPart>,
    name: &str,
    property: String,
    deadline: Instant,
) -> Result<Done, Failure> {
    let whole = whole(hub, &twin.device, twin.module.as_deref(), deadline).await?;
    let found = match part {
        Some(part) => Some(Json::Object(part_of(&whole, part))),
        None => whole
            .pointer("/properties/reported")
            .and_then(|all| all.get(name))
            .cloned(),
    };
    let Some(json) = found else {
        return Err(Failure::Refused(Refusal {
            status: Status::METHOD_NOT_ALLOWED,
            reason: format!(
                "device {} does not report {name} in its twin, and IoT Hub can ask it for nothing else; the \
                 Thing shows the value that came with telemetry last",
                twin.device
            ),
        }));
    };
    Ok(Done::Property {
        name: property,
        value: value(&json),
    })
}

async fn whole(
    hub: &Hub,
    device: &str,
    module: Option<&str>,
    deadline: Instant,
) -> Result<Json, HubError> {
    let read = || hub.ways.rest.twin(device, module);
    hub.gates
        .pass(Sort::TwinRead, Repeat::Always, deadline, read)
        .await
}

/// Ingress reads twins as well: the hub counts them together.
#[async_trait]
impl TwinReader for Hub {
    async fn twin(&self, device: &str, module: Option<&str>) -> Result<Json, HubError> {
        whole(self, device, module, Instant::now() + INGRESS).await
    }
}

/// A part of a twin, with the version that a write of it may ask for.
fn part_of(twin: &Json, part: TwinPart) -> Map<String, Json> {
    let found = match part {
        TwinPart::Desired => twin.pointer("/properties/desired"),
        TwinPart::Reported => twin.pointer("/properties/reported"),
        TwinPart::Tags => twin.get("tags"),
    };
    let mut found = found.and_then(Json::as_object).cloned().unwrap_or_default();
    if let (true, Some(etag)) = (part != TwinPart::Reported, twin.get("etag")) {
        found.insert(ETAG.to_owned(), etag.clone());
    }
    found
}

/// Merges a change into a twin.
pub(super) async fn change(
    hub: &Hub,
    change: TwinChange,
    deadline: Instant,
) -> Result<(), Failure> {
    let TwinChange {
        twin: TwinOf { device, module },
        part,
        patch,
        etag,
    } = change;
    let condition = etag.map_or(Condition::Exists, Condition::Unchanged);
    let patch = match part {
        TwinPart::Tags => TwinPatch {
            tags: Some(patch),
            desired: None,
        },
        TwinPart::Desired | TwinPart::Reported => TwinPatch {
            tags: None,
            desired: Some(patch),
        },
    };
    // A conditional change that was carried out and not answered fails when it is repeated.
    let repeat = match condition {
        Condition::Exists => Repeat::Always,
        Condition::Unchanged(_) => Repeat::IfNotTaken,
    };
    hub.gates
        .pass(Sort::TwinWrite, repeat, deadline, || {
            hub.ways
                .rest
                .patch_twin(&device, module.as_deref(), &patch, &condition)
        })
        .await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_can_be_written_comes_with_its_version() {
        let twin = json!({
            "etag": "AAE=", "tags": {"site": "a"},
            "properties": {"desired": {"rate": 1}, "reported": {"rate": 2}}
        });
        let part = |part| Json::Object(part_of(&twin, part));
        assert_eq!(part(TwinPart::Desired), json!({"rate": 1, "$etag": "AAE="}));
        assert_eq!(part(TwinPart::Tags), json!({"site": "a", "$etag": "AAE="}));
        assert_eq!(part(TwinPart::Reported), json!({"rate": 2}));
    }
}
