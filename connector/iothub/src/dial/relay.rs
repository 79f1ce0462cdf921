//! A way through the proxy for Microsoft's SDK, which knows none: it connects to an address of this
//! machine's own, and what it says there is carried on as [`dial`] does.
//!
//! Between the two the bytes go in the clear, on the loopback interface only.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncWriteExt, copy, split},
    net::{TcpListener, TcpStream},
    pin, select,
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::{Destination, dial};
use crate::{HubError, HubTls, way::Way};

/// Connections at the same time: one for each partition that a hub can have, and as many questions.
const PLACES: usize = 64;
/// Once the SDK has said its last, what the hub says to it is carried for so long: its good-bye. A hub that
/// is gone without a word must not hold a place for ever.
const LINGER: Duration = Duration::from_secs(5);
/// Pause after a failed accept: without one, a lack of file descriptors would spin.
const PAUSE: Duration = Duration::from_millis(100);

/// An address that leads to a destination for as long as this lives.
#[derive(Debug)]
pub(crate) struct Relay {
    address: SocketAddr,
    _end: DropGuard,
}

impl Relay {
    /// Must be called within a tokio runtime.
    pub(crate) fn start(to: Destination, tls: HubTls, way: Way) -> Result<Self, HubError> {
        let failed = |error: std::io::Error| HubError::Transport {
            what: "listening on the loopback interface, for the way through the proxy".into(),
            cause: error.to_string(),
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        let listener = TcpListener::from_std(listener).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let end = CancellationToken::new();
        let route = Arc::new((to, tls, way));
        let stop = end.clone();
        tokio::spawn(async move {
            stop.run_until_cancelled(accept(listener, route, &stop))
                .await;
        });
        Ok(Self {
            address,
            _end: end.drop_guard(),
        })
    }

    /// Where the SDK is to connect to.
    pub(crate) fn endpoint(&self) -> String {
        format!("amqp://{}", self.address)
    }
}

type Route = Arc<(Destination, HubTls, Way)>;

async fn accept(listener: TcpListener, route: Route, stop: &CancellationToken) {
    let places = Arc::new(Semaphore::new(PLACES));
    // The semaphore is never closed.
    while let Ok(place) = Arc::clone(&places).acquire_owned().await {
        let Ok((near, _)) = listener.accept().await else {
            sleep(PAUSE).await;
            continue;
        };
        let (route, stop) = (Arc::clone(&route), stop.clone());
        tokio::spawn(async move {
            stop.run_until_cancelled(carry(near, &route)).await;
            drop(place);
        });
    }
}

/// Carries one connection until the hub ends it, or soon after the SDK does.
async fn carry(mut near: TcpStream, route: &(Destination, HubTls, Way)) {
    let (to, tls, way) = route;
    let _ = near.set_nodelay(true);
    let far = match dial(to, tls, way).await {
        Ok(far) => far,
        // The SDK only sees that its connection was closed.
        Err(error) => {
            tracing::warn!(%error, "no way to the built-in endpoint");
            return;
        }
    };
    let (mut from_sdk, mut to_sdk) = near.split();
    let (mut from_hub, mut to_hub) = split(far);
    let asking = async {
        copy(&mut from_sdk, &mut to_hub).await?;
        to_hub.shutdown().await
    };
    let answering = copy(&mut from_hub, &mut to_sdk);
    pin!(answering);
    let ended: io::Result<()> = select! {
        ended = &mut answering => ended.map(drop),
        ended = asking => match timeout(LINGER, answering).await {
            Ok(answered) => ended.and(answered.map(drop)),
            Err(_) => ended,
        },
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection through the proxy was lost");
    }
}
