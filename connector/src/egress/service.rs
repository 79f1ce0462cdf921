//! Serves the platform's requests, many at a time, each within its budget.

use std::{sync::Arc, time::Duration};

use alwayson::{Incoming, Response, Status};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};
use tokio_util::task::TaskTracker;

use super::{
    command::{Command, Refusal, command},
    device::Devices,
    edge::Edge,
    newcomer::Newcomers,
    operation::{Done, Failure, Hub},
    outcome::Outcome,
    right::{self, RegistryRights},
};
use crate::{
    import::{Asked, Imports},
    metrics::Metrics,
};

/// Requests that wait to be looked at; beyond it the connection answers "unavailable" at once.
const QUEUE: usize = 1024;
/// Requests that are served at the same time: with methods that last 10 s this is 50 a second and pod.
pub(super) const AT_ONCE: usize = 512;
/// The platform must have the answer before its own time-out.
const MARGIN: Duration = Duration::from_secs(3);

/// Where nodes put the platform's requests.
pub struct Requests {
    /// For the nodes.
    pub sender: mpsc::Sender<Incoming>,
    receiver: mpsc::Receiver<Incoming>,
}

impl Requests {
    /// An empty queue.
    #[must_use]
    pub fn new() -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self { sender, receiver }
    }
}

impl Default for Requests {
    fn default() -> Self {
        Self::new()
    }
}

/// Serves requests until all nodes are gone.
#[derive(Clone)]
pub struct Server {
    /// The way to the hub.
    pub hub: Hub,
    /// What is known of the policy's rights on the hub's registry.
    pub rights: RegistryRights,
    /// Answers what concerns the connector itself.
    pub edge: Arc<Edge>,
    /// Makes devices of Things that are new, if it is to.
    pub newcomers: Option<Newcomers>,
    /// Begins imports.
    pub imports: Imports,
    /// How long the platform waits for an answer.
    pub platform_timeout: Duration,
    /// What is counted.
    pub metrics: Metrics,
    /// How many requests are being served.
    pub in_flight: watch::Sender<usize>,
    /// How many of each device.
    pub devices: Devices,
}

impl Server {
    /// Serves what comes; ends when every sender of `requests` is gone.
    pub async fn run(self, requests: Requests) {
        let Requests {
            sender,
            mut receiver,
        } = requests;
        drop(sender);
        let permits = Arc::new(Semaphore::new(AT_ONCE));
        let tasks = TaskTracker::new();
        while let Some(incoming) = receiver.recv().await {
            let Ok(permit) = permits.clone().try_acquire_owned() else {
                self.count("overload", "refused");
                let reason = "the connector serves as many requests as it can";
                incoming.reply(Response::error(Status::SERVICE_UNAVAILABLE, reason));
                continue;
            };
            let server = self.clone();
            server.in_flight.send_modify(|count| *count += 1);
            server.metrics.in_flight.inc();
            tasks.spawn(async move {
                server.serve(incoming).await;
                server.in_flight.send_modify(|count| *count -= 1);
                server.metrics.in_flight.dec();
                drop(permit);
            });
        }
        tasks.close();
        tasks.wait().await;
    }

    async fn serve(&self, incoming: Incoming) {
        let deadline = incoming.received + self.platform_timeout.saturating_sub(MARGIN);
        let (kind, outcome) = match command(&incoming.request, &self.edge.own) {
            Err(refusal) => ("none", Outcome::from(refusal)),
            Ok(Command::Edge(service)) => {
                let entity = &incoming.request.entity;
                if let Some(newcomers) = &self.newcomers {
                    newcomers.called(&service, entity);
                }
                let response = self.edge.answer(service, entity);
                ("edge", Outcome::done(response))
            }
            Ok(Command::Import(asked)) => ("import", self.import(asked).await),
            Ok(command) => (command.kind(), self.carry_out(command, deadline).await),
        };
        self.count(kind, outcome.label);
        incoming.reply(outcome.response);
    }

    async fn carry_out(&self, command: Command, deadline: Instant) -> Outcome {
        let place = command.device().map(|device| self.devices.enter(device));
        if let Some(Err(refusal)) = place {
            return Outcome::from(refusal);
        }
        let right = right::needed(&command);
        let outcome = self.hub.carry_out(command, deadline).await;
        drop(place);
        if let Some(right) = right {
            self.rights.learn(right, &outcome);
        }
        outcome.into()
    }

    async fn import(&self, asked: Asked) -> Outcome {
        let begun = self.imports.begin(asked).await;
        let begun = begun.map(Done::Text).map_err(|error| {
            Failure::Refused(Refusal {
                status: Status::SERVICE_UNAVAILABLE,
                reason: format!("the import cannot be stored: {error}"),
            })
        });
        begun.into()
    }

    fn count(&self, kind: &str, outcome: &str) {
        self.metrics
            .requests
            .with_label_values(&[kind, outcome])
            .inc();
    }
}
