//! `/livez`, `/readyz` and `/metrics` on one port.

use std::{future::IntoFuture, net::SocketAddr};

use axum::{Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::{metrics::Metrics, report::Reporter};

#[derive(Clone)]
struct Faces {
    metrics: Metrics,
    reporter: Reporter,
}

/// Serves until `shutdown`; tells the address that it is bound to.
///
/// # Errors
/// If the port cannot be bound.
pub async fn serve(
    listen: SocketAddr,
    metrics: Metrics,
    reporter: Reporter,
    shutdown: CancellationToken,
) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(listen).await?;
    let address = listener.local_addr()?;
    let app = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(text))
        .with_state(Faces { metrics, reporter });
    let server = axum::serve(listener, app).with_graceful_shutdown(shutdown.cancelled_owned());
    let task = tokio::spawn(async move {
        if let Err(error) = server.into_future().await {
            tracing::error!(%error, "the admin port failed");
        }
    });
    Ok((address, task))
}

/// Depends on nothing outside: an answer proves that the runtime still turns.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(faces): State<Faces>) -> impl IntoResponse {
    match faces.reporter.unready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn text(State(faces): State<Faces>) -> impl IntoResponse {
    (
        [("content-type", "text/plain; version=0.0.4")],
        faces.metrics.text(),
    )
}
