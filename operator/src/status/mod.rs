//! What is answered to the user: a function of what is known.

mod group;
mod member;
mod ready;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::{
    api::{
        AzureIotHubConnectorStatus, LastError, Stored, Validated, ValidationError,
        condition::{ConditionType, Reason, Verdict},
    },
    apply::ApplyError,
    desired::Owner,
    manager::OperatorId,
    observe::Observed,
    pause,
    refs::RefError,
    rollout::Rollout,
};

/// How far a reconcile came.
#[derive(Debug, Clone, Copy)]
pub enum Progress<'a> {
    /// The stored resource cannot be read.
    Undecodable(&'a str),
    /// The spec cannot be used.
    Invalid(&'a ValidationError),
    /// A reference leads nowhere.
    Unresolved(&'a Validated, &'a RefError),
    /// A child could not be written.
    NotApplied(&'a Validated, &'a ApplyError),
    /// A child could not be rendered, in these words.
    NotRendered(&'a Validated, &'a str),
    /// Children are not as they should be, and somebody wants that they are left alone.
    Held(&'a Validated),
    /// All is as it should be but the template of the pods, which waits because so many other connectors replace
    /// theirs.
    Queued(&'a Validated, usize),
    /// The children are as they should be.
    Applied(&'a Validated),
}

impl<'a> Progress<'a> {
    fn spec(&self) -> Option<&'a Validated> {
        match self {
            Self::Undecodable(_) | Self::Invalid(_) => None,
            Self::Unresolved(spec, _)
            | Self::NotApplied(spec, _)
            | Self::NotRendered(spec, _)
            | Self::Held(spec)
            | Self::Queued(spec, _)
            | Self::Applied(spec) => Some(spec),
        }
    }
}

/// The resource that the status is of.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// Its name.
    pub owner: &'a Owner,
    /// Generation of the spec that was looked at.
    pub generation: Option<i64>,
    /// Somebody keeps the operator from writing.
    pub paused: bool,
    /// The operator that manages it.
    pub operator: &'a OperatorId,
}

impl<'a> Subject<'a> {
    /// What is `stored` of a resource.
    #[must_use]
    pub fn new(owner: &'a Owner, stored: &Stored, operator: &'a OperatorId) -> Self {
        Self {
            owner,
            generation: stored.metadata.generation,
            paused: pause::paused(stored),
            operator,
        }
    }
}

/// Computes the status. `before` is the latest one that was written; `now` is used only for what has
/// changed since.
#[must_use]
pub fn status(
    subject: Subject<'_>,
    progress: Progress<'_>,
    observed: &Observed,
    before: &AzureIotHubConnectorStatus,
    now: Timestamp,
) -> AzureIotHubConnectorStatus {
    let Subject {
        owner,
        generation,
        paused,
        operator,
    } = subject;
    let group = group::resolve(progress.spec(), observed, before);
    let rollout = Rollout::of(observed.deployment.as_ref());
    let verdicts = [
        (
            ConditionType::Ready,
            ready::verdict(progress, observed, &rollout, &group),
        ),
        (ConditionType::ConfigValid, config_valid(progress)),
        (
            ConditionType::ReferencesResolved,
            references_resolved(progress),
        ),
        (
            ConditionType::Available,
            available(progress, observed, &rollout),
        ),
        (ConditionType::Progressing, progressing(progress, &rollout)),
        (ConditionType::Paused, pause::verdict(paused)),
    ];
    let last_error = last_error(&verdicts[0].1, before, now);
    let conditions = verdicts
        .iter()
        .map(|(kind, verdict)| verdict.condition(*kind, generation, &before.conditions, now))
        .collect();
    AzureIotHubConnectorStatus {
        observed_generation: generation,
        conditions,
        operator: Some(operator.as_str().to_owned()),
        replicas: Some(rollout.replicas),
        selector: Some(selector(owner)),
        routing_group: group.name,
        bound_members: Some(count(member::bound(observed).count())),
        partitions: member::partitions(observed),
        members: member::table(observed),
        last_error,
    }
}

/// The status of `Ready` in a list of conditions: as metric label.
#[must_use]
pub fn ready_of(conditions: &[Condition]) -> Option<&Condition> {
    conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::Ready.as_str())
}

fn config_valid(progress: Progress<'_>) -> Verdict {
    match progress {
        Progress::Undecodable(why) => Verdict::no(Reason::Undecodable, why),
        Progress::Invalid(error) => Verdict::no(error.reason(), error.to_string()),
        Progress::Unresolved(..)
        | Progress::NotApplied(..)
        | Progress::NotRendered(..)
        | Progress::Held(_)
        | Progress::Queued(..)
        | Progress::Applied(_) => Verdict::yes(Reason::Valid, "the spec can be used"),
    }
}

fn references_resolved(progress: Progress<'_>) -> Verdict {
    match progress {
        Progress::Undecodable(_) | Progress::Invalid(_) => {
            Verdict::unknown(Reason::NotEvaluated, "the spec must be valid first")
        }
        Progress::Unresolved(_, error) => Verdict::no(error.reason(), error.to_string()),
        Progress::NotApplied(..)
        | Progress::NotRendered(..)
        | Progress::Held(_)
        | Progress::Queued(..)
        | Progress::Applied(_) => Verdict::yes(
            Reason::Resolved,
            "all referenced Secrets and ConfigMaps hold their keys",
        ),
    }
}

fn available(progress: Progress<'_>, observed: &Observed, rollout: &Rollout) -> Verdict {
    if rollout.ready > 0 && member::bound(observed).next().is_some() {
        return Verdict::yes(
            Reason::MemberBound,
            "at least one pod has bound the hub's Thing",
        );
    }
    if progress.spec().is_some_and(|spec| spec.replicas == 0) {
        return Verdict::no(Reason::ScaledToZero, "no pods are wanted");
    }
    Verdict::no(Reason::NoMemberBound, "no pod has bound the hub's Thing")
}

fn progressing(progress: Progress<'_>, rollout: &Rollout) -> Verdict {
    if let Progress::Queued(_, limit) = progress {
        return queued(limit, Verdict::yes);
    }
    if !rollout.exists {
        return Verdict::no(Reason::NotEvaluated, "there is no Deployment yet");
    }
    if rollout.done() {
        return Verdict::no(Reason::RolledOut, "the wanted pods run");
    }
    if rollout.stalled {
        return Verdict::no(
            Reason::RolloutStalled,
            "no pod became ready within ten minutes",
        );
    }
    Verdict::yes(
        Reason::RollingOut,
        "pods are starting, stopping or being replaced",
    )
}

/// True of `Progressing`, since it goes on by itself; not true of `Ready`.
fn queued(limit: usize, verdict: fn(Reason, String) -> Verdict) -> Verdict {
    let message = format!(
        "the running pods go on; they are replaced when fewer than {limit} connectors replace theirs \
         (--max-concurrent-rollouts of the operator)"
    );
    verdict(Reason::RolloutQueued, message)
}

/// The latest trouble: what keeps the connector from being ready, apart from the time it takes.
fn last_error(
    ready: &Verdict,
    before: &AzureIotHubConnectorStatus,
    now: Timestamp,
) -> Option<LastError> {
    let no_trouble = matches!(
        ready.reason,
        Reason::RollingOut | Reason::RolloutQueued | Reason::Paused
    );
    if ready.holds == Some(true) || no_trouble {
        return before.last_error.clone();
    }
    let (reason, message) = (ready.reason.to_string(), ready.message.clone());
    if let Some(last) = &before.last_error
        && last.reason.as_ref() == Some(&reason)
        && last.message.as_ref() == Some(&message)
    {
        return Some(last.clone());
    }
    Some(LastError {
        reason: Some(reason),
        message: Some(message),
        time: Some(Time(now)),
    })
}

fn selector(owner: &Owner) -> String {
    let pairs: Vec<_> = owner
        .selector()
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(",")
}

/// A count within the range of Kubernetes' own.
fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests;
