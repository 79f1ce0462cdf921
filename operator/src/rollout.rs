//! What a Deployment says of its pods.

use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus};

/// How far a Deployment has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rollout {
    /// There is one.
    pub exists: bool,
    /// The controller has seen the latest template.
    pub observed: bool,
    /// Pods wanted.
    pub wanted: i32,
    /// Pods that there are, of any template; those that end do not count.
    pub replicas: i32,
    /// Those of the latest template.
    pub updated: i32,
    /// Those that are ready.
    pub ready: i32,
    /// Those that have been ready for long enough.
    pub available: i32,
    /// No progress within the deadline.
    pub stalled: bool,
}

impl Rollout {
    /// How far `deployment` has come.
    #[must_use]
    pub fn of(deployment: Option<&Deployment>) -> Self {
        let Some(deployment) = deployment else {
            return Self::default();
        };
        let none = DeploymentStatus::default();
        let status = deployment.status.as_ref().unwrap_or(&none);
        let stalled = status.conditions.iter().flatten().any(|condition| {
            condition.type_ == "Progressing"
                && condition.reason.as_deref() == Some("ProgressDeadlineExceeded")
        });
        Self {
            exists: true,
            observed: status.observed_generation >= deployment.metadata.generation,
            wanted: deployment
                .spec
                .as_ref()
                .and_then(|spec| spec.replicas)
                .unwrap_or(1),
            replicas: status.replicas.unwrap_or(0),
            updated: status.updated_replicas.unwrap_or(0),
            ready: status.ready_replicas.unwrap_or(0),
            available: status.available_replicas.unwrap_or(0),
            stalled,
        }
    }

    /// Exactly the wanted pods run, all of the latest template.
    #[must_use]
    pub fn done(&self) -> bool {
        let Self {
            exists,
            observed,
            wanted,
            replicas,
            updated,
            ready,
            available,
            stalled: _,
        } = self;
        *exists
            && *observed
            && [replicas, updated, ready, available]
                .iter()
                .all(|n| *n == wanted)
    }

    /// Pods are being replaced, or soon will be: some are of an older template, and it has not been given up.
    /// More or fewer pods of the same template are no replacement.
    #[must_use]
    pub fn replacing(&self) -> bool {
        self.exists && (!self.observed || (self.updated < self.replicas && !self.stalled))
    }
}
