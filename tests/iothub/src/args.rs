//! The command line.

use std::{
    error::Error, io::IsTerminal as _, net::SocketAddr, path::PathBuf, str::FromStr as _,
    time::Duration,
};

use clap::Parser;
use iothub_standin::{
    Addresses, Settings,
    hub::{HubSettings, Route},
    policy::{Policies, Policy},
    tls,
};
use tracing_subscriber::EnvFilter;

/// Port of AMQP over TLS, to which all SDKs connect.
const AMQPS: u16 = 5671;

/// Stand-in for an Azure IoT Hub. In memory, for tests.
// Not `Debug`: it holds keys.
#[derive(Parser)]
#[command(name = "iothub-standin", version)]
pub struct Args {
    /// Host names or addresses that clients know the hub by; tokens are signed for them.
    #[arg(long, value_name = "HOST", value_delimiter = ',', required = true)]
    hub_host: Vec<String>,

    /// Host, and port if not 5671, by which clients know the Event Hubs-compatible endpoint; the next
    /// ones are those that it has after each fail-over.
    #[arg(long, value_name = "HOST[:PORT]", value_delimiter = ',', required = true,
          value_parser = host_and_port)]
    events_host: Vec<(String, u16)>,

    /// Event Hubs-compatible name.
    #[arg(long, value_name = "NAME", default_value = "telemetry")]
    entity: String,

    /// Consumer groups beside $Default.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    consumer_group: Vec<String>,

    /// A shared access policy: name:base64key:rights, rights joined by + or `all`.
    // Read by `apply`: clap's errors would repeat the key.
    #[arg(long, value_name = "POLICY", required = true)]
    policy: Vec<String>,

    /// How many partitions the event stream has; four is what a new hub gets by default.
    #[arg(long, value_name = "COUNT", default_value_t = 4,
          value_parser = clap::value_parser!(u16).range(1..=32))]
    partitions: u16,

    /// How many events each partition keeps. The default is an hour of a partition at the 50 events
    /// a second that scenarios send, and at 1 KiB an event some 200 MB.
    #[arg(long, value_name = "EVENTS", default_value_t = 200_000)]
    retention: usize,

    /// Which of its own events the hub routes into the stream: lifecycle, twin, connection. A new hub
    /// routes none.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    route: Vec<Route>,

    /// How many seconds records of feedback are gathered before they are sent.
    #[arg(long, value_name = "SECONDS", default_value_t = 15.0, value_parser = seconds)]
    feedback_seconds: f64,

    /// Address of the hub's AMQP face.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:5671")]
    hub_amqp: SocketAddr,

    /// Address of the Event Hubs-compatible face.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:5672")]
    events_amqp: SocketAddr,

    /// Address of the same face without TLS, which the service never has. Left out: none.
    #[arg(long, value_name = "ADDRESS")]
    events_plain: Option<SocketAddr>,

    /// Address of the MQTT face.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:8883")]
    mqtt: SocketAddr,

    /// Address of the REST face.
    #[arg(long, value_name = "ADDRESS", default_value = "0.0.0.0:443")]
    https: SocketAddr,

    /// Address of the Event Hubs-compatible AMQP in WebSockets; without it there is none.
    #[arg(long, value_name = "ADDRESS")]
    events_https: Option<SocketAddr>,

    /// Address of the control face: plain HTTP without login, for tests only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    control: SocketAddr,

    /// Certificate chain of all faces but the control face (PEM).
    #[arg(long, value_name = "FILE")]
    tls_cert: PathBuf,

    /// Its private key (PEM).
    #[arg(long, value_name = "FILE")]
    tls_key: PathBuf,

    /// What is logged: a level, or directives such as `info,iothub_standin=debug`.
    #[arg(
        long,
        env = "IOTHUB_STANDIN_LOG",
        value_name = "FILTER",
        default_value = "info",
        value_parser = EnvFilter::from_str
    )]
    log: EnvFilter,
}

impl Args {
    /// What the command line asks for; starts the log. JSON, unless a person looks on.
    ///
    /// # Errors
    /// If a policy or the certificate cannot be used. The texts hold no keys.
    pub fn apply(self) -> Result<Settings, Box<dyn Error>> {
        let lines = tracing_subscriber::fmt()
            .with_env_filter(self.log)
            .with_writer(std::io::stderr);
        if std::io::stderr().is_terminal() {
            lines.with_target(false).init();
        } else {
            lines.json().flatten_event(true).with_target(false).init();
        }
        let policies = self
            .policy
            .iter()
            .map(|text| text.parse::<Policy>())
            .collect::<Result<_, _>>()?;
        let name = self.hub_host.first().map_or("", |host| hub_name(host));
        let events_hosts = self.events_host.iter().map(|(host, _)| host);
        Ok(Settings {
            hub: HubSettings {
                name: name.to_owned(),
                hosts: self.hub_host.iter().chain(events_hosts).cloned().collect(),
                event_hub: self.entity,
                partitions: self.partitions,
                consumer_groups: self.consumer_group,
                retention: self.retention,
                policies: Policies(policies),
                redirect: self.events_host,
                routes: self.route,
                feedback_every: Duration::from_secs_f64(self.feedback_seconds),
            },
            addresses: Addresses {
                mqtt: self.mqtt,
                hub_amqp: self.hub_amqp,
                events_amqp: self.events_amqp,
                events_plain: self.events_plain,
                https: self.https,
                events_https: self.events_https,
                control: self.control,
            },
            tls: tls::from_files(&self.tls_cert, &self.tls_key)?,
        })
    }
}

/// The first label of a host name, as of `{name}.azure-devices.net`; an address has none, and is
/// taken whole.
fn hub_name(host: &str) -> &str {
    if host.parse::<std::net::IpAddr>().is_ok() {
        return host;
    }
    host.split('.').next().unwrap_or(host)
}

fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("no number: {text:?}"))?;
    match Duration::try_from_secs_f64(seconds) {
        Ok(_) => Ok(seconds),
        Err(error) => Err(error.to_string()),
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), String> {
    let (host, port) = match text.rsplit_once(':') {
        None => (text, AMQPS),
        Some((host, port)) => (
            host,
            port.parse().map_err(|_| format!("no port: {port:?}"))?,
        ),
    };
    if host.is_empty() {
        return Err("no host".to_owned());
    }
    Ok((host.to_owned(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_arguments_that_the_scenarios_give() {
        let args = Args::try_parse_from([
            "iothub-standin",
            "--hub-host",
            "hub.ns.svc,10.0.0.1",
            "--events-host",
            "ev.ns.svc",
            "--entity",
            "telemetry",
            "--consumer-group",
            "a,b",
            "--consumer-group",
            "c",
            "--policy",
            "service:c2VjcmV0:ServiceConnect",
            "--policy",
            "owner:c2VjcmV0:all",
            "--route",
            "lifecycle,twin",
            "--hub-amqp",
            "0.0.0.0:5671",
            "--events-amqp",
            "0.0.0.0:5672",
            "--mqtt",
            "0.0.0.0:8883",
            "--https",
            "0.0.0.0:8444",
            "--control",
            "0.0.0.0:8090",
            "--tls-cert",
            "c",
            "--tls-key",
            "k",
        ])
        .unwrap();
        assert_eq!(args.hub_host, ["hub.ns.svc", "10.0.0.1"]);
        assert_eq!(args.events_host, [("ev.ns.svc".to_owned(), 5671)]);
        assert_eq!(args.consumer_group, ["a", "b", "c"]);
        assert_eq!(args.policy.len(), 2);
        assert_eq!(args.route, [Route::Lifecycle, Route::Twin]);
        assert_eq!((args.partitions, args.retention), (4, 200_000));
    }

    #[test]
    fn names_and_ports_are_told_apart() {
        assert_eq!(hub_name("factory.azure-devices.net"), "factory");
        assert_eq!(hub_name("127.0.71.1"), "127.0.71.1");
        assert_eq!(host_and_port("h:1"), Ok(("h".to_owned(), 1)));
        assert!(host_and_port("h:x").is_err());
        assert!(host_and_port(":1").is_err());
    }
}
