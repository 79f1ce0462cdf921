//! The operator's process.

use std::process::ExitCode;

use clap::Parser;
use operator::{
    api::crd,
    args::{Arguments, Command},
    run, shutdown, telemetry,
};

/// The static C library's allocator has one lock for all threads, and a look at a resource is thousands of
/// small pieces of memory.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `EX_USAGE` of BSD's sysexits: the command line is wrong, and trying again does not help.
const USAGE: u8 = 64;

/// Threads at most: what is done at a time is bounded by the workers of the queue and by the API server, and
/// each thread has buffers of its own.
const THREADS: usize = 4;

fn main() -> ExitCode {
    // Huge pages would double what a pod at rest takes. Where the kernel does not know them there is nothing
    // to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    let threads = std::thread::available_parallelism().map_or(1, |all| all.get().min(THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(start()),
        Err(error) => {
            eprintln!("azure-iot-hub-operator: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn start() -> ExitCode {
    let Arguments { command, operator } = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { USAGE } else { 0 });
        }
    };
    if let Some(Command::Crd) = command {
        return crd::print();
    }
    if let Err(error) = telemetry::start(&operator.log) {
        eprintln!("--log: {error}");
        return ExitCode::from(USAGE);
    }
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run::run(operator, shutdown::signal()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "cannot start");
            ExitCode::FAILURE
        }
    }
}
