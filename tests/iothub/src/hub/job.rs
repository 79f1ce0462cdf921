//! Jobs at work.

use std::{
    sync::{Arc, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt as _, stream};
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::{sleep, timeout};

use crate::{
    identity::Identity,
    job::{Action, Begun, JobSpec, Jobs},
    refusal::Refusal,
};

use super::{Etag, Hub, MethodAnswer};

/// Devices of a job that are at it at the same time: what an S1 hub allows a second. Source: Microsoft
/// Learn, "IoT Hub quotas and throttling" (jobs device operations).
const AT_ONCE: usize = 10;

/// How often a job that waits for others looks after them.
const LOOK: Duration = Duration::from_millis(50);

impl Hub {
    /// All jobs.
    pub fn jobs(&self) -> MutexGuard<'_, Jobs> {
        // No code under this lock leaves a job half changed.
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a job, which then runs by itself.
    ///
    /// # Errors
    /// [`Refusal::JobAlreadyExists`], [`Refusal::TooManyJobs`].
    pub fn schedule(self: &Arc<Self>, spec: JobSpec) -> Result<Value, Refusal> {
        let shown = self.jobs().add(spec.clone(), self.meter.jobs_at_once())?;
        let hub = Arc::clone(self);
        tokio::spawn(async move { hub.run_job(spec).await });
        Ok(shown)
    }

    async fn run_job(&self, spec: JobSpec) {
        let JobSpec { id, start, .. } = &spec;
        let wait = start.map(|start| start.duration_since(Timestamp::now()));
        // One that is past is no wait.
        if let Some(wait) = wait.and_then(|wait| Duration::try_from(wait).ok()) {
            sleep(wait).await;
        }
        self.jobs().due(id);
        let targets = loop {
            let at_once = self.meter.jobs_at_once();
            let begun = self.jobs().begin(id, at_once, |query| self.targets(query));
            match begun {
                Begun::Runs(targets) => break targets,
                Begun::Waits => sleep(LOOK).await,
                Begun::Never => return,
            }
        };
        let work = stream::iter(targets.iter().enumerate()).for_each_concurrent(
            AT_ONCE,
            async |(number, identity)| {
                self.jobs().target_begins(id, number);
                let outcome = self.act(identity, &spec.action).await;
                self.jobs().target_ends(id, number, outcome);
            },
        );
        let _ = timeout(spec.longest, work).await;
        self.jobs().ends(id);
    }

    async fn act(
        &self,
        identity: &Identity,
        action: &Action,
    ) -> Result<Option<MethodAnswer>, Refusal> {
        match action {
            Action::UpdateTwin(update) => {
                self.patch_twin(identity, update, &Etag::Any).map(|_| None)
            }
            Action::Method(_, request) => self.invoke(identity, request.clone()).await.map(Some),
        }
    }
}
