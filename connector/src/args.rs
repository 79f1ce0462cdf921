//! The command line.

use std::{net::SocketAddr, path::PathBuf};

use clap::Parser;

use crate::log::LogFormat;

/// Carries telemetry of an Azure IoT Hub's devices to ThingWorx, and ThingWorx's requests to the devices.
#[derive(Debug, Clone, Parser)]
#[command(name = "azure-iot-hub-connector", version)]
pub struct Args {
    /// Settings file (YAML). Secrets are not in it, but in files that it names.
    #[arg(long, env = "CONNECTOR_CONFIG", value_name = "FILE")]
    pub config: PathBuf,

    /// Address of /livez, /readyz and /metrics.
    #[arg(
        long,
        env = "CONNECTOR_LISTEN",
        default_value = "0.0.0.0:8080",
        value_name = "ADDRESS"
    )]
    pub listen: SocketAddr,

    /// What is logged: a level, or directives such as `info,connector=debug`.
    #[arg(
        long,
        env = "CONNECTOR_LOG",
        default_value = "info",
        value_name = "FILTER"
    )]
    pub log: String,

    /// How it is logged. Default: plain on a terminal, else json.
    #[arg(long, env = "CONNECTOR_LOG_FORMAT", value_enum)]
    pub log_format: Option<LogFormat>,

    /// Only check the settings file, then exit: 0 if it is good, 64 if not.
    #[arg(long)]
    pub check: bool,
}
