//! What stands between one operator and the API server: it counts, and it makes faults.
//!
//! The operator speaks TLS to it, so that a silent server looks to it as it does in a cluster: a handshake
//! that never ends. Faults of connections are [`Line`]s, faults of answers are [`Fault`]s.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use axum::body::{Body, Bytes, to_bytes};
use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use kube::Client;
use serde_json::{Value, json};
use tokio::{io::DuplexStream, sync::watch};
use tokio_rustls::TlsAcceptor;

use crate::{
    call::Call,
    control_plane::ControlPlane,
    wire::{self, Line},
};

/// What becomes of a request instead of its answer.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Not executed; this status, with its reason and perhaps `Retry-After` in seconds.
    Answer(u16, &'static str, Option<u32>),
    /// Executed; the connection ends before the answer.
    Lose,
    /// Executed after this long.
    Delay(Duration),
    /// Executed, and never answered; [`Proxy::crashed`] ends.
    Crash,
    /// A list is answered with what it was at [`Proxy::keep_lists`].
    Stale,
}

/// Decides on each request.
type Rule = Box<dyn FnMut(&Call) -> Option<Fault> + Send>;
/// Decides whether an event of a watch is passed on, and may change it. An object of a list comes as an event
/// of the type `LISTED`.
type Filter = Box<dyn FnMut(&Call, &mut Value) -> bool + Send>;

/// A request that came through, or would have.
#[derive(Debug, Clone)]
pub struct Seen {
    pub call: Call,
    /// Status of the answer; 0 if there was none.
    pub status: u16,
}

#[derive(Default)]
struct State {
    seen: Vec<Seen>,
    writes: usize,
    under_way: usize,
    rule: Option<Rule>,
    filter: Option<Filter>,
    keeping: bool,
    lists: BTreeMap<String, Bytes>,
}

/// One operator's way to the API server.
pub struct Proxy {
    /// Where the operator connects.
    pub url: String,
    line: watch::Sender<wire::State>,
    inner: Arc<Inner>,
}

struct Inner {
    upstream: Client,
    state: Mutex<State>,
    crashed: tokio::sync::Semaphore,
}

fn lock(inner: &Inner) -> MutexGuard<'_, State> {
    inner.state.lock().unwrap()
}

impl Proxy {
    /// A proxy that asks the API server as `user`.
    pub async fn new(plane: &ControlPlane, user: &str) -> Self {
        let inner = Arc::new(Inner {
            upstream: plane.client_of(user),
            state: Mutex::default(),
            crashed: tokio::sync::Semaphore::new(0),
        });
        let (line, mode) = watch::channel(wire::State {
            line: Line::Open,
            resets: 0,
        });
        let acceptor = TlsAcceptor::from(plane.authority.server().tls());
        let served = Arc::clone(&inner);
        let address = wire::listen(mode, move |stream| {
            tokio::spawn(serve(acceptor.clone(), stream, Arc::clone(&served)));
        });
        Self {
            url: format!("https://{}", address.await.unwrap()),
            line,
            inner,
        }
    }

    /// How connections fare from now on.
    pub fn line(&self, line: Line) {
        self.line.send_modify(|state| state.line = line);
    }

    /// Resets the connections that stand.
    pub fn cut(&self) {
        self.line.send_modify(|state| state.resets += 1);
    }

    /// What becomes of requests from now on.
    pub fn rule(&self, rule: impl FnMut(&Call) -> Option<Fault> + Send + 'static) {
        lock(&self.inner).rule = Some(Box::new(rule));
    }

    /// Which events of watches and objects of lists are passed on from now on, and how.
    pub fn filter(&self, filter: impl FnMut(&Call, &mut Value) -> bool + Send + 'static) {
        lock(&self.inner).filter = Some(Box::new(filter));
    }

    /// No faults from now on.
    pub fn heal(&self) {
        let mut state = lock(&self.inner);
        state.rule = None;
        state.filter = None;
        drop(state);
        self.line(Line::Open);
    }

    /// Keeps the next answer to each list, for [`Fault::Stale`].
    pub fn keep_lists(&self) {
        let mut state = lock(&self.inner);
        state.lists.clear();
        state.keeping = true;
    }

    /// Ends when a request has met [`Fault::Crash`].
    pub async fn crashed(&self) {
        if let Ok(permit) = self.inner.crashed.acquire().await {
            permit.forget();
        }
    }

    /// All requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.inner).seen.clone()
    }

    /// How many requests so far changed something, or tried to; without the election's.
    pub fn writes(&self) -> usize {
        lock(&self.inner).writes
    }

    /// How many of these are not answered yet.
    pub fn under_way(&self) -> usize {
        lock(&self.inner).under_way
    }

    /// How many requests so far are of this sort.
    pub fn count(&self, sort: impl Fn(&Call) -> bool) -> usize {
        let state = lock(&self.inner);
        state.seen.iter().filter(|seen| sort(&seen.call)).count()
    }
}

async fn serve(acceptor: TlsAcceptor, stream: DuplexStream, inner: Arc<Inner>) {
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let service = service_fn(move |request| answer(Arc::clone(&inner), request));
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

/// Hyper ends the connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the connection ends here")]
struct Cut;

/// A write that is not answered yet; also one whose asker has gone ends with this.
struct UnderWay(Arc<Inner>);

impl UnderWay {
    fn of(call: &Call, inner: &Arc<Inner>) -> Option<Self> {
        call.write?;
        lock(inner).under_way += 1;
        Some(Self(Arc::clone(inner)))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.0).under_way -= 1;
    }
}

async fn answer(inner: Arc<Inner>, request: Request<Incoming>) -> Result<Response<Body>, Cut> {
    let mut call = Call::of(request.method(), request.uri());
    let (index, fault) = inner.note(&mut call);
    let _under_way = UnderWay::of(&call, &inner);
    match fault {
        Some(Fault::Answer(code, reason, retry)) => {
            inner.answered(index, code);
            return Ok(refusal(code, reason, retry));
        }
        Some(Fault::Delay(time)) => tokio::time::sleep(time).await,
        Some(Fault::Stale) if call.verb == "list" => {
            if let Some(list) = lock(&inner).lists.get(&call.resource) {
                return Ok(json_response(200, Body::from(list.clone())));
            }
        }
        Some(Fault::Lose | Fault::Crash | Fault::Stale) | None => {}
    }
    let response = inner.forward(request, &call).await?;
    inner.answered(index, response.status().as_u16());
    match fault {
        Some(Fault::Lose) => Err(Cut),
        Some(Fault::Crash) => {
            inner.crashed.add_permits(1);
            std::future::pending().await
        }
        _ => Ok(response),
    }
}

impl Inner {
    /// Writes the request down and asks the rule.
    fn note(&self, call: &mut Call) -> (usize, Option<Fault>) {
        let mut state = lock(self);
        if call.writes() && !call.elects() {
            state.writes += 1;
            call.write = Some(state.writes);
        }
        state.seen.push(Seen {
            call: call.clone(),
            status: 0,
        });
        let fault = state.rule.as_mut().and_then(|rule| rule(call));
        (state.seen.len() - 1, fault)
    }

    fn answered(&self, index: usize, status: u16) {
        lock(self).seen[index].status = status;
    }

    /// Asks the API server.
    async fn forward(
        self: &Arc<Self>,
        request: Request<Incoming>,
        call: &Call,
    ) -> Result<Response<Body>, Cut> {
        let (mut parts, body) = request.into_parts();
        let body = to_bytes(Body::new(body), usize::MAX)
            .await
            .map_err(|_| Cut)?;
        parts.headers.remove(header::HOST);
        parts.headers.remove(header::CONTENT_LENGTH);
        let path = parts.uri.path_and_query().ok_or(Cut)?.as_str().to_owned();
        parts.uri = path.parse().map_err(|_| Cut)?;
        let request = Request::from_parts(parts, kube::client::Body::from(body));
        let response = self.upstream.send(request).await.map_err(|_| Cut)?;
        let (mut parts, body) = response.into_parts();
        for ours in [
            header::CONTENT_LENGTH,
            header::TRANSFER_ENCODING,
            header::CONNECTION,
        ] {
            parts.headers.remove(ours);
        }
        let body = Body::new(body);
        let body = match call.verb {
            "watch" if parts.status.is_success() => self.events(call.clone(), body),
            _ => {
                let bytes = to_bytes(body, usize::MAX).await.map_err(|_| Cut)?;
                if call.verb == "list" {
                    Body::from(self.listed(call, bytes))
                } else {
                    Body::from(bytes)
                }
            }
        };
        Ok(Response::from_parts(parts, body))
    }

    /// A list, without the objects that the filter takes out; kept if that is wanted.
    fn listed(&self, call: &Call, bytes: Bytes) -> Bytes {
        let mut state = lock(self);
        if state.keeping {
            let kept = state.lists.entry(call.resource.clone());
            kept.or_insert_with(|| bytes.clone());
        }
        let Some(filter) = state.filter.as_mut() else {
            return bytes;
        };
        let mut list: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        if let Some(items) = list["items"].as_array_mut() {
            items.retain_mut(|object| {
                let mut event = json!({"type": "LISTED", "object": object});
                let keep = filter(call, &mut event);
                *object = event["object"].take();
                keep
            });
        }
        Bytes::from(list.to_string())
    }

    /// The events of a watch, without those that the filter takes out.
    fn events(self: &Arc<Self>, call: Call, body: Body) -> Body {
        let inner = Arc::clone(self);
        let mut rest = Vec::new();
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            rest.extend_from_slice(&chunk?);
            let mut passed = Vec::new();
            while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                let mut state = lock(&inner);
                match (state.filter.as_mut(), serde_json::from_slice(&line)) {
                    (Some(filter), Ok(mut event)) => {
                        if filter(&call, &mut event) {
                            passed.extend(event.to_string().into_bytes());
                            passed.push(b'\n');
                        }
                    }
                    _ => passed.extend(line),
                }
            }
            Ok::<_, axum::Error>(Bytes::from(passed))
        }))
    }
}

fn refusal(code: u16, reason: &str, retry: Option<u32>) -> Response<Body> {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": format!("the test says {code}"), "reason": reason, "code": code,
    });
    let mut response = json_response(code, Body::from(status.to_string()));
    if let Some(seconds) = retry {
        let headers = response.headers_mut();
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

fn json_response(code: u16, body: Body) -> Response<Body> {
    Response::builder()
        .status(code)
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
        .unwrap()
}
