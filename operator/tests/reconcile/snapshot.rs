//! Children and status without what differs from one run to the next, so that runs can be compared.

use std::collections::BTreeMap;

use connector_config::annotation;
use k8s_openapi::api::core::v1::Pod;
use kube::{ResourceExt, core::DynamicObject};
use operator::{api::AzureIotHubConnectorStatus, desired::ChildKind};
use serde_json::Value;

use crate::pods::serves;

/// What a connector has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot(BTreeMap<String, String>);

impl Snapshot {
    /// What differs from `expected`, if anything.
    pub fn differs(&self, expected: &Self) -> Result<(), String> {
        if self == expected {
            return Ok(());
        }
        let keys: std::collections::BTreeSet<_> = self.0.keys().chain(expected.0.keys()).collect();
        let lines = keys.into_iter().filter_map(|key| {
            let (is, was) = (self.0.get(key), expected.0.get(key));
            (is != was).then(|| format!("\n{key}\n  is  {is:?}\n  not {was:?}"))
        });
        Err(lines.collect())
    }

    /// How many children there are of a kind.
    pub fn count(&self, kind: &str) -> usize {
        let of_kind = |key: &&String| key.starts_with(&format!("{kind} "));
        self.0.keys().filter(of_kind).count()
    }

    /// As text, to look for a word.
    pub fn text(&self) -> String {
        format!("{:?}", self.0)
    }
}

/// Takes out what differs: versions, times, uids, and digests that contain them.
pub fn plain(
    namespace: &str,
    children: &[(ChildKind, DynamicObject)],
    pods: &[Pod],
    status: &AzureIotHubConnectorStatus,
    generation: Option<i64>,
) -> Snapshot {
    let mut words = vec![(namespace.to_owned(), "<namespace>")];
    for (_, child) in children {
        for owner in child.metadata.owner_references.iter().flatten() {
            words.push((owner.uid.clone(), "<uid>"));
        }
    }
    let mut snapshot = BTreeMap::new();
    for (kind, child) in children {
        let mut tree = serde_json::to_value(child).unwrap();
        tree.as_object_mut().unwrap().remove("status");
        let name = child.metadata.name.clone().unwrap_or_default();
        let volumes = &tree["spec"]["template"]["spec"]["volumes"];
        if let Some(settings) = volumes[0]["configMap"]["name"].as_str() {
            let digest = settings.rsplit('-').next().unwrap_or_default();
            words.push((digest.to_owned(), "<settings>"));
        }
        let annotations = &tree["spec"]["template"]["metadata"]["annotations"];
        if let Some(digest) = annotations[annotation::SECRET_DIGEST].as_str() {
            words.push((digest.to_owned(), "<secrets>"));
        }
        strip(&mut tree["metadata"]);
        snapshot.insert(format!("{} {name}", kind.as_str()), tree.to_string());
    }
    for condition in &status.conditions {
        let text = format!(
            "{} {}: {}",
            condition.status, condition.reason, condition.message
        );
        snapshot.insert(format!("condition {}", condition.type_), text);
    }
    let current = status.observed_generation == generation;
    snapshot.insert("status is of this spec".into(), current.to_string());
    // A status from before they were replaced tells of others.
    let told = pods.iter().filter(|pod| {
        let members = status.members.iter();
        members
            .filter_map(|member| member.pod.as_ref())
            .any(|name| *name == pod.name_any())
    });
    let (told, serving) = (told.count(), pods.iter().filter(|pod| serves(pod)).count());
    let text = format!(
        "{}, {serving} serve, the status tells of {told}",
        pods.len()
    );
    snapshot.insert("pods".into(), text);
    let replicas = status.replicas.unwrap_or_default();
    snapshot.insert("status.replicas".into(), replicas.to_string());
    let replace = |mut text: String| {
        for (word, mark) in &words {
            text = text.replace(word, mark);
        }
        text
    };
    Snapshot(
        snapshot
            .into_iter()
            .map(|(key, text)| (replace(key), replace(text)))
            .collect(),
    )
}

fn strip(metadata: &mut Value) {
    let Some(map) = metadata.as_object_mut() else {
        return;
    };
    for key in [
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
    ] {
        map.remove(key);
    }
    if let Some(annotations) = map.get_mut("annotations").and_then(Value::as_object_mut) {
        // Over the uid as well; and the deployment controller's own.
        annotations.remove(annotation::APPLIED_HASH);
        annotations.remove("deployment.kubernetes.io/revision");
    }
}
