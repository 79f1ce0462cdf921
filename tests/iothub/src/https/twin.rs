//! Twins, as services see them.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use serde_json::Value;

use crate::{
    document,
    hub::{DeviceView, Hub},
    twin::Twin,
};

use super::{
    error::Failure,
    registry::etag,
    request::{Body, Condition, Who},
};

fn answer(view: &DeviceView, twin: &Twin) -> (HeaderMap, Json<Value>) {
    let version = twin.revision.to_string();
    (etag(&version), Json(document::twin(view, twin)))
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
