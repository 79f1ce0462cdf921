//! Whether an object is as it should be: only what the operator speaks of counts, in the server's spelling.

use std::collections::BTreeMap;

use connector_config::annotation;
use kube::core::DynamicObject;
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use crate::desired::{Child, ChildKind};

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

pub(super) fn is_as_wanted(child: &Child, live: &DynamicObject, accepted: &Accepted) -> bool {
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

/// Whether the pods of `live`, a Deployment with pods before and after, would be replaced by those of `child`.
pub(super) fn replaces_pods(child: &Child, live: &DynamicObject) -> bool {
    let has_pods = |object: &Value| object["spec"]["replicas"].as_i64() != Some(0);
    let template = |object: &Value| object["spec"]["template"].clone();
    child.kind == ChildKind::Deployment
        && has_pods(&child.object)
        && has_pods(&live.data)
        && seen(child, live).is_none_or(|seen| template(&seen) != template(&child.object))
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
