//! What a Thing says of its remote properties: name on the device's side and base type.

use std::{collections::HashMap, sync::Arc, time::Duration};

use alwayson::{BaseType, InfoTable, Request, Value};
use tokio::time::Instant;

use crate::platform::{Destination, Kind, Unwritten};

/// Definitions older than this are fetched again: a change of a type is then noticed even if every
/// value happens to fit the old one.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// An unknown key or a wrong type fetches again at most this often: a device that always sends a key
/// without a property must not cost a request for each message.
const MIN_AGE: Duration = Duration::from_secs(10);

/// The remote properties of one Thing.
#[derive(Debug)]
pub struct Definitions {
    types: HashMap<String, BaseType>,
    fetched: Instant,
}

impl Definitions {
    /// The base type of the property with this remote name.
    #[must_use]
    pub fn base_type(&self, remote: &str) -> Option<BaseType> {
        self.types.get(remote).copied()
    }

    /// Too old to be relied upon.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        now - self.fetched >= MAX_AGE
    }

    /// May be fetched again to look for a property that is not there yet.
    #[must_use]
    pub fn may_refresh(&self, now: Instant) -> bool {
        now - self.fetched >= MIN_AGE
    }

    /// Asks the platform: `GetPropertyDefinitions` for the types, `GetPropertySubscriptions` for the
    /// remote names.
    ///
    /// # Errors
    /// As [`Destination::ask`].
    pub async fn fetch(platform: &dyn Destination, thing: &str) -> Result<Arc<Self>, Unwritten> {
        let definitions = ask(platform, thing, "GetPropertyDefinitions").await?;
        let subscriptions = ask(platform, thing, "GetPropertySubscriptions").await?;
        let types = join(&definitions, &subscriptions);
        Ok(Arc::new(Self {
            types,
            fetched: Instant::now(),
        }))
    }

    /// Definitions for a test.
    #[cfg(test)]
    pub fn of(types: &[(&str, BaseType)]) -> Self {
        let types = types
            .iter()
            .map(|(name, base)| ((*name).to_owned(), *base))
            .collect();
        Self {
            types,
            fetched: Instant::now(),
        }
    }
}

async fn ask(
    platform: &dyn Destination,
    thing: &str,
    service: &str,
) -> Result<InfoTable, Unwritten> {
    let request = Request::call(thing, service, None);
    platform.ask(Kind::Read, &request).await.outcome
}

/// Every subscribed remote name with the base type of its property. A definition is found by its
/// remote name, or by its own where the two are the same.
fn join(definitions: &InfoTable, subscriptions: &InfoTable) -> HashMap<String, BaseType> {
    let mut by_name = HashMap::new();
    let column = |field| definitions.column(field).unwrap_or(usize::MAX);
    let (name, base, remote) = (
        column("name"),
        column("baseType"),
        column("remotePropertyName"),
    );
    for row in definitions.rows() {
        let text = |column: usize| row.get(column).and_then(Value::as_text);
        let Some(base) = text(base).and_then(|name| name.parse::<BaseType>().ok()) else {
            continue;
        };
        if let Some(name) = text(name) {
            by_name.entry(name.to_owned()).or_insert(base);
        }
        if let Some(remote) = text(remote).filter(|name| !name.is_empty()) {
            by_name.insert(remote.to_owned(), base);
        }
    }
    let Some(edge) = subscriptions.column("edgeName") else {
        return HashMap::new();
    };
    subscriptions
        .rows()
        .filter_map(|row| row.get(edge)?.as_text().map(str::to_owned))
        .filter_map(|edge| by_name.get(&edge).map(|base| (edge.clone(), *base)))
        .collect()
}

#[cfg(test)]
mod tests {
    use alwayson::Field;

    use super::*;

    #[test]
    fn a_key_is_found_by_the_remote_name_and_typed_by_the_definition() {
        let string = |text: &str| Value::string(text);
        let field = |name: &str| Field::new(name, BaseType::String);
        let mut definitions = InfoTable::new(vec![
            field("name"),
            field("baseType"),
            field("remotePropertyName"),
        ]);
        for (name, base, remote) in [
            ("temperature", "NUMBER", ""),
            ("Speed", "INTEGER", "spd"),
            ("local", "STRING", ""),
        ] {
            definitions
                .push(&[string(name), string(base), string(remote)])
                .unwrap();
        }
        let mut subscriptions = InfoTable::new(vec![field("edgeName")]);
        for edge in ["temperature", "spd", "ghost"] {
            subscriptions.push(&[string(edge)]).unwrap();
        }
        let types = join(&definitions, &subscriptions);
        assert_eq!(types.get("temperature"), Some(&BaseType::Number));
        assert_eq!(types.get("spd"), Some(&BaseType::Integer));
        assert_eq!(
            types.len(),
            2,
            "neither a local property nor a subscription without one"
        );
    }
}
