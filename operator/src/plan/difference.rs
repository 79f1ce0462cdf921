//! Whether an object is as it should be: only what the operator speaks of counts, in the server's spelling.

use std::collections::BTreeMap;

use connector_config::annotation;
use kube::{Resource as _, core::DynamicObject};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::{
    desired::{Child, ChildKind},
    packed::Packed,
};

/// What is known of the children from earlier looks. Losing it costs time and at most a write without effect.
#[derive(Debug, Clone, Default)]
pub struct Known(BTreeMap<(ChildKind, String), Entry>);

#[derive(Debug, Clone)]
struct Entry {
    /// Of the child as it should be.
    hash: String,
    /// What the server made of it: defaults of numbers and spellings of quantities may differ from what was
    /// asked, and must not count as a change by somebody else. Kept as a digest: there are as many as there
    /// are children.
    answer: Option<[u8; 32]>,
    /// The version at which it was found to be as it should be.
    version: Option<String>,
}

impl Known {
    /// The server answered the apply of `child` with this object.
    pub fn note(&mut self, child: &Child, live: &DynamicObject) {
        if let Ok(tree) = serde_json::to_value(live) {
            let entry = Entry {
                hash: child.hash.clone(),
                answer: Some(digest(&seen(child, tree))),
                version: live.metadata.resource_version.clone(),
            };
            self.0.insert((child.kind, child.name.clone()), entry);
        }
    }

    /// Forgets all but these.
    pub(super) fn retain(&mut self, children: &[Child]) {
        let wanted = |kind, name: &str| {
            children
                .iter()
                .any(|child| child.kind == kind && child.name == name)
        };
        self.0.retain(|(kind, name), _| wanted(*kind, name));
    }
}

/// What is seen has the order of the child, so equal trees have equal texts.
fn digest(seen: &Value) -> [u8; 32] {
    Sha256::digest(seen.to_string()).into()
}

/// How an object differs from what it should be.
pub(super) struct Difference {
    /// The pods of a Deployment with pods before and after would be replaced by others.
    pub(super) replaces_pods: bool,
}

/// How `live` differs from `child`, if it does. An object of a version that was looked at is not looked at
/// again.
pub(super) fn difference(child: &Child, live: &Packed, known: &mut Known) -> Option<Difference> {
    let version = &live.meta().resource_version;
    let key = (child.kind, child.name.clone());
    let entry = known.0.get(&key).filter(|entry| entry.hash == child.hash);
    if version.is_some() && entry.is_some_and(|entry| entry.version == *version) {
        return None;
    }
    let answer = entry.and_then(|entry| entry.answer);
    // What cannot be unpacked is applied, and looked at when it comes back.
    let live: Value = live.unpack().unwrap_or_default();
    let hash = &live["metadata"]["annotations"][annotation::APPLIED_HASH];
    let (hashed, has_pods) = (*hash == *child.hash, has_pods(&live));
    let seen = seen(child, live);
    if hashed && (seen == child.object || answer == Some(digest(&seen))) {
        let entry = Entry {
            hash: child.hash.clone(),
            answer,
            version: version.clone(),
        };
        known.0.insert(key, entry);
        return None;
    }
    let template = |object: &Value| object["spec"]["template"].clone();
    Some(Difference {
        replaces_pods: child.kind == ChildKind::Deployment
            && has_pods
            && self::has_pods(&child.object)
            && template(&seen) != template(&child.object),
    })
}

fn has_pods(deployment: &Value) -> bool {
    deployment["spec"]["replicas"].as_i64() != Some(0)
}

/// Of `live` what `child` speaks of.
fn seen(child: &Child, mut live: Value) -> Value {
    for key in ["apiVersion", "kind"] {
        // Objects in a list come without.
        live[key] = child.object[key].clone();
    }
    projection(&live, &child.object)
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
