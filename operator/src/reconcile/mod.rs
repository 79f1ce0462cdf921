//! One look at one resource: observe, validate, render, compare, write, answer.

mod answer;
mod aside;
mod children;
mod members;
mod memory;

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use k8s_openapi::api::apps::v1::Deployment;
use kube::{Api, Client};
use tokio::time::Instant;

use crate::{
    api::{AzureIotHubConnector, Stored, validate},
    apply::Applier,
    desired::{ChildKind, Defaults, Owner},
    error::{Class, call},
    event::Announcer,
    manager::OperatorId,
    metrics::Metrics,
    observe::Stores,
    queue::Outcome,
    refs::references,
    resolve::resolve,
    slots::Slots,
    status::{Progress, ready_of},
    store::ObjectKey,
    watches::controlling,
};
use answer::retried;
use children::{Children, Order, Unsettled};
use memory::Memory;

/// What the operator was told.
#[derive(Debug, Clone)]
pub struct Policy {
    /// What is rendered where a resource does not say.
    pub defaults: Defaults,
    /// What this operator is called, with all its replicas.
    pub me: OperatorId,
    /// How many connectors replace their pods at a time.
    pub rollouts: usize,
    /// How long after its rollout a member may have old settings or secrets.
    pub stale_member: Duration,
}

/// Reconciles resources.
pub struct Reconciler {
    client: Client,
    stores: Stores,
    applier: Applier,
    announcer: Announcer,
    policy: Policy,
    metrics: Arc<Metrics>,
    /// What is remembered of each resource. Losing it costs reads and at most a write without effect.
    memories: Mutex<BTreeMap<ObjectKey, Memory>>,
    /// Which connectors replace their pods now.
    slots: Mutex<Slots>,
}

impl Reconciler {
    /// Reads from `stores`, reads references and writes with `client`.
    #[must_use]
    pub fn new(client: Client, stores: Stores, policy: Policy, metrics: Arc<Metrics>) -> Self {
        Self {
            applier: Applier::new(client.clone(), Arc::clone(&metrics)),
            announcer: Announcer::new(client.clone()),
            client,
            stores,
            metrics,
            memories: Mutex::default(),
            slots: Mutex::new(Slots::new(policy.rollouts)),
            policy,
        }
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Memory>> {
        // Each change is one insert or removal, whole even if its thread panicked after it.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn slots(&self) -> MutexGuard<'_, Slots> {
        // What a panic leaves half done is corrected by the next look at the Deployment.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes over: what others have begun is under way.
    pub fn begin(&self) {
        let Some(deployments) = self.stores.children.get(&ChildKind::Deployment) else {
            return;
        };
        for object in deployments.all() {
            // One without a resource would never be looked at again.
            if let Some(key) = controlling(&object)
                && self.stores.connectors.get(&key).is_some()
            {
                let deployment: Option<Deployment> = object.unpack();
                self.slots().saw(&key, deployment.as_ref());
            }
        }
    }

    /// Resources that waited for others and may go on now.
    #[must_use]
    pub fn admitted(&self) -> Vec<ObjectKey> {
        self.slots().admitted().cloned().collect()
    }

    /// Brings one resource to where it should be.
    pub async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(resource) = self.stores.connectors.get(key) else {
            self.memories().remove(key);
            self.slots().forget(key);
            return Outcome::default();
        };
        let begun = Instant::now();
        let metadata = &resource.metadata;
        let outcome = if metadata.deletion_timestamp.is_some() {
            // Garbage collection takes the children; whatever is written now would come back to life.
            self.slots().forget(key);
            Outcome::default()
        } else {
            let owner = Owner {
                namespace: key.namespace.clone(),
                name: key.name.clone(),
                uid: metadata.uid.clone().unwrap_or_default(),
            };
            let mut memory = self.memories().remove(key).unwrap_or_default();
            if memory.uid != owner.uid {
                memory = Memory {
                    uid: owner.uid.clone(),
                    ..Memory::default()
                };
            }
            let done = match self.current(&owner, &resource, &mut memory).await {
                Ok(()) => match self.policy.me.other(&resource) {
                    None => self.manage(&owner, &resource, &mut memory).await,
                    Some(other) => self.stand_aside(&owner, &resource, &other).await,
                },
                Err(class) => Outcome {
                    failed: Some(class),
                    ..Outcome::default()
                },
            };
            self.slots().ended(key, memory.queued);
            self.memories().insert(key.clone(), memory);
            done
        };
        self.metrics.runtime.reconciled(outcome, begun.elapsed());
        let label = outcome.as_str();
        self.metrics.reconciles.with_label_values(&[label]).inc();
        outcome
    }

    /// Makes sure, at the first look, that the watch shows what the server has.
    async fn current(
        &self,
        owner: &Owner,
        stored: &Stored,
        memory: &mut Memory,
    ) -> Result<(), Class> {
        if memory.current {
            return Ok(());
        }
        let api: Api<AzureIotHubConnector> = Api::namespaced(self.client.clone(), &owner.namespace);
        match call(api.get_metadata_opt(&owner.name)).await {
            // The watch will tell.
            Ok(live) if live.as_ref().map(version_of) != Some(version_of(stored)) => {
                Err(Class::Transient)
            }
            Ok(_) => {
                memory.current = true;
                Ok(())
            }
            Err(error) => Err(error.class()),
        }
    }

    async fn settle(&self, owner: &Owner, stored: &Stored, memory: &mut Memory) -> Outcome {
        let mut outcome = Outcome::default();
        let mut observed = self.stores.observe(owner);
        memory.queued = false;
        let key = ObjectKey::new(&*owner.namespace, &*owner.name);
        self.slots().saw(&key, observed.deployment.as_ref());
        let asked = match &stored.spec {
            Ok(spec) => spec,
            Err(why) => {
                let progress = Progress::Undecodable(why);
                return self
                    .answer(owner, stored, progress, &observed, memory, outcome)
                    .await;
            }
        };
        let spec = match validate(asked) {
            Ok(spec) => spec,
            Err(error) => {
                outcome = self
                    .scale(owner, stored, asked.replicas, &observed, memory)
                    .await;
                let progress = Progress::Invalid(&error);
                return self
                    .answer(owner, stored, progress, &observed, memory, outcome)
                    .await;
            }
        };
        let references = references(&spec.thingworx, &spec.iot_hub, spec.checkpoints.blobs());
        let (resolved, retry) = resolve(
            &self.client,
            &self.stores,
            owner,
            &references,
            memory.resolved.take(),
        )
        .await;
        memory.resolved = Some(resolved.clone());
        let secrets = match resolved.digest() {
            Ok(secrets) => secrets,
            Err(error) => {
                outcome = self
                    .scale(owner, stored, spec.replicas, &observed, memory)
                    .await;
                outcome.failed = retry.or(outcome.failed);
                let progress = Progress::Unresolved(&spec, error);
                return self
                    .answer(owner, stored, progress, &observed, memory, outcome)
                    .await;
            }
        };
        let order = Order {
            owner,
            stored,
            spec: &spec,
            secrets,
        };
        let settled = self
            .children(order, &mut observed, memory, &mut outcome)
            .await;
        let progress = match &settled {
            Ok(Children::Held) => Progress::Held(&spec),
            Ok(Children::Queued) => Progress::Queued(&spec, self.slots().limit()),
            Ok(Children::Settled) => Progress::Applied(&spec),
            Err(Unsettled::Claim(error)) => {
                // Nothing was written, and nothing can be said: it may be another operator's by now.
                outcome.failed = Some(retried(error));
                return outcome;
            }
            Err(Unsettled::Apply(error)) => {
                outcome.failed = Some(error.class());
                Progress::NotApplied(&spec, error)
            }
            Err(Unsettled::Render(why)) => {
                outcome.failed = Some(Class::Bug);
                Progress::NotRendered(&spec, why)
            }
        };
        if matches!(progress, Progress::Applied(_)) {
            self.members(owner, stored, &observed, memory, &mut outcome)
                .await;
        }
        self.answer(owner, stored, progress, &observed, memory, outcome)
            .await
    }

    /// Counts resources by their `Ready` condition, and those that replace pods or wait for that. Lets go of
    /// what was remembered until the watches showed it.
    pub fn count(&self) {
        let (replacing, waiting) = {
            let slots = self.slots();
            (slots.replacing(), slots.waiting())
        };
        for (state, count) in [("replacing", replacing), ("queued", waiting)] {
            let gauge = self.metrics.rollouts.with_label_values(&[state]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let mut counts = BTreeMap::from([("True", 0), ("False", 0), ("Unknown", 0)]);
        for key in self.stores.connectors.keys() {
            let Some(resource) = self.stores.connectors.get(&key) else {
                continue;
            };
            if let Some(memory) = self.memories().get_mut(&key) {
                memory.shown(&resource);
            }
            if self.policy.me.other(&resource).is_some() {
                continue;
            }
            let ready = ready_of(&resource.status.conditions);
            let status = match ready.map(|condition| &*condition.status) {
                Some("True") => "True",
                Some("False") => "False",
                _ => "Unknown",
            };
            *counts.entry(status).or_default() += 1;
        }
        for (status, count) in counts {
            self.metrics
                .connectors
                .with_label_values(&[status])
                .set(count);
        }
    }
}

fn version_of<K: kube::Resource>(object: &K) -> Option<String> {
    object.meta().resource_version.clone()
}
