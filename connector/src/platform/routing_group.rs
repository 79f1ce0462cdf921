//! The routing group: setting, else what the hub Thing's `GetConfiguration` says, else the hub Thing's
//! name. Null or empty anywhere in that chain is refused.

use alwayson::{InfoTable, Request, Value};
use connector_config::{RoutingGroup, ThingName};

use super::{Destination, Kind, Platform, Unwritten};

/// Field of the hub Thing's configuration.
const FIELD: &str = "routingGroup";

/// Why there is no routing group. The connector does not start to bind then.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Unresolved {
    /// The hub Thing's configuration has the field, but nothing in it.
    #[error(
        "the configuration of hub Thing {hub} on ThingWorx has a routing group that is {what}; set one \
         there or set spec.routingGroup"
    )]
    Empty {
        /// The hub Thing.
        hub: ThingName,
        /// Null, empty or malformed.
        what: String,
    },
    /// The hub Thing's configuration cannot be read.
    #[error(
        "hub Thing {hub} did not answer GetConfiguration; check that it exists and that the connector's user may run \
         this service of it, or set spec.routingGroup (ThingWorx: {error})"
    )]
    Unreadable {
        /// The hub Thing.
        hub: ThingName,
        /// What the platform said.
        error: Unwritten,
    },
}

/// Resolves the routing group.
///
/// # Errors
/// [`Unresolved`]; there is no silent fallback, since pods that bind another group than their siblings
/// would take requests from them.
pub async fn resolve(
    setting: Option<&RoutingGroup>,
    hub: &ThingName,
    platform: &Platform,
) -> Result<RoutingGroup, Unresolved> {
    if let Some(group) = setting {
        return Ok(group.clone());
    }
    let request = Request::call(hub.as_str(), "GetConfiguration", None);
    let configuration = platform
        .ask(Kind::Read, &request)
        .await
        .outcome
        .map_err(|error| Unresolved::Unreadable {
            hub: hub.clone(),
            error,
        })?;
    from_configuration(&configuration, hub)
}

fn from_configuration(
    configuration: &InfoTable,
    hub: &ThingName,
) -> Result<RoutingGroup, Unresolved> {
    let empty = |what: &str| Unresolved::Empty {
        hub: hub.clone(),
        what: what.to_owned(),
    };
    if configuration.column(FIELD).is_none() {
        return Ok(hub.clone().into());
    }
    match configuration.get(0, FIELD) {
        Some(Value::Text(_, group)) => RoutingGroup::new(group).map_err(|invalid| match invalid {
            connector_config::InvalidName::Empty => empty("empty"),
            other => empty(&other.to_string()),
        }),
        Some(Value::Nothing) | None => Err(empty("null")),
        Some(other) => Err(empty(&format!(
            "no STRING but {}",
            other.base_type().name()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_and_empty_are_refused_and_absent_means_the_hub_things_name() {
        let hub = ThingName::new("FactoryHub").unwrap();
        let read = |table| from_configuration(&table, &hub).map_err(|error| error.to_string());
        let one = |value| InfoTable::one_row([(FIELD, value)]);
        let string = |text: &str| Value::string(text);

        assert_eq!(
            read(one(string("Line1"))),
            RoutingGroup::new("Line1").map_err(|_| String::new())
        );
        let other = InfoTable::one_row([("other", string("x"))]);
        assert_eq!(read(other).unwrap().as_str(), "FactoryHub");
        assert!(read(one(Value::Nothing)).unwrap_err().contains("null"));
        assert!(read(one(string(""))).unwrap_err().contains("empty"));
        assert!(read(one(string("  "))).unwrap_err().contains("empty"));
        assert!(
            read(one(Value::Integer(1)))
                .unwrap_err()
                .contains("INTEGER")
        );
        let no_row = InfoTable::new(vec![alwayson::Field::new(
            FIELD,
            alwayson::BaseType::String,
        )]);
        assert!(read(no_row).unwrap_err().contains("null"));
    }
}
