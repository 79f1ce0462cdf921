//! Jobs: what they are to do, and how far they are. Pure: [`crate::hub`] runs them.
//!
//! Source: Microsoft Learn, "Schedule jobs on multiple devices" and "Queries for IoT Hub jobs".

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use crate::{
    hub::{MethodAnswer, MethodRequest},
    identity::Identity,
    query::Query,
    refusal::Refusal,
};

/// How far a job is, or a device of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It waits for its time.
    Scheduled,
    /// Its time has come.
    Queued,
    /// A device has not begun.
    Pending,
    /// At it.
    Running,
    /// It has ended.
    Completed,
    /// A device has not done it.
    Failed,
    /// Cancelled before it ran.
    Cancelled,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Changes twins: what of them.
    UpdateTwin(Value),
    /// Calls a method; as it was written, and read.
    Method(Value, MethodRequest),
}

impl Action {
    /// `type` of the job.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::UpdateTwin(_) => "scheduleUpdateTwin",
            Self::Method(..) => "scheduleDeviceMethod",
        }
    }
}

/// What a job is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct JobSpec {
    /// Its name.
    pub id: String,
    /// What it does.
    pub action: Action,
    /// For whom: as it was written, and read.
    pub condition: (String, Query),
    /// When it begins; at once if absent or past.
    pub start: Option<Timestamp>,
    /// How long it may take.
    pub longest: Duration,
}

/// A device of a job.
#[derive(Debug, Clone)]
struct Target {
    identity: Identity,
    status: Status,
    started: Option<Timestamp>,
    ended: Option<Timestamp>,
    outcome: Option<Result<Option<MethodAnswer>, Refusal>>,
}

/// A job.
#[derive(Debug, Clone)]
struct Job {
    spec: JobSpec,
    status: Status,
    created: Timestamp,
    ended: Option<Timestamp>,
    targets: Vec<Target>,
}

/// All jobs, in the order in which they were made.
#[derive(Debug, Default)]
pub struct Jobs(Vec<Job>);

impl Jobs {
    /// Adds a job. If it begins at once and `at_once` run already, it is refused.
    ///
    /// # Errors
    /// [`Refusal::JobAlreadyExists`], [`Refusal::TooManyJobs`].
    pub fn add(&mut self, spec: JobSpec, at_once: Option<usize>) -> Result<Value, Refusal> {
        if self.get(&spec.id).is_some() {
            return Err(Refusal::JobAlreadyExists(spec.id));
        }
        let now = Timestamp::now();
        let waits = spec.start.is_some_and(|start| start > now);
        if !waits && at_once.is_some_and(|most| self.active() >= most) {
            return Err(Refusal::TooManyJobs);
        }
        let job = Job {
            status: if waits {
                Status::Scheduled
            } else {
                Status::Queued
            },
            created: now,
            ended: None,
            targets: Vec::new(),
            spec,
        };
        let shown = job.show();
        self.0.push(job);
        Ok(shown)
    }

    fn active(&self) -> usize {
        let active = |job: &&Job| matches!(job.status, Status::Queued | Status::Running);
        self.0.iter().filter(active).count()
    }

    fn get(&self, id: &str) -> Option<&Job> {
        self.0.iter().find(|job| job.spec.id == id)
    }

    fn get_mut(&mut self, id: &str) -> Option<&mut Job> {
        self.0.iter_mut().find(|job| job.spec.id == id)
    }

    /// A job as services read it. Of one that is not there the hub says so with status 200.
    #[must_use]
    pub fn show(&self, id: &str) -> Value {
        match self.get(id) {
            Some(job) => job.show(),
            None => json!({"jobId": id, "type": "unknown", "status": "unknown"}),
        }
    }

    /// Up to `most` jobs of a type and a status, from the given number on; and the next number.
    #[must_use]
    pub fn list(
        &self,
        kind: Option<&str>,
        status: Option<&str>,
        from: usize,
        most: usize,
    ) -> (Vec<Value>, Option<usize>) {
        let fits = |shown: &Value| {
            kind.is_none_or(|kind| shown["type"] == kind)
                && status.is_none_or(|status| shown["status"] == status)
        };
        let all = self.0.iter().map(Job::show).enumerate().skip(from);
        let mut found = all.filter(|(_, shown)| fits(shown));
        let page: Vec<(usize, Value)> = found.by_ref().take(most).collect();
        let next = found.next().map(|(number, _)| number);
        (page.into_iter().map(|(_, shown)| shown).collect(), next)
    }

    /// Cancels a job that does not run yet.
    ///
    /// # Errors
    /// [`Refusal::JobNotFound`], [`Refusal::NotInThisState`].
    pub fn cancel(&mut self, id: &str) -> Result<Value, Refusal> {
        let job = self
            .get_mut(id)
            .ok_or_else(|| Refusal::JobNotFound(id.to_owned()))?;
        if !matches!(job.status, Status::Scheduled | Status::Queued) {
            return Err(Refusal::NotInThisState(format!(
                "Job cannot be cancelled in '{:?}' status.",
                job.status
            )));
        }
        job.end(Status::Cancelled);
        Ok(job.show())
    }

    /// Its time has come.
    pub fn due(&mut self, id: &str) {
        if let Some(job) = self.get_mut(id)
            && job.status == Status::Scheduled
        {
            job.status = Status::Queued;
        }
    }

    /// Begins, for these, unless it has been cancelled; whether it does, and no more than `at_once` run.
    pub fn begin(
        &mut self,
        id: &str,
        at_once: Option<usize>,
        targets: impl FnOnce(&Query) -> Vec<Identity>,
    ) -> Begun {
        let running = |job: &&Job| job.status == Status::Running;
        let full = at_once.is_some_and(|most| self.0.iter().filter(running).count() >= most);
        match self.get_mut(id) {
            Some(job) if job.status == Status::Queued => {
                if full {
                    return Begun::Waits;
                }
                job.status = Status::Running;
                job.targets = targets(&job.spec.condition.1)
                    .into_iter()
                    .map(|identity| Target {
                        identity,
                        status: Status::Pending,
                        started: None,
                        ended: None,
                        outcome: None,
                    })
                    .collect();
                Begun::Runs(job.targets.iter().map(|one| one.identity.clone()).collect())
            }
            _ => Begun::Never,
        }
    }

    /// A device begins.
    pub fn target_begins(&mut self, id: &str, number: usize) {
        if let Some(target) = self.get_mut(id).and_then(|job| job.targets.get_mut(number)) {
            target.status = Status::Running;
            target.started = Some(Timestamp::now());
        }
    }

    /// A device has done it, or not.
    pub fn target_ends(
        &mut self,
        id: &str,
        number: usize,
        outcome: Result<Option<MethodAnswer>, Refusal>,
    ) {
        if let Some(target) = self.get_mut(id).and_then(|job| job.targets.get_mut(number)) {
            target.end(outcome);
        }
    }

    /// The job has ended; devices that are not done have failed.
    pub fn ends(&mut self, id: &str) {
        let Some(job) = self.get_mut(id) else { return };
        for target in &mut job.targets {
            if target.outcome.is_none() {
                target.end(Err(Refusal::DeviceTimeout));
            }
        }
        job.end(Status::Completed);
    }

    /// What jobs did to devices, as queries find it.
    #[must_use]
    pub fn results(&self) -> Vec<Value> {
        let of_job = |job: &Job| -> Vec<Value> {
            job.targets.iter().map(|target| target.show(job)).collect()
        };
        self.0.iter().flat_map(of_job).collect()
    }
}

/// What comes of the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// It runs, for these.
    Runs(Vec<Identity>),
    /// Others run.
    Waits,
    /// It has been cancelled.
    Never,
}

impl Target {
    fn end(&mut self, outcome: Result<Option<MethodAnswer>, Refusal>) {
        self.status = if outcome.is_ok() {
            Status::Completed
        } else {
            Status::Failed
        };
        self.ended = Some(Timestamp::now());
        self.outcome = Some(outcome);
    }

    fn show(&self, job: &Job) -> Value {
        let answer = match &self.outcome {
            Some(Ok(Some(MethodAnswer { status, payload }))) => {
                json!({"status": status, "payload": payload})
            }
            _ => Value::Null,
        };
        let mut shown = json!({
            "deviceId": self.identity.device_id(),
            "jobId": job.spec.id,
            "jobType": job.spec.action.kind(),
            "status": self.status,
            "startTimeUtc": self.started,
            "endTimeUtc": self.ended,
            "createdDateTimeUtc": job.created,
            "lastUpdatedDateTimeUtc": self.ended.or(self.started).unwrap_or(job.created),
            "outcome": {"deviceMethodResponse": answer},
        });
        if let Some(module) = self.identity.module_id() {
            shown["moduleId"] = module.into();
        }
        if let Some(Err(refusal)) = &self.outcome {
            let code = refusal.code().to_string();
            shown["error"] = json!({"code": code, "description": refusal.to_string()});
        }
        shown
    }
}

impl Job {
    fn end(&mut self, status: Status) {
        self.status = status;
        self.ended = Some(Timestamp::now());
    }

    fn show(&self) -> Value {
        let count = |status| {
            self.targets
                .iter()
                .filter(|one| one.status == status)
                .count()
        };
        let mut shown = json!({
            "jobId": self.spec.id,
            "type": self.spec.action.kind(),
            "status": self.status,
            "queryCondition": self.spec.condition.0,
            "createdTime": self.created,
            "startTime": self.spec.start.unwrap_or(self.created),
            "maxExecutionTimeInSeconds": self.spec.longest.as_secs(),
            "deviceJobStatistics": {
                "deviceCount": self.targets.len(),
                "failedCount": count(Status::Failed),
                "succeededCount": count(Status::Completed),
                "runningCount": count(Status::Running),
                "pendingCount": count(Status::Pending),
            },
        });
        if let Some(ended) = self.ended {
            shown["endTime"] = json!(ended);
        }
        match &self.spec.action {
            Action::UpdateTwin(update) => shown["updateTwin"] = update.clone(),
            Action::Method(written, _) => shown["cloudToDeviceMethod"] = written.clone(),
        }
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(id: &str, start: Option<Timestamp>) -> JobSpec {
        JobSpec {
            id: id.into(),
            action: Action::UpdateTwin(json!({"tags": {}})),
            condition: ("*".into(), Query::of_job("*").unwrap()),
            start,
            longest: Duration::from_secs(60),
        }
    }

    fn devices(_: &Query) -> Vec<Identity> {
        ["a", "b"].map(|id| Identity::device(id).unwrap()).into()
    }

    #[test]
    fn a_job_goes_from_its_time_to_its_end() {
        let mut jobs = Jobs::default();
        let start = "9000-01-01T00:00:00Z".parse().ok();
        jobs.add(spec("j", start), None).unwrap();
        assert_eq!(
            jobs.begin("j", None, devices),
            Begun::Never,
            "it is not time"
        );
        let status = |jobs: &Jobs| jobs.show("j")["status"].clone();
        assert_eq!(status(&jobs), "scheduled");
        jobs.due("j");
        assert_eq!(status(&jobs), "queued");
        assert!(matches!(jobs.begin("j", None, devices), Begun::Runs(found) if found.len() == 2));
        jobs.target_begins("j", 0);
        let counts = &jobs.show("j")["deviceJobStatistics"];
        assert_eq!(
            (&counts["runningCount"], &counts["pendingCount"]),
            (&json!(1), &json!(1))
        );
        jobs.target_ends("j", 0, Ok(None));
        jobs.ends("j");
        let counts = &jobs.show("j")["deviceJobStatistics"];
        assert_eq!(
            (&counts["succeededCount"], &counts["failedCount"]),
            (&json!(1), &json!(1))
        );
        assert_eq!(status(&jobs), "completed");
        assert_eq!(jobs.results()[1]["error"]["code"], "504101");
    }

    #[test]
    fn only_so_many_run_at_once() {
        let mut jobs = Jobs::default();
        jobs.add(spec("one", None), Some(1)).unwrap();
        assert_eq!(
            jobs.add(spec("two", None), Some(1)),
            Err(Refusal::TooManyJobs)
        );
        let later = "9000-01-01T00:00:00Z".parse().ok();
        jobs.add(spec("later", later), Some(1)).unwrap();
        assert!(matches!(
            jobs.begin("one", Some(1), devices),
            Begun::Runs(_)
        ));
        jobs.due("later");
        assert_eq!(jobs.begin("later", Some(1), devices), Begun::Waits);
        jobs.ends("one");
        assert!(matches!(
            jobs.begin("later", Some(1), devices),
            Begun::Runs(_)
        ));
    }

    #[test]
    fn a_name_is_taken_once_and_a_cancelled_job_never_runs() {
        let mut jobs = Jobs::default();
        jobs.add(spec("j", None), None).unwrap();
        let again = jobs.add(spec("j", None), None);
        assert_eq!(again, Err(Refusal::JobAlreadyExists("j".into())));
        jobs.cancel("j").unwrap();
        assert_eq!(jobs.begin("j", None, devices), Begun::Never);
        assert!(matches!(jobs.cancel("j"), Err(Refusal::NotInThisState(_))));
        assert_eq!(jobs.cancel("k"), Err(Refusal::JobNotFound("k".into())));
    }
}
