//! How each device of a job has fared.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use super::{HubRest, JobId, JobStatus};
use crate::{
    HubError, MethodAnswer, instant,
    rest::query::{Page, PageRequest, quoted},
};

/// How a device of a job has fared.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(from = "Written")]
pub struct JobResult {
    /// The device.
    pub device_id: String,
    /// The module of it, if the job is for modules.
    pub module_id: Option<String>,
    /// How far it is.
    pub status: JobStatus,
    /// What its method answered, if one was called and it has.
    pub answer: Option<MethodAnswer>,
    /// Why it has failed.
    pub error: Option<JobError>,
    /// When it began.
    pub started: Option<Timestamp>,
    /// When it ended.
    pub ended: Option<Timestamp>,
    /// When the hub wrote this.
    pub updated: Option<Timestamp>,
}

/// Why a device of a job has failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobError {
    /// The hub's error code, by number or name.
    pub code: String,
    /// Its words.
    pub description: String,
}

/// As the hub writes it. Source: Microsoft Learn, "Queries for IoT Hub jobs"; `DeviceJob` of Microsoft's
/// .NET service SDK.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Written {
    device_id: String,
    #[serde(default)]
    module_id: Option<String>,
    status: JobStatus,
    #[serde(default)]
    outcome: Option<Outcome>,
    #[serde(default)]
    error: Option<Failure>,
    #[serde(default, deserialize_with = "instant::optional")]
    start_time_utc: Option<Timestamp>,
    #[serde(default, deserialize_with = "instant::optional")]
    end_time_utc: Option<Timestamp>,
    #[serde(default, deserialize_with = "instant::optional")]
    last_updated_date_time_utc: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    #[serde(default)]
    device_method_response: Option<Answered>,
}

#[derive(Deserialize)]
struct Answered {
    status: i32,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: Value,
    #[serde(default)]
    description: Option<String>,
}

impl From<Written> for JobResult {
    fn from(written: Written) -> Self {
        let Written {
            device_id,
            module_id,
            status,
            outcome,
            error,
            start_time_utc,
            end_time_utc,
            last_updated_date_time_utc,
        } = written;
        let answer = outcome.and_then(|outcome| outcome.device_method_response);
        Self {
            device_id,
            module_id,
            status,
            answer: answer.map(|Answered { status, payload }| MethodAnswer { status, payload }),
            error: error.map(|Failure { code, description }| JobError {
                code: match code {
                    Value::String(code) => code,
                    code => code.to_string(),
                },
                description: description.unwrap_or_default(),
            }),
            started: start_time_utc,
            ended: end_time_utc,
            updated: last_updated_date_time_utc,
        }
    }
}

impl HubRest {
    /// How each device of a job has fared, page by page: a query of `devices.jobs`. The policy needs the
    /// right ServiceConnect.
    ///
    /// # Errors
    /// [`HubError`]; asking can always be repeated. Of a job that does not exist there are no results.
    pub async fn job_results(
        &self,
        id: &JobId,
        page: &PageRequest,
    ) -> Result<Page<JobResult>, HubError> {
        let id = quoted(id.as_str());
        let query = format!("SELECT * FROM devices.jobs WHERE devices.jobs.jobId = {id}");
        self.query_of(&query, page).await
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_and_failures_are_told_apart() {
        let result: JobResult = serde_json::from_value(json!({
            "deviceId": "a", "jobId": "j", "jobType": "scheduleDeviceMethod", "status": "completed",
            "startTimeUtc": "2026-11-24T10:00:00.1Z", "endTimeUtc": "2026-11-24T10:00:01.1Z",
            "outcome": {"deviceMethodResponse": {"status": 207, "payload": [1]}},
        }))
        .unwrap();
        let payload = json!([1]);
        assert_eq!(
            result.answer,
            Some(MethodAnswer {
                status: 207,
                payload
            })
        );
        assert!(result.started < result.ended);

        let result: JobResult = serde_json::from_value(json!({
            "deviceId": "a", "moduleId": "m", "status": "failed", "outcome": null,
            "error": {"code": 404_103, "description": "Timed out"},
        }))
        .unwrap();
        let error = result.error.unwrap();
        assert_eq!((&*error.code, &*error.description), ("404103", "Timed out"));
        assert_eq!(result.module_id.as_deref(), Some("m"));
    }
}
