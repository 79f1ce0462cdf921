//! The difference between what should be and what is, as writes.

use std::collections::BTreeMap;

use connector_config::annotation;
use kube::core::DynamicObject;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    desired::{Child, ChildKind, Owner},
    observe::{Observed, controller},
};

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub enum Action<'a> {
    /// The object is not known to exist.
    Create(&'a Child),
    /// The object of this uid is not as it should be.
    Update {
        /// As it should be.
        child: &'a Child,
        /// The object that is meant, and none that took its name since.
        uid: String,
    },
    /// Another number of pods, all else as it is.
    Scale {
        /// Name of the Deployment.
        name: String,
        /// Its uid.
        uid: String,
        /// Pods wanted.
        replicas: i32,
    },
    /// Settings that no pod mounts any more.
    DeleteSettings {
        /// Name of the `ConfigMap`.
        name: String,
        /// Its uid.
        uid: String,
    },
}

impl Action<'_> {
    /// Kind of the object that is written.
    #[must_use]
    pub fn kind(&self) -> ChildKind {
        match self {
            Self::Create(child) | Self::Update { child, .. } => child.kind,
            Self::Scale { .. } => ChildKind::Deployment,
            Self::DeleteSettings { .. } => ChildKind::ConfigMap,
        }
    }
}

/// An object that the connector needs, and that is not its own.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Conflict {
    /// It belongs to somebody else.
    #[error(
        "{} {name} exists and does not belong to this connector{}; delete or rename it, or give the \
         connector another name", kind.as_str(), owner.as_deref().map(|owner| format!(" but to {owner}")).unwrap_or_default()
    )]
    Foreign {
        /// Kind of the object.
        kind: ChildKind,
        /// Its name.
        name: String,
        /// Kind and name of its controller, if it has one.
        owner: Option<String>,
    },
    /// It belongs to a deleted resource of the same name and will go by itself.
    #[error("{} {name} of the deleted connector of this name is still going", kind.as_str())]
    Going {
        /// Kind of the object.
        kind: ChildKind,
        /// Its name.
        name: String,
    },
}

/// What the server made of an applied child: defaults of numbers and spellings of quantities may differ
/// from what was asked, and must not count as a change by somebody else. Kept as digests, of what was asked
/// and of the answer: there are as many as there are children.
#[derive(Debug, Clone, Default)]
pub struct Accepted(BTreeMap<(ChildKind, String), (String, [u8; 32])>);

impl Accepted {
    /// The server answered the apply of `child` with this object.
    pub fn note(&mut self, child: &Child, live: &DynamicObject) {
        if let Some(seen) = seen(child, live) {
            self.0.insert(
                (child.kind, child.name.clone()),
                (child.hash.clone(), digest(&seen)),
            );
        }
    }

    fn covers(&self, child: &Child, seen: &Value) -> bool {
        self.0
            .get(&(child.kind, child.name.clone()))
            .is_some_and(|(hash, accepted)| *hash == child.hash && *accepted == digest(seen))
    }
}

/// What is seen has the order of the child, so equal trees have equal texts.
fn digest(seen: &Value) -> [u8; 32] {
    Sha256::digest(seen.to_string()).into()
}

/// The writes that lead from what is to what should be; none if all is well.
///
/// # Errors
/// [`Conflict`] if an object of a needed name is not this connector's: then nothing is written, because
/// pods would run with somebody else's settings or rights.
pub fn plan<'a>(
    owner: &Owner,
    children: &'a [Child],
    observed: &Observed,
    accepted: &Accepted,
) -> Result<Vec<Action<'a>>, Conflict> {
    let mut actions = Vec::new();
    for child in children {
        let Some(live) = observed.children.get(&(child.kind, child.name.clone())) else {
            actions.push(Action::Create(child));
            continue;
        };
        check(owner, child, live)?;
        if !is_as_wanted(child, live, accepted) {
            let uid = live.metadata.uid.clone().unwrap_or_default();
            actions.push(Action::Update { child, uid });
        }
    }
    // Only when the Deployment is known to name the new settings: before, the old ones are in use.
    if actions.is_empty() {
        actions.extend(unused_settings(owner, children, observed));
    }
    Ok(actions)
}

/// The write that is left when nothing new can be rendered: a connector whose settings or secrets are
/// broken keeps its pods as they are, but can be stopped and scaled. It cannot be started: while it was
/// stopped the hub Thing or the routing group may have changed, and pods of the old ones would still be
/// there when the new ones can be rendered.
#[must_use]
pub fn scale_only(observed: &Observed, replicas: i32) -> Option<Action<'static>> {
    let deployment = observed.deployment.as_ref()?;
    let now = deployment.spec.as_ref().and_then(|spec| spec.replicas);
    (replicas >= 0 && now != Some(replicas) && now != Some(0)).then(|| Action::Scale {
        name: deployment.metadata.name.clone().unwrap_or_default(),
        uid: deployment.metadata.uid.clone().unwrap_or_default(),
        replicas,
    })
}

/// Whether `live` may be written.
///
/// # Errors
/// [`Conflict`] if it is not `owner`'s.
pub fn check(owner: &Owner, child: &Child, live: &DynamicObject) -> Result<(), Conflict> {
    if owner.owns(live) {
        return Ok(());
    }
    let (kind, name) = (child.kind, child.name.clone());
    let other = controller(live);
    let of_a_namesake =
        other.is_some_and(|other| other.kind == "AzureIotHubConnector" && other.name == owner.name);
    if of_a_namesake {
        return Err(Conflict::Going { kind, name });
    }
    let owner = other.map(|other| format!("{} {}", other.kind, other.name));
    Err(Conflict::Foreign { kind, name, owner })
}

fn is_as_wanted(child: &Child, live: &DynamicObject, accepted: &Accepted) -> bool {
    let hash = live
        .metadata
        .annotations
        .as_ref()
        .and_then(|map| map.get(annotation::APPLIED_HASH));
    if hash != Some(&child.hash) {
        return false;
    }
    seen(child, live).is_some_and(|seen| seen == child.object || accepted.covers(child, &seen))
}

/// Of `live` what `child` speaks of.
fn seen(child: &Child, live: &DynamicObject) -> Option<Value> {
    let mut live = serde_json::to_value(live).ok()?;
    for key in ["apiVersion", "kind"] {
        // Objects in a list come without.
        live[key] = child.object[key].clone();
    }
    Some(projection(&live, &child.object))
}

fn unused_settings<'a>(
    owner: &Owner,
    children: &[Child],
    observed: &Observed,
) -> impl Iterator<Item = Action<'a>> {
    let wanted = |name: &str| {
        children
            .iter()
            .any(|child| child.kind == ChildKind::ConfigMap && child.name == name)
    };
    observed
        .children
        .iter()
        .filter(|((kind, name), live)| {
            *kind == ChildKind::ConfigMap
                && live.metadata.deletion_timestamp.is_none()
                && owner.controls(&***live)
                && !wanted(name)
                && !observed.settings_in_use.contains(name)
        })
        .filter_map(|((_, name), live)| {
            let uid = live.metadata.uid.clone()?;
            Some(Action::DeleteSettings {
                name: name.clone(),
                uid,
            })
        })
        .collect::<Vec<_>>()
        .into_iter()
}

/// Of `live` only what `wanted` speaks of: others may add fields, labels and containers of their own.
fn projection(live: &Value, wanted: &Value) -> Value {
    match (live, wanted) {
        (Value::Object(live), Value::Object(wanted)) => {
            let pairs = wanted.iter().filter_map(|(key, wanted)| {
                Some((key.clone(), projection(live.get(key)?, wanted)))
            });
            Value::Object(pairs.collect::<Map<_, _>>())
        }
        (Value::Array(live), Value::Array(wanted)) => {
            let list = wanted.iter().enumerate().filter_map(|(index, wanted)| {
                Some(projection(counterpart(live, index, wanted)?, wanted))
            });
            // Elements without a name are a list as a whole: one more is a change.
            let named = wanted.iter().all(|element| identity(element).is_some());
            let more = (!named && live.len() > wanted.len()).then_some(Value::Null);
            Value::Array(list.chain(more).collect())
        }
        (live, _) => live.clone(),
    }
}

fn counterpart<'a>(live: &'a [Value], index: usize, wanted: &Value) -> Option<&'a Value> {
    match identity(wanted) {
        Some(name) => live.iter().find(|element| identity(element) == Some(name)),
        None => live.get(index),
    }
}

/// What tells elements of a list apart, in the lists that Kubernetes merges.
fn identity(element: &Value) -> Option<&str> {
    let element = element.as_object()?;
    // An owner has both; the uid is what counts. A mount is told by its path.
    ["uid", "mountPath", "name"]
        .iter()
        .find_map(|key| element.get(*key)?.as_str())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;

    fn owner() -> Owner {
        Owner {
            namespace: "plant".into(),
            name: "factory".into(),
            uid: "uid-1".into(),
        }
    }

    fn child(kind: ChildKind, name: &str, spec: &Value) -> Child {
        let hash = "h1".to_owned();
        let object = json!({
            "apiVersion": kind.resource().api_version,
            "kind": kind.as_str(),
            "metadata": {
                "name": name, "namespace": "plant",
                "annotations": { annotation::APPLIED_HASH: hash },
                "ownerReferences": [{
                    "apiVersion": "iot-connectors.dev/v1alpha1", "kind": "AzureIotHubConnector",
                    "name": "factory", "uid": "uid-1", "controller": true
                }]
            },
            "spec": spec
        });
        Child {
            kind,
            name: name.to_owned(),
            object,
            hash,
        }
    }

    fn children() -> Vec<Child> {
        let replicas = json!({ "replicas": 2, "selector": {}, "template": {} });
        vec![
            child(ChildKind::ServiceAccount, "factory-connector", &json!({})),
            child(ChildKind::ConfigMap, "factory-connector-new", &json!({})),
            child(ChildKind::Deployment, "factory-connector", &replicas),
        ]
    }

    /// The server has these objects, changed by `edit`.
    fn observed(children: &[Child], edit: impl Fn(ChildKind, &mut Value)) -> Observed {
        let mut observed = Observed::default();
        for child in children {
            let mut object = child.object.clone();
            object["metadata"]["uid"] = json!(format!("uid-of-{}", child.name));
            // Somebody else's fields are not ours to mind.
            object["metadata"]["labels"] = json!({ "team": "blue" });
            edit(child.kind, &mut object);
            let live: DynamicObject = serde_json::from_value(object).unwrap();
            if child.kind == ChildKind::Deployment {
                observed.deployment = live.clone().try_parse().ok();
            }
            observed
                .children
                .insert((child.kind, child.name.clone()), Arc::new(live));
        }
        observed
    }

    fn planned<'a>(
        children: &'a [Child],
        observed: &Observed,
    ) -> Result<Vec<Action<'a>>, Conflict> {
        plan(&owner(), children, observed, &Accepted::default())
    }

    #[test]
    fn what_is_missing_is_made_in_order_and_what_is_right_is_left_alone() {
        let children = children();
        let made = planned(&children, &Observed::default()).unwrap();
        assert_eq!(
            made,
            children.iter().map(Action::Create).collect::<Vec<_>>()
        );
        assert_eq!(
            planned(&children, &observed(&children, |_, _| {})),
            Ok(vec![])
        );
    }

    #[test]
    fn a_change_by_somebody_else_is_undone_unless_the_server_made_it() {
        let children = children();
        let drifted = observed(&children, |kind, object| {
            if kind == ChildKind::Deployment {
                object["spec"]["replicas"] = json!(7);
            }
        });
        let deployment = &children[2];
        let update = Action::Update {
            child: deployment,
            uid: "uid-of-factory-connector".into(),
        };
        assert_eq!(planned(&children, &drifted), Ok(vec![update]));

        let key = (ChildKind::Deployment, deployment.name.clone());
        let mut accepted = Accepted::default();
        accepted.note(deployment, &drifted.children[&key]);
        let again = plan(&owner(), &children, &drifted, &accepted);
        assert_eq!(again, Ok(vec![]), "the server's answer to our own apply");
    }

    #[test]
    fn nothing_is_written_if_one_object_belongs_to_another() {
        let children = children();
        let with_owner = |kind: &str, name: &str| {
            let owner = json!([{
                "apiVersion": "v1", "kind": kind, "name": name, "uid": "other", "controller": true
            }]);
            observed(&children, |kind, object| {
                if kind == ChildKind::ServiceAccount {
                    object["metadata"]["ownerReferences"] = owner.clone();
                }
            })
        };
        let foreign = planned(&children, &with_owner("Thing", "theirs")).unwrap_err();
        assert!(
            matches!(&foreign, Conflict::Foreign { owner: Some(owner), .. } if owner == "Thing theirs")
        );
        let namesake = with_owner("AzureIotHubConnector", "factory");
        let going = planned(&children, &namesake).unwrap_err();
        assert!(matches!(going, Conflict::Going { .. }), "{going}");
    }

    #[test]
    fn settings_go_when_no_pod_mounts_them_and_nothing_else_is_to_be_done() {
        let children = children();
        let mut all = children.clone();
        all.push(child(
            ChildKind::ConfigMap,
            "factory-connector-old",
            &json!({}),
        ));
        let mut seen = observed(&all, |_, _| {});
        let delete = Action::DeleteSettings {
            name: "factory-connector-old".into(),
            uid: "uid-of-factory-connector-old".into(),
        };
        assert_eq!(planned(&children, &seen), Ok(vec![delete]));
        seen.settings_in_use.insert("factory-connector-old".into());
        assert_eq!(
            planned(&children, &seen),
            Ok(vec![]),
            "an old pod may start again"
        );
        seen.settings_in_use.clear();
        let drifted = observed(&all, |kind, object| {
            if kind == ChildKind::Deployment {
                object["spec"]["replicas"] = json!(7);
            }
        });
        let first = planned(&children, &drifted).unwrap();
        assert!(matches!(first[..], [Action::Update { .. }]), "{first:?}");
    }

    #[test]
    fn a_broken_connector_can_be_scaled_and_stopped_but_not_started() {
        let at = |replicas: i32| {
            observed(&children(), |kind, object| {
                if kind == ChildKind::Deployment {
                    object["spec"]["replicas"] = json!(replicas);
                }
            })
        };
        let scale = |replicas| {
            Some(Action::Scale {
                name: "factory-connector".into(),
                uid: "uid-of-factory-connector".into(),
                replicas,
            })
        };
        assert_eq!(scale_only(&at(2), 5), scale(5));
        assert_eq!(scale_only(&at(2), 1), scale(1));
        assert_eq!(scale_only(&at(2), 0), scale(0));
        assert_eq!(
            scale_only(&at(2), 2),
            None,
            "nothing is written for nothing"
        );
        assert_eq!(
            scale_only(&at(0), 3),
            None,
            "the hub Thing may be another by now"
        );
        assert_eq!(scale_only(&at(2), -1), None, "what cannot be");
        assert_eq!(scale_only(&Observed::default(), 3), None, "never rendered");
    }
}
