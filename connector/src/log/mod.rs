//! Logs: JSON in pods, plain on a terminal; always to standard error. The last lines and the levels can be
//! seen and changed from the platform.

mod level;
mod recent;

use std::{io::IsTerminal, sync::Arc};

use clap::ValueEnum;
use tracing_subscriber::{
    EnvFilter, Layer, filter::ParseError, layer::SubscriberExt, reload, util::SubscriberInitExt,
};

pub use level::{BadLevel, Levels};
pub use recent::{Line, Recent};

/// How lines of the log look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Plain,
}

/// What the platform sees of the log, and changes of it. Cheap to clone.
#[derive(Clone)]
pub struct Logs {
    /// The last lines.
    pub recent: Recent,
    /// How much is logged.
    pub levels: Arc<Levels>,
}

/// Starts logging.
///
/// # Errors
/// If the filter is no filter.
pub fn start(filter: &str, format: Option<LogFormat>) -> Result<Logs, ParseError> {
    // The SDKs tell of each frame at info and of each retry at warn; what matters comes from us.
    const QUIET: &str =
        "azure_core_amqp=error,azure_messaging_eventhubs=error,fe2o3_amqp=error,azure_core=error";
    let base = format!("{QUIET},{filter}");
    let (filter, handle) = reload::Layer::new(EnvFilter::builder().parse(&base)?);
    let terminal = std::io::stderr().is_terminal();
    let format = format.unwrap_or(if terminal {
        LogFormat::Plain
    } else {
        LogFormat::Json
    });
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_target(false);
    let lines = match format {
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
        LogFormat::Plain => lines.with_ansi(terminal).boxed(),
    };
    let recent = Recent::default();
    tracing_subscriber::registry()
        .with(filter)
        .with(lines)
        .with(recent.clone())
        .init();
    let change = move |filter| handle.reload(filter).map_err(|error| error.to_string());
    Ok(Logs {
        recent,
        levels: Arc::new(Levels::new(base, change)),
    })
}
