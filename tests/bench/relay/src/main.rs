//! The least that can stand between hub and platform: each event becomes one request, and each request one
//! operation of the hub, at once.
//!
//! It uses the libraries that the connector uses on either side and nothing of the connector: no lanes, no
//! order, no types of the Thing's own, no checkpoint, no limits. What a connector's latency is beyond this
//! one's is what the connector adds.

mod commands;
mod events;

use std::{
    error::Error, num::NonZeroU8, path::PathBuf, process::ExitCode, sync::Arc, time::Duration,
};

use alwayson::{Claim, Credentials, Incoming, Link, Node, NodeSettings, Timings, TlsSettings};
use clap::{Args, Parser, Subcommand};
use tokio::{sync::mpsc, time::timeout};
use tokio_util::sync::CancellationToken;
use url::Url;

use commands::Commands;
use events::Events;

/// Logging in to the platform, with tries again.
const CONNECT: Duration = Duration::from_secs(20);
/// Requests of the platform that wait to be looked at: the connector's own number.
const QUEUE: usize = 1024;

/// Carries events or commands with nothing between.
#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Reads events and drops them.
    Read {
        #[command(flatten)]
        events: Events,
    },
    /// Carries events to the platform.
    Events {
        #[command(flatten)]
        events: Events,
        #[command(flatten)]
        platform: Platform,
    },
    /// Carries the platform's requests to devices.
    Commands {
        #[command(flatten)]
        commands: Commands,
        #[command(flatten)]
        platform: Platform,
    },
}

/// How the platform is reached.
#[derive(Debug, Args)]
#[group(skip)]
struct Platform {
    /// Its AlwaysOn URL.
    #[arg(long)]
    platform: Url,
    /// File with the application key.
    #[arg(long)]
    app_key: PathBuf,
    /// Certificates of the authority to trust for the platform, and for the hub's own host (PEM).
    #[arg(long)]
    ca: Option<PathBuf>,
}

// As many threads as the connector has: one for each processor that it may use.
#[tokio::main]
async fn main() -> ExitCode {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match relay(Arguments::parse().what).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn relay(what: What) -> Result<(), Box<dyn Error>> {
    match what {
        What::Read { events } => events.carry(None).await,
        What::Events { events, platform } => {
            // Nothing is bound, so the platform asks for nothing.
            let (node, _none) = platform.connect().await?;
            events.carry(Some(&node)).await
        }
        What::Commands { commands, platform } => {
            let (node, requests) = platform.connect().await?;
            commands.carry(&node, requests, platform.ca()?).await
        }
    }
}

struct Key(String);

impl Credentials for Key {
    fn claims(&self) -> Result<Vec<Claim>, String> {
        Ok(vec![Claim {
            name: "appKey".to_owned(),
            value: self.0.trim().to_owned(),
        }])
    }
}

impl Platform {
    fn ca(&self) -> std::io::Result<Option<Vec<u8>>> {
        self.ca.as_ref().map(std::fs::read).transpose()
    }

    async fn connect(&self) -> Result<(Node, mpsc::Receiver<Incoming>), Box<dyn Error>> {
        let key = Key(std::fs::read_to_string(&self.app_key)?);
        let settings = NodeSettings {
            name: "platform".into(),
            url: self.platform.clone(),
            tls: TlsSettings {
                ca: self.ca()?,
                server_name: None,
            },
            pipes: NonZeroU8::MIN,
            timings: Timings::default(),
        };
        let (sender, requests) = mpsc::channel(QUEUE);
        let node = Node::start(settings, Arc::new(key), sender, CancellationToken::new());
        let mut state = node.state();
        let up = state.wait_for(|state| state.link == Link::Up);
        timeout(CONNECT, up).await??;
        Ok((node, requests))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }
}
