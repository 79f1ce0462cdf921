//! arguments → log → run until a signal → stop.

mod args;

use std::{error::Error, process::ExitCode};

use args::Args;
use clap::Parser as _;
use iothub_standin::{Addresses, Settings, run};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Bad usage, as in BSD's `sysexits.h`.
const USAGE: u8 = 64;

/// More threads than this the stand-in has no use for.
const MOST_THREADS: usize = 2;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) if error.use_stderr() => return fail(USAGE, &one_line(&error.to_string())),
        Err(help) => {
            let _ = help.print();
            return ExitCode::SUCCESS;
        }
    };
    // Whoever asks for the process's provider gets the same as the faces.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let settings = match args.apply() {
        Ok(settings) => settings,
        Err(error) => return fail(USAGE, &error.to_string()),
    };
    // On one core a second thread only takes turns with the first.
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads.min(MOST_THREADS))
        .enable_all()
        .build();
    let ended = runtime
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(serve(settings)));
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error.to_string()),
    }
}

async fn serve(settings: Settings) -> Result<(), Box<dyn Error>> {
    let (mut term, mut int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let shutdown = CancellationToken::new();
    let running = run(settings, shutdown.clone()).await?;
    let Addresses {
        mqtt,
        hub_amqp,
        events_amqp,
        events_plain,
        https,
        events_https,
        control,
    } = running.addresses;
    tracing::info!(%mqtt, %hub_amqp, %events_amqp, ?events_plain, %https, ?events_https, %control, "listening");
    tokio::select! {
        _ = term.recv() => tracing::info!("SIGTERM: stopping"),
        _ = int.recv() => tracing::info!("SIGINT: stopping"),
    }
    shutdown.cancel();
    running.ended().await;
    Ok(())
}

/// The first paragraph of clap's text: what is wrong, without usage and hints.
fn one_line(text: &str) -> String {
    let paragraph = text.split("\n\n").next().unwrap_or(text);
    let words: Vec<&str> = paragraph.split_whitespace().collect();
    words.join(" ").trim_start_matches("error: ").to_owned()
}

fn fail(code: u8, error: &str) -> ExitCode {
    // The log may not have been started.
    eprintln!("iothub-standin: {error}");
    ExitCode::from(code)
}
