//! Twins, as services see them.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use serde_json::{Value, json};

use crate::{
    hub::{DeviceView, Hub},
    twin::Twin,
};

use super::{
    error::Failure,
    registry::{NEVER, connection_state, etag, status},
    request::{Body, Condition, Who},
};

fn answer(view: &DeviceView, twin: &Twin) -> (HeaderMap, Json<Value>) {
    let version = twin.revision.to_string();
    let mut shown = json!({
        "deviceId": view.identity.device_id(),
        "etag": version,
        "deviceEtag": view.etag,
        "status": status(view),
        "statusUpdateTime": NEVER,
        "connectionState": connection_state(view),
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": view.c2d_depth,
        "authenticationType": "sas",
        "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        "version": twin.revision,
        "tags": twin.tags,
        "properties": twin.for_device(),
    });
    if let Some(module) = view.identity.module_id() {
        shown["moduleId"] = module.into();
    }
    (etag(&version), Json(shown))
}

pub(super) async fn read(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
) -> Result<(HeaderMap, Json<Value>), Failure> {
    let twin = hub.twin(&identity)?;
    Ok(answer(&hub.get(&identity)?, &twin))
}

/// Merges; null removes.
pub(super) async fn patch(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
    Condition(condition): Condition,
    Body(patch): Body<Value>,
) -> Result<(HeaderMap, Json<Value>), Failure> {
    let twin = hub.patch_twin(&identity, &patch, &condition)?;
    Ok(answer(&hub.get(&identity)?, &twin))
}
