//! The command line.

use std::{net::SocketAddr, num::NonZeroUsize};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};

use crate::{api::PullPolicy, desired::Defaults};

/// Reconciles `AzureIotHubConnector` resources into connector pods.
#[derive(Debug, Clone, Parser)]
#[command(name = "azure-iot-hub-operator", version, about)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// What to do; without one, the operator runs.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// How it runs.
    #[command(flatten)]
    pub operator: OperatorArgs,
}

/// What else the program can do.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum Command {
    /// Prints the custom resource definition as YAML.
    Crd,
}

/// How the operator runs.
#[derive(Debug, Clone, Args)]
pub struct OperatorArgs {
    /// Namespace to watch; may be given several times. Default: all namespaces.
    #[arg(
        long = "watch-namespace",
        env = "WATCH_NAMESPACE",
        value_delimiter = ','
    )]
    pub watch_namespaces: Vec<String>,
    /// Which of several operators writes.
    #[command(flatten)]
    pub election: ElectionArgs,
    /// The pods that are made.
    #[command(flatten)]
    pub connector: ConnectorArgs,
    /// How many connectors replace their pods at the same time; others wait, whatever asks for it. Five leave most
    /// connections of a platform standing, and a bad image shows before it is everywhere.
    #[arg(long, env = "MAX_CONCURRENT_ROLLOUTS", default_value = "5")]
    pub max_concurrent_rollouts: NonZeroUsize,
    /// How long after its rollout a pod may still have old settings or secrets before another takes its place, in
    /// seconds. Its node brings a changed Secret within a minute.
    #[arg(long, env = "STALE_MEMBER_SECONDS", default_value = "60")]
    pub stale_member_seconds: u64,
    /// How long Leases of a connector that is gone are kept after their last write, in seconds: 8 days, since a hub
    /// keeps events for at most 7 and what they point at is gone then.
    #[arg(long, env = "RETAIN_SECONDS", default_value = "691200")]
    pub retain_seconds: u64,
    /// How long a watch may hear nothing while the API server answers others, in seconds; then `/livez` fails. Two
    /// lists that hang take 65 s each and the waits between them 20 s: who is deaf after that has no way out of
    /// its own. The least is what passes while all is well: 20 s
    /// between two beginnings of a watch, and 30 s until a silent server counts as away.
    #[arg(long, env = "DEAF_SECONDS", default_value = "150", value_parser = clap::value_parser!(u64).range(60..))]
    pub deaf_seconds: u64,
    /// Address of probes and metrics.
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// What is logged.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Which of several operators writes: the holder of a Lease.
#[derive(Debug, Clone, Args)]
pub struct ElectionArgs {
    /// Write only while holding the Lease. Without it, never run two operators.
    #[arg(long, env = "LEADER_ELECT", default_value_t = true, action = ArgAction::Set)]
    pub leader_elect: bool,
    /// Namespace of the Lease. Default: the operator's own, or that of the kubeconfig's context.
    #[arg(long, env = "LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of the Lease: the same for all operators that stand by for each other.
    #[arg(long, env = "LEASE_NAME", default_value = "azure-iot-hub-operator")]
    pub lease_name: String,
    /// What this operator is called in the Lease; made unique by an ending of its own.
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub identity: String,
}

/// The pods that are made.
#[derive(Debug, Clone, Args)]
pub struct ConnectorArgs {
    /// Image of the connector, for resources that name none.
    #[arg(
        long,
        env = "CONNECTOR_IMAGE",
        default_value = concat!("localhost/azure-iot-hub-connector:", env!("CARGO_PKG_VERSION"))
    )]
    pub connector_image: String,
    /// When the image is pulled, for resources that do not say: Always, `IfNotPresent` or Never.
    #[arg(long, env = "CONNECTOR_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = pull_policy)]
    pub connector_image_pull_policy: PullPolicy,
}

/// What is logged.
#[derive(Debug, Clone, Args)]
pub struct LogArgs {
    /// Level, or directives such as `operator=debug,kube=info`.
    #[arg(long = "log", env = "LOG", default_value = "info,kube=warn")]
    pub filter: String,
    /// Form of the lines. Default: text on a terminal, JSON elsewhere.
    #[arg(long = "log-format", env = "LOG_FORMAT", default_value = "auto")]
    pub format: LogFormat,
}

/// Form of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Text,
    /// For machines.
    Json,
}

fn pull_policy(text: &str) -> Result<PullPolicy, String> {
    [
        PullPolicy::Always,
        PullPolicy::IfNotPresent,
        PullPolicy::Never,
    ]
    .into_iter()
    .find(|policy| policy.as_str() == text)
    .ok_or_else(|| "must be Always, IfNotPresent or Never".to_owned())
}

impl From<ConnectorArgs> for Defaults {
    fn from(args: ConnectorArgs) -> Self {
        Self {
            image: args.connector_image,
            pull_policy: args.connector_image_pull_policy,
        }
    }
}
