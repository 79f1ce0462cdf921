//! The AMQP connection to the hub's own host: login, sessions, links.

pub(crate) mod authorization;
pub(crate) mod fault;
pub(crate) mod link;
pub(crate) mod pause;

use std::time::Duration;

use fe2o3_amqp::{
    Connection, Session,
    connection::{ConnectionHandle, OpenError},
    sasl_profile::SaslProfile,
    session::{BeginError, SessionHandle},
};
use fe2o3_amqp_types::sasl::SaslCode;
use tokio::time::timeout;

use crate::{
    HubConnectionString, HubError, HubTls, Way,
    dial::{Destination, Service, dial},
};

/// Each of the round trips that open the connection, a session or a link.
const ROUND_TRIP: Duration = Duration::from_secs(10);
/// How long a peer that does not answer may delay the end.
const CLOSE: Duration = Duration::from_secs(3);
/// A peer that has been silent for so long is taken for dead, in milliseconds. It is asked to send
/// something every half of that.
const IDLE_MS: u32 = 30_000;
/// What Microsoft's SDK offers.
const FRAME: u32 = 64 * 1024;

const OPENING: &str = "opening the AMQP connection to the hub";
const BEGINNING: &str = "beginning an AMQP session";

/// How the hub's AMQP face is reached.
#[derive(Debug, Clone)]
pub struct HubAmqpSettings {
    /// Policy that authorises the connection.
    pub connection: HubConnectionString,
    /// How the hub's certificate is checked.
    pub tls: HubTls,
    /// Name of this process at the hub (AMQP container id).
    pub application_id: String,
    /// `host:port` to connect to instead of the hub's host at the transport's port. The hub's host name
    /// is still what the certificate must show.
    pub address: Option<String>,
    /// How it is reached.
    pub way: Way,
}

/// Connects and logs in.
pub(crate) async fn open(
    settings: &HubAmqpSettings,
    login: SaslProfile,
) -> Result<ConnectionHandle<()>, HubError> {
    let host = settings.connection.host.as_str();
    let to = Destination {
        host: host.to_owned(),
        address: settings.address.clone(),
        service: Service::Hub,
    };
    let stream = dial(&to, &settings.tls, &settings.way).await?;
    let opening = Connection::builder()
        .container_id(settings.application_id.as_str())
        .hostname(host)
        .sasl_hostname(host)
        // TLS is there already.
        .scheme("amqp")
        .sasl_profile(login)
        .max_frame_size(FRAME)
        .idle_time_out(IDLE_MS)
        .open_with_stream(stream);
    within(OPENING, opening)
        .await?
        .map_err(|error| unopened(&error, &settings.connection.policy))
}

/// Begins a session.
pub(crate) async fn begin(
    connection: &mut ConnectionHandle<()>,
) -> Result<SessionHandle<()>, HubError> {
    within(BEGINNING, Session::begin(connection))
        .await?
        .map_err(|error| match &error {
            BeginError::RemoteEndedWithError(error) => fault::closed_for(BEGINNING, error),
            error => fault::transport(BEGINNING, error),
        })
}

/// Closes, a few seconds at most.
pub(crate) async fn close(connection: &mut ConnectionHandle<()>) {
    match timeout(CLOSE, connection.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "the AMQP connection was not closed in order"),
        Err(_) => tracing::debug!("the hub does not answer the closing of the AMQP connection"),
    }
}

/// Closes what is inside a connection, a few seconds at most; `closing` tells what went wrong.
pub(crate) async fn close_inside(closing: impl Future<Output = Result<(), String>>) {
    match timeout(CLOSE, closing).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(error, "the link was not closed in order"),
        Err(_) => tracing::debug!("the hub does not answer the closing of the link"),
    }
}

/// Waits for one round trip.
pub(crate) async fn within<T>(what: &str, doing: impl Future<Output = T>) -> Result<T, HubError> {
    timeout(ROUND_TRIP, doing)
        .await
        .map_err(|_| HubError::TimedOut { what: what.into() })
}

fn unopened(error: &OpenError, policy: &str) -> HubError {
    match error {
        OpenError::RemoteClosedWithError(error) => fault::closed_for(OPENING, error),
        OpenError::SaslError {
            code: SaslCode::Auth,
            ..
        } => HubError::Denied {
            what: format!(
                "logging in with the policy {policy:?}, which needs the right Service connect"
            ),
        },
        error => fault::transport(OPENING, error),
    }
}
