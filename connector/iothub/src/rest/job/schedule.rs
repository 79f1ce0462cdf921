//! Making a job.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::{DOCUMENT_MAX, HubRest, Job, JobId, JobKind};
use crate::{
    HubError, TwinPatch,
    refusal::Subject,
    rest::{answer::typed, method, query::of_query},
};

/// Whom a job is for, and when.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSchedule {
    /// Its name.
    pub id: JobId,
    /// Which devices: what follows WHERE in a query of `devices`, such as `tags.site = 'a'` or
    /// `deviceId IN ['a', 'b']`; `*` for all. Texts are quoted by [`crate::quoted`].
    pub devices: String,
    /// When it begins; at once if absent or past.
    pub start: Option<Timestamp>,
    /// How long it may take, in whole seconds, rounded up. Devices that are not done by then have failed.
    pub max_execution_time: Duration,
}

/// What a job calls on each of its devices.
#[derive(Debug, Clone, PartialEq)]
pub struct JobMethod {
    /// Name of the method.
    pub name: String,
    /// What the method gets; at most 128 KiB as JSON.
    pub payload: Value,
    /// How long the hub waits for each device's answer. In whole seconds, rounded up; 5 to 300.
    pub response_timeout: Duration,
    /// How long the hub waits for a disconnected device. In whole seconds, rounded up; 0 to 300.
    pub connect_timeout: Duration,
}

impl JobSchedule {
    fn body(&self, kind: &JobKind) -> Map<String, Value> {
        let seconds = self.max_execution_time.as_secs()
            + u64::from(self.max_execution_time.subsec_nanos() > 0);
        let mut body = Map::from_iter([
            ("jobId".to_owned(), self.id.as_str().into()),
            ("type".to_owned(), kind.name().into()),
            ("queryCondition".to_owned(), self.devices.as_str().into()),
            ("maxExecutionTimeInSeconds".to_owned(), seconds.into()),
        ]);
        if let Some(start) = self.start {
            body.insert("startTime".into(), start.to_string().into());
        }
        body
    }
}

impl HubRest {
    /// Makes a job that changes twins: `PUT /jobs/v2/{id}`. The policy needs the right RegistryWrite.
    ///
    /// # Errors
    /// [`HubError::AlreadyExists`] if there is a job of that id, also if an earlier call whose answer was
    /// lost has made it; [`HubError::TooManyJobs`]; any other [`HubError`]. Where [`HubError::taken`] is
    /// unknown, [`HubRest::job`] tells; repeating the call cannot make the job twice either.
    pub async fn schedule_twin_update(
        &self,
        schedule: &JobSchedule,
        patch: &TwinPatch,
    ) -> Result<Job, HubError> {
        let mut body = schedule.body(&JobKind::UpdateTwin);
        let mut update = patch.body();
        // Of whatever version the twins are.
        update.insert("etag".into(), "*".into());
        body.insert("updateTwin".into(), Value::Object(update));
        self.schedule(schedule, body).await
    }

    /// Makes a job that calls a direct method: `PUT /jobs/v2/{id}`. The policy needs the right
    /// RegistryWrite.
    ///
    /// # Errors
    /// As [`HubRest::schedule_twin_update`].
    pub async fn schedule_method(
        &self,
        schedule: &JobSchedule,
        method: &JobMethod,
    ) -> Result<Job, HubError> {
        let JobMethod {
            name,
            payload,
            response_timeout,
            connect_timeout,
        } = method;
        method::check(payload)?;
        let (response, connect) = method::seconds(*response_timeout, *connect_timeout);
        let call = json!({
            "methodName": name,
            "payload": payload,
            "responseTimeoutInSeconds": response,
            "connectTimeoutInSeconds": connect,
        });
        let mut body = schedule.body(&JobKind::DeviceMethod);
        body.insert("cloudToDeviceMethod".into(), call);
        self.schedule(schedule, body).await
    }

    async fn schedule(
        &self,
        schedule: &JobSchedule,
        body: Map<String, Value>,
    ) -> Result<Job, HubError> {
        let JobSchedule { id, devices, .. } = schedule;
        let subject = Subject {
            what: "scheduling a job",
            id: id.as_str(),
            right: "RegistryWrite",
        };
        let request = self.request_with(Method::PUT, &id.path(), &Value::Object(body));
        let made = self.exchange(request, subject, DOCUMENT_MAX, typed).await;
        made.map_err(|error| of_query(devices, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_is_written_as_the_hub_reads_it() {
        let mut schedule = JobSchedule {
            id: JobId::new("j-1").unwrap(),
            devices: "*".into(),
            start: None,
            max_execution_time: Duration::from_millis(1500),
        };
        let body = |schedule: &JobSchedule| Value::Object(schedule.body(&JobKind::UpdateTwin));
        let expected = json!({
            "jobId": "j-1", "type": "scheduleUpdateTwin", "queryCondition": "*",
            "maxExecutionTimeInSeconds": 2,
        });
        assert_eq!(body(&schedule), expected);
        schedule.start = Some("2026-11-24T10:00:00Z".parse().unwrap());
        assert_eq!(body(&schedule)["startTime"], "2026-11-24T10:00:00Z");
    }
}
