//! The settings file.

use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize};

use crate::{Checkpoints, File, IotHub, RoutingGroup, ThingName, Thingworx};

/// All settings of one connector process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The Thing that stands for the hub on the platform.
    pub hub_thing_name: ThingName,
    /// The routing group. Left out: what the hub Thing's `GetConfiguration` says, else its name.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "not_null"
    )]
    pub routing_group: Option<RoutingGroup>,
    /// The way to the platform.
    pub thingworx: Thingworx<File, File>,
    /// The way to the hub.
    pub iot_hub: IotHub<File, File>,
    /// Where claims and checkpoints are kept.
    pub checkpoints: Checkpoints,
}

impl Settings {
    /// The settings as the text of a file that [`parse`] reads back. Keys have a fixed order, so equal
    /// settings give equal text.
    ///
    /// # Errors
    /// If a value has no YAML form, such as a path that is not UTF-8.
    pub fn to_yaml(&self) -> Result<String, serde_yaml::Error> {
        // By way of JSON, whose form of an enum (a map of one key) is what a user writes.
        let tree =
            serde_json::to_value(self).map_err(<serde_yaml::Error as serde::ser::Error>::custom)?;
        serde_yaml::to_string(&tree)
    }
}

/// Absent is fine, null is not: somebody meant to say something.
fn not_null<'de, D: Deserializer<'de>>(input: D) -> Result<Option<RoutingGroup>, D::Error> {
    Option::<RoutingGroup>::deserialize(input)?
        .map(Some)
        .ok_or_else(|| {
            serde::de::Error::custom(
                "is null; give a name or leave the field out to use hubThingName",
            )
        })
}

/// Why a settings file cannot be used. One line, naming the field.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("settings file {path}: {source}")]
    Read {
        /// Path of the file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is no YAML, or a field is missing or of the wrong form.
    #[error("settings: {0}")]
    Form(String),
    /// A field that no setting has.
    #[error("settings: {0}: no such field; check its spelling and place")]
    Unknown(String),
    /// A value that cannot be.
    #[error("settings: {field}: {what}")]
    Value {
        /// Path of the field.
        field: String,
        /// What is wrong with it.
        what: String,
    },
}

/// Reads and checks a settings file.
///
/// # Errors
/// [`LoadError`]; its text is one line that names the field.
pub fn load(path: &Path) -> Result<Settings, LoadError> {
    let text = std::fs::read_to_string(path).map_err(|source| LoadError::Read {
        path: path.display().to_string(),
        source,
    })?;
    parse(&text)
}

/// Checks the text of a settings file.
///
/// # Errors
/// As [`load`].
pub fn parse(text: &str) -> Result<Settings, LoadError> {
    let form = |error: &dyn std::error::Error| LoadError::Form(one_line(&error.to_string()));
    let tree: serde_json::Value = serde_yaml::from_str(text).map_err(|error| form(&error))?;
    let mut unknown = None;
    let mut note = |path: serde_ignored::Path<'_>| {
        unknown.get_or_insert_with(|| path.to_string());
    };
    let ignored = serde_ignored::Deserializer::new(tree, &mut note);
    let settings: Settings =
        serde_path_to_error::deserialize(ignored).map_err(|error| form(&error))?;
    if let Some(field) = unknown {
        return Err(LoadError::Unknown(field));
    }
    let value = |section: &str, (field, what): (String, String)| LoadError::Value {
        field: format!("{section}.{field}"),
        what,
    };
    settings
        .thingworx
        .check()
        .map_err(|fault| value("thingworx", fault))?;
    settings
        .iot_hub
        .check()
        .map_err(|fault| value("iotHub", fault))?;
    settings
        .checkpoints
        .check()
        .map_err(|fault| value("checkpoints", fault))?;
    Ok(settings)
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r"
hubThingName: FactoryHub
routingGroup: Factory
thingworx:
  endpoints: [wss://twx-0:8443/Thingworx/WS]
  appKey: {file: /secrets/appKey}
iotHub:
  connectionString: {file: /secrets/hub}
  eventHubs: {connectionString: {file: /secrets/events}, consumerGroup: thingworx}
checkpoints: {kubernetes: {connector: factory, connectorUid: 1-2-3}}
";

    #[test]
    fn a_good_file_is_read_with_its_defaults() {
        let settings = parse(GOOD).unwrap();
        assert_eq!(
            settings.thingworx.gateway_template.as_str(),
            "ConnectionServer"
        );
        assert_eq!(settings.thingworx.platform_request_timeout_seconds, 30);
        assert_eq!(
            settings.routing_group.as_ref().map(RoutingGroup::as_str),
            Some("Factory")
        );
        let written = settings.to_yaml().unwrap();
        assert_eq!(parse(&written).unwrap(), settings);
    }

    #[test]
    fn the_built_in_endpoint_need_not_be_given() {
        let given = parse(GOOD).unwrap();
        assert!(given.iot_hub.event_hubs.connection_string.is_some());
        let text = GOOD.replacen("connectionString: {file: /secrets/events}, ", "", 1);
        let left_out = parse(&text).unwrap();
        assert_eq!(left_out.iot_hub.event_hubs.connection_string, None);
        assert_eq!(parse(&left_out.to_yaml().unwrap()).unwrap(), left_out);
    }

    #[test]
    fn checkpoints_in_blobs_are_read_with_and_without_claims_in_kubernetes() {
        let kubernetes = "kubernetes: {connector: factory, connectorUid: 1-2-3}";
        for claims in [
            "",
            ", kubernetes: {connector: factory, connectorUid: 1-2-3}",
        ] {
            let blob =
                format!("azureBlob: {{container: marks, connectionString: {{file: /s}}{claims}}}");
            let settings = parse(&GOOD.replacen(kubernetes, &blob, 1)).unwrap();
            assert_eq!(parse(&settings.to_yaml().unwrap()).unwrap(), settings);
            let Checkpoints::AzureBlob(store) = settings.checkpoints else {
                panic!("{blob}");
            };
            assert_eq!(store.kubernetes.is_some(), !claims.is_empty());
        }
    }

    #[test]
    fn dead_letters_go_to_a_container_or_a_file() {
        for place in [
            "azureBlob: {container: letters, connectionString: {file: /secrets/letters}}",
            "file: {path: /var/lib/letters.jsonl}",
        ] {
            let letters = format!("deadLetter: {{{place}}}\n  eventHubs:");
            let settings = parse(&GOOD.replacen("eventHubs:", &letters, 1)).unwrap();
            assert_eq!(parse(&settings.to_yaml().unwrap()).unwrap(), settings);
            let letters = settings.iot_hub.dead_letter.unwrap();
            assert_eq!(letters.blobs().is_some(), place.starts_with("azureBlob"));
        }
    }

    #[test]
    fn the_example_is_good() {
        parse(include_str!("../../examples/connector.yaml")).unwrap();
    }

    #[test]
    fn a_bad_file_gives_one_line_that_names_the_field() {
        let cases = [
            (
                "routingGroup: Factory",
                "routingGroup:",
                "routingGroup: is null",
            ),
            (
                "routingGroup: Factory",
                "routingGroup: ~",
                "routingGroup: is null",
            ),
            (
                "routingGroup: Factory",
                "routingGroup: ''",
                "routingGroup: is empty",
            ),
            (
                "routingGroup: Factory",
                "routingGroup: '  '",
                "routingGroup: is empty",
            ),
            ("hubThingName: FactoryHub", "", "hubThingName"),
            (
                "hubThingName: FactoryHub",
                "hubThingName: ''",
                "hubThingName: is empty",
            ),
            (
                "consumerGroup: thingworx",
                "consumerGrp: x",
                "consumerGroup",
            ),
            (
                "consumerGroup: thingworx",
                "consumerGroup: ' '",
                "iotHub.eventHubs.consumerGroup",
            ),
            (
                "eventHubs:",
                "messages: {time: Body}\n  eventHubs:",
                "iotHub.messages.timeField: is missing",
            ),
            (
                "eventHubs:",
                "messages: {time: Sometimes}\n  eventHubs:",
                "iotHub.messages.time",
            ),
            (
                "eventHubs:",
                "messages: {connectionProperty: ''}\n  eventHubs:",
                "iotHub.messages.connectionProperty: is empty",
            ),
            (
                "eventHubs:",
                "tier: S1\n  eventHubs:",
                "iotHub.units: is missing: iotHub.tier says nothing without it",
            ),
            (
                "eventHubs:",
                "units: 1\n  eventHubs:",
                "iotHub.tier: is missing: iotHub.units says nothing without it",
            ),
            (
                "eventHubs:",
                "tier: S3\n  units: 11\n  eventHubs:",
                "iotHub.units: must be 1 to 10",
            ),
            ("eventHubs:", "tier: S4\n  eventHubs:", "iotHub.tier"),
            (
                "eventHubs:",
                "transport: Pigeon\n  eventHubs:",
                "iotHub.transport",
            ),
            (
                "eventHubs:",
                "proxy: 'proxy:3128'\n  eventHubs:",
                "iotHub.proxy: must read http://host:port",
            ),
            (
                "eventHubs:",
                "proxy: 'http://me:secret@proxy:3128'\n  eventHubs:",
                "iotHub.proxy: must not hold a user or a password",
            ),
            (
                "eventHubs:",
                "deadLetter: {}\n  eventHubs:",
                "iotHub.deadLetter",
            ),
            (
                "eventHubs:",
                "deadLetter: {azureBlob: {container: A_b, connectionString: {file: /s}}}\n  eventHubs:",
                "iotHub.deadLetter.azureBlob.container: \"A_b\" is no name",
            ),
            (
                "eventHubs:",
                "deadLetter: {file: {path: ''}}\n  eventHubs:",
                "iotHub.deadLetter.file.path: is empty",
            ),
            (
                "hubThingName:",
                "colour: red\nhubThingName:",
                "colour: no such field",
            ),
            ("wss://", "https://", "thingworx.endpoints[0]"),
            ("appKey:", "pipes: 0\n  appKey:", "thingworx.pipes"),
            ("appKey:", "pipes: many\n  appKey:", "thingworx.pipes"),
            (
                "[wss://twx-0:8443/Thingworx/WS]",
                "[]",
                "thingworx.endpoints: give endpoints",
            ),
            (
                "kubernetes: {connector: factory, connectorUid: 1-2-3}",
                "etcd: {}",
                "checkpoints",
            ),
            (
                "kubernetes: {connector: factory, connectorUid: 1-2-3}",
                "azureBlob: {container: Marks, connectionString: {file: /secrets/storage}}",
                "checkpoints.azureBlob.container: \"Marks\" is no name",
            ),
            (
                "kubernetes: {connector: factory, connectorUid: 1-2-3}",
                "azureBlob: {container: marks}",
                "checkpoints.azureBlob: missing field `connectionString`",
            ),
            (
                "kubernetes: {connector: factory, connectorUid: 1-2-3}",
                "azureBlob: {container: marks, connectionString: {file: /s}, accountUrl: x}",
                "accountUrl: no such field",
            ),
        ];
        for (from, to, expected) in cases {
            let text = GOOD.replacen(from, to, 1);
            let error = parse(&text).expect_err(to).to_string();
            assert!(
                error.contains(expected),
                "{to:?} gave {error:?}, expected {expected:?}"
            );
            assert!(!error.contains('\n'), "{error:?} is not one line");
        }
    }
}
