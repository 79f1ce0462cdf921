//! The handle of an endpoint on one node.

use std::{
    num::NonZeroU8,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use url::Url;

use super::{
    bind::{BindState, DesiredBinds, NamesState},
    endpoint::{self, Command},
    error::{ConnectError, RequestError},
    incoming::Incoming,
    tls::TlsSettings,
};
use crate::{Claim, Request, Response};

/// How to log in.
pub trait Credentials: Send + Sync {
    /// The claims to present; asked for at every login.
    ///
    /// # Errors
    /// Why there are none, without any secret.
    fn claims(&self) -> Result<Vec<Claim>, String>;
    /// The claims last given were accepted.
    fn accepted(&self) {}
    /// The claims last given were refused.
    fn refused(&self) {}
}

/// How to reach a node.
#[derive(Debug, Clone)]
pub struct NodeSettings {
    /// Its name in logs.
    pub name: Arc<str>,
    /// `ws://` or `wss://`, with the path, usually `/Thingworx/WS`.
    pub url: Url,
    /// How its certificate is checked.
    pub tls: TlsSettings,
    /// WebSockets to it.
    pub pipes: NonZeroU8,
    /// Time-outs.
    pub timings: Timings,
}

/// Time-outs of a connection.
#[derive(Debug, Clone, Copy)]
pub struct Timings {
    /// TCP, TLS and upgrade together. PTC's SDKs and connection server: 10 s.
    pub connect: Duration,
    /// Answer to a login or bind. The same.
    pub answer: Duration,
    /// A ping after this much silence; the platform closes after 60 s, its connection server pings
    /// every 30 s.
    pub ping: Duration,
    /// No frame for so long, not even a pong: the connection is dead.
    pub idle: Duration,
    /// First pause before connecting again, so that a node's restart costs little.
    pub backoff: Duration,
    /// Longest pause: a node's return is noticed within this.
    pub max_backoff: Duration,
    /// Pause after a refused login or bind: only a person can mend that.
    pub refused: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            answer: Duration::from_secs(10),
            ping: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            backoff: Duration::from_millis(500),
            max_backoff: Duration::from_secs(15),
            refused: Duration::from_secs(10),
        }
    }
}

/// What is known of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeState {
    /// Whether it is connected.
    pub link: Link,
    /// The endpoint's own Thing.
    pub gateway: BindState,
    /// The Thing that is bound together with others.
    pub group: BindState,
    /// Further names.
    pub names: NamesState,
}

/// Whether a node is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// It is not.
    Down {
        /// Why the last try failed.
        error: Option<ConnectError>,
    },
    /// Logged in on at least one WebSocket.
    Up,
}

/// Requests that wait to be sent. A node that takes none for so many is slow; others are asked then.
const QUEUE: usize = 1024;
/// Frames that wait to be written, beyond which a node counts as not writable.
const HIGH_WATER: usize = 64;

/// An endpoint on one node. Cheap to clone; all clones are the same endpoint.
#[derive(Debug, Clone)]
pub struct Node {
    name: Arc<str>,
    commands: mpsc::Sender<Command>,
    wanted: watch::Sender<DesiredBinds>,
    state: watch::Receiver<NodeState>,
    load: Arc<Load>,
}

/// How busy the endpoint is, told without asking its task.
#[derive(Debug, Default)]
pub(super) struct Load {
    pub(super) up: AtomicBool,
    /// Frames handed to the WebSockets and not yet written.
    pub(super) queued: AtomicUsize,
}

impl Node {
    /// Connects, and keeps connected until `shutdown` or [`Self::close`]. The platform's requests go to
    /// `requests`; when that is full they are answered "unavailable" at once.
    #[must_use]
    pub fn start(
        settings: NodeSettings,
        credentials: Arc<dyn Credentials>,
        requests: mpsc::Sender<Incoming>,
        shutdown: CancellationToken,
    ) -> Self {
        let name = settings.name.clone();
        let (commands, receiver) = mpsc::channel(QUEUE);
        let (wanted, changes) = watch::channel(DesiredBinds::default());
        let load = Arc::new(Load::default());
        let state = endpoint::start(endpoint::Parts {
            settings,
            credentials,
            requests,
            commands: receiver,
            wanted: changes,
            load: load.clone(),
            shutdown,
        });
        Self {
            name,
            commands,
            wanted,
            state,
            load,
        }
    }

    /// Its name in logs.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Replaces what is to be bound, now and after each reconnection. What no longer is, is unbound.
    pub fn bind(&self, desired: DesiredBinds) {
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != desired;
            *wanted = desired;
            changed
        });
    }

    /// What is known of the node, and its changes.
    #[must_use]
    pub fn state(&self) -> watch::Receiver<NodeState> {
        self.state.clone()
    }

    /// Logged in, and its queues are not full.
    #[must_use]
    pub fn writable(&self) -> bool {
        self.load.up.load(Ordering::Relaxed)
            && self.load.queued.load(Ordering::Relaxed) < HIGH_WATER
            && self.commands.capacity() > 0
    }

    /// Sends a request and waits for the answer. An answer that is a failure is still an answer.
    ///
    /// # Errors
    /// [`RequestError`] if there is none within `limit`.
    pub async fn request(
        &self,
        request: &Request,
        limit: Duration,
    ) -> Result<Response, RequestError> {
        let (reply, answer) = oneshot::channel();
        let command = Command::Request {
            request: Box::new(request.clone()),
            reply,
        };
        self.commands
            .try_send(command)
            .map_err(|_| RequestError::NotSent)?;
        match timeout(limit, answer).await {
            Ok(Ok(answered)) => answered,
            Ok(Err(_)) => Err(RequestError::Lost),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Pings on every WebSocket and waits for the pongs: what the node sent before is then here.
    ///
    /// # Errors
    /// [`RequestError`] if a pong does not come within `limit`.
    pub async fn ping(&self, limit: Duration) -> Result<(), RequestError> {
        let (reply, answer) = oneshot::channel();
        self.commands
            .try_send(Command::Ping { reply })
            .map_err(|_| RequestError::NotSent)?;
        match timeout(limit, answer).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(RequestError::Lost),
            Err(_) => Err(RequestError::TimedOut),
        }
    }

    /// Closes in order and does not connect again. Waits until it is done, a few seconds at most.
    pub async fn close(&self) {
        let (reply, done) = oneshot::channel();
        if self.commands.send(Command::Close { reply }).await.is_ok() {
            let _ = timeout(Duration::from_secs(5), done).await;
        }
    }
}
