//! Settings of the way to the platform.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use url::Url;

use crate::ThingName;

/// How the connector reaches the nodes of a ThingWorx cluster. `S` is where a secret comes from, `C`
/// where a certificate does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(
    rename_all = "camelCase",
    bound(deserialize = "S: Deserialize<'de>, C: Deserialize<'de>")
)]
pub struct Thingworx<S, C> {
    /// One AlwaysOn URL for each node of the cluster, for example
    /// `wss://twx-0.twx:8443/Thingworx/WS`. Every pod connects to every node. Give either this or
    /// `service`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub endpoints: Vec<String>,
    /// A headless Service whose addresses are the nodes. Give either this or `endpoints`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<PlatformService>,
    /// The application key with which the connector logs in to ThingWorx.
    pub app_key: S,
    /// How the nodes' certificates are checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<PlatformTls<C>>,
    /// Thing Template of the connector's own ephemeral Thing; it must implement the Thing Shape
    /// `Gateway`. Default: `ConnectionServer`, the template that every platform has.
    #[serde(default = "connection_server")]
    pub gateway_template: ThingName,
    /// WebSockets from each pod to each node, 1 to 16. Default 1: one socket carries thousands of
    /// writes a second, and each costs the platform a thread's worth of memory.
    #[serde(default = "one_pipe")]
    #[schemars(range(min = 1, max = 16))]
    pub pipes: u8,
    /// How the hub Thing is bound by several pods at once. Default: `Plain`.
    #[serde(default)]
    pub group_bind: GroupBind,
    /// Which node a property write goes to. Default: `RoundRobin`.
    #[serde(default)]
    pub node_selection: NodeSelection,
    /// Service of a Thing by which its properties are written. Default:
    /// `UpdateSubscribedPropertyValues`.
    #[serde(default)]
    pub write_service: WriteService,
    /// Offer services on `ConnectionServicesHub` (`CreateAzureIotDevice`, `AzureIotSendMessage`, jobs and
    /// others). There is one such Thing on a platform: with connectors for several hubs, let one of them offer
    /// them. Default: true.
    #[serde(default = "yes")]
    pub device_services: bool,
    /// Bind each device of the hub by its name, for Things that do not hand their requests to the hub Thing: those
    /// whose template lacks the Thing Shape `RoutedEgress` of PTC's Azure IoT extension. The pods share the devices;
    /// a new device is bound within six minutes. Default: false; with the extension it only costs.
    #[serde(default)]
    pub bind_devices: bool,
    /// Seconds after which the platform gives up a request that it sent to the connector, 5 to 300.
    /// Default 30, the platform's own default; the connector answers 3 s before.
    #[serde(default = "platform_timeout")]
    #[schemars(range(min = 5, max = 300))]
    pub platform_request_timeout_seconds: u16,
}

/// A headless Service in front of the nodes; its name is resolved again every 5 s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PlatformService {
    /// Name of the Service.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// Its namespace. Default: the connector's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Port of the nodes.
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
}

/// How the nodes' certificates are checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", bound(deserialize = "C: Deserialize<'de>"))]
pub struct PlatformTls<C> {
    /// Certificates (PEM) of the authorities to trust instead of the public ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<C>,
    /// Name to expect in the nodes' certificates instead of the host of the URL. Default with
    /// `service`: `<name>.<namespace>.svc`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
}

/// How the hub Thing is bound by several pods at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum GroupBind {
    /// An ordinary bind of the hub Thing after the bind of the pod's own gateway Thing.
    #[default]
    Plain,
}

/// Which node a property write goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum NodeSelection {
    /// The next node that is connected and takes data, as PTC's connector does.
    #[default]
    RoundRobin,
    /// A Thing keeps its node while that node lives; for platforms with data ordering enabled.
    PerThing,
}

/// Service of a Thing by which its properties are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum WriteService {
    /// By the properties' remote names; what a Thing has no such property for is skipped.
    #[default]
    UpdateSubscribedPropertyValues,
    /// The same in sets of values of one time; for platforms with data ordering enabled.
    UpdateSubscribedPropertyValuesBatched,
    /// By the properties' own names, also if the Thing has no subscription for them.
    UpdatePropertyValues,
}

fn connection_server() -> ThingName {
    ThingName::try_from("ConnectionServer".to_owned())
        .unwrap_or_else(|_| unreachable!("a constant that is a valid name"))
}

const fn yes() -> bool {
    true
}

const fn one_pipe() -> u8 {
    1
}

const fn platform_timeout() -> u16 {
    30
}

impl<S, C> Thingworx<S, C> {
    /// The same settings with secrets and certificates taken from elsewhere.
    pub fn map<S2, C2>(self, secret: impl Fn(S) -> S2, ca: impl Fn(C) -> C2) -> Thingworx<S2, C2> {
        let Self {
            endpoints,
            service,
            app_key,
            tls,
            gateway_template,
            pipes,
            group_bind,
            node_selection,
            write_service,
            device_services,
            bind_devices,
            platform_request_timeout_seconds,
        } = self;
        Thingworx {
            endpoints,
            service,
            app_key: secret(app_key),
            tls: tls.map(|tls| PlatformTls {
                ca: tls.ca.map(ca),
                server_name: tls.server_name,
            }),
            gateway_template,
            pipes,
            group_bind,
            node_selection,
            write_service,
            device_services,
            bind_devices,
            platform_request_timeout_seconds,
        }
    }

    /// The endpoints as URLs; what [`Self::check`] refuses is left out.
    #[must_use]
    pub fn urls(&self) -> Vec<Url> {
        self.endpoints
            .iter()
            .filter_map(|text| Url::parse(text).ok())
            .collect()
    }

    /// What the schema alone cannot say.
    ///
    /// # Errors
    /// The field at fault, below `thingworx`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let at = |field: &str, what: String| Err((field.to_owned(), what));
        match (self.endpoints.is_empty(), &self.service) {
            (true, None) => return at("endpoints", "give endpoints or service".into()),
            (false, Some(_)) => return at("service", "give endpoints or service, not both".into()),
            _ => {}
        }
        for (index, text) in self.endpoints.iter().enumerate() {
            let field = format!("endpoints[{index}]");
            let url = match Url::parse(text) {
                Ok(url) => url,
                Err(error) => return at(&field, format!("{text:?} is no URL: {error}")),
            };
            if !matches!(url.scheme(), "ws" | "wss") {
                let what =
                    format!("{url} is no AlwaysOn URL: it must begin with wss:// (or ws://)");
                return at(&field, what);
            }
            if url.host_str().is_none_or(str::is_empty) {
                return at(&field, format!("{url} names no host"));
            }
            if !url.username().is_empty() || url.password().is_some() {
                return at(
                    &field,
                    "must not carry a user or password; use appKey".into(),
                );
            }
            if self.endpoints[..index].contains(text) {
                return at(&field, format!("{url} stands twice"));
            }
        }
        if !(1..=16).contains(&self.pipes) {
            return at("pipes", format!("{} is not between 1 and 16", self.pipes));
        }
        let seconds = self.platform_request_timeout_seconds;
        if !(5..=300).contains(&seconds) {
            let what = format!("{seconds} is not between 5 and 300");
            return at("platformRequestTimeoutSeconds", what);
        }
        Ok(())
    }
}
