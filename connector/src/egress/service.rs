//! Serves the platform's requests, many at a time, each within its budget.

use std::{sync::Arc, time::Duration};

use alwayson::{Incoming, Response, Status};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::timeout_at,
};
use tokio_util::task::TaskTracker;

use super::{
    command::{Command, OwnNames, command},
    operation::Hub,
    outcome::Outcome,
    own,
};
use crate::metrics::Metrics;

/// Requests that wait to be looked at; beyond it the connection answers "unavailable" at once.
const QUEUE: usize = 1024;
/// Requests that are served at the same time: with methods that last 10 s this is 50 a second and pod.
const AT_ONCE: usize = 512;
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
    /// Names that are not devices.
    pub own: Arc<OwnNames>,
    /// How long the platform waits for an answer.
    pub platform_timeout: Duration,
    /// What is counted.
    pub metrics: Metrics,
    /// How many requests are being served.
    pub in_flight: watch::Sender<usize>,
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
        let (kind, outcome) = match command(&incoming.request, &self.own) {
            Err(refusal) => ("none", Outcome::from(refusal)),
            Ok(Command::Edge(service)) => {
                let response = own::answer(service, &incoming.request.entity, &self.own);
                ("edge", Outcome::done(response))
            }
            Ok(Command::Send { device, body }) => {
                let sent = self.hub.send(device, &body, deadline).await;
                let outcome = match sent {
                    Ok(()) => Outcome::done(Response::ok()),
                    Err(error) => Outcome::from(error),
                };
                ("message", outcome)
            }
            Ok(Command::Invoke {
                device,
                module,
                method,
                payload,
            }) => {
                let invoked = self.hub.invoke(device, module, method, payload, deadline);
                let outcome = match timeout_at(deadline, invoked).await {
                    Ok(Ok(answer)) => Outcome::from(answer),
                    Ok(Err(error)) => Outcome::from(error),
                    Err(_) => Outcome {
                        response: Response::error(
                            Status::GATEWAY_TIMEOUT,
                            "the device has not answered in time; whether it ran the method is unknown",
                        ),
                        label: "unknown",
                    },
                };
                ("method", outcome)
            }
        };
        self.count(kind, outcome.label);
        incoming.reply(outcome.response);
    }

    fn count(&self, kind: &str, outcome: &str) {
        self.metrics
            .requests
            .with_label_values(&[kind, outcome])
            .inc();
    }
}
