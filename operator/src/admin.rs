//! Probes and metrics over HTTP.

use std::{net::SocketAddr, sync::Arc};

use axum::{
    Router,
    http::{StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{health::Health, metrics::Metrics};

/// Opens the port.
///
/// # Errors
/// If the address is taken or not ours.
pub async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves `/livez`, `/readyz` and `/metrics` until `shutdown`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    health: Health,
    metrics: Arc<Metrics>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let (ready, measure) = (health.clone(), health.clone());
    let router = Router::new()
        .route(
            "/livez",
            // A restart does not help against an API server that is away.
            get(async move || match health.alive(Instant::now()) {
                Ok(()) => (StatusCode::OK, "ok".to_owned()),
                Err(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            }),
        )
        .route(
            "/readyz",
            get(async move || match ready.unready() {
                None => (StatusCode::OK, "ok".to_owned()),
                Some(why) => (StatusCode::SERVICE_UNAVAILABLE, why),
            }),
        )
        .route(
            "/metrics",
            get(async move || match measured(&measure, &metrics) {
                Ok(text) => {
                    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response()
                }
                Err(error) => {
                    (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response()
                }
            }),
        );
    axum::serve(listener, router)
        .with_graceful_shutdown(shutdown.cancelled_owned())
        .await
}

fn measured(health: &Health, metrics: &Metrics) -> Result<String, prometheus::Error> {
    health.measure(Instant::now());
    metrics.text()
}
