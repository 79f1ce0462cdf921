//! settings → log → run until a signal → drain.

use std::process::ExitCode;

use clap::Parser;
use connector::{args::Args, ingress::mapping::worker, log, run, shutdown, trust};

/// An event is a hundred small pieces of memory on its way, many of which are freed by another thread.
#[global_allocator]
static MEMORY: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Bad usage, as in BSD's `sysexits.h`.
const USAGE: u8 = 64;

/// Threads at most: partitions are shared by pods, and each thread has buffers of its own.
const THREADS: usize = 4;

fn main() -> ExitCode {
    // Huge pages would double what a pod at rest takes. Where the kernel does not know them there is nothing
    // to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    // Before anything of a connector's is begun.
    if let Some(code) = worker::run_if_asked() {
        return code;
    }
    // As many as the pod's limit allows: with one processor a second thread only costs switches.
    let threads = std::thread::available_parallelism().map_or(1, |all| all.get().min(THREADS));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => runtime.block_on(start()),
        Err(error) => fail(1, &error),
    }
}

async fn start() -> ExitCode {
    let args = Args::try_parse().unwrap_or_else(|error| {
        let _ = error.print();
        std::process::exit(if error.use_stderr() { USAGE.into() } else { 0 });
    });
    let settings = match connector_config::load(&args.config) {
        Ok(settings) => settings,
        Err(error) => return fail(USAGE, &error),
    };
    if args.check {
        return ExitCode::SUCCESS;
    }
    if let Err(error) = trust::established(&settings) {
        return fail(1, &error);
    }
    let logs = match log::start(&args.log, args.log_format) {
        Ok(logs) => logs,
        Err(error) => return fail(USAGE, &error),
    };
    // Ours and the SDK's TLS both need to know it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run::run(settings, &args, logs, shutdown::requested()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(error.exit_code(), &error),
    }
}

fn fail(code: u8, error: &dyn std::error::Error) -> ExitCode {
    eprintln!("azure-iot-hub-connector: {error}");
    ExitCode::from(code)
}
