//! Start, ready and stop, in this order:
//!
//! settings → member Lease → hub proven → store of checkpoints proven → platform nodes → own Thing →
//! routing group → group bind → claims. And back: not ready → hub Thing unbound → requests served out
//! while claims are handed over → own Thing unbound → closed.

mod bound;
mod endpoint;
mod hub;
mod reading;
mod stage;
mod store;
mod watched;

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

use alwayson::{BindState, Node};
use connector_config::{Phase, Settings};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::{
    admin,
    args::Args,
    egress::{Devices, Edge, Feedback, Mark, Newcomers, OwnNames, Requests, Server},
    identity::{Identity, MemberId},
    import::{self, Imports},
    ingress::{DeadLetters, Ingress, Memory, Passes, Shapes, Shelf, mapping::Mapping},
    log::Logs,
    member::{MemberLease, Members},
    metrics::Metrics,
    platform::{self, Binder, Destination, NodesSettings, Platform},
    report::{Part, Reporter},
};

use bound::wait;
use endpoint::Endpoint;
use hub::Hubs;
use reading::Reading;
use stage::{Retry, until};
use store::{ClaimStore, Cluster, Store, open_shelf};

/// No request for so long, and none in flight: nobody has the old bind in mind any more.
const QUIET: Duration = Duration::from_secs(2);
/// The longest wait for requests in flight: the platform's own time-out and some.
const SERVE_OUT: Duration = Duration::from_secs(35);
/// Unbinding on all nodes.
const UNBIND: Duration = Duration::from_secs(5);

/// This process's own executable, also after its file has been replaced.
const OWN: &str = "/proc/self/exe";

/// Why the connector cannot run at all. Everything that may mend itself is retried instead.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Settings that cannot work; one line naming the field.
    #[error("settings: {0}")]
    Settings(String),
    /// The admin port is taken, or the like.
    #[error("{0}")]
    System(String),
}

impl RunError {
    /// 64 for bad settings, else 1.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Settings(_) => 64,
            Self::System(_) => 1,
        }
    }
}

/// Runs the connector until `stop`, then drains.
///
/// # Errors
/// [`RunError`] if it could not even begin.
pub async fn run(
    settings: Settings,
    args: &Args,
    logs: Logs,
    stop: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let mut identity = Identity::from_env();
    // Without a resource, or where they cannot be read, which whoever needs them reports, what the pod was given
    // says.
    if let Ok(Some(digest)) = settings.secret_digest() {
        identity.secret_digest = digest;
    }
    let metrics = Metrics::new().map_err(|error| RunError::System(error.to_string()))?;
    let reporter = Reporter::new(&identity);
    // Ends the last: the admin port, the nodes, the member's Lease.
    let end = CancellationToken::new();
    let (address, admin) = serve_admin(args.listen, &metrics, &reporter, &end).await?;
    tracing::info!(thing = %identity.member(), %address, hub = %settings.hub_thing_name, "starting");
    let store = Store::open(&settings.checkpoints, &identity, &reporter).await?;
    // With Kubernetes nobody is known before the first look.
    let alone = !matches!(store.claims, ClaimStore::Kubernetes(_));
    let (members, _) = watch::channel(alone.then(|| identity.member()).into_iter().collect());
    let parts = Parts {
        settings,
        identity,
        metrics,
        reporter,
        logs,
        members,
        end: end.clone(),
    };
    parts.live(store, stop).await?;
    end.cancel();
    let _ = timeout(UNBIND, admin).await;
    tracing::info!("stopped");
    Ok(())
}

async fn serve_admin(
    listen: SocketAddr,
    metrics: &Metrics,
    reporter: &Reporter,
    end: &CancellationToken,
) -> Result<(SocketAddr, tokio::task::JoinHandle<()>), RunError> {
    admin::serve(listen, metrics.clone(), reporter.clone(), end.clone())
        .await
        .map_err(|error| RunError::System(format!("--listen {listen}: {error}")))
}

/// The ways to the hub and to the platform, as the settings say.
struct Outside {
    hubs: Hubs,
    nodes: NodesSettings,
    /// Where dead letters are kept, if they are.
    shelf: Option<Box<dyn Shelf>>,
}

struct Parts {
    settings: Settings,
    identity: Identity,
    metrics: Metrics,
    reporter: Reporter,
    logs: Logs,
    /// Who takes part.
    members: watch::Sender<BTreeSet<MemberId>>,
    end: CancellationToken,
}

impl Parts {
    async fn live(&self, store: Store, stop: impl Future<Output = ()>) -> Result<(), RunError> {
        // Before anything outside is touched: settings that cannot work must end the process at once.
        let outside = Outside {
            hubs: Hubs::new(
                &self.settings.iot_hub,
                Mark::new(&self.settings.hub_thing_name),
                Members::new(self.members.subscribe()),
                &self.identity.member(),
                &self.reporter,
                self.end.clone(),
            )?,
            nodes: self.nodes()?,
            shelf: open_shelf(&self.settings.iot_hub, &self.identity)?,
        };
        let stopping = CancellationToken::new();
        let member_end = CancellationToken::new();
        let on_stop = stopping.clone();
        tokio::pin!(stop);
        let life = async {
            let member = self.join(&store.claims, &on_stop, &member_end).await;
            self.work(store, outside, &on_stop).await;
            // The Lease goes last: until then others know who holds what.
            member_end.cancel();
            if let Some(member) = member {
                let _ = timeout(UNBIND, member).await;
            }
        };
        tokio::pin!(life);
        tokio::select! {
            () = &mut life => return Ok(()),
            () = &mut stop => {}
        }
        self.reporter.phase(Phase::Draining);
        stopping.cancel();
        life.await;
        Ok(())
    }

    /// The member's Lease, with Kubernetes.
    async fn join(
        &self,
        store: &ClaimStore,
        stopping: &CancellationToken,
        end: &CancellationToken,
    ) -> Option<tokio::task::JoinHandle<()>> {
        let ClaimStore::Kubernetes(cluster) = store else {
            return None;
        };
        let Cluster { leases, store } = &**cluster;
        let make =
            || MemberLease::create(leases.clone(), &self.identity, store, self.reporter.now());
        let retry = Retry {
            reporter: &self.reporter,
            part: Part::Claims,
        };
        let lease = until(stopping, retry, make).await?;
        Some(tokio::spawn(lease.keep(self.reporter.clone(), end.clone())))
    }

    async fn work(&self, store: Store, outside: Outside, stopping: &CancellationToken) {
        let Outside {
            hubs,
            nodes: node_settings,
            shelf,
        } = outside;
        let Self {
            settings,
            identity,
            metrics,
            reporter,
            logs,
            members,
            end,
        } = self;
        let member = identity.member();
        // At once, so that what is wrong with it is told at once; but nothing waits for it.
        let (letters, post) = shelf
            .map(|shelf| {
                DeadLetters::start(shelf, member.as_str(), metrics.clone(), reporter.clone())
            })
            .unzip();
        let retry = Retry {
            reporter,
            part: Part::Hub,
        };
        let Some((hub, endpoint)) = until(stopping, retry, || hubs.prove()).await else {
            return;
        };
        reporter.partitions_total(endpoint.partitions.len());
        if let Some(blobs) = &store.blobs {
            let retry = Retry {
                reporter,
                part: Part::Checkpoints,
            };
            let prove = || blobs.prove(endpoint.source.identity());
            if until(stopping, retry, prove).await.is_none() {
                return;
            }
        }

        reporter.phase(Phase::Connecting);
        let requests = Requests::new();
        let nodes = platform::start_nodes(node_settings, requests.sender.clone(), end.clone());
        let platform = Platform::new(
            nodes.clone(),
            settings.thingworx.node_selection,
            settings.hub_thing_name.as_str(),
            metrics.clone(),
            reporter.clone(),
        );
        let template = &settings.thingworx.gateway_template;
        let binder = Binder::start(
            nodes.clone(),
            &member,
            template,
            reporter.clone(),
            metrics.clone(),
            end.clone(),
        );
        let (in_flight, busy) = watch::channel(0);
        let twins = Arc::new(hub.clone());
        let own = OwnNames {
            member: member.clone(),
            hub: settings.hub_thing_name.clone(),
        };
        let edge = Edge {
            own: own.clone(),
            metrics: metrics.clone(),
            reporter: reporter.clone(),
            logs: logs.clone(),
        };
        let imports = Imports::new(store.imports(&member), member.clone(), stopping.clone());
        let ways = import::Ways {
            devices: Arc::new(hub.clone()),
            platform: Arc::new(platform.clone()),
            hub: settings.hub_thing_name.clone(),
            metrics: metrics.clone(),
        };
        let server = Server {
            newcomers: settings
                .iot_hub
                .commands
                .create_devices
                .then(|| Newcomers::start(hub.clone(), own)),
            hub: hub.clone(),
            rights: hubs.rights.clone(),
            edge: Arc::new(edge),
            imports: imports.clone(),
            platform_timeout: Duration::from_secs(
                settings.thingworx.platform_request_timeout_seconds.into(),
            ),
            metrics: metrics.clone(),
            in_flight,
            devices: Devices::default(),
        };
        tokio::spawn(server.run(requests));

        if settings.thingworx.device_services {
            let offer = platform::offer_services(platform.clone(), reporter.clone(), end.clone());
            tokio::spawn(offer);
        }
        if let Some((hub, mark)) = hubs.feedback.clone() {
            let feedback = Feedback {
                hub,
                mark,
                platform: Arc::new(platform.clone()),
                metrics: metrics.clone(),
            };
            tokio::spawn(feedback.run(stopping.clone()));
        }
        let bound = self.bind(&platform, &binder, stopping).await;
        if bound.is_some() && settings.thingworx.bind_devices {
            self.bind_devices(&binder, hub, stopping);
        }
        if bound.is_some() {
            let messages = Arc::new(settings.iot_hub.messages.clone());
            let destination: Arc<dyn Destination> = Arc::new(platform.clone());
            let passes = Passes::start(destination.clone(), metrics.clone(), member.as_str());
            let program = messages.mapping.as_deref();
            let mapping = program.map(|program| {
                let (metrics, reporter) = (metrics.clone(), reporter.clone());
                Mapping::new(OWN.into(), program, metrics, reporter)
            });
            let (memory, shapes) = (Memory::default(), Shapes::default());
            let ingress = |endpoint: &Endpoint, start, survey| Ingress {
                source: endpoint.source.clone(),
                platform: destination.clone(),
                start,
                write: settings.thingworx.write_service,
                catch_up: settings.iot_hub.event_hubs.catch_up_rate,
                survey,
                memory: memory.clone(),
                shapes: shapes.clone(),
                twins: twins.clone(),
                messages: messages.clone(),
                mapping: mapping.clone(),
                passes: passes.clone(),
                letters: letters.clone(),
                metrics: metrics.clone(),
                reporter: reporter.clone(),
            };
            let reading = Reading {
                store,
                identity,
                endpoints: &hubs.endpoints,
                start: settings.iot_hub.event_hubs.start,
                ingress,
                metrics,
                reporter,
                members,
            };
            let stop_reading = CancellationToken::new();
            let reading = reading.run(endpoint, &stop_reading);
            let drain = async {
                stopping.cancelled().await;
                self.unbind(&nodes, &binder).await;
                stop_reading.cancel();
                serve_out(busy).await;
            };
            let importing = async {
                // Whoever does not offer the service leaves what others are asked to them.
                if settings.thingworx.device_services {
                    imports.run(ways).await;
                }
            };
            tokio::join!(reading, drain, importing);
        }
        drop(letters);
        if let Some(post) = post {
            post.end().await;
        }
        binder.end();
        wait(&nodes, |state| state.gateway == BindState::Unwanted).await;
        let all = nodes.borrow().clone();
        futures::future::join_all(all.iter().map(Node::close)).await;
    }
}

fn read_file(field: &str, file: &connector_config::File) -> Result<Vec<u8>, RunError> {
    std::fs::read(&file.file).map_err(|error| {
        RunError::Settings(format!("{field}: file {}: {error}", file.file.display()))
    })
}

/// Waits until nothing has been in flight for a while.
async fn serve_out(mut busy: watch::Receiver<usize>) {
    let deadline = Instant::now() + SERVE_OUT;
    loop {
        let idle = *busy.borrow_and_update() == 0;
        let wait = if idle { QUIET } else { SERVE_OUT };
        tokio::select! {
            () = sleep(wait) => return,
            () = tokio::time::sleep_until(deadline) => return,
            changed = busy.changed() => if changed.is_err() { return },
        }
    }
}
