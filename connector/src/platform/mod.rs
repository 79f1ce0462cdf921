//! The nodes of the platform, and the way of a request to one of them.

mod bind;
mod nodes;
mod routing_group;

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use alwayson::{InfoTable, Node, Request, RequestError, Response, Status};
use connector_config::NodeSelection;
use tokio::sync::watch;

pub use bind::Binder;
pub use nodes::{NodesSettings, start as start_nodes};
pub use routing_group::{Unresolved, resolve as resolve_routing_group};

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
    metrics: crate::metrics::Metrics,
}

/// Why a request was not carried out, as far as is known.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unwritten {
    /// A node answered with a failure.
    #[error("{reason} ({})", status.name())]
    Refused {
        /// The failure.
        status: Status,
        /// The platform's words.
        reason: String,
    },
    /// No node is connected and takes data.
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
    ) -> Self {
        let next = Arc::new(AtomicUsize::new(0));
        Self {
            nodes,
            next,
            selection,
            probe: hub_thing.into(),
            metrics,
        }
    }

    /// The nodes as they are now.
    #[must_use]
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// Sends a request to a node that is connected and takes data; if it does not answer, to another.
    ///
    /// # Errors
    /// [`Unwritten`]; a failure status is never retried here.
    pub async fn ask(&self, request: &Request) -> Result<InfoTable, Unwritten> {
        let nodes = self.nodes.borrow().clone();
        let mut asked = 0;
        for node in in_turn(&nodes, self.first(&request.entity, nodes.len())) {
            if !node.writable() {
                continue;
            }
            let answer = node.request(request, REQUEST_TIMEOUT).await;
            let outcome = self.metrics.writes.with_label_values(&[outcome(&answer)]);
            outcome.inc();
            match answer {
                Ok(response) if response.is_error() => return Err(refused(&response)),
                Ok(response) => return Ok(response.content.unwrap_or_default()),
                Err(RequestError::TooLarge(what)) => {
                    return Err(Unwritten::TooLarge(what.to_string()));
                }
                Err(error) => {
                    tracing::debug!(node = %node.name(), %error, "no answer; trying another node");
                    asked += 1;
                }
            }
        }
        Err(if asked == 0 {
            Unwritten::NoNode
        } else {
            Unwritten::Unanswered
        })
    }

    /// Whether the platform answers a harmless question about a Thing that is known to be there.
    pub async fn probe(&self) -> bool {
        let request = Request::call(self.probe.as_ref(), "GetPropertyDefinitions", None);
        self.ask(&request).await.is_ok()
    }

    /// Waits until a node is connected and takes data.
    pub async fn wait_writable(&self) {
        // A node's queue draining is not announced, so look again now and then.
        const LOOK: Duration = Duration::from_millis(100);
        while !self.nodes.borrow().iter().any(Node::writable) {
            tokio::time::sleep(LOOK).await;
        }
    }

    fn first(&self, thing: &str, nodes: usize) -> usize {
        match self.selection {
            NodeSelection::RoundRobin => self.next.fetch_add(1, Ordering::Relaxed) % nodes.max(1),
            NodeSelection::PerThing => home(thing, nodes),
        }
    }
}

/// The node that a Thing keeps while it lives: the same in every pod, so that it stays the same when
/// a partition moves.
fn home(thing: &str, nodes: usize) -> usize {
    // FNV-1a: stable over versions, unlike the standard library's hasher.
    let hash = thing.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    usize::try_from(hash % nodes.max(1) as u64).unwrap_or(0)
}

fn in_turn(nodes: &[Node], first: usize) -> impl Iterator<Item = &Node> {
    let (before, after) = nodes.split_at(first.min(nodes.len()));
    after.iter().chain(before)
}

fn outcome(answer: &Result<Response, RequestError>) -> &'static str {
    match answer {
        Ok(response) if response.is_error() => "refused",
        Ok(_) => "taken",
        Err(_) => "unanswered",
    }
}

fn refused(response: &Response) -> Unwritten {
    let reason = response
        .error_text()
        .unwrap_or_else(|| "the platform gave no reason".to_owned());
    Unwritten::Refused {
        status: response.status,
        reason,
    }
}
