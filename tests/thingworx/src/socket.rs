//! One WebSocket of a client, from the upgrade to its end.

use std::{borrow::Cow, sync::Arc, time::Duration};

use alwayson::{Assembler, Body, CHUNK, Header, Limits, Message, Names, Response, Status, split};
use futures::{Sink, SinkExt, StreamExt};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tokio_tungstenite::{
    accept_hdr_async_with_config,
    tungstenite::{
        Error, Message as Frame,
        handshake::server::{ErrorResponse, Request, Response as Upgrade},
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::sync::CancellationToken;

use crate::{
    bind::EndpointId,
    cluster::{Login, Shared, lock},
    draw, execute,
};

/// Path of the platform's AlwaysOn face.
const PATH: &str = "/Thingworx/WS";
/// Frames that wait to be written to one client.
const QUEUE: usize = 1024;
/// A client that does not finish the upgrade.
const UPGRADE: Duration = Duration::from_secs(10);

struct Client {
    cluster: Shared,
    node: usize,
    socket: u64,
    endpoint: Option<EndpointId>,
    out: mpsc::Sender<Vec<u8>>,
    assembler: Assembler,
}

/// What to do with the socket after a message.
enum Next {
    Go,
    Close(CloseCode, Cow<'static, str>),
}

pub(crate) async fn serve<S>(
    stream: S,
    socket: u64,
    node: usize,
    cluster: Shared,
    shutdown: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let mut config = WebSocketConfig::default();
    // The platform's buffer for one message.
    config.max_message_size = Some(CHUNK);
    config.max_frame_size = Some(CHUNK);
    let upgrade = accept_hdr_async_with_config(stream, at_path, Some(config));
    let Ok(Ok(web)) = timeout(UPGRADE, upgrade).await else {
        return;
    };
    let (mut sink, mut stream) = web.split();
    let (out, mut queue) = mpsc::channel(QUEUE);
    let mut reset = cluster.nodes[node].reset.subscribe();
    let mut faults = cluster.nodes[node].faults.subscribe();
    let mut client = Client {
        cluster: cluster.clone(),
        node,
        socket,
        endpoint: None,
        out,
        assembler: Assembler::new(Limits::default()),
    };
    loop {
        let frozen = faults.borrow_and_update().frozen_until;
        if let Some(until) = frozen.filter(|until| *until > tokio::time::Instant::now()) {
            tokio::select! {
                () = sleep_until(until) => {}
                // Perhaps it is over before its time.
                changed = faults.changed() => if changed.is_err() { break } else { continue },
                _ = reset.recv() => break,
                () = shutdown.cancelled() => break,
            }
        }
        // Before the login the platform waits less long.
        let wait = match client.endpoint {
            None => cluster.settings.auth_wait,
            Some(_) => cluster.settings.idle,
        };
        tokio::select! {
            () = shutdown.cancelled() => {
                close(&mut sink, CloseCode::Away, "shutting down".into()).await;
                break;
            }
            _ = reset.recv() => break,
            changed = faults.changed() => if changed.is_err() { break },
            Some(bytes) = queue.recv() => {
                // What waits goes out together: a call of the system for each answer is most of its cost.
                let mut sent = sink.feed(Frame::binary(bytes)).await;
                while sent.is_ok() && let Ok(bytes) = queue.try_recv() {
                    sent = sink.feed(Frame::binary(bytes)).await;
                }
                if sent.is_err() || sink.flush().await.is_err() { break }
            }
            frame = timeout(wait, stream.next()) => {
                let next = match frame {
                    Err(_) => Next::Close(CloseCode::Away, "idle".into()),
                    Ok(Some(Ok(Frame::Binary(bytes)))) => client.frame(&bytes),
                    Ok(Some(Ok(Frame::Text(_)))) => {
                        Next::Close(CloseCode::Unsupported, "text is not supported".into())
                    }
                    Ok(Some(Ok(Frame::Ping(_) | Frame::Pong(_) | Frame::Frame(_)))) => {
                        // Writes the pong that is due.
                        if sink.flush().await.is_err() { break }
                        Next::Go
                    }
                    Ok(Some(Ok(Frame::Close(_))) | None) => break,
                    Ok(Some(Err(Error::Capacity(_)))) => {
                        Next::Close(CloseCode::Size, "message too big".into())
                    }
                    Ok(Some(Err(_))) => break,
                };
                if let Next::Close(code, why) = next {
                    while let Ok(bytes) = queue.try_recv() {
                        if sink.send(Frame::binary(bytes)).await.is_err() { break }
                    }
                    close(&mut sink, code, why).await;
                    break;
                }
            }
        }
    }
    client.gone();
}

#[allow(clippy::result_large_err, reason = "the signature is tungstenite's")]
fn at_path(request: &Request, response: Upgrade) -> Result<Upgrade, ErrorResponse> {
    if request.uri().path() == PATH {
        return Ok(response);
    }
    let mut refused = ErrorResponse::new(Some("no such path".into()));
    *refused.status_mut() = tokio_tungstenite::tungstenite::http::StatusCode::NOT_FOUND;
    Err(refused)
}

async fn close<W: Sink<Frame> + Unpin>(sink: &mut W, code: CloseCode, why: Cow<'static, str>) {
    let reason = why.as_ref().into();
    let frame = Frame::Close(Some(CloseFrame { code, reason }));
    let _ = timeout(Duration::from_secs(2), sink.send(frame)).await;
}

impl Client {
    fn frame(&mut self, bytes: &[u8]) -> Next {
        let message = match self.assembler.push(std::time::Instant::now(), bytes) {
            Ok(Some(message)) => message,
            Ok(None) => return Next::Go,
            Err(error) => {
                if self.endpoint.is_none() {
                    return Next::Close(CloseCode::Error, "unreadable login".into());
                }
                self.reply_to_unreadable(bytes, &error.to_string());
                return Next::Go;
            }
        };
        let header = message.header;
        match (self.endpoint, message.body) {
            (None, Body::Auth(claims)) => self.first_login(header, claims.get("appKey")),
            (None, _) => Next::Close(CloseCode::Error, "the first message must be AUTH".into()),
            (Some(endpoint), body) => {
                self.message(endpoint, header, body);
                Next::Go
            }
        }
    }

    fn first_login(&mut self, header: Header, key: Option<&str>) -> Next {
        if let Err(reason) = self.check(key) {
            self.send(header, Response::error(Status::UNAUTHORIZED, reason));
            return Next::Close(CloseCode::Error, "login refused".into());
        }
        let session = self.cluster.session_id();
        let mut endpoints = lock(&self.cluster.nodes[self.node].endpoints);
        // A known id joins that endpoint; any other makes a new one.
        let id = match endpoints.contains_key(&header.endpoint_id) {
            true => header.endpoint_id,
            false => self.cluster.endpoint_id(),
        };
        let endpoint = endpoints.entry(id).or_default();
        endpoint.sessions.insert(session);
        endpoint.sockets.push((self.socket, self.out.clone()));
        drop(endpoints);
        lock(&self.cluster.logins).push(Login {
            node: self.node,
            presented: header.endpoint_id,
            given: id,
        });
        self.endpoint = Some(id);
        let header = Header {
            endpoint_id: id,
            session_id: session,
            ..header
        };
        self.send(header, Response::ok());
        Next::Go
    }

    fn check(&self, key: Option<&str>) -> Result<(), String> {
        match key {
            None => Err("no usable claim: an application key is needed".into()),
            Some(key) if lock(&self.cluster.keys).contains(key) => Ok(()),
            Some(_) => Err("the application key is not known or no longer valid".into()),
        }
    }

    fn message(&mut self, endpoint: EndpointId, header: Header, body: Body) {
        // The platform repeats the endpoint id, and its answers carry no session.
        let plain = Header {
            session_id: -1,
            ..header
        };
        match body {
            Body::Response(response) => {
                let mut endpoints = lock(&self.cluster.nodes[self.node].endpoints);
                let pending = endpoints.get_mut(&endpoint).map(|one| &mut one.pending);
                // A late answer has nobody waiting for it.
                if let Some(waiting) = pending.and_then(|all| all.remove(&header.request_id)) {
                    let _ = waiting.send(response);
                }
            }
            Body::Auth(claims) => match self.check(claims.get("appKey")) {
                Err(reason) => self.send(header, Response::error(Status::UNAUTHORIZED, reason)),
                Ok(()) => {
                    let session = self.cluster.session_id();
                    self.session(endpoint, |sessions| sessions.insert(session));
                    self.send(
                        Header {
                            session_id: session,
                            ..header
                        },
                        Response::ok(),
                    );
                }
            },
            Body::ClearAuth(_) => {
                let known = self.session(endpoint, |sessions| sessions.remove(&header.session_id));
                let status = if known {
                    Status::SUCCESS
                } else {
                    Status::NOT_FOUND
                };
                self.send(
                    header,
                    Response {
                        status,
                        ..Response::ok()
                    },
                );
            }
            Body::Bind(bind) => {
                let bound = self.cluster.bind(
                    self.node,
                    endpoint,
                    bind.gateway.as_ref(),
                    bind.names.iter(),
                );
                match bound {
                    Err(reason) => {
                        self.send(plain, Response::error(Status::INTERNAL_ERROR, reason));
                    }
                    Ok(names) => {
                        self.send(plain, Response::ok());
                        self.notify_later(endpoint, names);
                    }
                }
            }
            Body::Unbind(bind) => {
                self.unbind(endpoint, &bind.names);
                self.send(header, Response::ok());
            }
            Body::KeepAlive => self.send(header, Response::ok()),
            Body::Request(request) => {
                if !self.session(endpoint, |sessions| sessions.contains(&header.session_id)) {
                    let reason = format!("session {} is not valid", header.session_id);
                    return self.send(header, Response::error(Status::INVALID_SESSION, reason));
                }
                let faults = self.cluster.nodes[self.node].faults.borrow().clone();
                let cluster = Arc::clone(&self.cluster);
                let (node, out) = (self.node, self.out.clone());
                if faults.delay.is_zero() && !faults.lose_answers {
                    let response = execute::execute(&cluster, node, endpoint, &request);
                    return self.send(plain, response);
                }
                tokio::spawn(async move {
                    sleep(faults.delay).await;
                    let response = execute::execute(&cluster, node, endpoint, &request);
                    if !faults.lose_answers {
                        put(&out, plain, response);
                    }
                });
            }
        }
    }

    fn unbind(&self, endpoint: EndpointId, names: &Names) {
        self.cluster.unbind(self.node, endpoint, names.iter());
    }

    fn session(
        &self,
        endpoint: EndpointId,
        with: impl FnOnce(&mut std::collections::BTreeSet<i32>) -> bool,
    ) -> bool {
        let mut endpoints = lock(&self.cluster.nodes[self.node].endpoints);
        endpoints
            .get_mut(&endpoint)
            .is_some_and(|one| with(&mut one.sessions))
    }

    /// The platform's follow-up of a bind, for Things that exist.
    fn notify_later(&self, endpoint: EndpointId, names: Vec<String>) {
        let (cluster, node) = (Arc::clone(&self.cluster), self.node);
        tokio::spawn(async move {
            sleep(cluster.settings.notify_after).await;
            for name in names {
                if lock(&cluster.model).thing(&name).is_some() {
                    draw::notify(&cluster, node, endpoint, &name).await;
                }
            }
        });
    }

    /// The ids can be read even if the rest cannot.
    fn reply_to_unreadable(&self, bytes: &[u8], reason: &str) {
        let Some(id) = bytes.get(2..6).and_then(|id| id.try_into().ok()) else {
            return;
        };
        let response = Response::error(Status::INTERNAL_ERROR, format!("unreadable: {reason}"));
        self.send(Header::new(u32::from_be_bytes(id)), response);
    }

    fn send(&self, header: Header, response: Response) {
        put(&self.out, header, response);
    }

    fn gone(self) {
        let Some(id) = self.endpoint else { return };
        let last = {
            let mut endpoints = lock(&self.cluster.nodes[self.node].endpoints);
            let Some(endpoint) = endpoints.get_mut(&id) else {
                return;
            };
            endpoint
                .sockets
                .retain(|(socket, _)| *socket != self.socket);
            endpoint.sockets.is_empty()
        };
        if last {
            self.cluster.remove_endpoint(self.node, id);
        }
    }
}

/// Queues a message; a client that takes nothing loses it, as it would lose its connection.
pub(crate) fn put(out: &mpsc::Sender<Vec<u8>>, header: Header, response: Response) {
    let message = Message {
        header,
        body: Body::Response(response),
    };
    let frames = split(&message, CHUNK).unwrap_or_else(|error| {
        let body = Response::error(Status::ENTITY_TOO_LARGE, error.to_string()).into();
        split(&Message { header, body }, CHUNK).unwrap_or_default()
    });
    for frame in frames {
        let _ = out.try_send(frame);
    }
}
