//! The identity registry.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header::ETAG},
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    document,
    hub::{Change, DeviceView, Hub, Keys},
    identity::Identity,
    refusal::Refusal,
    sas::SharedKey,
};

use super::{
    error::Failure,
    request::{Body, Condition, Who},
};

/// Most devices in one answer. Source: Microsoft Learn, "Devices - Get Devices".
const MAX_LISTED: usize = 1000;

/// Of an identity's body, what the stand-in keeps. SDKs send more.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written {
    device_id: Option<String>,
    module_id: Option<String>,
    status: Option<Status>,
    authentication: Option<Authentication>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Enabled,
    Disabled,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Authentication {
    r#type: Option<String>,
    symmetric_key: Option<KeyPair>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyPair {
    primary_key: Option<String>,
    secondary_key: Option<String>,
}

impl Written {
    fn change(self, identity: &Identity) -> Result<Change, Refusal> {
        let bad = |text: &str| Refusal::BadRequest(text.to_owned());
        let other = |written: &Option<String>, path: Option<&str>| {
            written.as_deref().is_some_and(|id| Some(id) != path)
        };
        if other(&self.device_id, Some(identity.device_id()))
            || other(&self.module_id, identity.module_id())
        {
            return Err(bad("the ids of path and body differ"));
        }
        let keys = match self.authentication {
            None => None,
            Some(Authentication {
                r#type: Some(kind), ..
            }) if kind != "sas" => {
                return Err(bad("the stand-in has no authentication but sas"));
            }
            Some(Authentication { symmetric_key, .. }) => match symmetric_key {
                Some(KeyPair {
                    primary_key: Some(primary),
                    secondary_key: Some(secondary),
                }) => {
                    let key = |text| SharedKey::new(text).map_err(|error| bad(&error.to_string()));
                    Some(Keys {
                        primary: key(primary)?,
                        secondary: key(secondary)?,
                    })
                }
                None
                | Some(KeyPair {
                    primary_key: None,
                    secondary_key: None,
                }) => None,
                Some(_) => return Err(bad("one key without the other")),
            },
        };
        Ok(Change {
            keys,
            enabled: self.status.map(|status| status == Status::Enabled),
        })
    }
}

fn answer(view: &DeviceView) -> (HeaderMap, Json<Value>) {
    (etag(&view.etag), Json(document::identity(view)))
}

/// The header; quotes are HTTP's, not the etag's.
pub(super) fn etag(etag: &str) -> HeaderMap {
    HeaderValue::from_str(&format!("\"{etag}\""))
        .map(|value| HeaderMap::from_iter([(ETAG, value)]))
        .unwrap_or_default()
}

#[derive(Debug, Deserialize)]
pub(super) struct Top {
    top: Option<i64>,
}

/// Anything outside 1 to 1000 counts as 1000 (same source).
pub(super) async fn list(State(hub): State<Arc<Hub>>, Query(top): Query<Top>) -> Json<Vec<Value>> {
    let top = top
        .top
        .and_then(|top| usize::try_from(top).ok())
        .filter(|top| (1..=MAX_LISTED).contains(top))
        .unwrap_or(MAX_LISTED);
    Json(hub.list(None, top).iter().map(document::identity).collect())
}

pub(super) async fn modules(
    State(hub): State<Arc<Hub>>,
    Path(device): Path<String>,
) -> Result<Json<Vec<Value>>, Failure> {
    hub.get(&Identity::device(&device)?)?;
    let modules = hub.list(Some(&device), MAX_LISTED);
    Ok(Json(modules.iter().map(document::identity).collect()))
}

pub(super) async fn read(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
) -> Result<(HeaderMap, Json<Value>), Failure> {
    Ok(answer(&hub.get(&identity)?))
}

pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
    Condition(condition): Condition,
    Body(written): Body<Written>,
) -> Result<(HeaderMap, Json<Value>), Failure> {
    let change = written.change(&identity)?;
    Ok(answer(&hub.put(&identity, change, &condition)?))
}

pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
    Condition(condition): Condition,
) -> Result<StatusCode, Failure> {
    hub.delete(&identity, &condition)?;
    Ok(StatusCode::NO_CONTENT)
}

/// How many devices there are, and how many may connect.
pub(super) async fn statistics(State(hub): State<Arc<Hub>>) -> Json<Value> {
    let (all, enabled) = hub.count();
    Json(json!({
        "totalDeviceCount": all,
        "enabledDeviceCount": enabled,
        "disabledDeviceCount": all - enabled,
    }))
}

/// Drops the cloud-to-device messages that wait for a device.
pub(super) async fn purge(
    State(hub): State<Arc<Hub>>,
    Who(identity): Who,
) -> Result<Json<Value>, Failure> {
    let purged = hub.purge(&identity)?;
    Ok(Json(json!({
        "totalMessagesPurged": purged,
        "deviceId": identity.device_id(),
        "moduleId": identity.module_id(),
    })))
}
