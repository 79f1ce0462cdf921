//! Jobs.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query as Asked, State},
    http::HeaderMap,
};
use jiff::{Timestamp, civil::DateTime, tz::TimeZone};
use serde::Deserialize;
use serde_json::Value;

use crate::{
    hub::Hub,
    job::{Action, JobSpec},
    query::Query,
    refusal::Refusal,
};

use super::{
    error::Failure,
    method::Call,
    page::{Paged, headers},
    request::Body,
};

/// Longest id (Microsoft Learn, "Schedule jobs on multiple devices").
const LONGEST_ID: usize = 64;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Written {
    job_id: Option<String>,
    r#type: String,
    #[serde(default)]
    query_condition: String,
    update_twin: Option<Value>,
    cloud_to_device_method: Option<Value>,
    start_time: Option<String>,
    max_execution_time_in_seconds: Option<u64>,
}

/// What the hub takes if nothing is said: an hour, as Microsoft's samples say.
const LONGEST_DEFAULT: u64 = 3600;

impl Written {
    fn spec(self, id: String) -> Result<JobSpec, Refusal> {
        let bad = Refusal::BadRequest;
        let named = |id: &str| {
            (1..=LONGEST_ID).contains(&id.len())
                && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        };
        if !named(&id) || self.job_id.is_some_and(|written| written != id) {
            return Err(bad(format!("{id:?} cannot be the id of this job")));
        }
        let query = Query::of_job(&self.query_condition);
        let query = query.map_err(|error| bad(error.to_string()))?;
        let action = match (&*self.r#type, self.update_twin, self.cloud_to_device_method) {
            ("scheduleUpdateTwin", Some(update), None) => Action::UpdateTwin(changes(update)?),
            ("scheduleDeviceMethod", None, Some(written)) => {
                let call: Call = serde_json::from_value(written.clone())
                    .map_err(|error| bad(format!("cloudToDeviceMethod: {error}")))?;
                Action::Method(written, call.try_into()?)
            }
            (kind, ..) => return Err(bad(format!("a job of type {kind:?} is not made of this"))),
        };
        let start = self.start_time.filter(|text| !text.is_empty());
        let start = start.map(|text| {
            instant(&text).ok_or_else(|| bad(format!("startTime {text:?} is no time")))
        });
        let longest = self
            .max_execution_time_in_seconds
            .unwrap_or(LONGEST_DEFAULT);
        if longest == 0 {
            return Err(bad("maxExecutionTimeInSeconds must not be 0".into()));
        }
        Ok(JobSpec {
            id,
            action,
            condition: (self.query_condition, query),
            start: start.transpose()?,
            longest: Duration::from_secs(longest),
        })
    }
}

/// Tags, desired properties or both, and the etag, which must be `*`.
fn changes(update: Value) -> Result<Value, Refusal> {
    let bad = |text: &str| Err(Refusal::BadRequest(text.to_owned()));
    let object = |value: Option<&Value>| value.is_none_or(Value::is_object);
    let (tags, desired) = (update.get("tags"), update.pointer("/properties/desired"));
    if update.get("etag").is_none_or(|etag| etag != "*") {
        return bad("updateTwin: etag must be *");
    }
    if tags.is_none() && desired.is_none() {
        return bad("updateTwin: tags or properties.desired must be given");
    }
    if !object(tags) || !object(desired) {
        return bad("updateTwin: tags and properties.desired must be JSON objects");
    }
    Ok(update)
}

fn instant(text: &str) -> Option<Timestamp> {
    text.parse().ok().or_else(|| {
        let civil: DateTime = text.parse().ok()?;
        TimeZone::UTC.to_timestamp(civil).ok()
    })
}

pub(super) async fn schedule(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
    Body(written): Body<Written>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(hub.schedule(written.spec(id)?)?))
}

pub(super) async fn read(State(hub): State<Arc<Hub>>, Path(id): Path<String>) -> Json<Value> {
    Json(hub.jobs().show(&id))
}

pub(super) async fn cancel(
    State(hub): State<Arc<Hub>>,
    Path(id): Path<String>,
) -> Result<Json<Value>, Failure> {
    Ok(Json(hub.jobs().cancel(&id)?))
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    job_type: Option<String>,
    job_status: Option<String>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Asked(filter): Asked<Filter>,
    page: Paged,
) -> Result<(HeaderMap, Json<Vec<Value>>), Failure> {
    let Filter {
        job_type,
        job_status,
    } = filter;
    let of = format!("{job_type:?} {job_status:?}");
    let from = page.from(&of)?.unwrap_or(0);
    let jobs = hub.jobs();
    let (found, next) = jobs.list(job_type.as_deref(), job_status.as_deref(), from, page.size);
    Ok((headers("jobResponse", &of, next), Json(found)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec(body: Value) -> Result<JobSpec, Refusal> {
        let written: Written = serde_json::from_value(body).unwrap();
        written.spec("j-1".into())
    }

    #[test]
    fn what_no_job_can_be_made_of_is_refused() {
        let update = json!({"etag": "*", "tags": {"x": 1}});
        let good = json!({
            "jobId": "j-1", "type": "scheduleUpdateTwin", "queryCondition": "*",
            "updateTwin": update, "startTime": "2026-11-24T10:00:00", "maxExecutionTimeInSeconds": 5,
        });
        assert!(spec(good.clone()).is_ok());
        for (field, value) in [
            ("jobId", json!("j-2")),
            ("type", json!("scheduleDeviceMethod")),
            ("type", json!("export")),
            ("queryCondition", json!("")),
            ("queryCondition", json!("tags.x LIKE 1")),
            ("updateTwin", json!({"etag": "*"})),
            ("updateTwin", json!({"tags": {}})),
            ("updateTwin", json!({"etag": "*", "tags": 1})),
            ("startTime", json!("soon")),
            ("maxExecutionTimeInSeconds", json!(0)),
        ] {
            let mut body = good.clone();
            body[field] = value;
            assert!(spec(body.clone()).is_err(), "{body}");
        }
        let method = json!({
            "type": "scheduleDeviceMethod", "queryCondition": "*",
            "cloudToDeviceMethod": {"methodName": "a b"},
        });
        assert!(spec(method).is_err());
    }
}
