//! The children: renders them, and writes those that differ.

use super::{Memory, Reconciler, answer::retried};
use crate::{
    api::{Stored, Validated},
    apply::ApplyError,
    desired::{ChildKind, Owner, desired},
    error::{CallError, Class},
    observe::Observed,
    pause::paused,
    plan::{Action, plan, scale_only, without_replacing},
    queue::Outcome,
    refs::SecretDigest,
    restart,
    store::ObjectKey,
};

/// How the children of a resource are.
pub(super) enum Children {
    /// As they should be.
    Settled,
    /// Writes are needed, and somebody wants none.
    Held,
    /// But for the pods, which are replaced when fewer others replace theirs.
    Queued,
}

/// Why they are not as they should be.
pub(super) enum Unsettled {
    Render(String),
    Apply(ApplyError),
    /// The operator could not write down that it manages the resource.
    Claim(CallError),
}

/// What is to be carried out.
#[derive(Clone, Copy)]
pub(super) struct Order<'a> {
    pub(super) owner: &'a Owner,
    pub(super) stored: &'a Stored,
    pub(super) spec: &'a Validated,
    pub(super) secrets: &'a SecretDigest,
}

impl Reconciler {
    /// Scales a connector of which nothing new can be rendered.
    pub(super) async fn scale(
        &self,
        owner: &Owner,
        stored: &Stored,
        replicas: i32,
        observed: &Observed,
        memory: &mut Memory,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let action = scale_only(observed, replicas).filter(|_| !paused(stored));
        let Some(action) = action else {
            return outcome;
        };
        match self.claim(owner, stored, memory).await {
            Ok(written) => outcome.status = written,
            Err(error) => {
                outcome.failed = Some(retried(&error));
                return outcome;
            }
        }
        match self.applier.act(owner, &action).await {
            Ok(_) => outcome.children = true,
            Err(error) => {
                tracing::warn!(namespace = owner.namespace, name = owner.name, %error, "not scaled");
                outcome.failed = Some(error.class());
            }
        }
        outcome
    }

    /// Renders the children and writes those that differ. A child that is refused stops only what needs it;
    /// the first refusal is the answer.
    pub(super) async fn children(
        &self,
        order: Order<'_>,
        observed: &mut Observed,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> Result<Children, Unsettled> {
        let Order {
            owner,
            stored,
            spec,
            secrets,
        } = order;
        let restart = restart::wanted(stored, observed.deployment.as_ref());
        let children = desired(
            owner,
            spec,
            secrets,
            &self.policy.defaults,
            restart.as_deref(),
        )
        .map_err(|error| Unsettled::Render(error.to_string()))?;
        let mut actions = plan(owner, &children, observed, &mut memory.children)
            .map_err(|conflict| Unsettled::Apply(conflict.into()))?;
        if paused(stored) && !actions.is_empty() {
            return Ok(Children::Held);
        }
        let key = ObjectKey::new(&*owner.namespace, &*owner.name);
        if actions.iter().any(Action::replaces_pods) && !self.slots().ask(&key) {
            memory.queued = true;
            actions = without_replacing(actions, observed, spec.replicas);
        }
        if !actions.is_empty() {
            let claimed = self.claim(owner, stored, memory).await;
            outcome.status |= claimed.map_err(Unsettled::Claim)?;
        }
        let mut deployment = observed.deployment.clone();
        let mut refused: Option<ApplyError> = None;
        let mut pods_may_run = true;
        for action in &actions {
            if action.kind() == ChildKind::Deployment && !pods_may_run {
                continue;
            }
            let done = self.applier.act(owner, action).await;
            outcome.children |= done.is_ok();
            match done {
                Ok(Some((child, live))) => {
                    memory.children.note(child, &live);
                    if child.kind == ChildKind::Deployment {
                        // The one that was observed is of the spec before, and may well be ready.
                        deployment = live.try_parse().ok();
                        if let Some(deployment) =
                            deployment.as_ref().filter(|_| action.replaces_pods())
                        {
                            self.slots().wrote(&key, deployment);
                        }
                    }
                }
                Ok(None) => {}
                // Somebody else has a name that is needed; or nothing is wrong with this child, and the next
                // ones would fail alike, each after its own time-out.
                Err(error)
                    if matches!(error, ApplyError::Conflict(_))
                        || error.class() == Class::Transient =>
                {
                    return Err(Unsettled::Apply(refused.unwrap_or(error)));
                }
                Err(error) => {
                    pods_may_run &= !action.kind().pods_need_it();
                    refused.get_or_insert(error);
                }
            }
        }
        observed.deployment = deployment;
        match refused {
            Some(error) => Err(Unsettled::Apply(error)),
            None if memory.queued => Ok(Children::Queued),
            None => Ok(Children::Settled),
        }
    }
}
