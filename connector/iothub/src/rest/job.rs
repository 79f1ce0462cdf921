//! Jobs: a change of many twins, or a call of many devices' methods, that the hub carries out by itself.
//!
//! Source: Microsoft Learn, "Schedule jobs on multiple devices", and "Jobs" of the REST reference,
//! api-version 2021-04-12.

mod id;
mod result;
mod schedule;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{Method, header::CONTENT_LENGTH};
use serde::Deserialize;
use serde_json::Value;

use super::{
    DOCUMENT_MAX, HubRest,
    answer::typed,
    query::{Page, PageRequest},
};
use crate::{HubError, instant, refusal::Subject};
pub use id::JobId;
pub use result::{JobError, JobResult};
pub use schedule::{JobMethod, JobSchedule};
pub use status::{JobKind, JobStatus};

/// A job.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Job {
    /// Its id.
    #[serde(rename = "jobId")]
    pub id: String,
    /// What it does.
    #[serde(rename = "type")]
    pub kind: JobKind,
    /// How far it is.
    pub status: JobStatus,
    /// Which devices it is for: the condition that it was given.
    #[serde(rename = "queryCondition", default)]
    pub devices: String,
    /// The change of the twins, if that is its kind.
    #[serde(default)]
    pub update_twin: Option<Value>,
    /// The call of a method, if that is its kind.
    #[serde(default)]
    pub cloud_to_device_method: Option<Value>,
    /// When it was made.
    #[serde(
        alias = "createdDateTimeUtc",
        default,
        deserialize_with = "instant::optional"
    )]
    pub created_time: Option<Timestamp>,
    /// When it begins, or has begun.
    #[serde(
        alias = "startTimeUtc",
        default,
        deserialize_with = "instant::optional"
    )]
    pub start_time: Option<Timestamp>,
    /// When it has ended.
    #[serde(alias = "endTimeUtc", default, deserialize_with = "instant::optional")]
    pub end_time: Option<Timestamp>,
    /// How long it may take, in seconds.
    #[serde(default)]
    pub max_execution_time_in_seconds: Option<u64>,
    /// Why it has failed.
    #[serde(default)]
    pub failure_reason: Option<String>,
    /// What else the hub says of it.
    #[serde(default)]
    pub status_message: Option<String>,
    /// How its devices fare. The hub counts with a delay.
    #[serde(default)]
    pub device_job_statistics: Option<JobStatistics>,
}

/// How the devices of a job fare.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JobStatistics {
    /// How many it is for.
    pub device_count: u64,
    /// How many have failed.
    pub failed_count: u64,
    /// How many have succeeded.
    pub succeeded_count: u64,
    /// How many are at it.
    pub running_count: u64,
    /// How many have not begun.
    pub pending_count: u64,
}

/// Which jobs are listed; all where nothing is said.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JobFilter {
    /// Those of a kind.
    pub kind: Option<JobKind>,
    /// Those of a status.
    pub status: Option<JobStatus>,
}

impl JobFilter {
    fn path(&self) -> String {
        let kind = self.kind.as_ref().map(|kind| ("jobType", kind.name()));
        let status = self
            .status
            .as_ref()
            .map(|status| ("jobStatus", status.name()));
        let given: Vec<String> = [kind, status]
            .into_iter()
            .flatten()
            .map(|(name, value)| format!("{name}={}", id::encoded(value)))
            .collect();
        match given.as_slice() {
            [] => "/jobs/v2/query".to_owned(),
            given => format!("/jobs/v2/query?{}", given.join("&")),
        }
    }
}

impl HubRest {
    /// How a job is: `GET /jobs/v2/{id}`. The policy needs the right RegistryRead.
    ///
    /// # Errors
    /// [`HubError::JobNotFound`] if the hub has no such job, or none any more: it keeps them for 30
    /// days. Any other [`HubError`]; reading can always be repeated.
    pub async fn job(&self, id: &JobId) -> Result<Job, HubError> {
        let subject = Subject {
            what: "reading a job",
            id: id.as_str(),
            right: "RegistryRead",
        };
        let request = self.request(Method::GET, &id.path());
        let job: Job = self.exchange(request, subject, DOCUMENT_MAX, typed).await?;
        match job.status {
            // So the hub answers about one that it does not know, with status 200.
            JobStatus::Other(ref status) if status == "unknown" => Err(HubError::JobNotFound {
                id: id.as_str().to_owned(),
            }),
            _ => Ok(job),
        }
    }

    /// Lists jobs: `GET /jobs/v2/query`. The policy needs the right RegistryRead.
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    pub async fn jobs(
        &self,
        filter: &JobFilter,
        page: &PageRequest,
    ) -> Result<Page<Job>, HubError> {
        let subject = Subject {
            what: "listing the jobs",
            id: "",
            right: "RegistryRead",
        };
        self.list(&filter.path(), page, subject).await
    }

    /// Cancels a job that does not run yet: `POST /jobs/v2/{id}/cancel`. The policy needs the right
    /// RegistryWrite.
    ///
    /// # Errors
    /// [`HubError::NotInThisState`] if it runs or has ended, also if an earlier call whose answer was lost
    /// has cancelled it; [`HubError::JobNotFound`]; any other [`HubError`]. Where [`HubError::taken`] is
    /// unknown, [`HubRest::job`] tells.
    pub async fn cancel_job(&self, id: &JobId) -> Result<Job, HubError> {
        let subject = Subject {
            what: "cancelling a job",
            id: id.as_str(),
            right: "RegistryWrite",
        };
        let request = self
            .request(Method::POST, &format!("{}/cancel", id.path()))
            // The hub answers 411 to a POST that does not say how long it is.
            .header(CONTENT_LENGTH, 0)
            .body("");
        self.exchange(request, subject, DOCUMENT_MAX, typed).await
    }
}

impl Job {
    /// How long it may take.
    #[must_use]
    pub fn max_execution_time(&self) -> Option<Duration> {
        self.max_execution_time_in_seconds.map(Duration::from_secs)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_job_is_read_as_the_hub_writes_it() {
        let job: Job = serde_json::from_value(json!({
            "jobId": "j-1", "type": "scheduleUpdateTwin", "status": "running",
            "createdTime": "2026-11-24T10:00:00.1234567Z", "startTime": "2026-11-24T10:00:00Z",
            "endTime": "0001-01-01T00:00:00Z", "maxExecutionTimeInSeconds": 60,
            "queryCondition": "tags.site = 'a'", "updateTwin": {"tags": {"x": 1}},
            "deviceJobStatistics": {"deviceCount": 3, "runningCount": 1},
        }))
        .unwrap();
        assert_eq!(
            (job.kind, job.status),
            (JobKind::UpdateTwin, JobStatus::Running)
        );
        assert_eq!(job.devices, "tags.site = 'a'");
        assert_eq!(job.end_time, None);
        let statistics = job.device_job_statistics.unwrap();
        assert_eq!((statistics.device_count, statistics.running_count), (3, 1));
    }

    #[test]
    fn a_filter_is_part_of_the_path() {
        assert_eq!(JobFilter::default().path(), "/jobs/v2/query");
        let filter = JobFilter {
            kind: Some(JobKind::DeviceMethod),
            status: Some(JobStatus::Other("a&b".into())),
        };
        assert_eq!(
            filter.path(),
            "/jobs/v2/query?jobType=scheduleDeviceMethod&jobStatus=a%26b"
        );
    }
}
