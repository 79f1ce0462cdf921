//! The REST face: registry, twins and direct methods.
//!
//! Source: Microsoft Learn, "IoT Hub REST API, service", api-version 2021-04-12, and what the Python
//! SDK (azure-iot-hub 2.7.0) sends and expects. Not there: bulk operations, jobs of the registry,
//! configurations, file upload, X.509 identities, replacing of twins.

mod access;
mod error;
mod job;
mod metered;
mod method;
mod page;
mod query;
mod registry;
mod request;
mod twin;

use std::{future::Future, io, sync::Arc};

use axum::{
    Router,
    extract::connect_info::Connected,
    middleware,
    routing::{delete, get, post},
    serve::{IncomingStream, Listener},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, DuplexStream, copy_bidirectional, duplex},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Connection, Hub},
    listen::awake,
    web_socket,
};

/// Between a connection and the HTTP server: one TLS record each way.
const PIPE: usize = 16 * 1024;

/// Connections that the HTTP server has not picked up yet. It picks them up at once.
const WAITING: usize = 16;

/// The way to the HTTP server.
pub(crate) type Rest = mpsc::Sender<(DuplexStream, Line)>;

/// The connection that a request has come on.
#[derive(Debug, Clone)]
pub(crate) struct Line(CancellationToken);

impl Connected<IncomingStream<'_, Streams>> for Line {
    fn connect_info(stream: IncomingStream<'_, Streams>) -> Self {
        stream.remote_addr().clone()
    }
}

/// The hub's HTTP server, to be run; and the way to it. It takes WebSockets as well.
pub(crate) fn router(hub: &Arc<Hub>) -> (Rest, impl Future<Output = ()> + Send + 'static) {
    serving(routes(Arc::clone(hub)).merge(web_socket::of_hub(hub)))
}

/// The HTTP server of the Event Hubs-compatible endpoint, which takes nothing but WebSockets.
pub(crate) fn events_router(hub: &Arc<Hub>) -> (Rest, impl Future<Output = ()> + Send + 'static) {
    serving(web_socket::of_events(hub))
}

fn serving(app: Router) -> (Rest, impl Future<Output = ()> + Send + 'static) {
    let (rest, streams) = mpsc::channel(WAITING);
    let server = async move {
        let app = app.into_make_service_with_connect_info::<Line>();
        if let Err(error) = axum::serve(Streams(streams), app).await {
            tracing::error!(%error, "the REST face has failed");
        }
    };
    (rest, server)
}

/// Serves one connection until the client goes or it is dropped.
///
/// The HTTP server is behind a pipe, so that a fault can silence or cut the connection at any time
/// without its help.
pub(crate) async fn serve<S>(rest: Rest, hub: Arc<Hub>, mut stream: S, connection: Connection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut near, far) = duplex(PIPE);
    let line = Line(connection.dropped.clone());
    if rest.send((far, line)).await.is_err() {
        return;
    }
    let dropped = connection.dropped.clone();
    let mut copying = std::pin::pin!(copy_bidirectional(&mut stream, &mut near));
    let piped = async {
        loop {
            awake(&hub, &connection).await;
            tokio::select! {
                _ = &mut copying => return,
                () = connection.wake.notified() => {}
            }
        }
    };
    dropped.run_until_cancelled(piped).await;
}

/// What axum accepts connections from.
pub(crate) struct Streams(mpsc::Receiver<(DuplexStream, Line)>);

impl Listener for Streams {
    type Io = DuplexStream;
    type Addr = Line;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        match self.0.recv().await {
            Some(accepted) => accepted,
            // Nobody will connect any more; the server ends with the task that it runs in.
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(Line(CancellationToken::new()))
    }
}

fn routes(hub: Arc<Hub>) -> Router {
    let twin = || get(twin::read).patch(twin::patch);
    let identity = || {
        get(registry::read)
            .put(registry::put)
            .delete(registry::delete)
    };
    Router::new()
        .route("/devices", get(registry::list))
        .route("/devices/query", post(query::find))
        .route("/devices/{device}", identity())
        .route("/devices/{device}/modules", get(registry::modules))
        .route("/devices/{device}/modules/{module}", identity())
        .route("/devices/{device}/commands", delete(registry::purge))
        .route("/statistics/devices", get(registry::statistics))
        .route("/twins/{device}", twin())
        .route("/twins/{device}/modules/{module}", twin())
        .route("/twins/{device}/methods", post(method::invoke))
        .route(
            "/twins/{device}/modules/{module}/methods",
            post(method::invoke),
        )
        .route("/jobs/v2/query", get(job::list))
        .route("/jobs/v2/{id}", get(job::read).put(job::schedule))
        .route("/jobs/v2/{id}/cancel", post(job::cancel))
        .fallback(error::no_such_operation)
        .method_not_allowed_fallback(error::no_such_operation)
        // The last is the first that a request meets.
        .layer(middleware::from_fn_with_state(
            Arc::clone(&hub),
            metered::pass,
        ))
        .layer(middleware::from_fn_with_state(
            Arc::clone(&hub),
            access::check,
        ))
        .layer(middleware::from_fn(request::whole))
        .with_state(hub)
}

#[cfg(test)]
mod tests;
