//! The status: computed from what was found and done, written if it says something new.

use jiff::{Timestamp, Unit};

use super::{Memory, Reconciler};
use crate::{
    api::Stored,
    desired::Owner,
    error::{CallError, Class},
    observe::Observed,
    queue::Outcome,
    status::{Progress, Subject, status},
};

impl Reconciler {
    /// Writes the status if it says something new, after what was done before.
    pub(super) async fn answer(
        &self,
        owner: &Owner,
        stored: &Stored,
        progress: Progress<'_>,
        observed: &Observed,
        memory: &mut Memory,
        mut outcome: Outcome,
    ) -> Outcome {
        let (seen, before) = memory.latest(stored);
        let now = Timestamp::now().round(Unit::Second).unwrap_or_default();
        let after = status(
            Subject::new(owner, stored, &self.policy.me),
            progress,
            observed,
            &before,
            now,
        );
        if after != before {
            match self.applier.status(owner, &seen, &after).await {
                Ok(made) => {
                    self.announcer.announce(owner, &before, &after).await;
                    memory.written = made.map(|made| (made, after));
                    outcome.status = true;
                }
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => {}
                Err(error) => {
                    // Changed meanwhile: the next look starts from there.
                    if error.class() != Class::Conflict {
                        tracing::warn!(
                            namespace = owner.namespace,
                            name = owner.name,
                            %error,
                            "the status was not written"
                        );
                    }
                    outcome.failed = outcome.failed.or(Some(retried(&error)));
                }
            }
        }
        outcome
    }
}

/// What is done about a status that was not written: the next look starts from a newer version, so what the
/// server refuses now it need not refuse then.
pub(super) fn retried(error: &CallError) -> Class {
    match error.class() {
        Class::User | Class::Conflict => Class::Transient,
        other => other,
    }
}
