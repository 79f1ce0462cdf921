//! Several operators over one resource: the one that manages it writes itself down first, another stays away.

use jiff::{Timestamp, Unit};

use super::{Memory, Reconciler, answer::retried, version_of};
use crate::{
    api::Stored,
    desired::Owner,
    error::CallError,
    manager::{OperatorId, conflict, stands_aside, tells_of},
    queue::Outcome,
    store::ObjectKey,
};

impl Reconciler {
    /// Brings a resource of this operator to where it should be.
    pub(super) async fn manage(
        &self,
        owner: &Owner,
        stored: &Stored,
        memory: &mut Memory,
    ) -> Outcome {
        let outcome = self.settle(owner, stored, memory).await;
        // It was another's, and that one may be gone.
        let outdated = conflict(stored).is_some_and(|said| !tells_of(said, &self.policy.me));
        if !outdated {
            return outcome;
        }
        match self.applier.come_forward(owner).await {
            Ok(()) => Outcome {
                status: true,
                ..outcome
            },
            Err(error) => failed(outcome, &error),
        }
    }

    /// Says that another operator manages the resource, and does nothing else.
    pub(super) async fn stand_aside(
        &self,
        owner: &Owner,
        stored: &Stored,
        manager: &OperatorId,
    ) -> Outcome {
        let key = ObjectKey::new(&*owner.namespace, &*owner.name);
        self.slots().forget(&key);
        if conflict(stored).is_some_and(|said| tells_of(said, manager)) {
            return Outcome::default();
        }
        let now = Timestamp::now().round(Unit::Second).unwrap_or_default();
        let said = stands_aside(
            owner,
            manager,
            &self.policy.me,
            &stored.status.conditions,
            now,
        );
        let seen = version_of(stored).unwrap_or_default();
        match self.applier.stand_aside(owner, &seen, &said).await {
            Ok(()) => {
                tracing::warn!(
                    namespace = owner.namespace,
                    name = owner.name,
                    "{}",
                    said.message
                );
                Outcome {
                    status: true,
                    ..Outcome::default()
                }
            }
            Err(error) => failed(Outcome::default(), &error),
        }
    }

    /// Writes down that this operator manages the resource, if that is not known yet; whether it had to. The
    /// version is the guard: of two that come at once one is refused.
    ///
    /// # Errors
    /// [`CallError`]; then nothing else may be written.
    pub(super) async fn claim(
        &self,
        owner: &Owner,
        stored: &Stored,
        memory: &mut Memory,
    ) -> Result<bool, CallError> {
        let (seen, before) = memory.latest(stored);
        if before.operator.as_deref() == Some(self.policy.me.as_str()) {
            return Ok(false);
        }
        let mut claimed = before;
        claimed.operator = Some(self.policy.me.as_str().to_owned());
        let made = self.applier.status(owner, &seen, &claimed).await?;
        memory.written = made.map(|made| (made, claimed));
        Ok(true)
    }
}

fn failed(outcome: Outcome, error: &CallError) -> Outcome {
    if error.is_not_found() {
        return outcome;
    }
    Outcome {
        failed: outcome.failed.or(Some(retried(error))),
        ..outcome
    }
}
