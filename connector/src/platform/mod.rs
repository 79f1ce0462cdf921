//! The nodes of the platform, and the way of a request to one of them.

mod bind;
mod health;
mod nodes;
mod right;
mod routing_group;
mod services;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alwayson::{InfoTable, Node, Request, RequestError, Response, Status};
use async_trait::async_trait;
use connector_config::NodeSelection;
use tokio::{sync::watch, time::Instant};

use crate::{hash::stable, metrics::WriteOutcome, report::Reporter};
use health::{Health, Verdict};
use right::{Rights, is_denial};

pub use bind::Binder;
pub use nodes::{NodesSettings, start as start_nodes};
pub use routing_group::{Unresolved, resolve as resolve_routing_group};
pub use services::{HUB, entity_service, offer as offer_services};

/// A node's answer to a write is worth waiting for this long; beyond it another node is tried.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(4);

/// The nodes as they are now.
pub type Nodes = watch::Receiver<Arc<[Node]>>;

/// Sends requests to the platform. Cheap to clone.
#[derive(Clone)]
pub struct Platform {
    nodes: Nodes,
    next: Arc<AtomicUsize>,
    selection: NodeSelection,
    /// A Thing that is known to be there: the hub Thing.
    probe: Arc<str>,
    health: Arc<Mutex<Health>>,
    metrics: crate::metrics::Metrics,
    rights: Arc<Rights>,
}

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Asks.
    Read,
    /// Writes values.
    Write,
}

/// What came of a request.
#[derive(Debug)]
pub struct Asked {
    /// The answer.
    pub outcome: Result<InfoTable, Unwritten>,
    /// Nodes that were asked and have not answered in time: they may carry it out yet.
    pub unanswered: Vec<Arc<str>>,
}

/// Where values go.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Sends a request to a node that is connected, well and takes data; if it does not answer, to
    /// another. A failure status is never retried here.
    async fn ask(&self, kind: Kind, request: &Request) -> Asked;

    /// Waits until a node is connected, well and takes data.
    async fn wait_writable(&self);

    /// Whether `node` has given a sign of life since, so that what it was asked before is past.
    fn is_past(&self, node: &Arc<str>, since: Instant) -> bool;
}

/// Why a request was not carried out, as far as is known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unwritten {
    /// A node answered with a failure, for which the Thing is to blame as far as can be seen: the node
    /// answers a harmless question, and fails for no other Thing or succeeds for one.
    #[error("{reason} ({})", status.name())]
    Refused {
        /// The failure.
        status: Status,
        /// The platform's words.
        reason: String,
        /// Something else was done on the same node a moment ago; without, it may be the node.
        proven: bool,
    },
    /// A node answered with a failure because it is ill.
    #[error("ThingWorx node {node} is ill: {reason}")]
    NodeIll {
        /// The node.
        node: Arc<str>,
        /// The platform's words.
        reason: String,
    },
    /// No node is connected, well and takes data.
    #[error("no ThingWorx node is connected")]
    NoNode,
    /// No node that was asked has answered in time. The request may have been carried out.
    #[error("no ThingWorx node answered in time")]
    Unanswered,
    /// The request cannot be put into a message.
    #[error("{0}")]
    TooLarge(String),
}

impl Platform {
    /// Requests go to `nodes`; `hub_thing` is asked to find out whether the platform is well.
    #[must_use]
    pub fn new(
        nodes: Nodes,
        selection: NodeSelection,
        hub_thing: &str,
        metrics: crate::metrics::Metrics,
        reporter: Reporter,
    ) -> Self {
        let next = Arc::new(AtomicUsize::new(0));
        let rights = Arc::new(Rights::new(reporter));
        Self {
            nodes,
            next,
            selection,
            probe: hub_thing.into(),
            health: Arc::default(),
            metrics,
            rights,
        }
    }

    /// The nodes as they are now.
    #[must_use]
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// What a node's refusal proves; a node that is found ill rests.
    async fn refused(
        &self,
        node: &Node,
        kind: Kind,
        thing: &Arc<str>,
        response: &Response,
    ) -> Unwritten {
        let reason = response
            .error_text()
            .unwrap_or_else(|| "the platform gave no reason".to_owned());
        let now = Instant::now();
        let verdict = match kind {
            // The question that follows is a read of another Thing.
            Kind::Read => Verdict::Thing,
            Kind::Write => self.health(|health| health.refused(node.name(), thing, now)),
        };
        if verdict != Verdict::Node && self.answers(node).await {
            return Unwritten::Refused {
                status: response.status,
                reason,
                proven: verdict == Verdict::Thing,
            };
        }
        self.rest(node);
        let node = node.name().clone();
        tracing::debug!(%node, reason, "the node is ill; leaving it alone for a while");
        Unwritten::NodeIll { node, reason }
    }

    fn rest(&self, node: &Node) {
        self.health(|health| health.rest(node.name(), Instant::now()));
        let resting = &self.metrics.node_resting;
        resting.with_label_values(&[node.name().as_ref()]).set(1);
    }

    fn answered(&self, node: &Node) {
        if self.health(|health| health.answered(node.name(), Instant::now())) {
            let resting = &self.metrics.node_resting;
            resting.with_label_values(&[node.name().as_ref()]).set(0);
        }
    }

    /// Whether a node answers a harmless question about a Thing that is known to be there.
    async fn answers(&self, node: &Node) -> bool {
        let request = Request::call(self.probe.as_ref(), "GetPropertyDefinitions", None);
        let answer = node.request(&request, REQUEST_TIMEOUT).await;
        // Whoever says that we may not ask is well.
        answer.is_ok_and(|response| !response.is_error() || is_denial(&response))
    }

    fn health<T>(&self, with: impl FnOnce(&mut Health) -> T) -> T {
        // No code under this lock leaves the state half changed.
        with(&mut self.health.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn usable(&self, node: &Node) -> bool {
        node.writable() && self.health(|health| health.may_be_asked(node.name(), Instant::now()))
    }

    fn any_usable(&self) -> bool {
        let nodes = self.nodes.borrow().clone();
        nodes.iter().any(|node| self.usable(node))
    }

    fn first(&self, thing: &str, nodes: usize) -> usize {
        match self.selection {
            NodeSelection::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % nodes.max(1),
            NodeSelection::PerThing => home(thing, nodes),
        }
    }
}

#[async_trait]
impl Destination for Platform {
    async fn ask(&self, kind: Kind, request: &Request) -> Asked {
        let nodes = self.nodes.borrow().clone();
        let thing: Arc<str> = request.entity.as_str().into();
        let mut unanswered = Vec::new();
        for node in in_turn(&nodes, self.first(&request.entity, nodes.len())) {
            if !self.usable(node) {
                continue;
            }
            let begun = Instant::now();
            let answer = node.request(request, REQUEST_TIMEOUT).await;
            self.metrics.wrote(outcome(&answer), begun.elapsed());
            let outcome = match answer {
                Ok(response) => {
                    self.answered(node);
                    if response.is_error() {
                        self.rights.refused(request, &response);
                        Err(self.refused(node, kind, &thing, &response).await)
                    } else {
                        self.rights.has(request);
                        if kind == Kind::Write {
                            self.health(|health| health.wrote(node.name(), &thing, Instant::now()));
                        }
                        Ok(response.content.unwrap_or_default())
                    }
                }
                Err(RequestError::TooLarge(what)) => Err(Unwritten::TooLarge(what.to_string())),
                Err(error) => {
                    tracing::debug!(node = %node.name(), %error, "no answer; trying another node");
                    self.rest(node);
                    unanswered.push(node.name().clone());
                    continue;
                }
            };
            return Asked {
                outcome,
                unanswered,
            };
        }
        let none = if unanswered.is_empty() {
            Unwritten::NoNode
        } else {
            Unwritten::Unanswered
        };
        Asked {
            outcome: Err(none),
            unanswered,
        }
    }

    async fn wait_writable(&self) {
        // A node's queue draining is not announced, so look again now and then.
        const LOOK: Duration = Duration::from_millis(100);
        while !self.any_usable() {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn is_past(&self, node: &Arc<str>, since: Instant) -> bool {
        self.health(|health| health.has_answered_since(node, since))
    }
}

/// The node that a Thing keeps while it lives: the same in every pod, so that it stays the same when
/// a partition moves.
fn home(thing: &str, nodes: usize) -> usize {
    usize::try_from(stable(thing) % nodes.max(1) as u64).unwrap_or(0)
}

fn in_turn(nodes: &[Node], first: usize) -> impl Iterator<Item = &Node> {
    let (before, after) = nodes.split_at(first.min(nodes.len()));
    after.iter().chain(before)
}

fn outcome(answer: &Result<Response, RequestError>) -> WriteOutcome {
    match answer {
        Ok(response) if response.is_error() => WriteOutcome::Refused,
        Ok(_) => WriteOutcome::Taken,
        Err(_) => WriteOutcome::Unanswered,
    }
}
