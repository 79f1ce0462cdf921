//! Jobs of the hub: made here, carried out there.

use std::time::Duration;

use alwayson::{BaseType, InfoTable, Status, Value};
use iothub::{
    HubError, JobFilter, JobId, JobKind, JobMethod, JobResult, JobSchedule, JobStatus, Page,
    PageRequest, TwinPatch,
};
use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{
        command::{Job, Refusal, Schedule, Task},
        table::{table, time},
    },
    Done, Failure, Hub,
    limit::{Repeat, Sort},
};

/// How long a job may take that does not say; the hub's own examples take the same.
const DEFAULT_SECONDS: u64 = 3600;
/// How long a device may take to answer a job's method, where the caller does not say: the hub's default.
const RESPONSE: Duration = Duration::from_secs(30);
/// Most rows of an answer: a message to the platform has a bound, and nobody reads more.
const ROWS: usize = 1000;
/// Items of a page: the hub's most.
const PAGE: u16 = 100;

/// Carries out what is asked of jobs.
pub(super) async fn carry_out(hub: &Hub, job: Job, deadline: Instant) -> Result<Done, Failure> {
    let (gates, rest) = (&hub.gates, &hub.ways.registry);
    match job {
        Job::Schedule(job) => schedule(hub, job, deadline).await,
        Job::Get(id) => {
            let id = job_id(id)?;
            let get = || rest.job(&id);
            let found = gates.pass(Sort::Job, Repeat::Always, deadline, get).await?;
            Ok(Done::Table(jobs([found])))
        }
        Job::Cancel(id) => {
            let id = job_id(id)?;
            let cancel = || rest.cancel_job(&id);
            gates
                .pass(Sort::Job, Repeat::Always, deadline, cancel)
                .await?;
            Ok(Done::Nothing)
        }
        Job::Find { kind, state } => {
            let filter = JobFilter {
                kind: kind.as_deref().map(JobKind::from),
                status: state.as_deref().map(JobStatus::from),
            };
            let found = pages(hub, Sort::Job, deadline, |page| {
                let (rest, filter) = (rest.clone(), filter.clone());
                async move { rest.jobs(&filter, &page).await }
            });
            Ok(Done::Table(jobs(found.await?)))
        }
        Job::Results(id) => {
            let id = job_id(id)?;
            let found = pages(hub, Sort::Query, deadline, |page| {
                let (rest, id) = (hub.ways.rest.clone(), id.clone());
                async move { rest.job_results(&id, &page).await }
            });
            Ok(Done::Table(results(found.await?)))
        }
    }
}

async fn schedule(hub: &Hub, job: Schedule, deadline: Instant) -> Result<Done, Failure> {
    let Schedule {
        id,
        condition,
        start_ms,
        seconds,
        task,
    } = job;
    let id = job_id(id.unwrap_or_else(|| format!("{:032x}", rand::random::<u128>())))?;
    let start = start_ms.map(Timestamp::from_millisecond).transpose();
    let schedule = JobSchedule {
        id: id.clone(),
        devices: condition.unwrap_or_else(|| "*".into()),
        start: start.map_err(|error| refused(format!("input startTime: {error}")))?,
        max_execution_time: Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS)),
    };
    // The hub takes an id once, so a job cannot be made twice; but a repeated call that finds it made
    // could not be told from a clash with somebody else's.
    let repeat = Repeat::IfNotTaken;
    let (gates, rest) = (&hub.gates, &hub.ways.registry);
    let made = match task {
        Task::Twin { desired, tags } => {
            let patch = TwinPatch { tags, desired };
            let make = || rest.schedule_twin_update(&schedule, &patch);
            gates.pass(Sort::Job, repeat, deadline, make).await
        }
        Task::Method {
            name,
            payload,
            response_seconds,
        } => {
            let method = JobMethod {
                name,
                payload,
                response_timeout: response_seconds.map_or(RESPONSE, Duration::from_secs),
                connect_timeout: Duration::ZERO,
            };
            let make = || rest.schedule_method(&schedule, &method);
            gates.pass(Sort::Job, repeat, deadline, make).await
        }
    };
    made?;
    Ok(Done::Text(id.as_str().to_owned()))
}

fn job_id(text: String) -> Result<JobId, Failure> {
    JobId::new(text).map_err(|error| refused(error.to_string()))
}

fn refused(reason: String) -> Failure {
    Failure::Refused(Refusal {
        status: Status::BAD_REQUEST,
        reason,
    })
}

/// All pages, up to the bound.
async fn pages<T, F: Future<Output = Result<Page<T>, HubError>>>(
    hub: &Hub,
    sort: Sort,
    deadline: Instant,
    mut ask: impl FnMut(PageRequest) -> F,
) -> Result<Vec<T>, HubError> {
    let mut found = Vec::new();
    let mut page = PageRequest {
        size: Some(PAGE),
        from: None,
    };
    loop {
        let next = hub
            .gates
            .pass(sort, Repeat::Always, deadline, || ask(page.clone()))
            .await?;
        found.extend(next.items);
        found.truncate(ROWS);
        page.from = next.next;
        if page.from.is_none() || found.len() == ROWS {
            return Ok(found);
        }
    }
}

fn jobs(found: impl IntoIterator<Item = iothub::Job>) -> InfoTable {
    let count = |number: u64| Value::Long(i64::try_from(number).unwrap_or(i64::MAX));
    let text = |text: Option<String>| Value::string(text.unwrap_or_default());
    let fields = [
        ("jobId", BaseType::String),
        ("type", BaseType::String),
        ("status", BaseType::String),
        ("queryCondition", BaseType::String),
        ("createdTime", BaseType::DateTime),
        ("startTime", BaseType::DateTime),
        ("endTime", BaseType::DateTime),
        ("maxExecutionTimeInSeconds", BaseType::Long),
        ("failureReason", BaseType::String),
        ("statusMessage", BaseType::String),
        ("deviceCount", BaseType::Long),
        ("succeededCount", BaseType::Long),
        ("failedCount", BaseType::Long),
        ("runningCount", BaseType::Long),
        ("pendingCount", BaseType::Long),
    ];
    let rows = found.into_iter().map(|job| {
        let of = job.device_job_statistics.unwrap_or_default();
        [
            Value::string(job.id),
            Value::string(job.kind.name()),
            Value::string(job.status.name()),
            Value::string(job.devices),
            time(job.created_time),
            time(job.start_time),
            time(job.end_time),
            job.max_execution_time_in_seconds
                .map_or(Value::Nothing, count),
            text(job.failure_reason),
            text(job.status_message),
            count(of.device_count),
            count(of.succeeded_count),
            count(of.failed_count),
            count(of.running_count),
            count(of.pending_count),
        ]
    });
    table(fields, rows)
}

fn results(found: Vec<JobResult>) -> InfoTable {
    let fields = [
        ("deviceId", BaseType::String),
        ("moduleId", BaseType::String),
        ("status", BaseType::String),
        ("startTime", BaseType::DateTime),
        ("endTime", BaseType::DateTime),
        ("lastUpdatedTime", BaseType::DateTime),
        ("outcome", BaseType::Json),
        ("errorCode", BaseType::String),
        ("errorDescription", BaseType::String),
    ];
    let rows = found.into_iter().map(|result| {
        let (code, description) = result
            .error
            .map_or_else(Default::default, |error| (error.code, error.description));
        let outcome = result.answer.map_or(Value::Nothing, |answer| {
            Value::json(json!({"status": answer.status, "payload": answer.payload}).to_string())
        });
        [
            Value::string(result.device_id),
            Value::string(result.module_id.unwrap_or_default()),
            Value::string(result.status.name()),
            time(result.started),
            time(result.ended),
            time(result.updated),
            outcome,
            Value::string(code),
            Value::string(description),
        ]
    });
    table(fields, rows)
}
