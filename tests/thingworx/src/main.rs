//! The stand-in as a program.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser;
use rustls::{ServerConfig, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use thingworx_standin::{ClusterSettings, Config, Rights, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Stand-in for a ThingWorx cluster: AlwaysOn nodes that share one model, and a REST face.
#[derive(Debug, Parser)]
#[command(version)]
struct Args {
    /// Address of a node's AlwaysOn face; give one for each node.
    #[arg(
        long,
        env = "THINGWORX_NODES",
        value_delimiter = ',',
        default_value = "0.0.0.0:8443,0.0.0.0:8444,0.0.0.0:8445"
    )]
    node: Vec<SocketAddr>,
    /// Address of the REST face (HTTP).
    #[arg(long, env = "THINGWORX_REST", default_value = "0.0.0.0:8080")]
    rest: SocketAddr,
    /// Application keys that are accepted.
    #[arg(
        long,
        env = "THINGWORX_APP_KEYS",
        value_delimiter = ',',
        required = true,
        hide_env_values = true
    )]
    app_key: Vec<String>,
    /// Certificate chain of the nodes (PEM). Without it they speak ws://.
    #[arg(long, env = "THINGWORX_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Its private key (PEM).
    #[arg(long, env = "THINGWORX_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// Seed of the draws among binders. Default: drawn, and logged.
    #[arg(long, env = "THINGWORX_SEED")]
    seed: Option<u64>,
    /// Longest random delay between a draw and the sending of the request, in milliseconds.
    #[arg(long, env = "THINGWORX_DRAW_DELAY_MS", default_value_t = 0)]
    draw_delay_ms: u64,
    /// An edge must answer within so many seconds.
    #[arg(long, env = "THINGWORX_REQUEST_TIMEOUT_S", default_value_t = 30)]
    request_timeout_s: u64,
    /// Counts values and their ages instead of logging each; keeps no draws.
    #[arg(long, env = "THINGWORX_COUNT_ONLY")]
    count_only: bool,
    /// With `--count-only`: the property that tells when its event came into being, in microseconds of
    /// the machine's monotonic clock.
    #[arg(long, env = "THINGWORX_STAMP", default_value = "stamp")]
    stamp: String,
}

/// More threads than this the stand-in has no use for.
const MOST_THREADS: usize = 2;

fn main() -> ExitCode {
    let args = Args::parse();
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .init();
    // On one core a second thread only takes turns with the first.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(MOST_THREADS))
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(start(args)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("thingworx-standin: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start(args: Args) -> Result<(), Box<dyn std::error::Error>> {
    let seed = args.seed.unwrap_or_else(rand::random);
    tracing::info!(seed, "seed of the draws");
    let tls = match (&args.tls_cert, &args.tls_key) {
        (Some(cert), Some(key)) => {
            let chain = CertificateDer::pem_file_iter(cert)?.collect::<Result<Vec<_>, _>>()?;
            let key = PrivateKeyDer::from_pem_file(key)?;
            let provider = Arc::new(aws_lc_rs::default_provider());
            let config = ServerConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_no_client_auth()
                .with_single_cert(chain, key)?;
            Some(Arc::new(config))
        }
        _ => None,
    };
    let cluster = ClusterSettings {
        app_keys: args.app_key.into_iter().collect(),
        // So that every scenario proves them to be enough.
        rights: Rights::connector(),
        seed,
        draw_delay: Duration::from_millis(args.draw_delay_ms),
        request_timeout: Duration::from_secs(args.request_timeout_s),
        count_only: args.count_only.then_some(args.stamp),
        ..ClusterSettings::default()
    };
    let shutdown = CancellationToken::new();
    let config = Config {
        nodes: args.node,
        rest: args.rest,
        tls,
        cluster,
    };
    let running = run(config, shutdown.clone()).await?;
    tracing::info!(nodes = ?running.nodes, rest = %running.rest, "listening");
    let mut term = signal(SignalKind::terminate())?;
    let mut int = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    shutdown.cancel();
    running.ended().await;
    Ok(())
}
