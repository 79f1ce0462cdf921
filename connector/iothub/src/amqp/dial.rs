//! TCP and TLS to the hub's own host.

use std::{fmt::Display, time::Duration};

use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::{HubAmqpSettings, fault};
use crate::HubError;

/// AMQP over TLS.
const PORT: u16 = 5671;
/// TCP, and TLS as well. A hub answers in tens of milliseconds; more is a network that will not.
const DIAL: Duration = Duration::from_secs(5);

pub(super) async fn dial(settings: &HubAmqpSettings) -> Result<TlsStream<TcpStream>, HubError> {
    let host = &settings.connection.host;
    let address = settings
        .address
        .clone()
        .unwrap_or_else(|| format!("{host}:{PORT}"));
    let what = format!("connecting to the hub at {address}");
    let failed = |cause: &dyn Display| fault::transport(&what, &cause);
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
