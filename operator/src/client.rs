//! How the operator reaches the API server.

use std::time::Duration;

use kube::{Client, Config};

use crate::watch::WATCH_SECONDS;

/// A connection is there after milliseconds. Where a server has fallen silent, each try that began before
/// it spoke again is lost, so tries are short.
const CONNECT: Duration = Duration::from_secs(5);
/// A connection from which nothing has come for this long is dead: the quietest ones are watches, and the
/// server ends each in time.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);

/// A client for the kubeconfig or service account of its surroundings.
///
/// # Errors
/// What is wrong with them, in words.
pub async fn connect() -> Result<Client, String> {
    let config = Config::infer().await.map_err(|error| error.to_string())?;
    Client::try_from(tuned(config)).map_err(|error| error.to_string())
}

/// The same way to a server, with the operator's own patience.
#[must_use]
pub fn tuned(mut config: Config) -> Config {
    config.connect_timeout = Some(CONNECT);
    // Also for connections that lie idle: a silent server would have each of them swallow a request.
    config.read_timeout = Some(SILENCE);
    // Reconciles and watches have a backoff of their own that can be seen and has a bound; the client's would
    // sleep within a request for as long as `Retry-After` says.
    config.default_retry = false;
    config
}
