//! The model that all nodes share: Things with properties, remote services and configuration.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use alwayson::{BaseType, Value, json::to_json};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

/// Templates that may be made into a gateway's ephemeral Thing: they implement the shape `Gateway`.
const GATEWAY_TEMPLATES: [&str; 8] = [
    "ConnectionServer",
    "ProtocolAdapter",
    "ProtocolAdapterWithAvailability",
    "EMSGateway",
    "SDKGateway",
    "BrowserGateway",
    "AnalyticsGateway",
    "IntegrationRuntime",
];
/// Other templates that the stand-in knows.
const TEMPLATES: [&str; 5] = [
    "RemoteThing",
    "AzureIotThing",
    "AzureIotHubTemplate",
    "ConnectionServicesHub",
    "GenericThing",
];

/// The shape that a connector adds to `ConnectionServicesHub`.
const ADAPTER_SHAPE: &str = "AzureIotHubAdapterServices";

/// Its services, with the inputs that our connector documents where PTC does not publish them.
fn adapter_services() -> BTreeMap<String, Service> {
    const DEVICE: &[(&str, &str)] = &[("thingName", "STRING")];
    const JOB: &[(&str, &str)] = &[("jobId", "STRING")];
    const SERVICES: &[(&str, &[(&str, &str)])] = &[
        (
            "AzureIotSendMessage",
            &[("thingName", "STRING"), ("payload", "INFOTABLE")],
        ),
        ("CreateAzureIotDevice", DEVICE),
        ("DeleteAzureIotDevice", DEVICE),
        ("DescribeAzureIotDevice", DEVICE),
        (
            "AzureIotDeviceJobScheduleTwinUpdateJob",
            &[
                ("patch", "JSON"),
                ("jobId", "STRING"),
                ("queryCondition", "STRING"),
                ("startTime", "DATETIME"),
                ("maxExecutionTimeInSeconds", "LONG"),
            ],
        ),
        (
            "AzureIotDeviceJobScheduleDeviceMethodJob",
            &[
                ("methodName", "STRING"),
                ("payload", "JSON"),
                ("responseTimeoutInSeconds", "LONG"),
                ("jobId", "STRING"),
                ("queryCondition", "STRING"),
                ("startTime", "DATETIME"),
                ("maxExecutionTimeInSeconds", "LONG"),
            ],
        ),
        ("AzureIotDeviceJobGetJob", JOB),
        ("AzureIotDeviceJobCancelJob", JOB),
        (
            "AzureIotDeviceJobFindJobs",
            &[("jobType", "STRING"), ("jobStatus", "STRING")],
        ),
        ("QueryJobResults", JOB),
        (
            "ImportAzureIotDevices",
            &[
                ("thingTemplate", "THINGTEMPLATENAME"),
                ("queryCondition", "STRING"),
            ],
        ),
    ];
    let service = |(name, inputs): &(&str, &[(&str, &str)])| {
        let inputs = inputs
            .iter()
            .map(|(name, kind)| ((*name).into(), (*kind).into()));
        let service = Service {
            remote_name: String::new(),
            inputs: inputs.collect(),
        };
        ((*name).to_owned(), service)
    };
    SERVICES.iter().map(service).collect()
}

/// The template has the shape `Gateway`; `None` if there is no such template.
#[must_use]
pub fn is_gateway_template(name: &str) -> Option<bool> {
    if GATEWAY_TEMPLATES.contains(&name) {
        return Some(true);
    }
    TEMPLATES.contains(&name).then_some(false)
}

/// A Thing, as it is defined over REST.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Thing {
    /// Its template.
    #[serde(default = "remote_thing")]
    pub template: String,
    /// Its identifier: the edge must then bind `*identifier`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identifier: Option<String>,
    /// With `RoutedEgress`: the Thing that takes its requests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway_thing: Option<String>,
    /// Its properties by local name.
    #[serde(default)]
    pub properties: BTreeMap<String, Property>,
    /// Its remote services by local name.
    #[serde(default)]
    pub services: BTreeMap<String, Service>,
    /// What `GetConfiguration` returns: one row, a field for each key.
    #[serde(default)]
    pub configuration: BTreeMap<String, Json>,
    /// It runs. One that was made by `CreateThing` must be enabled.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Made by a gateway bind; goes with its last binder.
    #[serde(skip)]
    pub ephemeral: bool,
}

fn yes() -> bool {
    true
}

fn remote_thing() -> String {
    "RemoteThing".into()
}

impl Thing {
    /// A Thing of a template, with nothing of its own.
    #[must_use]
    pub fn of(template: &str) -> Self {
        Self {
            template: template.into(),
            identifier: None,
            gateway_thing: None,
            properties: BTreeMap::new(),
            services: BTreeMap::new(),
            configuration: BTreeMap::new(),
            enabled: true,
            ephemeral: false,
        }
    }

    /// It takes several binders: the shape `MultiBindRemoteThing`. That `ConnectionServicesHub` has it is an
    /// assumption; PTC does not say how its services reach one of several connectors.
    #[must_use]
    pub fn takes_many_binders(&self) -> bool {
        matches!(
            self.template.as_str(),
            "AzureIotHubTemplate" | "ConnectionServicesHub"
        )
    }

    /// A property by the name that the edge uses.
    #[must_use]
    pub fn by_remote_name(&self, remote: &str) -> Option<(&str, &Property)> {
        // Most have the same name on both sides.
        self.properties
            .get_key_value(remote)
            .into_iter()
            .chain(&self.properties)
            .find(|(name, property)| property.remote_name(name) == Some(remote))
            .map(|(name, property)| (name.as_str(), property))
    }
}

/// A property.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Property {
    /// Its base type.
    #[serde(serialize_with = "name_of", deserialize_with = "base_type")]
    pub base_type: BaseType,
    /// Its binding to the edge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remote: Option<Remote>,
}

fn name_of<S: serde::Serializer>(base_type: &BaseType, out: S) -> Result<S::Ok, S::Error> {
    out.serialize_str(base_type.name())
}

fn base_type<'de, D: Deserializer<'de>>(input: D) -> Result<BaseType, D::Error> {
    String::deserialize(input)?
        .parse()
        .map_err(serde::de::Error::custom)
}

impl Property {
    /// The name that the edge uses for it, if it is bound to the edge.
    #[must_use]
    pub fn remote_name<'a>(&'a self, local: &'a str) -> Option<&'a str> {
        let remote = self.remote.as_ref()?;
        Some(if remote.name.is_empty() {
            local
        } else {
            &remote.name
        })
    }
}

/// A property's binding to the edge.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Remote {
    /// Name on the edge's side; empty if it is the same.
    pub name: String,
    /// When the edge is to push: `ALWAYS`, `VALUE`, `NEVER`, …; empty means `VALUE`.
    pub push_type: String,
}

/// A remote service.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Service {
    /// Name on the edge's side; empty if it is the same.
    pub remote_name: String,
    /// Inputs: name → base type.
    pub inputs: BTreeMap<String, String>,
}

/// All Things and their values.
#[derive(Debug, Default)]
pub struct Model {
    /// Things that are made alike share what they are.
    things: HashMap<String, Arc<Thing>>,
    /// Thing → property → value.
    values: HashMap<String, HashMap<String, Value>>,
    /// Templates that a user has derived of `AzureIotThing`.
    derived: BTreeSet<String>,
}

/// Things that are alike, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alike {
    /// Their template.
    pub template: String,
    /// They run.
    pub enabled: bool,
    /// Their gateway.
    pub gateway_thing: Option<String>,
}

impl Model {
    /// The Things that every platform has with the Connection Services and Azure extensions.
    #[must_use]
    pub fn with_extensions() -> Self {
        let mut model = Self::default();
        model.put("ConnectionServicesHub", Thing::of("ConnectionServicesHub"));
        model
    }

    /// Adds the services of a shape to a Thing; of the shapes it knows one. Added again it changes nothing.
    ///
    /// # Errors
    /// What the platform says.
    pub fn add_shape(&mut self, thing: &str, shape: &str) -> Result<(), String> {
        if shape != ADAPTER_SHAPE {
            return Err(format!("Thing Shape [{shape}] does not exist"));
        }
        let found = self.things.get_mut(thing);
        let found = found.ok_or_else(|| format!("Thing [{thing}] does not exist"))?;
        Arc::make_mut(found).services.extend(adapter_services());
        Ok(())
    }

    /// What a template is derived of, whose rights hold for its Things as well; itself if of none.
    #[must_use]
    pub fn base<'a>(&self, template: &'a str) -> &'a str {
        if self.derived.contains(template) {
            "AzureIotThing"
        } else {
            template
        }
    }

    /// Derives a template of `AzureIotThing`.
    pub fn derive(&mut self, template: &str) {
        self.derived.insert(template.to_owned());
    }

    /// There is such a template.
    #[must_use]
    pub fn has_template(&self, name: &str) -> bool {
        is_gateway_template(name).is_some() || self.derived.contains(name)
    }

    /// Things of the template have the shape `RoutedEgress`.
    #[must_use]
    pub fn is_routed(&self, template: &str) -> bool {
        template == "AzureIotThing" || self.derived.contains(template)
    }

    /// How many Things of each kind there are.
    #[must_use]
    pub fn census(&self) -> BTreeMap<Alike, usize> {
        let mut census = BTreeMap::new();
        for thing in self.things.values() {
            let alike = Alike {
                template: thing.template.clone(),
                enabled: thing.enabled,
                gateway_thing: thing.gateway_thing.clone(),
            };
            *census.entry(alike).or_default() += 1;
        }
        census
    }

    /// Defines a Thing, or defines it again; its values stay where the properties do.
    pub fn put(&mut self, name: &str, thing: impl Into<Arc<Thing>>) {
        let thing = thing.into();
        if let Some(values) = self.values.get_mut(name) {
            values.retain(|property, _| thing.properties.contains_key(property));
        }
        self.things.insert(name.to_owned(), thing);
    }

    /// Removes a Thing and its values.
    pub fn remove(&mut self, name: &str) -> Option<Arc<Thing>> {
        self.values.remove(name);
        self.things.remove(name)
    }

    /// A Thing by its name, or by `*` and its identifier.
    #[must_use]
    pub fn thing(&self, name: &str) -> Option<(&str, &Arc<Thing>)> {
        match name.strip_prefix('*') {
            None => self.things.get_key_value(name),
            Some(identifier) => self
                .things
                .iter()
                .find(|(_, thing)| thing.identifier.as_deref() == Some(identifier)),
        }
        .map(|(name, thing)| (name.as_str(), thing))
    }

    /// The names of all Things.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.things.keys().map(String::as_str)
    }

    /// Sets a property.
    pub fn set(&mut self, thing: &str, property: &str, value: Value) {
        let known = self
            .values
            .get_mut(thing)
            .and_then(|of| of.get_mut(property));
        match known {
            Some(known) => *known = value,
            None => {
                let of = self.values.entry(thing.to_owned()).or_default();
                of.insert(property.to_owned(), value);
            }
        }
    }

    /// The present value of a property.
    #[must_use]
    pub fn get(&self, thing: &str, property: &str) -> Option<&Value> {
        self.values.get(thing)?.get(property)
    }

    /// All present values of a Thing as JSON.
    #[must_use]
    pub fn all(&self, thing: &str) -> BTreeMap<String, Json> {
        let Some((name, found)) = self.thing(thing) else {
            return BTreeMap::new();
        };
        let json = |property: &String| self.get(name, property).map_or(Json::Null, to_json);
        found
            .properties
            .keys()
            .map(|property| (property.clone(), json(property)))
            .collect()
    }
}
