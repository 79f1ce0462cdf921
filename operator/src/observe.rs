//! What is known of one resource, taken from what the watches have seen.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, PoisonError, RwLock},
};

use connector_config::{MemberReport, annotation};
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{ConfigMap, Pod, Secret},
    },
    apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{Resource, core::PartialObjectMeta};

use crate::{
    api::Stored,
    desired::{ChildKind, Owner},
    packed::Packed,
    pod_trouble::{PodTrouble, trouble},
    refs::{Index, RefKind, Reference},
    replica_set::{ReplicaSet, settings},
    store::{ObjectKey, Store},
};

/// Everything that is watched.
#[derive(Clone, Default)]
pub struct Stores {
    /// The resources; one that cannot be decoded does not stop the others.
    pub connectors: Store<Stored>,
    /// Objects that the operator has made.
    pub children: BTreeMap<ChildKind, Store<Packed>>,
    /// Which settings are still in use.
    pub replica_sets: Store<ReplicaSet>,
    /// Pods of connectors.
    pub pods: Store<Pod>,
    /// Leases of members, which carry the reports.
    pub members: Store<PartialObjectMeta<Lease>>,
    /// All Secrets, without their data.
    pub secrets: Store<PartialObjectMeta<Secret>>,
    /// All `ConfigMap`s, without their data.
    pub config_maps: Store<PartialObjectMeta<ConfigMap>>,
    /// Who refers to which of them.
    pub index: Arc<RwLock<Index>>,
}

/// One resource and all that belongs to it.
#[derive(Debug, Clone, Default)]
pub struct Observed {
    /// Objects with the names of its children, whoever owns them.
    pub children: BTreeMap<(ChildKind, String), Arc<Packed>>,
    /// The Deployment, if it belongs to the resource.
    pub deployment: Option<Deployment>,
    /// Names of `ConfigMap`s that pods may still mount.
    pub settings_in_use: BTreeSet<String>,
    /// Uids of the pods that are not ending, by name.
    pub pods: BTreeMap<String, String>,
    /// What keeps pods from running, by name of the pod.
    pub pod_troubles: BTreeMap<String, PodTrouble>,
    /// The living members, by name of the pod.
    pub members: BTreeMap<String, MemberReport>,
}

impl Stores {
    /// Nothing seen yet.
    #[must_use]
    pub fn new() -> Self {
        let children = ChildKind::ALL
            .into_iter()
            .map(|kind| (kind, Store::default()))
            .collect();
        Self {
            children,
            ..Self::default()
        }
    }

    /// Notes what a resource refers to.
    pub fn refer(&self, key: &ObjectKey, references: &[Reference]) {
        self.index
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .set(key, references);
    }

    /// Resources that refer to an object.
    #[must_use]
    pub fn referring(&self, kind: RefKind, object: &ObjectKey) -> Vec<ObjectKey> {
        let index = self.index.read().unwrap_or_else(PoisonError::into_inner);
        index.get(kind, object).cloned().collect()
    }

    /// Version of an object that is referred to; `None` if it does not exist.
    #[must_use]
    pub fn version(&self, kind: RefKind, object: &ObjectKey) -> Option<String> {
        match kind {
            RefKind::Secret => self.secrets.get(object)?.metadata.resource_version.clone(),
            RefKind::ConfigMap => self
                .config_maps
                .get(object)?
                .metadata
                .resource_version
                .clone(),
        }
    }

    /// What is known of a resource.
    #[must_use]
    pub fn observe(&self, owner: &Owner) -> Observed {
        let (namespace, child) = (&owner.namespace, owner.child());
        let versions = format!("{child}-");
        let mut observed = Observed::default();
        for (&kind, store) in &self.children {
            for object in store.with_prefix(namespace, &child) {
                let name = object.meta().name.clone().unwrap_or_default();
                let ours =
                    name == child || (kind == ChildKind::ConfigMap && name.starts_with(&versions));
                if ours {
                    observed.children.insert((kind, name), object);
                }
            }
        }
        observed.deployment = observed
            .children
            .get(&(ChildKind::Deployment, child.clone()))
            .filter(|object| owner.controls(&***object))
            // Decoded by the server's own rules, so it parses; if not, it counts as not there yet.
            .and_then(|object| object.unpack());
        if let Some(deployment) = &observed.deployment {
            let template = deployment.spec.as_ref().map(|spec| &spec.template);
            observed.settings_in_use.extend(settings(template));
            let uid = deployment.metadata.uid.as_deref();
            for set in self.replica_sets.with_prefix(namespace, &versions) {
                let owned = controller(&*set).is_some_and(|owner| Some(&*owner.uid) == uid);
                if owned && set.has_pods {
                    observed
                        .settings_in_use
                        .extend(set.settings.iter().cloned());
                }
            }
        }
        let pods = self.pods.with_prefix(namespace, &versions);
        let mut living = BTreeMap::new();
        for pod in &pods {
            let (name, uid) = (&pod.metadata.name, &pod.metadata.uid);
            if let (Some(name), Some(uid)) = (name, uid)
                && instance(&**pod) == Some(&owner.name)
            {
                living.insert(uid.clone(), name.clone());
                if pod.metadata.deletion_timestamp.is_none() {
                    observed.pods.insert(name.clone(), uid.clone());
                }
                if let Some(trouble) = trouble(pod) {
                    observed.pod_troubles.insert(name.clone(), trouble);
                }
            }
        }
        observed.members = self.members(owner, &versions, &living);
        observed
    }

    /// Reports of the members whose pod lives (by uid): of each pod the latest, because a container
    /// that died left its Lease behind.
    fn members(
        &self,
        owner: &Owner,
        prefix: &str,
        living: &BTreeMap<String, String>,
    ) -> BTreeMap<String, MemberReport> {
        let mut latest = BTreeMap::new();
        for lease in self.members.with_prefix(&owner.namespace, prefix) {
            let annotations = lease.metadata.annotations.as_ref();
            let note = |key: &str| annotations.and_then(|map| map.get(key));
            if note(annotation::CONNECTOR_UID) != Some(&owner.uid) {
                continue;
            }
            let pod = lease
                .metadata
                .owner_references
                .iter()
                .flatten()
                .find(|o| o.kind == "Pod");
            let Some(pod) = pod.and_then(|pod| living.get(&pod.uid)) else {
                continue;
            };
            let Some(report) = note(annotation::REPORT).and_then(|text| read(text)) else {
                continue;
            };
            let made = lease.metadata.creation_timestamp.clone();
            let entry = latest
                .entry(pod.clone())
                .or_insert_with(|| (made.clone(), report.clone()));
            if made > entry.0 {
                *entry = (made, report);
            }
        }
        latest
            .into_iter()
            .map(|(pod, (_, report))| (pod, report))
            .collect()
    }
}

/// A report in the format that this version knows.
fn read(text: &str) -> Option<MemberReport> {
    let report: MemberReport = serde_json::from_str(text).ok()?;
    (report.format == MemberReport::FORMAT).then_some(report)
}

/// The object that controls this one.
pub(crate) fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Name of the resource that an object belongs to, by its label.
pub(crate) fn instance<K: Resource>(object: &K) -> Option<&String> {
    object
        .meta()
        .labels
        .as_ref()?
        .get(connector_config::label::INSTANCE)
}

impl Owner {
    /// Whether an object belongs to this resource, and not to a namesake that was deleted.
    pub fn controls<K: Resource>(&self, object: &K) -> bool {
        controller(object).is_some_and(|owner| owner.uid == self.uid)
    }

    /// Whether an object may be written: it is this resource's, also if somebody has taken away the mark
    /// that the resource controls it, as long as nobody else does.
    pub fn owns<K: Resource>(&self, object: &K) -> bool {
        let named = object
            .meta()
            .owner_references
            .iter()
            .flatten()
            .any(|owner| owner.uid == self.uid);
        named && controller(object).is_none_or(|owner| owner.uid == self.uid)
    }
}
