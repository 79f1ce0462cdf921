//! The operator's process.

use std::process::ExitCode;

use clap::Parser;
use operator::{
    api::crd,
    args::{Arguments, Command},
    run, shutdown, telemetry,
};

/// `EX_USAGE` of BSD's sysexits: the command line is wrong, and trying again does not help.
const USAGE: u8 = 64;

#[tokio::main]
async fn main() -> ExitCode {
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
