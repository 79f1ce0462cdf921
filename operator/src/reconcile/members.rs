//! The members: one that still has old settings or secrets after its rollout is started again.

use tokio::time::Instant;

use super::{Memory, Reconciler};
use crate::{
    api::Stored,
    desired::Owner,
    observe::Observed,
    pause::paused,
    queue::Outcome,
    stale::{self, Step},
};

impl Reconciler {
    /// Called when the children are as they should be: only then is what the Deployment says what is wanted.
    pub(super) async fn members(
        &self,
        owner: &Owner,
        stored: &Stored,
        observed: &Observed,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) {
        let (first, now) = (self.policy.stale_member, Instant::now());
        if paused(stored) {
            return;
        }
        let step = memory.patience.step(stale::members(observed), first, now);
        let stale = match step {
            Step::Rest => return,
            Step::Wait(rest) => {
                outcome.again = Some(rest);
                return;
            }
            Step::Restart(stale) => stale,
        };
        match self.applier.end_pod(owner, &stale.pod, &stale.uid).await {
            Ok(()) => {
                outcome.children = true;
                self.announcer.restarted(owner, &stale).await;
            }
            Err(error) => {
                tracing::warn!(
                    namespace = owner.namespace,
                    name = owner.name,
                    pod = stale.pod,
                    %error,
                    "a member with old settings or secrets was not restarted"
                );
                outcome.again = Some(first);
            }
        }
    }
}
