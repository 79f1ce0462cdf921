//! What is watched, and which resource a change concerns.

use std::{fmt::Debug, time::Duration};

use connector_config::{annotation, label};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{coordination::v1::Lease, core::v1::Pod},
};
use kube::{Api, Client, Resource, core::PartialObjectMeta};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{
    api::Stored,
    desired::ChildKind,
    health::{Health, WatchHealth},
    heard::heard,
    manager::{conflict, named},
    observe::{Stores, controller, instance},
    packed::Packed,
    pause::paused,
    refs::{RefKind, references},
    restart,
    store::{ObjectKey, Store},
    watch::{Change, Trigger, Watch},
};

/// After a change of a child or a pod: such changes come in bursts, for example during a rollout.
const CHILD: Duration = Duration::from_millis(100);
/// After a change of a report: a status need not be fresher, and many members change together.
const REPORT: Duration = Duration::from_secs(1);

/// Starts all watches.
pub struct Watches<'a> {
    /// Reads with this.
    pub client: &'a Client,
    /// Fills these.
    pub stores: &'a Stores,
    /// Says here what should be looked at.
    pub triggers: &'a mpsc::Sender<Trigger>,
    /// Says here how it goes.
    pub health: &'a Health,
    /// Ends then.
    pub shutdown: &'a CancellationToken,
}

/// One kind: what is common to its watches in all namespaces.
struct Kind<K: Resource> {
    name: &'static str,
    labels: String,
    store: Store<K>,
    prune: fn(&mut K),
}

impl Watches<'_> {
    /// Starts the watches of the namespaces in `scopes`, or of all namespaces if there are none. They
    /// run in `tasks`.
    pub fn start(&self, scopes: &[String], tasks: &mut JoinSet<()>) {
        let all = [None];
        let some: Vec<_> = scopes.iter().map(|scope| Some(scope.as_str())).collect();
        for scope in if scopes.is_empty() { &all[..] } else { &some } {
            self.start_in(*scope, tasks);
        }
    }

    fn start_in(&self, scope: Option<&str>, tasks: &mut JoinSet<()>) {
        let stores = self.stores;
        let managed = format!("{}={}", label::MANAGED_BY, label::MANAGED_BY_VALUE);
        let members = format!(
            "{}={},{}={}",
            label::NAME,
            label::NAME_VALUE,
            label::COMPONENT,
            label::COMPONENT_MEMBER
        );
        // References before resources, so that most of what a first look needs is there.
        self.referenced(RefKind::Secret, stores.secrets.clone(), scope, tasks);
        self.referenced(RefKind::ConfigMap, stores.config_maps.clone(), scope, tasks);
        let index = stores.clone();
        let kind = Kind {
            name: "AzureIotHubConnector",
            labels: String::new(),
            store: stores.connectors.clone(),
            prune: |_| {},
        };
        self.typed(kind, scope, tasks, move |change| {
            of_resource(&index, change)
        });
        for (&kind, store) in &stores.children {
            self.children(kind, store.clone(), &managed, scope, tasks);
        }
        let kind = Kind {
            name: "ReplicaSet",
            labels: managed.clone(),
            store: stores.replica_sets.clone(),
            prune: |_| {},
        };
        self.typed(kind, scope, tasks, |change| of_instance(change, CHILD));
        let kind = Kind {
            name: "Pod",
            labels: managed,
            store: stores.pods.clone(),
            prune: prune_pod,
        };
        self.typed(kind, scope, tasks, |change| of_instance(change, CHILD));
        let kind = Kind {
            name: "Lease",
            labels: members,
            store: stores.members.clone(),
            prune: |_| {},
        };
        self.typed(kind, scope, tasks, of_member);
    }

    fn typed<K>(
        &self,
        kind: Kind<K>,
        scope: Option<&str>,
        tasks: &mut JoinSet<()>,
        concerns: impl Fn(&Change<'_, K>) -> Vec<Trigger> + Send + Sync + 'static,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let (client, health) = self.heard(kind.name, scope);
        let api = match scope {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        self.spawn(kind, api, scope, health, tasks, concerns);
    }

    fn children(
        &self,
        kind: ChildKind,
        store: Store<Packed>,
        labels: &str,
        scope: Option<&str>,
        tasks: &mut JoinSet<()>,
    ) {
        let (client, health) = self.heard(kind.as_str(), scope);
        let resource = kind.resource();
        let api = match scope {
            Some(namespace) => Api::namespaced_with(client, namespace, &resource),
            None => Api::all_with(client, &resource),
        };
        let kind = Kind {
            name: kind.as_str(),
            labels: labels.to_owned(),
            store,
            prune: |_| {},
        };
        self.spawn(kind, api, scope, health, tasks, of_child);
    }

    fn referenced<K>(
        &self,
        kind: RefKind,
        store: Store<PartialObjectMeta<K>>,
        scope: Option<&str>,
        tasks: &mut JoinSet<()>,
    ) where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let stores = self.stores.clone();
        let name = match kind {
            RefKind::Secret => "Secret metadata",
            RefKind::ConfigMap => "ConfigMap metadata",
        };
        // Of somebody else's object nothing but its name and version is kept.
        let prune: fn(&mut PartialObjectMeta<K>) = |object| {
            object.metadata.annotations = None;
            object.metadata.labels = None;
            object.metadata.owner_references = None;
        };
        let kind_of = Kind {
            name,
            labels: String::new(),
            store,
            prune,
        };
        self.typed(kind_of, scope, tasks, move |change| {
            of_reference(&stores, kind, change)
        });
    }

    /// A client of one watch, whose answers show that it is not deaf.
    fn heard(&self, kind: &'static str, scope: Option<&str>) -> (Client, WatchHealth) {
        let health = self.health.watch(kind, scope);
        let told = health.clone();
        let client = heard(self.client.clone(), move |(_, status)| {
            if status.is_some() {
                told.fresh();
            }
        });
        (client, health)
    }

    fn spawn<K>(
        &self,
        Kind {
            name: _,
            labels,
            store,
            prune,
        }: Kind<K>,
        api: Api<K>,
        scope: Option<&str>,
        health: WatchHealth,
        tasks: &mut JoinSet<()>,
        concerns: impl Fn(&Change<'_, K>) -> Vec<Trigger> + Send + Sync + 'static,
    ) where
        K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    {
        let scope = scope.map(str::to_owned);
        let watch = Watch {
            api,
            scope,
            labels,
            store,
            prune,
            concerns: Box::new(concerns),
        };
        tasks.spawn(watch.run(self.triggers.clone(), health, self.shutdown.clone()));
    }
}

fn soon(key: ObjectKey, after: Duration) -> Vec<Trigger> {
    vec![Trigger { key, after }]
}

/// A resource: its references are noted; it is looked at when somebody changed more than its status.
fn of_resource(stores: &Stores, change: &Change<'_, Stored>) -> Vec<Trigger> {
    let Some(object) = change.new.or(change.old) else {
        return Vec::new();
    };
    let key = ObjectKey::of(object);
    let refers = match change.new.map(|resource| &resource.spec) {
        Some(Ok(spec)) => {
            let blobs = spec.checkpoints.as_ref();
            let blobs = blobs.and_then(|checkpoints| checkpoints.azure_blob.as_ref());
            references(&spec.thingworx, &spec.iot_hub, blobs)
        }
        _ => Vec::new(),
    };
    stores.refer(&key, &refers);
    let relevant = |object: &Stored| {
        let metadata = object.meta();
        (
            metadata.uid.clone(),
            metadata.generation,
            metadata.deletion_timestamp.clone(),
            paused(object),
            restart::asked(object),
            named(object).map(str::to_owned),
            object.status.operator.clone(),
            conflict(object).map(|said| said.message.clone()),
        )
    };
    let same = change.old.map(relevant) == change.new.map(relevant);
    if same {
        Vec::new()
    } else {
        soon(key, Duration::ZERO)
    }
}

/// A child concerns the resource that controls it; of two if it changed hands.
fn of_child(change: &Change<'_, Packed>) -> Vec<Trigger> {
    let mut keys: Vec<_> = [change.old, change.new]
        .into_iter()
        .flatten()
        .filter_map(controlling)
        .collect();
    keys.dedup();
    keys.into_iter()
        .map(|key| Trigger { key, after: CHILD })
        .collect()
}

/// The resource that controls a child.
pub(crate) fn controlling(object: &Packed) -> Option<ObjectKey> {
    let owner = controller(object)?;
    (owner.kind == "AzureIotHubConnector").then(|| ObjectKey::of(object).sibling(&owner.name))
}

/// Pods and `ReplicaSet`s belong to the Deployment; the label says to which resource.
fn of_instance<K: Resource<DynamicType = ()>>(
    change: &Change<'_, K>,
    after: Duration,
) -> Vec<Trigger> {
    let Some(object) = change.new.or(change.old) else {
        return Vec::new();
    };
    instance(object)
        .map(|name| soon(ObjectKey::of(object).sibling(name), after))
        .unwrap_or_default()
}

/// A member's Lease is renewed all the time; only its report counts.
fn of_member(change: &Change<'_, PartialObjectMeta<Lease>>) -> Vec<Trigger> {
    let report = |lease: &PartialObjectMeta<Lease>| {
        lease
            .metadata
            .annotations
            .as_ref()?
            .get(annotation::REPORT)
            .cloned()
    };
    let (old, new) = (change.old.map(report), change.new.map(report));
    if old == new {
        Vec::new()
    } else {
        of_instance(change, REPORT)
    }
}

/// A Secret or `ConfigMap` concerns those who refer to it.
fn of_reference<K: Resource<DynamicType = ()>>(
    stores: &Stores,
    kind: RefKind,
    change: &Change<'_, PartialObjectMeta<K>>,
) -> Vec<Trigger> {
    let Some(object) = change.new.or(change.old) else {
        return Vec::new();
    };
    stores
        .referring(kind, &ObjectKey::of(object))
        .into_iter()
        .map(|key| Trigger {
            key,
            after: Duration::ZERO,
        })
        .collect()
}

/// Keeps what tells why a pod does not run.
fn prune_pod(pod: &mut Pod) {
    pod.spec = None;
    pod.metadata.annotations = None;
}
