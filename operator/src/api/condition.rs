//! Conditions: their types, their reasons, and how one follows another.

use std::fmt;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Longest message that is written, in characters.
pub const MAX_MESSAGE: usize = 1024;

/// What a condition speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ConditionType {
    /// The summary: everything that was asked for runs.
    Ready,
    /// The spec can be used.
    ConfigValid,
    /// The referenced Secrets and `ConfigMap`s exist and hold the keys.
    ReferencesResolved,
    /// At least one pod has bound the hub's Thing.
    Available,
    /// Pods are being replaced.
    Progressing,
    /// A person keeps the operator from writing.
    Paused,
    /// Another operator sees the resource and stays away. Written by that other one.
    OperatorConflict,
}

impl ConditionType {
    /// As it is written.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::ConfigValid => "ConfigValid",
            Self::ReferencesResolved => "ReferencesResolved",
            Self::Available => "Available",
            Self::Progressing => "Progressing",
            Self::Paused => "Paused",
            Self::OperatorConflict => "OperatorConflict",
        }
    }
}

/// Why a condition is as it is. The list is closed; only [`Reason::Member`] carries a word of another
/// closed list, the connector's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The spec can be used.
    Valid,
    /// `routingGroup` is null.
    RoutingGroupNull,
    /// A field has a value that cannot be.
    InvalidSpec,
    /// The stored resource cannot be read by this version of the operator.
    Undecodable,
    /// All references are there.
    Resolved,
    /// A Secret does not exist.
    SecretNotFound,
    /// A `ConfigMap` does not exist.
    ConfigMapNotFound,
    /// The object is there, the key is not.
    KeyNotFound,
    /// The key is there, its value is empty.
    KeyEmpty,
    /// The operator could not read a referenced object.
    ReferenceUnreadable,
    /// An object that the connector needs belongs to somebody else.
    NameConflict,
    /// The API server refuses an object for good.
    ApplyRefused,
    /// The operator lacks a right.
    ApplyForbidden,
    /// The API server did not take an object; tried again.
    ApplyFailed,
    /// At least one pod is bound.
    MemberBound,
    /// No pod is bound yet.
    NoMemberBound,
    /// Zero pods were asked for.
    ScaledToZero,
    /// All wanted pods run, are up to date and bound.
    AllMembersBound,
    /// Pods are starting or being replaced.
    RollingOut,
    /// Pods are to be replaced, once fewer other connectors replace theirs.
    RolloutQueued,
    /// The wanted pods run.
    RolledOut,
    /// No progress within the deadline.
    RolloutStalled,
    /// A pod's image cannot be pulled.
    ImagePullFailed,
    /// No node has room for a pod.
    Unschedulable,
    /// A pod's process ends again and again.
    Crashing,
    /// A pod cannot be set up.
    PodConfigError,
    /// Members resolved different routing groups.
    RoutingGroupMismatch,
    /// Nothing is written, because somebody said so.
    Paused,
    /// Nobody keeps the operator from writing.
    NotPaused,
    /// The resource is another operator's.
    ManagedByAnother,
    /// What is asked for has not been looked at.
    NotEvaluated,
    /// What a member says, from the connector's own list.
    Member(String),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Member(reason) => f.write_str(reason),
            known => write!(f, "{known:?}"),
        }
    }
}

/// What a condition says, before it is known when that began.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// True, false, or `None` when it is not known.
    pub holds: Option<bool>,
    /// Why.
    pub reason: Reason,
    /// For people. Holds nothing that changes by itself, or every reconcile would write.
    pub message: String,
}

impl Verdict {
    /// The condition holds.
    pub fn yes(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: Some(true),
            reason,
            message: message.into(),
        }
    }

    /// The condition does not hold.
    pub fn no(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: Some(false),
            reason,
            message: message.into(),
        }
    }

    /// Nobody knows.
    pub fn unknown(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            holds: None,
            reason,
            message: message.into(),
        }
    }

    /// The condition with this verdict. `lastTransitionTime` moves only if the status differs from that
    /// in `before`.
    #[must_use]
    pub fn condition(
        &self,
        kind: ConditionType,
        generation: Option<i64>,
        before: &[Condition],
        now: Timestamp,
    ) -> Condition {
        let status = match self.holds {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let since = before
            .iter()
            .find(|condition| condition.type_ == kind.as_str() && condition.status == status)
            .map_or(Time(now), |condition| {
                condition.last_transition_time.clone()
            });
        Condition {
            type_: kind.as_str().to_owned(),
            status: status.to_owned(),
            reason: self.reason.to_string(),
            message: self.message.chars().take(MAX_MESSAGE).collect(),
            observed_generation: generation,
            last_transition_time: since,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_moves_only_when_the_status_flips() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = Verdict::no(Reason::NoMemberBound, "none").condition(
            ConditionType::Available,
            Some(1),
            &[],
            at(100),
        );
        assert_eq!(first.last_transition_time, Time(at(100)));
        let other_words = Verdict::no(Reason::ScaledToZero, "zero").condition(
            ConditionType::Available,
            Some(2),
            std::slice::from_ref(&first),
            at(200),
        );
        assert_eq!(other_words.last_transition_time, Time(at(100)));
        assert_eq!(other_words.observed_generation, Some(2));
        let flipped = Verdict::yes(Reason::MemberBound, "one").condition(
            ConditionType::Available,
            Some(2),
            &[other_words],
            at(300),
        );
        assert_eq!(flipped.last_transition_time, Time(at(300)));
    }
}
