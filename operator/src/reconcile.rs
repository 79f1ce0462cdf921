//! One look at one resource: observe, validate, render, compare, write, answer.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::{Timestamp, Unit};
use kube::{Api, Client};

use crate::{
    api::{AzureIotHubConnector, AzureIotHubConnectorStatus, Stored, Validated, validate},
    apply::{Applier, ApplyError},
    desired::{ChildKind, Defaults, Owner, desired},
    error::{Class, call},
    event::Announcer,
    metrics::Metrics,
    observe::{Observed, Stores},
    pause::paused,
    plan::{Accepted, plan, scale_only},
    queue::Outcome,
    refs::{SecretDigest, references},
    resolve::{Resolved, resolve},
    status::{Progress, Subject, ready_of, status},
    store::ObjectKey,
};

/// Reconciles resources.
pub struct Reconciler {
    client: Client,
    stores: Stores,
    applier: Applier,
    announcer: Announcer,
    defaults: Defaults,
    metrics: Arc<Metrics>,
    /// What is remembered of each resource. Losing it costs reads and at most a write without effect.
    memories: Mutex<BTreeMap<ObjectKey, Memory>>,
}

/// What is remembered of one resource between reconciles.
#[derive(Debug, Clone, Default)]
struct Memory {
    uid: String,
    /// The watch has shown the resource as the server had it at the first look. Whoever takes over may
    /// have a watch that lags behind what the last one was told, and would carry out an old spec.
    current: bool,
    resolved: Option<Resolved>,
    accepted: Accepted,
    /// The latest status written, and the version that made: the watch may lag behind.
    written: Option<(String, AzureIotHubConnectorStatus)>,
}

/// How the children of a resource are.
enum Children {
    /// As they should be.
    Settled,
    /// Writes are needed, and somebody wants none.
    Held,
}

/// Why they are not as they should be.
enum Unsettled {
    Render(String),
    Apply(ApplyError),
}

impl Reconciler {
    /// Reads from `stores`, reads references and writes with `client`.
    #[must_use]
    pub fn new(client: Client, stores: Stores, defaults: Defaults, metrics: Arc<Metrics>) -> Self {
        Self {
            applier: Applier::new(client.clone(), Arc::clone(&metrics)),
            announcer: Announcer::new(client.clone()),
            client,
            stores,
            defaults,
            metrics,
            memories: Mutex::default(),
        }
    }

    fn memories(&self) -> MutexGuard<'_, BTreeMap<ObjectKey, Memory>> {
        // Each change is one insert or removal, whole even if its thread panicked after it.
        self.memories.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings one resource to where it should be.
    pub async fn reconcile(&self, key: &ObjectKey) -> Outcome {
        let Some(resource) = self.stores.connectors.get(key) else {
            self.memories().remove(key);
            return Outcome::default();
        };
        let timer = self.metrics.reconcile_seconds.start_timer();
        let metadata = &resource.metadata;
        let outcome = if metadata.deletion_timestamp.is_some() {
            // Garbage collection takes the children; whatever is written now would come back to life.
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
                Ok(()) => self.settle(&owner, &resource, &mut memory).await,
                Err(class) => Outcome {
                    failed: Some(class),
                    ..Outcome::default()
                },
            };
            self.memories().insert(key.clone(), memory);
            done
        };
        timer.observe_duration();
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
                outcome = self.scale(owner, stored, asked.replicas, &observed).await;
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
                outcome = self.scale(owner, stored, spec.replicas, &observed).await;
                outcome.failed = retry.or(outcome.failed);
                let progress = Progress::Unresolved(&spec, error);
                return self
                    .answer(owner, stored, progress, &observed, memory, outcome)
                    .await;
            }
        };
        let subject = Subject::new(owner, stored);
        let settled = self
            .children(
                &subject,
                &spec,
                secrets,
                &mut observed,
                memory,
                &mut outcome,
            )
            .await;
        let progress = match &settled {
            Ok(Children::Held) => Progress::Held(&spec),
            Ok(Children::Settled) => Progress::Applied(&spec),
            Err(Unsettled::Apply(error)) => {
                outcome.failed = Some(error.class());
                Progress::NotApplied(&spec, error)
            }
            Err(Unsettled::Render(why)) => {
                outcome.failed = Some(Class::Bug);
                Progress::NotRendered(&spec, why)
            }
        };
        self.answer(owner, stored, progress, &observed, memory, outcome)
            .await
    }

    /// Scales a connector of which nothing new can be rendered.
    async fn scale(
        &self,
        owner: &Owner,
        stored: &Stored,
        replicas: i32,
        observed: &Observed,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let action = scale_only(observed, replicas).filter(|_| !paused(stored));
        let Some(action) = action else {
            return outcome;
        };
        match self.applier.act(owner, &action).await {
            Ok(_) => outcome.children = true,
            Err(error) => {
                tracing::warn!(namespace = owner.namespace, name = owner.name, %error, "not scaled");
                outcome.failed = Some(error.class());
            }
        }
        outcome
    }

    /// Renders the children and writes those that differ. A child that is refused stops only what needs it;
    /// the first refusal is the answer.
    async fn children(
        &self,
        subject: &Subject<'_>,
        spec: &Validated,
        secrets: &SecretDigest,
        observed: &mut Observed,
        memory: &mut Memory,
        outcome: &mut Outcome,
    ) -> Result<Children, Unsettled> {
        let owner = subject.owner;
        let children = desired(owner, spec, secrets, &self.defaults)
            .map_err(|error| Unsettled::Render(error.to_string()))?;
        let actions = plan(owner, &children, observed, &memory.accepted)
            .map_err(|conflict| Unsettled::Apply(conflict.into()))?;
        if subject.paused && !actions.is_empty() {
            return Ok(Children::Held);
        }
        let mut deployment = observed.deployment.clone();
        let mut refused: Option<ApplyError> = None;
        let mut pods_may_run = true;
        for action in &actions {
            if action.kind() == ChildKind::Deployment && !pods_may_run {
                continue;
            }
            let done = self.applier.act(owner, action).await;
            outcome.children |= done.is_ok();
            match done {
                Ok(Some((child, live))) => {
                    memory.accepted.note(child, &live);
                    if child.kind == ChildKind::Deployment {
                        // The one that was observed is of the spec before, and may well be ready.
                        deployment = live.try_parse().ok();
                    }
                }
                Ok(None) => {}
                // Somebody else has a name that is needed; or nothing is wrong with this child, and the next
                // ones would fail alike, each after its own time-out.
                Err(error)
                    if matches!(error, ApplyError::Conflict(_))
                        || error.class() == Class::Transient =>
                {
                    return Err(Unsettled::Apply(refused.unwrap_or(error)));
                }
                Err(error) => {
                    pods_may_run &= !action.kind().pods_need_it();
                    refused.get_or_insert(error);
                }
            }
        }
        observed.deployment = deployment;
        match refused {
            Some(error) => Err(Unsettled::Apply(error)),
            None => Ok(Children::Settled),
        }
    }

    /// Writes the status if it says something new, after what was done before.
    async fn answer(
        &self,
        owner: &Owner,
        stored: &Stored,
        progress: Progress<'_>,
        observed: &Observed,
        memory: &mut Memory,
        mut outcome: Outcome,
    ) -> Outcome {
        let (seen, before) = match &memory.written {
            Some((made, written)) if version(made) > version(&seen_version(stored)) => {
                (made.clone(), written)
            }
            _ => (seen_version(stored), &stored.status),
        };
        let now = Timestamp::now().round(Unit::Second).unwrap_or_default();
        let after = status(Subject::new(owner, stored), progress, observed, before, now);
        if after != *before {
            match self.applier.status(owner, &seen, &after).await {
                Ok(made) => {
                    self.announcer.announce(owner, before, &after).await;
                    memory.written = made.map(|made| (made, after));
                    outcome.status = true;
                }
                // Deleted meanwhile.
                Err(error) if error.is_not_found() => {}
                // Changed meanwhile: the next look starts from there.
                Err(error) if error.class() == Class::Conflict => {
                    outcome.failed = outcome.failed.or(Some(Class::Transient));
                }
                Err(error) => {
                    tracing::warn!(
                        namespace = owner.namespace,
                        name = owner.name,
                        %error,
                        "the status was not written"
                    );
                    outcome.failed = outcome.failed.or(Some(match error.class() {
                        // The next look starts from a newer version.
                        Class::User => Class::Transient,
                        other => other,
                    }));
                }
            }
        }
        outcome
    }

    /// Counts resources by their `Ready` condition.
    pub fn count(&self) {
        let mut counts = BTreeMap::from([("True", 0), ("False", 0), ("Unknown", 0)]);
        for key in self.stores.connectors.keys() {
            let resource = self.stores.connectors.get(&key);
            let ready = resource
                .as_ref()
                .and_then(|resource| ready_of(&resource.status.conditions));
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

/// Version of the resource that the watch has seen.
fn seen_version(stored: &Stored) -> String {
    version_of(stored).unwrap_or_default()
}

/// Kubernetes promises since 1.35 that versions of one resource compare as numbers, which its storage
/// has done all along. One that is no number counts as old.
fn version(text: &str) -> u64 {
    text.parse().unwrap_or(0)
}
