//! The two AMQP faces: what the hub's own host and its Event Hubs-compatible endpoint make of links.

mod events;
mod grant;
mod hub;
mod reply;

use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

use crate::{
    amqp::{AmqpError, condition, serve},
    fault::FaceName,
    hub::{Connection, Hub},
    sas::SasError,
};

/// `$cbs`: where tokens are put.
const CBS: &str = "$cbs";
/// `$management`: where entities are asked about.
const MANAGEMENT: &str = "$management";

/// Serves a connection to the hub's own AMQP.
pub async fn serve_hub<S>(hub: Arc<Hub>, stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let face = hub::HubFace::new(Arc::clone(&hub), connection.dropped.clone());
    serve(stream, connection, face, || {
        hub.faults.silent(FaceName::HubAmqp)
    })
    .await;
}

/// Serves a connection to the Event Hubs-compatible endpoint.
pub async fn serve_events<S>(hub: Arc<Hub>, stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let face = events::EventsFace::new(Arc::clone(&hub), Arc::clone(&connection.wake));
    serve(stream, connection, face, || {
        hub.faults.silent(FaceName::EventsAmqp)
    })
    .await;
}

/// The path of an address that may be a whole URL, without slashes around it.
fn path_of(address: &str) -> &str {
    let path = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => address,
    };
    path.trim_matches('/')
}

fn unauthorized(error: SasError, path: &str) -> AmqpError {
    AmqpError::new(
        condition::UNAUTHORIZED_ACCESS,
        format!("Unauthorized access to {path}: {error}"),
    )
}

fn no_such_node(address: &str) -> AmqpError {
    AmqpError::new(
        condition::NOT_FOUND,
        format!("The messaging entity '{address}' could not be found."),
    )
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod path_tests {
    use super::path_of;

    #[test]
    fn a_path_is_what_follows_the_host() {
        for (address, path) in [
            (
                "amqps://ns.example/hub/ConsumerGroups/g/Partitions/0",
                "hub/ConsumerGroups/g/Partitions/0",
            ),
            (
                "hub/ConsumerGroups/g/Partitions/0",
                "hub/ConsumerGroups/g/Partitions/0",
            ),
            ("/messages/devicebound", "messages/devicebound"),
            ("https://hub.example", ""),
            ("sb://ns.example/", ""),
        ] {
            assert_eq!(path_of(address), path, "{address}");
        }
    }
}
