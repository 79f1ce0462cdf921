//! The AMQP connection to the hub's own host, its sessions and its one link.

use std::{fmt::Display, time::Duration};

use fe2o3_amqp::{
    Connection, Sender, Session,
    connection::{ConnectionHandle, OpenError},
    sasl_profile::SaslProfile,
    session::{BeginError, SessionHandle},
};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{HubAmqpSettings, authorization, outcome};
use crate::HubError;

/// Where messages for devices go.
const TARGET: &str = "/messages/devicebound";
/// AMQP over TLS.
const PORT: u16 = 5671;
/// TCP, and TLS as well. A hub answers in tens of milliseconds; more is a network that will not.
const DIAL: Duration = Duration::from_secs(5);
/// Each of the round trips that open the connection, a session or the link.
const ROUND_TRIP: Duration = Duration::from_secs(10);
/// How long a peer that does not answer may delay the end.
const CLOSE: Duration = Duration::from_secs(3);
/// A peer that has been silent for so long is taken for dead, in milliseconds. It is asked to send
/// something every half of that.
const IDLE_MS: u32 = 30_000;
/// What Microsoft's SDK offers.
const FRAME: u32 = 64 * 1024;

const OPENING: &str = "opening the AMQP connection to the hub";
const ATTACHING: &str = "attaching the link for cloud-to-device messages";

/// An attached link and what carries it.
pub(super) struct Link {
    pub(super) connection: ConnectionHandle<()>,
    /// A session for tokens alone: what goes wrong there leaves the messages' session as it is.
    pub(super) tokens: SessionHandle<()>,
    session: SessionHandle<()>,
    pub(super) sender: Sender,
}

impl Link {
    /// Connects, authorises and attaches.
    pub(super) async fn open(settings: &HubAmqpSettings) -> Result<Self, HubError> {
        let stream = dial(settings).await?;
        let host = settings.connection.host.as_str();
        let opening = Connection::builder()
            .container_id(settings.application_id.as_str())
            .hostname(host)
            .sasl_hostname(host)
            // TLS is there already.
            .scheme("amqp")
            // The token follows by `$cbs`.
            .sasl_profile(SaslProfile::Anonymous)
            .max_frame_size(FRAME)
            .idle_time_out(IDLE_MS)
            .open_with_stream(stream);
        let mut connection = within(OPENING, opening)
            .await?
            .map_err(|error| unopened(&error))?;
        match attach(&mut connection, settings).await {
            Ok((tokens, session, sender)) => Ok(Self {
                connection,
                tokens,
                session,
                sender,
            }),
            Err(error) => {
                close(&mut connection).await;
                Err(error)
            }
        }
    }

    /// Closes from the inside out. Links are never just dropped: that can take a session, and with it
    /// the connection, down in disorder.
    pub(super) async fn close(self) {
        let Self {
            mut connection,
            mut tokens,
            mut session,
            sender,
        } = self;
        if connection.is_closed() {
            return;
        }
        let inside = async {
            let closed = sender.close().await.map_err(|error| error.to_string());
            let ended = session.end().await.map_err(|error| error.to_string());
            let tokens_ended = tokens.end().await.map_err(|error| error.to_string());
            closed.and(ended).and(tokens_ended)
        };
        match timeout(CLOSE, inside).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(error, "the link was not closed in order"),
            Err(_) => tracing::debug!("the hub does not answer the closing of the link"),
        }
        close(&mut connection).await;
    }
}

async fn close(connection: &mut ConnectionHandle<()>) {
    match timeout(CLOSE, connection.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the AMQP connection was not closed in order"),
        Err(_) => tracing::debug!("the hub does not answer the closing of the AMQP connection"),
    }
}

type Attached = (SessionHandle<()>, SessionHandle<()>, Sender);

async fn attach(
    connection: &mut ConnectionHandle<()>,
    settings: &HubAmqpSettings,
) -> Result<Attached, HubError> {
    let mut tokens = begin(connection).await?;
    authorization::put(&mut tokens, &settings.connection).await?;
    let mut session = begin(connection).await?;
    let name = format!("{}-devicebound", settings.application_id);
    let attaching = Sender::attach(&mut session, name, TARGET);
    let sender = within(ATTACHING, attaching)
        .await?
        .map_err(|error| outcome::sender_unattached(ATTACHING, &error))?;
    Ok((tokens, session, sender))
}

async fn begin(connection: &mut ConnectionHandle<()>) -> Result<SessionHandle<()>, HubError> {
    const BEGINNING: &str = "beginning an AMQP session";
    within(BEGINNING, Session::begin(connection))
        .await?
        .map_err(|error| match &error {
            BeginError::RemoteEndedWithError(error) => outcome::closed_for(BEGINNING, error),
            error => outcome::transport(BEGINNING, error),
        })
}

fn unopened(error: &OpenError) -> HubError {
    match error {
        OpenError::RemoteClosedWithError(error) => outcome::closed_for(OPENING, error),
        error => outcome::transport(OPENING, error),
    }
}

async fn dial(settings: &HubAmqpSettings) -> Result<TlsStream<TcpStream>, HubError> {
    let host = &settings.connection.host;
    let address = settings
        .address
        .clone()
        .unwrap_or_else(|| format!("{host}:{PORT}"));
    let what = format!("connecting to the hub at {address}");
    let failed = |cause: &dyn Display| outcome::transport(&what, &cause);
    let name = ServerName::try_from(host.clone()).map_err(|_| HubError::Settings {
        what: format!("HostName {host:?} is no host name"),
    })?;
    let tls = TlsConnector::from(settings.tls.client()?);
    let stream = timeout(DIAL, TcpStream::connect(&address))
        .await
        .map_err(|_| failed(&"no answer in time"))?
        .map_err(|error| failed(&error))?;
    // Small frames must not wait for each other's acknowledgement.
    stream.set_nodelay(true).map_err(|error| failed(&error))?;
    timeout(DIAL, tls.connect(name, stream))
        .await
        .map_err(|_| failed(&"no TLS in time"))?
        .map_err(|error| failed(&error))
}

async fn within<T>(what: &str, doing: impl Future<Output = T>) -> Result<T, HubError> {
    timeout(ROUND_TRIP, doing)
        .await
        .map_err(|_| HubError::TimedOut { what: what.into() })
}
