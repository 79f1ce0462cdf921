//! One device → one Thing. Each step can be done again without harm, so that whoever goes on after
//! another repeats what that one may have done.

use std::time::Duration;

use alwayson::BaseType;
use alwayson::{InfoTable, Request, Value};
use connector_config::ThingName;
use tokio::time::sleep;

use crate::platform::{Destination, Kind, Unwritten, entity_service};

/// Before a node that is ill, or gave no answer, is followed by another try.
const AGAIN: Duration = Duration::from_secs(1);
/// A node may learn of a new Thing some seconds after the node that made it: so often it is asked again, so
/// much later.
const UNKNOWN: (u32, Duration) = (4, Duration::from_secs(1));
/// Property of the Thing Shape `RoutedEgress`: the Thing that takes its requests.
const GATEWAY: &str = "gatewayThing";
const DESCRIPTION: &str = "A device of the IoT hub, imported";

/// Makes Things for devices.
pub(super) struct Maker<'a> {
    /// Where they are made.
    pub(super) platform: &'a dyn Destination,
    /// Their Thing Template.
    pub(super) template: &'a str,
    /// Their gateway: the hub Thing.
    pub(super) hub: &'a ThingName,
}

/// What has come of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Made {
    /// Its Thing was made.
    Created,
    /// It had one.
    Existing,
    /// It has none, or one that does not work; why.
    Refused(String),
}

/// The platform's answer to `CreateThing`: why it has not made one.
pub(super) type Creation = Result<(), String>;

/// A Thing could not be made ready.
enum Unready {
    /// Not even enabled: it does not exist.
    Absent(String),
    /// It exists.
    Incomplete(String),
}

impl Maker<'_> {
    /// Makes a Thing of the device's name, which is not enabled yet.
    pub(super) async fn create(&self, device: String) -> (String, Creation) {
        let template = Value::Text(BaseType::ThingTemplateName, self.template.into());
        let params = InfoTable::one_row([
            ("name", Value::string(device.as_str())),
            ("description", Value::string(DESCRIPTION)),
            ("thingTemplateName", template),
        ]);
        let made = self.ask(&entity_service("CreateThing", params)).await;
        (device, made.map(drop))
    }

    /// Makes the Thing of a device ready, if there is one: the platform tells a name that is taken by words
    /// alone, so the Thing itself is asked.
    pub(super) async fn finish(&self, device: String, creation: Creation) -> (String, Made) {
        let made = match creation {
            Ok(()) => match self.ready(&device, UNKNOWN.0).await {
                Ok(()) => Made::Created,
                Err(Unready::Absent(reason) | Unready::Incomplete(reason)) => Made::Refused(reason),
            },
            Err(_) if self.has_gateway(&device).await => Made::Existing,
            Err(refusal) => match self.ready(&device, 1).await {
                Ok(()) => Made::Existing,
                Err(Unready::Absent(_)) => Made::Refused(refusal),
                Err(Unready::Incomplete(reason)) => Made::Refused(reason),
            },
        };
        (device, made)
    }

    /// Whether there is a Thing that has a gateway already, which is then nobody else's to change.
    async fn has_gateway(&self, device: &str) -> bool {
        let read = self.ask(&Request::read(device, GATEWAY)).await;
        let value = read.ok().and_then(|row| row.get(0, GATEWAY));
        value.is_some_and(|value| value.as_text().is_some_and(|text| !text.is_empty()))
    }

    async fn ready(&self, device: &str, tries: u32) -> Result<(), Unready> {
        let enable = Request::call(device, "EnableThing", None);
        self.insist(&enable, tries).await.map_err(Unready::Absent)?;
        let gateway = Value::Text(BaseType::ThingName, self.hub.as_str().into());
        for request in [
            Request::call(device, "RestartThing", None),
            Request::write(device, GATEWAY, gateway),
        ] {
            let done = self.insist(&request, tries).await;
            done.map_err(Unready::Incomplete)?;
        }
        Ok(())
    }

    /// Asks up to so often, since other nodes may not know of the Thing yet.
    async fn insist(&self, request: &Request, tries: u32) -> Result<(), String> {
        let mut refused = self.ask(request).await;
        for _ in 1..tries {
            if refused.is_ok() {
                break;
            }
            sleep(UNKNOWN.1).await;
            refused = self.ask(request).await;
        }
        refused.map(drop)
    }

    /// Asks until the platform answers; a refusal with its words.
    async fn ask(&self, request: &Request) -> Result<InfoTable, String> {
        loop {
            self.platform.wait_writable().await;
            // Not as a write: that nothing can be made of a template says nothing about a node.
            let error = match self.platform.ask(Kind::Read, request).await.outcome {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match error {
                Unwritten::Refused { reason, .. } | Unwritten::TooLarge(reason) => {
                    return Err(format!("{}: {reason}", request.target));
                }
                Unwritten::NodeIll { .. } | Unwritten::NoNode | Unwritten::Unanswered => {
                    tracing::debug!(thing = request.entity, %error, "an import waits");
                    sleep(AGAIN).await;
                }
            }
        }
    }
}
