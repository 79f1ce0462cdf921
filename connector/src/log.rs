//! Logs: JSON in pods, plain on a terminal; always to standard error.

use std::io::IsTerminal;

use clap::ValueEnum;
use tracing_subscriber::{EnvFilter, filter::ParseError};

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

/// Starts logging.
///
/// # Errors
/// If the filter is no filter.
pub fn start(filter: &str, format: Option<LogFormat>) -> Result<(), ParseError> {
    // The SDKs tell of each frame at info and of each retry at warn; what matters comes from us.
    const QUIET: &str =
        "azure_core_amqp=error,azure_messaging_eventhubs=error,fe2o3_amqp=error,azure_core=error";
    let filter = EnvFilter::builder().parse(format!("{QUIET},{filter}"))?;
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Plain
    } else {
        LogFormat::Json
    });
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    match format {
        LogFormat::Json => lines.json().flatten_event(true).with_target(false).init(),
        LogFormat::Plain => lines.with_target(false).with_ansi(terminal).init(),
    }
    Ok(())
}
