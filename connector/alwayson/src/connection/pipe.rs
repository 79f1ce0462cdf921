//! One WebSocket: connects, logs in, carries frames, and does it again when it breaks.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use rand::Rng;
use tokio::{
    net::TcpStream,
    sync::{mpsc, watch},
    time::{Instant, sleep, timeout, timeout_at},
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{
    WebSocketStream, client_async_with_config,
    tungstenite::{
        self, Message as Frame,
        protocol::{CloseFrame, WebSocketConfig, frame::coding::CloseCode},
    },
};
use tokio_util::{either::Either, sync::CancellationToken};

use super::{
    error::{Class, ConnectError},
    node::{Credentials, Load, NodeSettings},
    outbox::Outbox,
};
use crate::{Body, CHUNK, Claims, Header, Message, Response, Status};

/// Frames that wait to be written on one WebSocket, apart from answers.
const QUEUE: usize = 256;
/// A frame that is not taken within this shows a dead peer. One that has waited longer to be written is
/// never sent: whoever asked has given up long ago, and if this process stood still, others may have
/// gone on without it.
const WRITE: Duration = Duration::from_secs(10);

/// A frame on its way to a WebSocket.
pub(super) struct Queued {
    frame: Frame,
    since: Instant,
}

/// Bytes read at once. tungstenite sets as many to zero before each read, 128 KiB by default: for an answer of 50 bytes
/// that costs more than its way through the kernel. A frame of a message has [`CHUNK`] at most, a record of TLS 16 KiB.
const READ: usize = 16 * 1024;
/// Frames written together.
const AT_ONCE: usize = 32;

impl Queued {
    /// It is among those that [`Load::queued`] tells.
    fn is_counted(&self) -> bool {
        matches!(self.frame, Frame::Binary(_))
    }
}

impl From<Frame> for Queued {
    fn from(frame: Frame) -> Self {
        Self {
            frame,
            since: Instant::now(),
        }
    }
}

type Socket = WebSocketStream<Either<TlsStream<TcpStream>, TcpStream>>;

/// The ids that a login gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ids {
    pub(super) endpoint: i32,
    pub(super) session: i32,
}

/// Before the first login, and what a login presents that joins nothing.
pub(super) const NO_IDS: Ids = Ids {
    endpoint: -1,
    session: -1,
};

/// What a WebSocket tells its endpoint.
pub(super) enum Event {
    /// Logged in.
    Up {
        pipe: usize,
        ids: Ids,
        frames: mpsc::Sender<Queued>,
    },
    /// A message, or a part of one.
    Frame { bytes: Bytes },
    /// The answer to a ping.
    Pong { payload: Bytes },
    /// Broken, or not to be had.
    Down { pipe: usize, error: ConnectError },
}

/// What all WebSockets of an endpoint share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) settings: NodeSettings,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) events: mpsc::Sender<Event>,
    /// The ids of the endpoint, and whether any WebSocket of it is up.
    pub(super) ids: watch::Receiver<(Ids, bool)>,
    pub(super) load: Arc<Load>,
    /// Answers, for whichever WebSocket can write.
    pub(super) outbox: Arc<Outbox>,
    pub(super) shutdown: CancellationToken,
}

/// Keeps one WebSocket up. The first of an endpoint leads; the others join once it is logged in.
pub(super) async fn keep(pipe: usize, mut shared: Shared) {
    let shutdown = shared.shutdown.clone();
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = keep_on(pipe, &mut shared) => {}
    }
}

async fn keep_on(pipe: usize, shared: &mut Shared) {
    let timings = shared.settings.timings;
    let mut backoff = timings.backoff;
    loop {
        if pipe > 0 && shared.ids.wait_for(|(_, up)| *up).await.is_err() {
            return;
        }
        let ids = shared.ids.borrow().0;
        let error = match connect(shared, ids).await {
            Ok((socket, ids)) => {
                backoff = timings.backoff;
                carry(pipe, socket, ids, shared).await
            }
            Err(error) => error,
        };
        let pause = match error.class() {
            Class::Denied => timings.refused,
            _ => backoff,
        };
        if shared
            .events
            .send(Event::Down { pipe, error })
            .await
            .is_err()
        {
            return;
        }
        // Half of it by chance, so that the pods do not come back all at once.
        let share = rand::rng().random_range(0.5..1.0);
        sleep(pause.mul_f64(share)).await;
        backoff = (backoff * 2).min(timings.max_backoff);
    }
}

async fn connect(shared: &Shared, ids: Ids) -> Result<(Socket, Ids), ConnectError> {
    let NodeSettings {
        url, tls, timings, ..
    } = &shared.settings;
    let claims = shared
        .credentials
        .claims()
        .map_err(ConnectError::Credentials)?;
    let open = async {
        let host = url
            .host_str()
            .ok_or_else(|| ConnectError::Url("it names no host".into()))?;
        let port = url
            .port_or_known_default()
            .ok_or_else(|| ConnectError::Url("it names no port".into()))?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let tcp = TcpStream::connect((host, port))
            .await
            .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        tcp.set_nodelay(true)
            .map_err(|error| ConnectError::Unreachable(error.to_string()))?;
        let stream = match url.scheme() {
            "wss" => {
                let (config, name) = tls.client(url)?;
                let tls = tokio_rustls::TlsConnector::from(config)
                    .connect(name, tcp)
                    .await;
                Either::Left(tls.map_err(|error| ConnectError::Tls(error.to_string()))?)
            }
            "ws" => Either::Right(tcp),
            other => {
                return Err(ConnectError::Url(format!(
                    "{other}:// is neither ws nor wss"
                )));
            }
        };
        let mut config = WebSocketConfig::default().read_buffer_size(READ);
        config.max_message_size = Some(CHUNK * 16);
        config.max_frame_size = Some(CHUNK * 16);
        let upgraded = client_async_with_config(url.as_str(), stream, Some(config)).await;
        upgraded
            .map(|(socket, _)| socket)
            .map_err(|error| match error {
                tungstenite::Error::Http(answer) => {
                    ConnectError::Protocol(format!("HTTP status {}", answer.status()))
                }
                other => ConnectError::Protocol(other.to_string()),
            })
    };
    let mut socket = match timeout(timings.connect, open).await {
        Ok(opened) => opened?,
        Err(_) => return Err(ConnectError::TimedOut(timings.connect.as_secs())),
    };
    let answered = match timeout(timings.answer, log_in(&mut socket, &claims, ids)).await {
        Ok(answered) => answered,
        Err(_) => Err(ConnectError::TimedOut(timings.answer.as_secs())),
    };
    match &answered {
        Ok(_) => shared.credentials.accepted(),
        Err(ConnectError::Denied(_)) => shared.credentials.refused(),
        Err(_) => {}
    }
    answered.map(|ids| (socket, ids))
}

/// A login is the first message on a socket; the results are in the header of the answer.
async fn log_in(
    socket: &mut Socket,
    claims: &[crate::Claim],
    Ids { endpoint, session }: Ids,
) -> Result<Ids, ConnectError> {
    let claims: Claims = claims.iter().cloned().collect();
    let header = Header {
        request_id: 1,
        endpoint_id: endpoint,
        session_id: session,
    };
    let bytes = Message {
        header,
        body: Body::Auth(claims),
    }
    .encode()
    .map_err(|error| ConnectError::Credentials(error.to_string()))?;
    let closed = |error: tungstenite::Error| ConnectError::Closed(error.to_string());
    socket.send(Frame::binary(bytes)).await.map_err(closed)?;
    loop {
        match socket.next().await {
            Some(Ok(Frame::Binary(bytes))) => {
                let message = Message::decode(&bytes)
                    .map_err(|error| ConnectError::Protocol(error.to_string()))?;
                let Body::Response(response) = message.body else {
                    continue;
                };
                return accepted(&response).map(|()| Ids {
                    endpoint: message.header.endpoint_id,
                    session: message.header.session_id,
                });
            }
            Some(Ok(Frame::Close(frame))) => {
                return Err(ConnectError::Closed(reason(frame.as_ref())));
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => return Err(closed(error)),
            None => return Err(ConnectError::Closed("during login".into())),
        }
    }
}

fn accepted(response: &Response) -> Result<(), ConnectError> {
    if !response.is_error() {
        return Ok(());
    }
    let text = response
        .error_text()
        .unwrap_or_else(|| response.status.name().to_owned());
    Err(match response.status {
        Status::UNAUTHORIZED | Status::FORBIDDEN => ConnectError::Denied(text),
        _ => ConnectError::Protocol(text),
    })
}

/// Carries frames until the socket breaks, and tells why.
async fn carry(pipe: usize, socket: Socket, ids: Ids, shared: &Shared) -> ConnectError {
    let timings = shared.settings.timings;
    let outbox = &shared.outbox;
    let (mut sink, mut stream) = socket.split();
    let (frames, mut queue) = mpsc::channel::<Queued>(QUEUE);
    let up = Event::Up {
        pipe,
        ids,
        frames: frames.clone(),
    };
    if shared.events.send(up).await.is_err() {
        return ConnectError::Closed("ended".into());
    }
    let write = async {
        let mut batch = Vec::with_capacity(AT_ONCE);
        loop {
            tokio::select! {
                count = queue.recv_many(&mut batch, AT_ONCE) => if count == 0 { break },
                () = outbox.some() => while batch.len() < AT_ONCE && let Ok(queued) = queue.try_recv() {
                    batch.push(queued);
                },
            }
            let counted = batch.iter().filter(|one| one.is_counted()).count();
            shared.load.queued.fetch_sub(counted, Ordering::Relaxed);
            let last = batch.iter().any(|one| matches!(one.frame, Frame::Close(_)));
            // Nothing goes after a close, so that all that is left goes before.
            let mut answers = outbox.take(if last { usize::MAX } else { AT_ONCE });
            // Flushed once: under load many frames share a call of the system, and a record of TLS.
            let all = async {
                let closed = |error: tungstenite::Error| ConnectError::Closed(error.to_string());
                while let Some(answer) = answers.next() {
                    for frame in answer {
                        sink.feed(Frame::Binary(frame)).await.map_err(closed)?;
                    }
                }
                for Queued { frame, since } in batch.drain(..) {
                    if since.elapsed() >= WRITE {
                        return Err(ConnectError::TimedOut(WRITE.as_secs()));
                    }
                    sink.feed(frame).await.map_err(closed)?;
                }
                sink.flush().await.map_err(closed)
            };
            match timeout(WRITE, all).await {
                Ok(Ok(())) => {
                    answers.sent();
                    if last {
                        return ConnectError::Closed("as asked".into());
                    }
                }
                Ok(Err(error)) => return error,
                Err(_) => return ConnectError::TimedOut(WRITE.as_secs()),
            }
        }
        ConnectError::Closed("ended".into())
    };
    let read = async {
        let mut heard = Instant::now();
        let mut pinged = false;
        loop {
            let wait = if pinged { timings.idle } else { timings.ping };
            let frame = match timeout_at(heard + wait, stream.next()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return ConnectError::Closed(error.to_string()),
                Ok(None) => return ConnectError::Closed("by the node".into()),
                Err(_) if pinged => return ConnectError::TimedOut(timings.idle.as_secs()),
                Err(_) => {
                    // A full queue is traffic enough.
                    let _ = frames.try_send(Frame::Ping(Bytes::new()).into());
                    pinged = true;
                    continue;
                }
            };
            (heard, pinged) = (Instant::now(), false);
            let event = match frame {
                Frame::Binary(bytes) => Event::Frame { bytes },
                Frame::Pong(payload) => Event::Pong { payload },
                // tungstenite answers pings and closes itself, as soon as something is written.
                Frame::Ping(_) => continue,
                Frame::Close(frame) => return ConnectError::Closed(reason(frame.as_ref())),
                Frame::Text(_) | Frame::Frame(_) => {
                    let close = CloseFrame {
                        code: CloseCode::Unsupported,
                        reason: "text".into(),
                    };
                    let _ = frames.try_send(Frame::Close(Some(close)).into());
                    return ConnectError::Protocol("it sent a text message".into());
                }
            };
            // A platform that asks faster than it takes the answers is made to wait; writing goes on meanwhile.
            outbox.room().await;
            if shared.events.send(event).await.is_err() {
                return ConnectError::Closed("ended".into());
            }
        }
    };
    let error = tokio::select! {
        error = read => error,
        error = write => error,
    };
    // What was not written leaves the count with its queue. Waits for whoever is just putting something
    // in, or that would be counted for ever.
    queue.close();
    while let Some(queued) = queue.recv().await {
        if queued.is_counted() {
            shared.load.queued.fetch_sub(1, Ordering::Relaxed);
        }
    }
    error
}

fn reason(frame: Option<&CloseFrame>) -> String {
    frame.map_or_else(
        || "by the node".into(),
        |frame| {
            format!(
                "by the node, code {} {}",
                u16::from(frame.code),
                frame.reason
            )
        },
    )
}
