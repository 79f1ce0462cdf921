//! What is kept of a `ReplicaSet`: a hundredth of it is asked for, and there is one for each rollout of each
//! connector.

use k8s_openapi::{
    api::{apps::v1, core::v1::PodTemplateSpec},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::Resource;
use serde::Deserialize;

/// Pods of one template.
#[derive(Debug, Clone, Deserialize, Resource)]
#[serde(from = "v1::ReplicaSet")]
#[resource(inherit = v1::ReplicaSet)]
pub struct ReplicaSet {
    metadata: ObjectMeta,
    /// Whether there are pods, or are to be.
    pub has_pods: bool,
    /// Names of the `ConfigMap`s that they mount.
    pub settings: Box<[String]>,
}

impl From<v1::ReplicaSet> for ReplicaSet {
    fn from(set: v1::ReplicaSet) -> Self {
        let spec = set.spec.unwrap_or_default();
        let wanted = spec.replicas.unwrap_or(1);
        let there = set.status.map_or(0, |status| status.replicas);
        Self {
            has_pods: wanted > 0 || there > 0,
            settings: settings(spec.template.as_ref()).collect(),
            metadata: ObjectMeta {
                name: set.metadata.name,
                namespace: set.metadata.namespace,
                uid: set.metadata.uid,
                resource_version: set.metadata.resource_version,
                labels: set.metadata.labels,
                owner_references: set.metadata.owner_references,
                ..ObjectMeta::default()
            },
        }
    }
}

/// Names of the `ConfigMap`s that pods of a template mount.
pub fn settings(template: Option<&PodTemplateSpec>) -> impl Iterator<Item = String> {
    template
        .and_then(|template| template.spec.as_ref())
        .and_then(|spec| spec.volumes.as_ref())
        .into_iter()
        .flatten()
        .filter_map(|volume| Some(volume.config_map.as_ref()?.name.clone()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn set(replicas: &Value, there: i32) -> ReplicaSet {
        serde_json::from_value(json!({
            "metadata": {"name": "a-1", "labels": {"l": "1"}, "managedFields": [{"manager": "m"}]},
            "spec": {"replicas": replicas, "selector": {}, "template": {"spec": {
                "containers": [{"name": "c"}],
                "volumes": [
                    {"name": "settings", "configMap": {"name": "a-settings"}},
                    {"name": "secret", "secret": {"secretName": "s"}},
                ],
            }}},
            "status": {"replicas": there},
        }))
        .unwrap()
    }

    #[test]
    fn pods_that_are_there_or_wanted_count_and_so_do_the_settings_they_mount() {
        let with_pods = |replicas, there| set(&replicas, there).has_pods;
        assert!(with_pods(json!(1), 0));
        assert!(with_pods(json!(0), 1));
        assert!(with_pods(json!(null), 0), "one, if nobody says how many");
        assert!(!with_pods(json!(0), 0));
        let kept = set(&json!(1), 1);
        assert_eq!(*kept.settings, ["a-settings"]);
        assert_eq!(kept.meta().name.as_deref(), Some("a-1"));
        assert_eq!(kept.meta().managed_fields, None);
    }
}
