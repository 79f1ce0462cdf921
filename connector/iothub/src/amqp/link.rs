//! A link on an authorised connection of its own.

use fe2o3_amqp::{
    Receiver, Sender, connection::ConnectionHandle, sasl_profile::SaslProfile,
    session::SessionHandle,
};

use super::{authorization, begin, close, close_inside, open};
use crate::{HubAmqpSettings, HubError};

/// An attached link and what carries it.
pub(crate) struct Link<E> {
    pub(crate) connection: ConnectionHandle<()>,
    /// A session for tokens alone: what goes wrong there leaves the link's session as it is.
    pub(crate) tokens: SessionHandle<()>,
    session: SessionHandle<()>,
    pub(crate) end: E,
}

/// Our end of a link.
pub(crate) trait End {
    /// Closes it; tells what went wrong.
    async fn close(self) -> Result<(), String>;
}

impl End for Sender {
    async fn close(self) -> Result<(), String> {
        Sender::close(self).await.map_err(|error| error.to_string())
    }
}

impl End for Receiver {
    async fn close(self) -> Result<(), String> {
        Receiver::close(self)
            .await
            .map_err(|error| error.to_string())
    }
}

impl<E: End> Link<E> {
    /// Connects, authorises and attaches.
    pub(crate) async fn open(
        settings: &HubAmqpSettings,
        attach: impl AsyncFnOnce(&mut SessionHandle<()>) -> Result<E, HubError>,
    ) -> Result<Self, HubError> {
        // The token follows by `$cbs`.
        let mut connection = open(settings, SaslProfile::Anonymous).await?;
        match within(&mut connection, settings, attach).await {
            Ok((tokens, session, end)) => Ok(Self {
                connection,
                tokens,
                session,
                end,
            }),
            Err(error) => {
                close(&mut connection).await;
                Err(error)
            }
        }
    }

    /// Closes from the inside out. Links are never just dropped: that can take a session, and with it
    /// the connection, down in disorder.
    pub(crate) async fn close(self) {
        let Self {
            mut connection,
            mut tokens,
            mut session,
            end,
        } = self;
        if connection.is_closed() {
            return;
        }
        close_inside(async {
            let closed = end.close().await;
            let ended = session.end().await.map_err(|error| error.to_string());
            let tokens_ended = tokens.end().await.map_err(|error| error.to_string());
            closed.and(ended).and(tokens_ended)
        })
        .await;
        close(&mut connection).await;
    }
}

async fn within<E>(
    connection: &mut ConnectionHandle<()>,
    settings: &HubAmqpSettings,
    attach: impl AsyncFnOnce(&mut SessionHandle<()>) -> Result<E, HubError>,
) -> Result<(SessionHandle<()>, SessionHandle<()>, E), HubError> {
    let mut tokens = begin(connection).await?;
    authorization::put(&mut tokens, &settings.connection).await?;
    let mut session = begin(connection).await?;
    let end = attach(&mut session).await?;
    Ok((tokens, session, end))
}
