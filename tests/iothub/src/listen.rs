//! Accepting: TCP, then TLS, then the face; and ending all of it with one signal.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_util::{either::Either, sync::CancellationToken, task::TaskTracker};

use crate::{
    control, face,
    fault::FaceName,
    https,
    hub::{Connection, Hub, HubSettings},
    mqtt,
};

/// Most connections of one face; more wait in the backlog. Several times the largest fleet that a
/// scenario connects; at some 40 KiB of TLS buffers each, within the memory of a small pod.
const MAX_CONNECTIONS: usize = 4096;

/// A client that has not finished the TLS handshake by then is not one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after a failed accept: without one, a lack of file descriptors would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where the faces listen. Port 0 is one that is free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Devices; SDKs insist on port 8883.
    pub mqtt: SocketAddr,
    /// The hub's own AMQP; SDKs insist on port 5671.
    pub hub_amqp: SocketAddr,
    /// The Event Hubs-compatible AMQP; SDKs insist on port 5671.
    pub events_amqp: SocketAddr,
    /// The same without TLS, as the service has it nowhere: it tells a bench what TLS costs.
    pub events_plain: Option<SocketAddr>,
    /// REST, and the hub's own AMQP in WebSockets; SDKs insist on port 443.
    pub https: SocketAddr,
    /// The Event Hubs-compatible AMQP in WebSockets, if there is to be any; SDKs insist on port 443.
    pub events_https: Option<SocketAddr>,
    /// The control face; plain HTTP.
    pub control: SocketAddr,
}

/// How the stand-in is started.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The hub behind the faces.
    pub hub: HubSettings,
    /// Where the faces listen.
    pub addresses: Addresses,
    /// Certificate of all faces but the control face.
    pub tls: Arc<ServerConfig>,
}

/// A running stand-in.
#[derive(Debug)]
pub struct Running {
    /// Where the faces listen: the ports asked for, or those that were free.
    pub addresses: Addresses,
    /// The hub behind the faces.
    pub hub: Arc<Hub>,
    tasks: TaskTracker,
}

impl Running {
    /// Waits until everything has ended, after the token was cancelled.
    pub async fn ended(&self) {
        self.tasks.wait().await;
    }
}

/// Starts all faces. They, and their connections, end when `shutdown` is cancelled.
///
/// # Errors
/// If an address cannot be bound; the text names the face. Then nothing has been started.
pub async fn run(settings: Settings, shutdown: CancellationToken) -> io::Result<Running> {
    let Settings {
        hub,
        addresses,
        tls,
    } = settings;
    let mqtt = bind("mqtt", addresses.mqtt).await?;
    let hub_amqp = bind("hub-amqp", addresses.hub_amqp).await?;
    let events_amqp = bind("events-amqp", addresses.events_amqp).await?;
    let events_plain = match addresses.events_plain {
        Some(address) => Some(bind("events-plain", address).await?),
        None => None,
    };
    let https = bind("https", addresses.https).await?;
    let events_https = match addresses.events_https {
        Some(address) => Some(bind("events-https", address).await?),
        None => None,
    };
    let control = bind("control", addresses.control).await?;
    let addresses = Addresses {
        mqtt: mqtt.local_addr()?,
        hub_amqp: hub_amqp.local_addr()?,
        events_amqp: events_amqp.local_addr()?,
        events_plain: events_plain
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?,
        https: https.local_addr()?,
        events_https: events_https
            .as_ref()
            .map(TcpListener::local_addr)
            .transpose()?,
        control: control.local_addr()?,
    };

    let gate = Gate {
        hub: Hub::new(hub),
        tls: TlsAcceptor::from(tls),
        tasks: TaskTracker::new(),
        shutdown,
    };
    gate.open(FaceName::Mqtt, Door::Tls, mqtt, mqtt::serve);
    gate.open(FaceName::HubAmqp, Door::Tls, hub_amqp, face::serve_hub);
    gate.open(
        FaceName::EventsAmqp,
        Door::Tls,
        events_amqp,
        face::serve_events,
    );
    if let Some(plain) = events_plain {
        gate.open(FaceName::EventsAmqp, Door::Plain, plain, face::serve_events);
    }
    let (rest, requests) = https::router(&gate.hub);
    gate.spawn(requests);
    gate.open(
        FaceName::Https,
        Door::Tls,
        https,
        move |hub, stream, connection| https::serve(rest.clone(), hub, stream, connection),
    );
    if let Some(events_https) = events_https {
        let (sockets, requests) = https::events_router(&gate.hub);
        gate.spawn(requests);
        gate.open(
            FaceName::Https,
            Door::Tls,
            events_https,
            move |hub, stream, connection| https::serve(sockets.clone(), hub, stream, connection),
        );
    }
    let app = control::router(Arc::clone(&gate.hub));
    gate.spawn(async move {
        if let Err(error) = axum::serve(control, app).await {
            tracing::error!(%error, "the control face has failed");
        }
    });
    gate.tasks.close();
    Ok(Running {
        addresses,
        hub: gate.hub,
        tasks: gate.tasks,
    })
}

async fn bind(face: &str, address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .map_err(|error| io::Error::new(error.kind(), format!("{face}: {address}: {error}")))
}

/// What stands before a face.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Door {
    Tls,
    Plain,
}

type Stream = Either<TlsStream<TcpStream>, TcpStream>;

/// What all accept loops share.
#[derive(Clone)]
struct Gate {
    hub: Arc<Hub>,
    tls: TlsAcceptor,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

impl Gate {
    /// Runs a task that is dropped, whatever it is doing, by the shutdown.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let shutdown = self.shutdown.clone();
        self.tasks.spawn(async move {
            shutdown.run_until_cancelled_owned(task).await;
        });
    }

    /// Accepts connections of a face for as long as the stand-in runs.
    fn open<F, S>(&self, face: FaceName, door: Door, listener: TcpListener, serve: S)
    where
        S: Fn(Arc<Hub>, Stream, Connection) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + Send + 'static,
    {
        let gate = self.clone();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        self.spawn(async move {
            // The semaphore is never closed.
            while let Ok(place) = Arc::clone(&room).acquire_owned().await {
                let stream = match listener.accept().await {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        tracing::warn!(?face, %error, "cannot accept");
                        sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                };
                let connection = gate.hub.connect(face);
                let (gate2, serve) = (gate.clone(), serve.clone());
                gate.spawn(async move {
                    let _place = place;
                    if let Some(stream) = gate2.pass(door, stream, &connection).await {
                        serve(Arc::clone(&gate2.hub), stream, connection).await;
                    }
                });
            }
        });
    }

    async fn pass(&self, door: Door, stream: TcpStream, connection: &Connection) -> Option<Stream> {
        // Without it each small frame waits for the acknowledgement of the one before.
        let _ = stream.set_nodelay(true);
        match door {
            Door::Tls => self.shake_hands(stream, connection).await.map(Either::Left),
            Door::Plain => Some(Either::Right(stream)),
        }
    }

    async fn shake_hands(
        &self,
        stream: TcpStream,
        connection: &Connection,
    ) -> Option<TlsStream<TcpStream>> {
        let shaken = connection.dropped.run_until_cancelled(async {
            // A host that is gone does not shake hands either.
            awake(&self.hub, connection).await;
            timeout(HANDSHAKE_TIMEOUT, self.tls.accept(stream)).await
        });
        match shaken.await? {
            Ok(Ok(stream)) => Some(stream),
            // Clients that check certificates, and probes of ports, end here: not our fault.
            Ok(Err(error)) => {
                tracing::debug!(face = ?connection.face, %error, "no TLS");
                None
            }
            Err(_) => None,
        }
    }
}

/// Waits for as long as the connection's face is silent.
pub(crate) async fn awake(hub: &Hub, connection: &Connection) {
    while let Some(until) = hub.faults.silent(connection.face) {
        // Woken early when faults are cleared.
        tokio::select! {
            () = sleep_until(until.into()) => {}
            () = connection.wake.notified() => {}
        }
    }
}

#[cfg(test)]
mod tests;
