//! Cloud-to-device messages over AMQP.

mod message;

use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use message::{Ack, C2dMessage};

use crate::{HubConnectionString, HubError, HubTls};

/// How the hub's AMQP face is reached.
#[derive(Debug, Clone)]
pub struct HubAmqpSettings {
    /// Policy that authorises the connection.
    pub connection: HubConnectionString,
    /// How the hub's certificate is checked.
    pub tls: HubTls,
    /// Name of this process at the hub (AMQP container id).
    pub application_id: String,
    /// `host:port` to connect to instead of the hub's host at port 5671. The hub's host name is still
    /// what the certificate must show.
    pub address: Option<String>,
    /// How many messages may wait to be sent, and as many to be accepted.
    pub queue: usize,
}

/// Sends cloud-to-device messages. Cheap to clone; all clones share one connection.
#[derive(Debug, Clone)]
pub struct C2dSender {
    _settings: HubAmqpSettings,
}

impl C2dSender {
    /// Starts connecting, and goes on until `shutdown`.
    #[must_use]
    pub fn start(settings: HubAmqpSettings, shutdown: CancellationToken) -> Self {
        drop(shutdown);
        Self {
            _settings: settings,
        }
    }

    /// Waits until the connection is made and authorised and the link attached.
    ///
    /// # Errors
    /// Why the last attempt within `timeout` failed.
    pub async fn prove(&self, _timeout: Duration) -> Result<(), HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }

    /// Sends, and waits until the hub has accepted.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::taken`] tells whether the hub may have taken it.
    pub async fn send(
        &self,
        _message: C2dMessage,
        _deadline: tokio::time::Instant,
    ) -> Result<(), HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }
}
