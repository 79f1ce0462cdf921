//! The hub's senders and its built-in endpoint, proven with this pod's own credentials.

use std::time::Duration;

use connector_config::{File, IotHub};
use iothub::{
    C2dSender, EventHubsConnectionString, HubAmqpSettings, HubConnectionString, HubError, HubRest,
    HubRestSettings, HubTls, Proxy, Transport, Way,
};
use tokio_util::sync::CancellationToken;

use super::{
    RunError,
    endpoint::{Endpoint, Endpoints},
    read_file,
};
use crate::{
    egress::{Hub, Mark, RegistryRights, Size, Ways},
    identity::MemberId,
    member::Members,
    report::{Reporter, Trouble},
    secret::SecretFile,
};

/// A proof that takes longer is tried again.
pub(super) const PROOF: Duration = Duration::from_secs(20);
/// Cloud-to-device messages that wait to be sent.
const C2D_QUEUE: usize = 512;

/// Everything that goes to the hub.
pub(super) struct Hubs {
    hub: Hub,
    /// How the hub's feedback is read, if it is.
    pub(super) feedback: Option<(HubAmqpSettings, Mark)>,
    /// What is known of the policy's rights on the registry.
    pub(super) rights: RegistryRights,
    /// Where telemetry is read from.
    pub(super) endpoints: Endpoints,
}

/// What could not be proven.
#[derive(Debug)]
pub(super) enum Unproven {
    /// The hub refuses, or cannot be reached.
    Hub { what: &'static str, error: HubError },
    /// The endpoint of the settings is the hub's no more.
    Moved(Trouble),
}

impl Hubs {
    /// Reads the connection strings and begins to connect.
    pub(super) fn new(
        settings: &IotHub<File, File>,
        mark: Mark,
        members: Members,
        member: &MemberId,
        reporter: &Reporter,
        end: CancellationToken,
    ) -> Result<Self, RunError> {
        let IotHub {
            connection_string,
            registry_connection_string,
            event_hubs,
            tier,
            units,
            transport,
            proxy,
            messages: _,
            commands,
            dead_letter: _,
            tls,
        } = settings;
        let connection: HubConnectionString = parse("iotHub.connectionString", connection_string)?;
        let registry = registry_connection_string.as_ref();
        let registry = registry
            .map(|file| parse::<HubConnectionString>("iotHub.registryConnectionString", file))
            .transpose()?;
        let given = event_hubs.connection_string.as_ref();
        let given = given
            .map(|file| {
                parse::<EventHubsConnectionString>("iotHub.eventHubs.connectionString", file)
            })
            .transpose()?;
        let ca = tls.as_ref().and_then(|tls| tls.ca.as_ref());
        let ca = ca
            .map(|file| read_file("iotHub.tls.ca", file))
            .transpose()?;
        let (policy, setting) = match &registry {
            Some(registry) => (&registry.policy, "iotHub.registryConnectionString"),
            None => (&connection.policy, "iotHub.connectionString"),
        };
        let rights = RegistryRights {
            policy: policy.clone(),
            setting,
            reporter: reporter.clone(),
        };
        let tls = HubTls {
            ca: ca.map(Into::into),
        };
        let proxy: Option<Proxy> = proxy
            .as_deref()
            .map(str::parse)
            .transpose()
            .map_err(|error| RunError::Settings(format!("iotHub.proxy: {error}")))?;
        let way = Way {
            transport: match transport {
                connector_config::Transport::Amqp => Transport::Amqp,
                connector_config::Transport::WebSockets => Transport::WebSockets,
            },
            proxy: proxy.clone(),
        };
        let amqp = HubAmqpSettings {
            connection: connection.clone(),
            tls: tls.clone(),
            application_id: member.as_str().to_owned(),
            address: None,
            way,
        };
        let rest = |connection: HubConnectionString| {
            let settings = HubRestSettings {
                connection,
                tls: tls.clone(),
                address: None,
                proxy: proxy.clone(),
            };
            HubRest::new(settings).map_err(|error| RunError::Settings(format!("iotHub: {error}")))
        };
        let registry = registry.map(rest).transpose()?;
        let rest = rest(connection)?;
        let group = event_hubs.consumer_group.clone();
        let endpoints = Endpoints::new(amqp.clone(), given, group, reporter.clone());
        let c2d = C2dSender::start(amqp.clone(), C2D_QUEUE, end);
        let ways = Ways {
            c2d,
            registry: registry.unwrap_or_else(|| rest.clone()),
            rest,
        };
        let size = tier.zip(*units).map(|(tier, units)| Size { tier, units });
        let hub = Hub::new(ways, commands.clone(), mark.clone(), size, members);
        let feedback = commands.feedback.then_some((amqp, mark));
        Ok(Self {
            hub,
            endpoints,
            feedback,
            rights,
        })
    }

    /// Proves that messages can be sent and that the built-in endpoint can be read.
    pub(super) async fn prove(&self) -> Result<(Hub, Endpoint), Unproven> {
        let sender = "sending to devices (iotHub.connectionString)";
        self.hub
            .ways
            .c2d
            .prove(PROOF)
            .await
            .map_err(|error| Unproven::Hub {
                what: sender,
                error,
            })?;
        let endpoint = self.endpoints.find().await?;
        Ok((self.hub.clone(), endpoint))
    }
}

pub(super) fn parse<T: std::str::FromStr<Err: std::fmt::Display>>(
    field: &'static str,
    file: &File,
) -> Result<T, RunError> {
    let text = SecretFile::new(field, file)
        .read()
        .map_err(|error| RunError::Settings(error.to_string()))?;
    text.parse()
        .map_err(|error| RunError::Settings(format!("{field}: {error}")))
}
