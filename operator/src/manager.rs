//! Which of several operators manages a resource. Operators that share a Lease stand by for each other and are one
//! here; two with different Leases over the same resource would overwrite each other for ever, so the first one
//! writes itself down before it writes anything else, and another stays away until a person hands it over.

use std::fmt;

use connector_config::annotation;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use crate::{
    api::{
        Stored,
        condition::{ConditionType, Reason, Verdict},
    },
    desired::Owner,
};

/// An operator, as all its replicas call it: `<namespace>/<name>` of their Lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperatorId(String);

impl OperatorId {
    /// The operator of this Lease.
    #[must_use]
    pub fn new(namespace: &str, lease: &str) -> Self {
        Self(format!("{namespace}/{lease}"))
    }

    /// As it is written down.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The operator that manages a resource, if it is not this one: the one that somebody has named, else the one
    /// that was first.
    #[must_use]
    pub fn other(&self, stored: &Stored) -> Option<Self> {
        let manager = named(stored).or(stored.status.operator.as_deref())?;
        (manager != self.0).then(|| Self(manager.to_owned()))
    }
}

impl fmt::Display for OperatorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The operator that somebody has named.
#[must_use]
pub fn named(stored: &Stored) -> Option<&str> {
    let annotations = stored.metadata.annotations.as_ref()?;
    let named = annotations.get(annotation::OPERATOR)?;
    (!named.is_empty()).then_some(named)
}

/// What is said of a second operator, by that operator.
#[must_use]
pub fn conflict(stored: &Stored) -> Option<&Condition> {
    let conditions = &stored.status.conditions;
    conditions
        .iter()
        .find(|condition| condition.type_ == ConditionType::OperatorConflict.as_str())
}

/// Whether what is said of a second operator speaks of this manager. Who that second one is does not matter: of
/// several the first to say it is left alone, or they would overwrite each other.
#[must_use]
pub fn tells_of(condition: &Condition, manager: &OperatorId) -> bool {
    condition.message.starts_with(&begins(manager))
}

/// What `me` says of a resource that `manager` manages.
#[must_use]
pub fn stands_aside(
    owner: &Owner,
    manager: &OperatorId,
    me: &OperatorId,
    before: &[Condition],
    now: Timestamp,
) -> Condition {
    let Owner {
        namespace, name, ..
    } = owner;
    let message = format!(
        "{}; the operator {me} sees this connector, too, and writes nothing but this. To hand it over to {me}: \
         kubectl annotate aihc {name} -n {namespace} {}={me} --overwrite",
        begins(manager),
        annotation::OPERATOR,
    );
    // Without a generation: it speaks of none, and must not be written with each.
    Verdict::yes(Reason::ManagedByAnother, message).condition(
        ConditionType::OperatorConflict,
        None,
        before,
        now,
    )
}

fn begins(manager: &OperatorId) -> String {
    format!("managed by the operator {manager}")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn stored(named: Option<&str>, recorded: Option<&str>) -> Stored {
        serde_json::from_value(json!({
            "metadata": {"annotations": {annotation::OPERATOR: named.unwrap_or_default()}},
            "status": {"operator": recorded},
        }))
        .unwrap()
    }

    #[test]
    fn the_first_manages_unless_somebody_names_another() {
        let me = OperatorId::new("a", "operator");
        let other = |named, recorded| me.other(&stored(named, recorded)).map(|other| other.0);
        assert_eq!(other(None, None), None, "whoever comes first");
        assert_eq!(other(None, Some("a/operator")), None);
        assert_eq!(
            other(None, Some("b/operator")).as_deref(),
            Some("b/operator")
        );
        assert_eq!(other(Some("a/operator"), Some("b/operator")), None);
        assert_eq!(
            other(Some("b/operator"), Some("a/operator")).as_deref(),
            Some("b/operator")
        );
    }

    #[test]
    fn it_says_who_manages_and_how_to_change_that() {
        let owner = Owner {
            namespace: "plant".into(),
            name: "factory".into(),
            uid: "uid-1".into(),
        };
        let (first, second) = (OperatorId::new("a", "x"), OperatorId::new("b", "y"));
        let said = stands_aside(&owner, &first, &second, &[], Timestamp::UNIX_EPOCH);
        let command =
            "kubectl annotate aihc factory -n plant iot-connectors.dev/operator=b/y --overwrite";
        assert!(said.message.ends_with(command), "{}", said.message);
        assert!(tells_of(&said, &first) && !tells_of(&said, &second));
    }
}
