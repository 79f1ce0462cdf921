//! The signal to end.

use tokio::signal::unix::{SignalKind, signal as listen};

/// Ends with the first SIGTERM (Kubernetes) or SIGINT (a terminal).
pub async fn signal() {
    let (Ok(mut term), Ok(mut interrupt)) = (
        listen(SignalKind::terminate()),
        listen(SignalKind::interrupt()),
    ) else {
        // Without a handler the default holds: the process ends at once.
        return std::future::pending().await;
    };
    let name = tokio::select! {
        _ = term.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "ending");
}
