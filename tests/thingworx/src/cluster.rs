//! What the nodes share: model, keys, logs, and the endpoints of each node.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI32, AtomicU32, Ordering},
    },
    time::Duration,
};

use alwayson::{Gateway, Request, Response};
use rand::{SeedableRng, rngs::StdRng};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::{
    bind::{BindTable, Binder, EndpointId, Policy},
    draw::{self, NoAnswer},
    fault::{Fault, Faults},
    log::{DrawEntry, EventEntry, Log, ValueEntry},
    model::{Model, Thing, is_gateway_template},
    right::Rights,
    tally::{Tally, TallyView},
};

/// What the nodes share, as it is set.
#[derive(Debug, Clone)]
pub struct ClusterSettings {
    /// Application keys that are accepted.
    pub app_keys: BTreeSet<String>,
    /// What edges may do that log in with one.
    pub rights: Rights,
    /// Seed of the draws among binders.
    pub seed: u64,
    /// Longest random delay before a request of the platform is sent.
    pub draw_delay: Duration,
    /// What a second bind of a name does.
    pub policy: Policy,
    /// A connection that does not log in is closed after this: 15 s on the platform.
    pub auth_wait: Duration,
    /// A connection without any traffic is closed after this: 60 s on the platform.
    pub idle: Duration,
    /// An edge must answer within this: 30 s on the platform.
    pub request_timeout: Duration,
    /// `NotifyPropertyUpdate` follows a bind after this: 1 s on the platform.
    pub notify_after: Duration,
    /// Values are counted, not logged, and draws are not kept: what a bench wants. The name of the property
    /// that tells when its event came into being.
    pub count_only: Option<String>,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            app_keys: BTreeSet::new(),
            rights: Rights::all(),
            seed: 1,
            draw_delay: Duration::ZERO,
            policy: Policy::default(),
            auth_wait: Duration::from_secs(15),
            idle: Duration::from_secs(60),
            request_timeout: Duration::from_secs(30),
            notify_after: Duration::from_secs(1),
            count_only: None,
        }
    }
}

/// The endpoint of a client of which nothing else is known; others count from 1.
const FOREIGNER: EndpointId = EndpointId::MAX;

/// Entries that each log holds.
const LOG: usize = 2_000_000;

/// A ThingWorx cluster.
pub struct Cluster {
    /// As it was set.
    pub settings: ClusterSettings,
    pub(crate) model: Mutex<Model>,
    pub(crate) keys: Mutex<BTreeSet<String>>,
    pub(crate) rights: Mutex<Rights>,
    pub(crate) values: Mutex<Log<ValueEntry>>,
    /// Instead of the log, if it was asked for.
    pub(crate) tally: Option<Mutex<Tally>>,
    pub(crate) draws: Mutex<Log<DrawEntry>>,
    pub(crate) events: Mutex<Log<EventEntry>>,
    pub(crate) rng: Mutex<StdRng>,
    pub(crate) policy: Mutex<Policy>,
    pub(crate) failing: Mutex<BTreeSet<String>>,
    /// Services that edges may not call.
    pub(crate) forbidden: Mutex<BTreeSet<String>>,
    pub(crate) logins: Mutex<Vec<Login>>,
    pub(crate) served: Mutex<BTreeMap<String, u64>>,
    pub(crate) nodes: Vec<NodeShared>,
    next_request: AtomicU32,
    next_endpoint: AtomicI32,
    next_session: AtomicI32,
}

/// The first login on a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Of which node.
    pub node: usize,
    /// Endpoint that the client said it is; −1 for a new one.
    pub presented: EndpointId,
    /// Endpoint that it became.
    pub given: EndpointId,
}

/// What the connections of one node share.
pub(crate) struct NodeShared {
    pub(crate) binds: Mutex<BindTable>,
    pub(crate) endpoints: Mutex<HashMap<EndpointId, Endpoint>>,
    pub(crate) faults: watch::Sender<Faults>,
    pub(crate) reset: broadcast::Sender<()>,
}

/// A client of a node: one or more sockets.
#[derive(Default)]
pub(crate) struct Endpoint {
    pub(crate) gateway: Option<String>,
    pub(crate) sessions: BTreeSet<i32>,
    pub(crate) sockets: Vec<(u64, mpsc::Sender<Vec<u8>>)>,
    pub(crate) pending: HashMap<u32, oneshot::Sender<Response>>,
}

impl Cluster {
    /// A cluster of so many nodes, with the Things of the extensions.
    #[must_use]
    pub fn new(nodes: usize, settings: ClusterSettings) -> Self {
        let node = || NodeShared {
            binds: Mutex::default(),
            endpoints: Mutex::default(),
            faults: watch::Sender::new(Faults::default()),
            reset: broadcast::Sender::new(4),
        };
        Self {
            model: Mutex::new(Model::with_extensions()),
            keys: Mutex::new(settings.app_keys.clone()),
            rights: Mutex::new(settings.rights.clone()),
            values: Mutex::new(Log::new(LOG)),
            tally: settings
                .count_only
                .as_deref()
                .map(|stamp| Mutex::new(Tally::new(stamp))),
            draws: Mutex::new(Log::new(LOG)),
            events: Mutex::new(Log::new(LOG)),
            rng: Mutex::new(StdRng::seed_from_u64(settings.seed)),
            policy: Mutex::new(settings.policy),
            failing: Mutex::default(),
            forbidden: Mutex::default(),
            logins: Mutex::default(),
            served: Mutex::default(),
            nodes: (0..nodes).map(|_| node()).collect(),
            next_request: AtomicU32::new(1),
            next_endpoint: AtomicI32::new(1),
            next_session: AtomicI32::new(1),
            settings,
        }
    }

    /// Defines a Thing.
    pub fn define(&self, name: &str, thing: Thing) {
        lock(&self.model).put(name, thing);
    }

    /// Defines many Things of few kinds, which they share: `{prefix}0`, `{prefix}1`, … are of the kinds in
    /// turn.
    pub fn generate(&self, prefix: &str, count: usize, kinds: Vec<Thing>) {
        let kinds: Vec<Arc<Thing>> = kinds.into_iter().map(Arc::new).collect();
        let mut model = lock(&self.model);
        for (number, kind) in kinds.iter().cycle().take(count).enumerate() {
            model.put(&format!("{prefix}{number}"), Arc::clone(kind));
        }
    }

    /// How many values were taken and how old they were, if they are counted and not logged.
    pub fn tally(&self) -> Option<TallyView> {
        self.tally.as_ref().map(|tally| lock(tally).view())
    }

    /// Asks one of those who have bound a Thing, as a user of the platform does.
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn ask(self: &Arc<Self>, request: Request) -> Result<Response, NoAnswer> {
        let thing = request.entity.clone();
        draw::ask(self, "call", &thing, request).await
    }

    /// The logins so far, in order.
    pub fn logins(&self) -> Vec<Login> {
        lock(&self.logins).clone()
    }

    /// The values that were taken for a Thing's properties, as JSON, in order.
    pub fn written(&self, thing: &str) -> Vec<String> {
        let values = lock(&self.values).page(0, usize::MAX);
        let of_thing = values.entries.iter().filter(|value| &*value.thing == thing);
        of_thing.map(|value| value.value.to_string()).collect()
    }

    /// The values that were taken for a Thing's properties, in order.
    pub fn values(&self, thing: &str) -> Vec<ValueEntry> {
        let values = lock(&self.values).page(0, usize::MAX);
        let of_thing = |value: &ValueEntry| &*value.thing == thing;
        values.entries.into_iter().filter(of_thing).collect()
    }

    /// The events that were fired, in order.
    pub fn fired(&self) -> Vec<EventEntry> {
        lock(&self.events).page(0, usize::MAX).entries
    }

    /// Gateways of those who have bound a name, node by node.
    pub fn binders(&self, name: &str) -> Vec<Vec<String>> {
        let gateways = |node: &NodeShared| {
            lock(&node.binds)
                .binders(name)
                .iter()
                .map(|binder| binder.gateway.clone().unwrap_or_default())
                .collect()
        };
        self.nodes.iter().map(gateways).collect()
    }

    /// A client of which nothing else is known binds a name on every node, whoever has it, or lets it go.
    pub fn hold(&self, name: &str, on: bool) {
        for node in &self.nodes {
            let mut binds = lock(&node.binds);
            match on {
                true => {
                    let binder = Binder {
                        endpoint: FOREIGNER,
                        gateway: None,
                    };
                    // The last wins.
                    let _ = binds.bind(name, binder, false, Policy::LastInWins);
                }
                false => binds.unbind(name, FOREIGNER),
            }
        }
    }

    /// An application key is no longer valid.
    pub fn revoke(&self, key: &str) {
        lock(&self.keys).remove(key);
    }

    pub(crate) fn request_id(&self) -> u32 {
        self.next_request.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn session_id(&self) -> i32 {
        self.next_session.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn endpoint_id(&self) -> EndpointId {
        self.next_endpoint.fetch_add(1, Ordering::Relaxed)
    }

    /// Binds names for an endpoint; the gateway part first, as the platform does.
    ///
    /// # Errors
    /// The reason that the platform gives.
    pub(crate) fn bind<'a>(
        &self,
        node: usize,
        endpoint: EndpointId,
        gateway: Option<&Gateway>,
        names: impl Iterator<Item = &'a str>,
    ) -> Result<Vec<String>, String> {
        let shared = &self.nodes[node];
        let mut names: Vec<String> = names.map(str::to_owned).collect();
        if let Some(Gateway { name, template }) = gateway {
            self.gateway_thing(name, template)?;
            if let Some(endpoint) = lock(&shared.endpoints).get_mut(&endpoint) {
                endpoint.gateway = Some(name.clone());
            }
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        let gateway = lock(&shared.endpoints)
            .get(&endpoint)
            .and_then(|one| one.gateway.clone());
        let policy = *lock(&self.policy);
        let model = lock(&self.model);
        let mut binds = lock(&shared.binds);
        let binder = Binder { endpoint, gateway };
        let many = |name: &str| {
            let thing = model.thing(name);
            thing.is_some_and(|(_, thing)| thing.takes_many_binders())
        };
        let clash = names.iter().find_map(|name| {
            let by = binds.holder(name, &binder, many(name), policy)?;
            Some((
                name,
                by.gateway
                    .clone()
                    .unwrap_or_else(|| by.endpoint.to_string()),
            ))
        });
        let refused = clash.map(|(name, by)| {
            format!(
                "An error occurred while processing a message: binding failed, see server log [name: {name}, \
                 already bound by: {by}]"
            )
        });
        if refused.is_none() || policy == Policy::FirstInWinsByName {
            for name in &names {
                // Refused ones were looked for above.
                let _ = binds.bind(name, binder.clone(), many(name), policy);
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        Ok(names)
    }

    fn gateway_thing(&self, name: &str, template: &str) -> Result<(), String> {
        let mut model = lock(&self.model);
        match is_gateway_template(template) {
            None => return Err(format!("Thing Template [{template}] does not exist")),
            Some(false) => return Err(format!("[{template}] is not a valid gateway type")),
            Some(true) => {}
        }
        match model.thing(name) {
            Some((_, thing)) if thing.template != template => {
                Err(format!("Thing [{name}] is not based on [{template}]"))
            }
            Some(_) => Ok(()),
            None => {
                model.put(
                    name,
                    Thing {
                        ephemeral: true,
                        ..Thing::of(template)
                    },
                );
                Ok(())
            }
        }
    }

    pub(crate) fn unbind<'a>(
        &self,
        node: usize,
        endpoint: EndpointId,
        names: impl Iterator<Item = &'a str>,
    ) {
        for name in names {
            lock(&self.nodes[node].binds).unbind(name, endpoint);
            self.forget_ephemeral(name);
        }
    }

    /// The last socket of an endpoint is gone.
    pub(crate) fn remove_endpoint(&self, node: usize, endpoint: EndpointId) {
        lock(&self.nodes[node].endpoints).remove(&endpoint);
        let names = lock(&self.nodes[node].binds).unbind_all(endpoint);
        for name in names {
            self.forget_ephemeral(&name);
        }
    }

    /// An ephemeral Thing goes when its last binder on any node goes.
    fn forget_ephemeral(&self, name: &str) {
        let bound = self
            .nodes
            .iter()
            .any(|node| !lock(&node.binds).binders(name).is_empty());
        let mut model = lock(&self.model);
        if !bound && model.thing(name).is_some_and(|(_, thing)| thing.ephemeral) {
            model.remove(name);
        }
    }

    /// Switches a fault on or off.
    pub fn fault(&self, fault: &Fault) {
        let switched = match fault {
            Fault::FailThing { thing, on } => Some((&self.failing, thing, *on)),
            Fault::Forbid { service, on } => Some((&self.forbidden, service, *on)),
            _ => None,
        };
        if let Some((set, name, on)) = switched {
            let mut set = lock(set);
            if on {
                set.insert(name.clone())
            } else {
                set.remove(name)
            };
        }
        for node in &self.nodes[fault.nodes(self.nodes.len())] {
            if matches!(fault, Fault::EndSessions { .. }) {
                for endpoint in lock(&node.endpoints).values_mut() {
                    endpoint.sessions.clear();
                }
            }
            node.faults.send_modify(|now| match fault {
                Fault::Freeze { ms, .. } => {
                    now.frozen_until =
                        Some(tokio::time::Instant::now() + Duration::from_millis(*ms));
                }
                Fault::Leave { .. } => now.away = true,
                Fault::Return { .. } => now.away = false,
                Fault::Delay { ms, .. } => now.delay = Duration::from_millis(*ms),
                Fault::LoseAnswers { on, .. } => now.lose_answers = *on,
                Fault::FailAll { on, .. } => now.fail_all = *on,
                Fault::Reset { .. }
                | Fault::EndSessions { .. }
                | Fault::FailThing { .. }
                | Fault::Forbid { .. } => {}
            });
            if matches!(fault, Fault::Reset { .. } | Fault::Leave { .. }) {
                // Nobody listening means that there is no connection to reset.
                let _ = node.reset.send(());
            }
        }
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

/// The cluster, shared.
pub(crate) type Shared = Arc<Cluster>;
