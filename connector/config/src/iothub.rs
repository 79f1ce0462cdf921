//! Settings of the way to the hub.

use std::num::NonZeroU32;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::{Commands, DeadLetter, Messages, Tier};

/// How the connector reaches the IoT Hub. `S` is where a secret comes from, `C` where a certificate
/// does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "S: Deserialize<'de>, C: Deserialize<'de>")
)]
pub struct IotHub<S, C> {
    /// Connection string of a shared access policy of the hub with the right *Service connect*:
    /// `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.
    pub connection_string: S,
    /// Connection string of a policy with the rights *Registry Read* and *Registry Write*, with which devices are
    /// created, deleted and described, and jobs made and watched. Default: `connectionString`, whose policy then
    /// needs these rights where such services are used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub registry_connection_string: Option<S>,
    /// The hub's built-in endpoint, from which telemetry is read.
    pub event_hubs: EventHubs<S>,
    /// Tier of the hub, as the portal names its pricing tier. With it and `units` the connector asks for no more than
    /// the hub allows, its pods together, and leaves nothing to other services of the same hub. Default: nothing is
    /// held back before the hub itself throttles.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Units of the tier. 1 to 200; of S3 and B3 at most 10, of F1 one. Set together with `tier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 200))]
    pub units: Option<u16>,
    /// How AMQP travels to the hub. Default: `Amqp`.
    #[serde(default)]
    pub transport: Transport,
    /// HTTP proxy that everything to the hub goes through, by `CONNECT`: `http://host:port`. A proxy that
    /// asks for a user and a password is not supported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 300), pattern("^http://[^/@?#]+/?$"))]
    pub proxy: Option<String>,
    /// How messages of the hub become property values. Everything has a default.
    #[serde(default)]
    pub messages: Messages,
    /// What ThingWorx asks of devices and of the hub. Everything has a default.
    #[serde(default)]
    pub commands: Commands,
    /// Where messages are kept that can never be written to ThingWorx: what cannot be read, has no Thing,
    /// or is refused. Default: they are only counted, and reported on `ConnectionServicesHub`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetter<S>>,
    /// How the hub's certificates are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<HubTls<C>>,
}

/// How AMQP travels to the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Transport {
    /// By itself over TLS, to port 5671.
    #[default]
    Amqp,
    /// In WebSockets, to port 443: for networks that let nothing else out.
    WebSockets,
}

/// The hub's built-in Event Hubs-compatible endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de>"))]
pub struct EventHubs<S> {
    /// Event Hubs-compatible connection string, from the portal's page *Built-in endpoints*:
    /// `Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=…`. Left out: the hub is asked
    /// where the endpoint is, and asked again when it moves, as it does when the hub fails over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connection_string: Option<S>,
    /// Consumer group for this connector alone. Make one on the hub; `$Default` is used by many tools.
    #[schemars(length(min = 1, max = 50))]
    pub consumer_group: String,
    /// Where to begin in a partition that has never been checkpointed. Default: `Earliest`. A connector
    /// that has read another endpoint before always begins at the earliest event: the hub may have failed
    /// over while nobody was reading.
    #[serde(default)]
    pub start: StartPosition,
    /// Events a second that are read from one partition while it is more than 30 s behind: spares
    /// ThingWorx after an outage. Default: as fast as ThingWorx takes them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // As many as the type holds: the API server must not take what no program can read.
    #[schemars(range(min = 1, max = 4_294_967_295_i64))]
    pub catch_up_rate: Option<NonZeroU32>,
}

/// Where to begin in a partition that has never been checkpointed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum StartPosition {
    /// At the oldest event that the hub still keeps: nothing is missed.
    #[default]
    Earliest,
    /// With the events that come after the first start.
    Latest,
}

/// How the hub's certificates are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(bound(deserialize = "C: Deserialize<'de>"))]
pub struct HubTls<C> {
    /// Certificates (PEM) of the authorities to trust instead of the public ones: for a TLS-inspecting
    /// proxy, or a stand-in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<C>,
}

impl<S, C> IotHub<S, C> {
    /// The same settings with secrets and certificates taken from elsewhere.
    pub fn map<S2, C2>(self, secret: impl Fn(S) -> S2, ca: impl Fn(C) -> C2) -> IotHub<S2, C2> {
        let Self {
            connection_string,
            registry_connection_string,
            event_hubs,
            tier,
            units,
            transport,
            proxy,
            messages,
            commands,
            dead_letter,
            tls,
        } = self;
        let EventHubs {
            connection_string: events,
            consumer_group,
            start,
            catch_up_rate,
        } = event_hubs;
        IotHub {
            connection_string: secret(connection_string),
            registry_connection_string: registry_connection_string.map(&secret),
            event_hubs: EventHubs {
                connection_string: events.map(&secret),
                consumer_group,
                start,
                catch_up_rate,
            },
            tier,
            units,
            transport,
            proxy,
            messages,
            commands,
            dead_letter: dead_letter.map(|letters| letters.map(&secret)),
            tls: tls.map(|tls| HubTls { ca: tls.ca.map(ca) }),
        }
    }

    /// What the schema alone cannot say.
    ///
    /// # Errors
    /// The field at fault, below `iotHub`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        if self.event_hubs.consumer_group.trim().is_empty() {
            let what = "is empty; make a consumer group on the hub for this connector alone";
            return Err(("eventHubs.consumerGroup".into(), what.into()));
        }
        check_size(self.tier, self.units)
            .map_err(|(field, what)| (field.to_owned(), what.to_owned()))?;
        if let Some(proxy) = &self.proxy {
            check_proxy(proxy).map_err(|what| ("proxy".to_owned(), what.to_owned()))?;
        }
        self.messages
            .check()
            .map_err(|(field, what)| (format!("messages.{field}"), what))?;
        self.commands
            .check()
            .map_err(|(field, what)| (format!("commands.{field}"), what))?;
        match &self.dead_letter {
            Some(letters) => letters
                .check()
                .map_err(|(field, what)| (format!("deadLetter.{field}"), what)),
            None => Ok(()),
        }
    }
}

/// What is wrong with a hub's size.
fn check_size(tier: Option<Tier>, units: Option<u16>) -> Result<(), (&'static str, &'static str)> {
    match (tier, units) {
        (None, None) => Ok(()),
        (Some(_), None) => Err(("units", "is missing: iotHub.tier says nothing without it")),
        (None, Some(_)) => Err(("tier", "is missing: iotHub.units says nothing without it")),
        (Some(tier), Some(units)) => tier.check(units).map_err(|what| ("units", what)),
    }
}

/// What is wrong with a proxy; names no part of it, since it may hold a password.
fn check_proxy(proxy: &str) -> Result<(), &'static str> {
    const FORM: &str = "must read http://host:port";
    let url = Url::parse(proxy).map_err(|_| FORM)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "must not hold a user or a password: a proxy that asks for them is not supported, and \
             settings are no place for secrets",
        );
    }
    let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
    if url.scheme() != "http" || url.host_str().is_none_or(str::is_empty) || !bare {
        return Err(FORM);
    }
    Ok(())
}
