//! The hub itself: identities, event stream, commands. The faces translate to and from it.

mod access;
mod command;
mod connections;
mod endpoint;
mod feedback;
mod job;
mod registry;
mod route;
mod search;
mod session;
mod twin;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    fault::{FaceName, Fault, Faults},
    feedback::Feedback,
    fleet::Fleet,
    identity::Identity,
    job::Jobs,
    meter::Meter,
    operation::Operation,
    policy::Policies,
    receipt::Receipts,
    refusal::Refusal,
};

pub use command::{MAX_METHOD_PAYLOAD, MethodAnswer, MethodRequest};
pub use connections::{Connection, Connections};
pub use endpoint::Endpoint;
pub use registry::{Change, DeviceView, Etag, Keys, Registered};
pub use route::Route;
pub use search::{Found, Place};
pub use session::{DeviceSession, Subscription, ToDevice};

/// What a hub is made of.
#[derive(Debug, Clone)]
pub struct HubSettings {
    /// Name of the hub, as in `{policy}@sas.root.{name}`.
    pub name: String,
    /// Host names that signatures may be for. Ports do not count.
    pub hosts: Vec<String>,
    /// Event Hubs-compatible name.
    pub event_hub: String,
    /// How many partitions.
    pub partitions: u16,
    /// Consumer groups; `$Default` always exists.
    pub consumer_groups: Vec<String>,
    /// How many events each partition keeps.
    pub retention: usize,
    /// Shared access policies.
    pub policies: Policies,
    /// Where readers that ask the hub for its events are sent: host and port of the Event
    /// Hubs-compatible endpoint, then those that it has after each fail-over, all over again after the
    /// last. Without any such links are refused.
    pub redirect: Vec<(String, u16)>,
    /// Which of its own events the hub puts into the stream.
    pub routes: Vec<Route>,
    /// How long records of feedback are gathered before they are sent; IoT Hub's own is 15 s.
    pub feedback_every: Duration,
}

/// The hub. Shared by all faces.
#[derive(Debug)]
pub struct Hub {
    /// What it is made of.
    pub settings: HubSettings,
    /// What devices have received.
    pub receipts: Receipts,
    /// Faults that are on.
    pub faults: Faults,
    /// What services ask for.
    pub meter: Meter,
    /// Devices that are made here.
    pub fleet: Fleet,
    /// What has become of cloud-to-device messages.
    pub feedback: Feedback,
    /// Who is connected.
    pub connections: Connections,
    endpoint: RwLock<Arc<Endpoint>>,
    identities: Mutex<BTreeMap<Identity, Registered>>,
    pending: Mutex<HashMap<u64, command::Pending>>,
    jobs: Mutex<Jobs>,
    /// Changes whenever a device connects, subscribes or goes.
    presence: watch::Sender<u64>,
    next_number: AtomicU64,
}

/// Now, in Unix milliseconds.
#[must_use]
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

impl Hub {
    /// A hub without devices.
    #[must_use]
    pub fn new(settings: HubSettings) -> Arc<Self> {
        let endpoint = RwLock::new(Arc::new(Endpoint::new(&settings, 0)));
        Arc::new(Self {
            settings,
            endpoint,
            receipts: Receipts::default(),
            faults: Faults::default(),
            meter: Meter::default(),
            fleet: Fleet::default(),
            feedback: Feedback::default(),
            connections: Connections::default(),
            identities: Mutex::default(),
            pending: Mutex::default(),
            jobs: Mutex::default(),
            presence: watch::Sender::new(0),
            next_number: AtomicU64::new(1),
        })
    }

    /// Whether there is a consumer group of that name. Names are compared without case.
    #[must_use]
    pub fn consumer_group(&self, name: &str) -> Option<&str> {
        std::iter::once("$Default")
            .chain(self.settings.consumer_groups.iter().map(String::as_str))
            .find(|group| group.eq_ignore_ascii_case(name))
    }

    /// Switches a fault on.
    pub fn inject(self: &Arc<Self>, fault: &Fault) {
        match fault {
            Fault::Detach { partition, group } => {
                for chosen in self.chosen(partition.as_deref()) {
                    chosen.detach("a test asked for it", |reader| {
                        group
                            .as_ref()
                            .is_none_or(|g| g.eq_ignore_ascii_case(&reader.group))
                    });
                }
            }
            Fault::StallReaders { partition } => {
                self.chosen(partition.as_deref())
                    .for_each(|chosen| chosen.stall());
            }
            Fault::RecreateStream {} => {
                let endpoint = self.endpoint();
                let all = endpoint.partitions.iter();
                all.for_each(|partition| partition.recreate());
            }
            Fault::Expire { partition, keep } => {
                self.chosen(partition.as_deref())
                    .for_each(|chosen| chosen.expire(*keep));
            }
            Fault::MuteEvents {} => self.connections.mute(FaceName::EventsAmqp),
            Fault::DropConnections { face, device } => {
                self.connections.drop_matching(*face, device.as_deref());
            }
            Fault::FailOver {} => self.fail_over(),
            timed => {
                let until = self.faults.start(timed);
                // Those that are concerned see it when woken, and see its end likewise.
                self.connections.wake_all();
                if let Some(until) = until {
                    let hub = Arc::downgrade(self);
                    tokio::spawn(async move {
                        tokio::time::sleep_until(until.into()).await;
                        if let Some(hub) = hub.upgrade() {
                            hub.connections.wake_all();
                        }
                    });
                }
            }
        }
    }

    /// Lets an operation of that cost through, as faults and limits allow.
    ///
    /// # Errors
    /// [`Refusal::Throttled`].
    pub fn admit(&self, operation: Operation, cost: f64) -> Result<(), Refusal> {
        if let Some(retry_after) = self.faults.throttles(operation) {
            self.meter.refused(operation);
            return Err(Refusal::Throttled { retry_after });
        }
        let admitted = self.meter.admit(operation, cost);
        admitted.map_err(|seconds| Refusal::Throttled {
            retry_after: Some(seconds),
        })
    }

    /// The partition of that name, or all of them.
    fn chosen(&self, name: Option<&str>) -> impl Iterator<Item = Arc<crate::log::Partition>> {
        let all = self.endpoint().partitions.clone().into_iter();
        all.filter(move |partition| name.is_none_or(|name| partition.id().to_string() == name))
    }

    /// Registers a connection of a face.
    pub fn connect(&self, face: FaceName) -> Connection {
        self.connections.open(face)
    }

    /// A number that nothing else has.
    pub(crate) fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }

    fn identities(&self) -> MutexGuard<'_, BTreeMap<Identity, Registered>> {
        // No code under this lock leaves the map half changed.
        self.identities
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn changed_presence(&self) {
        self.presence.send_modify(|version| *version += 1);
    }
}
