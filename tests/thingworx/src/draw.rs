//! Requests of the platform to edges: which endpoint gets them is drawn at random among the binders.

use std::{sync::Arc, time::Duration};

use alwayson::{Body, CHUNK, Header, Message, Request, Response, Status, json::to_json, split};
use rand::Rng;
use serde_json::Value as Json;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};

use crate::{
    bind::{Binder, EndpointId},
    cluster::{Cluster, Shared, lock, now_ms},
    log::DrawEntry,
};

/// Why there is no answer from an edge.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Nobody has bound the Thing, or what it is routed through.
    #[error("Thing [{0}] is not connected")]
    NotBound(String),
    /// The edge did not answer in time.
    #[error("the request timed out")]
    TimedOut,
    /// The connection was lost while the request was under way.
    #[error("the connection to the edge was lost")]
    Lost,
}

/// The drawn binder.
struct Drawn {
    node: usize,
    binder: Binder,
}

/// Sends a request for a Thing to one of its binders and waits for the answer.
pub(crate) async fn ask(
    cluster: &Shared,
    kind: &'static str,
    thing: &str,
    request: Request,
) -> Result<Response, NoAnswer> {
    let delay = cluster.settings.draw_delay;
    let drawn = draw(cluster, thing);
    let drawn_ms = now_ms();
    if !delay.is_zero() {
        // Between the draw and the sending: the window in which a pod may be leaving.
        let share = lock(&cluster.rng).random_range(0.0..1.0);
        sleep(delay.mul_f64(share)).await;
    }
    let began = Instant::now();
    // A bench asks for more than a log could hold.
    let logged = cluster.tally.is_none();
    let told = logged.then(|| (request.target.clone(), params(&request)));
    let answer = match &drawn {
        None => Err(NoAnswer::NotBound(thing.to_owned())),
        Some(Drawn { node, binder }) => send(cluster, *node, binder.endpoint, request).await,
    };
    let Some((target, params)) = told else {
        return answer;
    };
    let (node, binder) = match drawn {
        Some(Drawn { node, binder }) => (node, binder),
        None => (
            0,
            Binder {
                endpoint: 0,
                gateway: None,
            },
        ),
    };
    lock(&cluster.draws).push(DrawEntry {
        drawn_ms,
        node,
        endpoint: binder.endpoint,
        gateway: binder.gateway.unwrap_or_default(),
        thing: thing.to_owned(),
        kind,
        target,
        params,
        outcome: outcome(&answer).to_owned(),
        took_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
    });
    answer
}

/// The name of what a request came to: the answer's status, or why there is none.
pub(crate) fn outcome(answer: &Result<Response, NoAnswer>) -> &'static str {
    match answer {
        Ok(response) => response.status.name(),
        Err(NoAnswer::NotBound(_)) => "NOT_BOUND",
        Err(NoAnswer::TimedOut) => "TIMED_OUT",
        Err(NoAnswer::Lost) => "LOST",
    }
}

fn params(request: &Request) -> Json {
    let Some(table) = &request.params else {
        return Json::Null;
    };
    let row = table.rows().next().unwrap_or_default();
    table
        .fields()
        .zip(&row)
        .map(|(field, value)| (field.name, to_json(value)))
        .collect()
}

/// A node at random among those where the Thing is bound, and a binder at random on it.
fn draw(cluster: &Cluster, thing: &str) -> Option<Drawn> {
    let name = bound_name(cluster, thing)?;
    let mut candidates: Vec<(usize, Vec<Binder>)> = Vec::new();
    for (index, node) in cluster.nodes.iter().enumerate() {
        let binders = lock(&node.binds).binders(&name).to_vec();
        if !binders.is_empty() {
            candidates.push((index, binders));
        }
    }
    if candidates.is_empty() {
        return None;
    }
    let mut rng = lock(&cluster.rng);
    let (node, mut binders) = candidates.swap_remove(rng.random_range(0..candidates.len()));
    let binder = binders.swap_remove(rng.random_range(0..binders.len()));
    Some(Drawn { node, binder })
}

/// Under which name a Thing's requests are bound: its gateway's with `RoutedEgress`, else its own.
fn bound_name(cluster: &Cluster, thing: &str) -> Option<String> {
    let model = lock(&cluster.model);
    let (name, thing) = model.thing(thing)?;
    Some(match (&thing.gateway_thing, &thing.identifier) {
        (Some(gateway), _) => gateway.clone(),
        (None, Some(identifier)) => format!("*{identifier}"),
        (None, None) => name.to_owned(),
    })
}

/// Tells an edge to look at its subscriptions, right after a bind. Not a draw.
pub(crate) async fn notify(cluster: &Shared, node: usize, endpoint: EndpointId, name: &str) {
    let request = Request::call(name, "NotifyPropertyUpdate", None);
    if let Err(error) = send(cluster, node, endpoint, request).await {
        tracing::debug!(node, endpoint, %error, "NotifyPropertyUpdate was not answered");
    }
}

async fn send(
    cluster: &Shared,
    node: usize,
    endpoint: EndpointId,
    request: Request,
) -> Result<Response, NoAnswer> {
    // The platform's own requests carry no ids but theirs.
    let header = Header::new(cluster.request_id());
    let message = Message {
        header,
        body: Body::Request(request),
    };
    let frames = split(&message, CHUNK).map_err(|_| NoAnswer::Lost)?;
    let (reply, answer) = oneshot::channel();
    {
        let mut endpoints = lock(&cluster.nodes[node].endpoints);
        let endpoint = endpoints.get_mut(&endpoint).ok_or(NoAnswer::Lost)?;
        if endpoint.sockets.is_empty() {
            return Err(NoAnswer::Lost);
        }
        let socket = lock(&cluster.rng).random_range(0..endpoint.sockets.len());
        for frame in frames {
            endpoint.sockets[socket]
                .1
                .try_send(frame)
                .map_err(|_| NoAnswer::Lost)?;
        }
        endpoint.pending.insert(header.request_id, reply);
    }
    match timeout(cluster.settings.request_timeout, answer).await {
        Ok(Ok(response)) => Ok(response),
        Ok(Err(_)) => Err(NoAnswer::Lost),
        Err(_) => {
            if let Some(endpoint) = lock(&cluster.nodes[node].endpoints).get_mut(&endpoint) {
                endpoint.pending.remove(&header.request_id);
            }
            Err(NoAnswer::TimedOut)
        }
    }
}

/// How long a REST call may take at most.
#[must_use]
pub(crate) fn longest(cluster: &Arc<Cluster>) -> Duration {
    cluster.settings.request_timeout + cluster.settings.draw_delay
}

/// The statuses by which an edge says that it has done what was asked.
#[must_use]
pub(crate) fn succeeded(response: &Response) -> bool {
    response.status == Status::SUCCESS
}
