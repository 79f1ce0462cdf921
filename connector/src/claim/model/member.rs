//! A member whose process can be frozen and killed, and whose ways to the outside can be cut.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::Duration,
};

use connector_config::{KubernetesStore, Phase};
use iothub::{HubError, PartitionId, SourceIdentity, TwinReader};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    task::AbortHandle,
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{World, hub::Source, platform::Way};
use crate::{
    claim::{Claims, Keeper, Lags},
    identity::Identity,
    ingress::{Ingress, Memory, Passes, Readers, Shapes, Survey},
    member::MemberLease,
    metrics::Metrics,
    report::Reporter,
};

/// The ways of one member to the outside.
pub struct Access {
    /// Whose they are.
    pub member: String,
    until: Mutex<Until>,
    random: Mutex<StdRng>,
}

#[derive(Clone, Copy)]
struct Until {
    api: Instant,
    slow_api: Instant,
    hub: Instant,
    platform: Instant,
}

impl Until {
    fn long_ago() -> Self {
        let then = Instant::now() - Duration::from_secs(60);
        Self {
            api: then,
            slow_api: then,
            hub: then,
            platform: then,
        }
    }
}

impl Access {
    fn new(member: String, seed: u64) -> Self {
        let until = Until::long_ago();
        Self {
            member,
            until: Mutex::new(until),
            random: Mutex::new(StdRng::seed_from_u64(seed)),
        }
    }

    fn set(&self, seconds: u64, which: impl Fn(&mut Until) -> &mut Instant) {
        *which(&mut self.until.lock().unwrap()) = Instant::now() + Duration::from_secs(seconds);
    }

    /// The API server does not answer for so long.
    pub fn cut_api(&self, seconds: u64) {
        self.set(seconds, |until| &mut until.api);
    }

    /// The API server answers late, or its answers are lost.
    pub fn slow_api(&self, seconds: u64) {
        self.set(seconds, |until| &mut until.slow_api);
    }

    /// The hub does not answer for so long.
    pub fn cut_hub(&self, seconds: u64) {
        self.set(seconds, |until| &mut until.hub);
    }

    /// The platform does not answer for so long.
    pub fn cut_platform(&self, seconds: u64) {
        self.set(seconds, |until| &mut until.platform);
    }

    /// Every way is open from now on.
    pub fn heal(&self) {
        let now = Instant::now();
        let mut until = self.until.lock().unwrap();
        let Until {
            api,
            slow_api,
            hub,
            platform,
        } = &mut *until;
        for one in [api, slow_api, hub, platform] {
            *one = (*one).min(now);
        }
    }

    fn until(&self) -> Until {
        *self.until.lock().unwrap()
    }

    async fn wait(&self, which: impl Fn(Until) -> Instant) {
        // Looks again, since cuts may be healed early.
        while which(self.until()) > Instant::now() {
            sleep_until(which(self.until()).min(Instant::now() + Duration::from_millis(200))).await;
        }
    }

    async fn slowly(&self) {
        let ms = self.random.lock().unwrap().random_range(0..8000);
        let late = Instant::now() + Duration::from_millis(ms);
        // Until then, or until that is healed.
        self.wait(|until| until.slow_api.min(late)).await;
        sleep(Duration::from_millis(5)).await;
    }

    /// A request is on its way to the API server.
    pub async fn before_api(&self) {
        self.slowly().await;
        self.wait(|until| until.api).await;
    }

    /// The answer is on its way back.
    pub async fn after_api(&self) {
        self.slowly().await;
        self.wait(|until| until.api).await;
    }

    /// A way to the hub.
    pub async fn before_hub(&self) {
        self.wait(|until| until.hub).await;
    }

    /// Whether the API server is out of reach, or was a moment ago.
    pub fn is_blind(&self) -> bool {
        let until = self.until();
        until.api.max(until.slow_api) + Duration::from_secs(10) > Instant::now()
    }

    /// Whether the platform can be reached.
    pub fn is_cut_from_platform(&self) -> bool {
        self.until().platform > Instant::now()
    }
}

/// Whether a process is standing still.
struct Ice {
    until: Instant,
    waiting: Vec<Waker>,
}

/// A future of a process: not polled while that is frozen.
struct Frozen<F> {
    inner: Pin<Box<F>>,
    ice: Arc<Mutex<Ice>>,
}

impl<F: Future> Future for Frozen<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        {
            let mut ice = self.ice.lock().unwrap();
            if ice.until > Instant::now() {
                ice.waiting.push(cx.waker().clone());
                return Poll::Pending;
            }
        }
        self.inner.as_mut().poll(cx)
    }
}

/// Starts the tasks of one process.
#[derive(Clone)]
struct Process {
    ice: Arc<Mutex<Ice>>,
    tasks: Arc<Mutex<Vec<AbortHandle>>>,
}

impl Process {
    fn new() -> Self {
        let ice = Ice {
            until: Instant::now(),
            waiting: Vec::new(),
        };
        Self {
            ice: Arc::new(Mutex::new(ice)),
            tasks: Arc::default(),
        }
    }

    fn spawn<F>(&self, future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        let frozen = Frozen {
            inner: Box::pin(future),
            ice: self.ice.clone(),
        };
        let task = tokio::spawn(frozen);
        self.tasks.lock().unwrap().push(task.abort_handle());
        task
    }

    fn freeze(&self, time: Duration) {
        let until = Instant::now() + time;
        self.ice.lock().unwrap().until = until;
        let ice = self.ice.clone();
        tokio::spawn(async move {
            sleep_until(until).await;
            Self::thaw(&ice);
        });
    }

    fn thaw(ice: &Mutex<Ice>) {
        let mut ice = ice.lock().unwrap();
        ice.until = ice.until.min(Instant::now());
        ice.waiting.drain(..).for_each(Waker::wake);
    }

    fn kill(&self) {
        for task in self.tasks.lock().unwrap().drain(..) {
            task.abort();
        }
    }
}

struct NoTwins;

#[async_trait::async_trait]
impl TwinReader for NoTwins {
    async fn twin(&self, id: &str, _: Option<&str>) -> Result<serde_json::Value, HubError> {
        Err(HubError::DeviceNotFound { id: id.into() })
    }
}

/// A running member.
pub struct Member {
    /// Its id.
    pub id: String,
    /// Its pod.
    pub pod: String,
    /// The template of its pod.
    pub template: String,
    /// Its ways to the outside.
    pub access: Arc<Access>,
    process: Process,
    reporter: Reporter,
    stop: CancellationToken,
    end: CancellationToken,
}

impl Member {
    /// Starts a process in a pod, whose wall clock is wrong by so many seconds. One that does not join is
    /// kept from the routing group by something outside.
    pub fn start(world: &World, pod: &str, template: &str, skew_s: i64, joins: bool) -> Self {
        let mut identity = Identity::from_env();
        pod.clone_into(&mut identity.pod);
        "plant".clone_into(&mut identity.namespace);
        identity.pod_uid = format!("uid-of-{pod}");
        template.clone_into(&mut identity.pod_template_hash);
        let id = identity.member();
        let access = Arc::new(Access::new(id.to_string(), u64::from(world.started)));
        let process = Process::new();
        let (stop, end) = (CancellationToken::new(), CancellationToken::new());
        let reporter = Reporter::new(&identity);
        let leases = world.api.api(access.clone());
        let store = KubernetesStore {
            connector: "factory".to_owned(),
            connector_uid: "uid".to_owned(),
        };
        let source = Arc::new(Source {
            hub: world.hub.clone(),
            access: access.clone(),
            identity: SourceIdentity {
                namespace: "ns".to_owned(),
                hub: "hub".to_owned(),
                consumer_group: "group".to_owned(),
            },
        });
        let way = Arc::new(Way {
            platform: world.platform.clone(),
            hub: world.hub.clone(),
            access: access.clone(),
        });
        let metrics = Metrics::new().unwrap();
        let partitions: Vec<PartitionId> = (0..world.hub.sent().len())
            .map(|index| PartitionId::new(index.to_string()))
            .collect();
        let survey = Survey::start(source.clone(), partitions.clone(), end.clone());
        let ingress = Ingress {
            letters: None,
            source: source.clone(),
            twins: Arc::new(NoTwins),
            messages: Arc::default(),
            passes: Passes::start(way.clone(), metrics.clone(), id.as_str()),
            platform: way,
            start: connector_config::StartPosition::Earliest,
            write: connector_config::WriteService::default(),
            catch_up: None,
            survey: survey.clone(),
            memory: Memory::default(),
            shapes: Shapes::default(),
            mapping: None,
            metrics: metrics.clone(),
            reporter: reporter.clone(),
        };
        let spawner = process.clone();
        let readers = Readers::spawning(ingress, None, move |task| spawner.spawn(task));
        let identity_of_source = iothub::EventSource::identity(source.as_ref()).clone();
        let mut claims = Claims::new(leases.clone(), store.clone(), identity_of_source, &identity);
        claims.now_s = Arc::new(move || jiff::Timestamp::now().as_second() + skew_s);
        let keeper = Keeper::new(
            leases.clone(),
            claims,
            store.clone(),
            id.clone(),
            identity.pod_uid.clone(),
            partitions,
            reporter.clone(),
            Lags { survey, metrics },
            tokio::sync::watch::Sender::default(),
        );
        let (on_stop, on_end, told) = (stop.clone(), end.clone(), reporter.clone());
        let spawner = process.clone();
        process.spawn(async move {
            // As the connector does: tries until it has its Lease.
            let lease = loop {
                let made = MemberLease::create(leases.clone(), &identity, &store, told.now()).await;
                match made {
                    Ok(lease) => break lease,
                    Err(_) => sleep(Duration::from_secs(1)).await,
                }
            };
            let kept = spawner.spawn(lease.keep(told.clone(), on_end.clone()));
            if joins {
                told.phase(Phase::Running);
                keeper.run(readers, on_stop).await;
            } else {
                on_stop.cancelled().await;
            }
            on_end.cancel();
            let _ = kept.await;
        });
        Self {
            id: id.to_string(),
            pod: pod.to_owned(),
            template: template.to_owned(),
            access,
            process,
            reporter,
            stop,
            end,
        }
    }

    /// The planned end.
    pub async fn stop(self) {
        self.reporter.phase(Phase::Draining);
        self.stop.cancel();
        self.end.cancelled().await;
    }

    /// Ends at once, without a word.
    pub fn kill(self) {
        self.process.kill();
        self.end.cancel();
    }

    /// Stands still for a while.
    pub fn freeze(&self, time: Duration) {
        self.process.freeze(time);
    }

    /// Goes on, with open ways.
    pub fn heal(&self) {
        Process::thaw(&self.process.ice);
        self.access.heal();
    }
}
