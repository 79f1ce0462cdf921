//! The link for cloud-to-device messages, with its sessions and its connection.

use fe2o3_amqp::{
    Sender, connection::ConnectionHandle, sasl_profile::SaslProfile, session::SessionHandle,
};

use super::authorization;
use crate::{
    HubAmqpSettings, HubError,
    amqp::{self, fault, within},
};

/// Where messages for devices go.
const TARGET: &str = "/messages/devicebound";

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
        // The token follows by `$cbs`.
        let mut connection = amqp::open(settings, SaslProfile::Anonymous).await?;
        match attach(&mut connection, settings).await {
            Ok((tokens, session, sender)) => Ok(Self {
                connection,
                tokens,
                session,
                sender,
            }),
            Err(error) => {
                amqp::close(&mut connection).await;
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
        amqp::close_inside(async {
            let closed = sender.close().await.map_err(|error| error.to_string());
            let ended = session.end().await.map_err(|error| error.to_string());
            let tokens_ended = tokens.end().await.map_err(|error| error.to_string());
            closed.and(ended).and(tokens_ended)
        })
        .await;
        amqp::close(&mut connection).await;
    }
}

type Attached = (SessionHandle<()>, SessionHandle<()>, Sender);

async fn attach(
    connection: &mut ConnectionHandle<()>,
    settings: &HubAmqpSettings,
) -> Result<Attached, HubError> {
    let mut tokens = amqp::begin(connection).await?;
    authorization::put(&mut tokens, &settings.connection).await?;
    let mut session = amqp::begin(connection).await?;
    let name = format!("{}-devicebound", settings.application_id);
    let attaching = Sender::attach(&mut session, name, TARGET);
    let sender = within(ATTACHING, attaching)
        .await?
        .map_err(|error| fault::sender_unattached(ATTACHING, &error))?;
    Ok((tokens, session, sender))
}
