//! What a Thing says of its remote properties: name on the device's side and base type.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use alwayson::{BaseType, InfoTable, Request, Value};
use connector_config::WriteService;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::time::Instant;

use crate::platform::{Destination, Kind, Unwritten};

/// Definitions older than this are fetched again: a change of a type is then noticed even if every
/// value happens to fit the old one.
const MAX_AGE: Duration = Duration::from_secs(5 * 60);
/// An unknown key or a wrong type fetches again at most this often…
const MIN_AGE: Duration = Duration::from_secs(10);
/// …and less and less often, down to this, while that has been in vain: a device that always sends a key
/// without a property must not cost a request every few seconds.
const VAIN: Duration = Duration::from_secs(60);

/// A property that telemetry is written to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Property {
    /// The name by which it is written: the remote one, or its own.
    pub written: Arc<str>,
    /// Its base type.
    pub base_type: BaseType,
}

/// Remote name → property.
type Types = FxHashMap<Arc<str>, Property>;

/// Definitions that are in use, so that Things of one template share them: a hundred thousand Things have
/// a few dozen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shapes(Arc<Mutex<HashMap<u64, Weak<Types>>>>);

/// The remote properties of one Thing.
#[derive(Debug)]
pub struct Definitions {
    types: Arc<Types>,
    fetched: Instant,
    /// Marks of the keys that were looked for in vain.
    vain: u64,
    /// They are looked for again at this age.
    again: Duration,
}

impl Shapes {
    fn share(&self, types: Types) -> Arc<Types> {
        let hashes = types.iter().map(|entry| FxBuildHasher.hash_one(entry));
        let hash = hashes.fold(0_u64, u64::wrapping_add);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&hash).and_then(Weak::upgrade)
            && *same == types
        {
            return same;
        }
        known.retain(|_, types| types.strong_count() > 0);
        let types = Arc::new(types);
        known.insert(hash, Arc::downgrade(&types));
        types
    }
}

impl Definitions {
    /// The property with this remote name.
    #[must_use]
    pub fn find(&self, remote: &str) -> Option<&Property> {
        self.types.get(remote)
    }

    /// Too old to be relied upon.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        now - self.fetched >= MAX_AGE
    }

    /// May be fetched again to look for the keys that have these marks.
    #[must_use]
    pub fn may_refresh(&self, unfit: u64, now: Instant) -> bool {
        let new = unfit & !self.vain != 0;
        unfit != 0 && now - self.fetched >= if new { MIN_AGE } else { self.again }
    }

    /// These were fetched to look for keys of these marks.
    #[must_use]
    fn after(self, earlier: &Self, unfit: u64) -> Self {
        if self.types != earlier.types {
            return self;
        }
        Self {
            vain: earlier.vain | unfit,
            again: (earlier.again * 2).min(VAIN),
            ..self
        }
    }

    /// Asks the platform: `GetPropertyDefinitions` for the types, `GetPropertySubscriptions` for the
    /// remote names. `earlier` tells what was known, and the marks of the keys that it lacks.
    ///
    /// # Errors
    /// As [`Destination::ask`].
    pub async fn fetch(
        platform: &dyn Destination,
        shapes: &Shapes,
        write: WriteService,
        thing: &str,
        earlier: Option<(&Self, u64)>,
    ) -> Result<Arc<Self>, Unwritten> {
        let definitions = ask(platform, thing, "GetPropertyDefinitions").await?;
        let subscriptions = ask(platform, thing, "GetPropertySubscriptions").await?;
        let fetched = Self::of_types(shapes.share(join(&definitions, &subscriptions, write)));
        Ok(Arc::new(match earlier {
            Some((earlier, unfit)) => fetched.after(earlier, unfit),
            None => fetched,
        }))
    }

    fn of_types(types: Arc<Types>) -> Self {
        Self {
            types,
            fetched: Instant::now(),
            vain: 0,
            again: MIN_AGE,
        }
    }

    /// Definitions for a test.
    #[cfg(test)]
    pub fn of(types: &[(&str, BaseType)]) -> Self {
        let types = types.iter().map(|(name, base_type)| {
            let written: Arc<str> = (*name).into();
            let property = Property {
                written: written.clone(),
                base_type: *base_type,
            };
            (written, property)
        });
        Self::of_types(Arc::new(types.collect()))
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
fn join(definitions: &InfoTable, subscriptions: &InfoTable, write: WriteService) -> Types {
    let mut by_name: HashMap<String, (String, BaseType)> = HashMap::new();
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
        let Some(name) = text(name) else {
            continue;
        };
        let own = || (name.to_owned(), base);
        by_name.entry(name.to_owned()).or_insert_with(own);
        if let Some(remote) = text(remote).filter(|name| !name.is_empty()) {
            by_name.insert(remote.to_owned(), own());
        }
    }
    let Some(edge) = subscriptions.column("edgeName") else {
        return Types::default();
    };
    subscriptions
        .rows()
        .filter_map(|row| row.get(edge)?.as_text().map(str::to_owned))
        .filter_map(|edge| {
            let (own, base_type) = by_name.get(&edge)?;
            let remote: Arc<str> = edge.into();
            let written = match write {
                WriteService::UpdateSubscribedPropertyValues
                | WriteService::UpdateSubscribedPropertyValuesBatched => remote.clone(),
                WriteService::UpdatePropertyValues => own.as_str().into(),
            };
            let property = Property {
                written,
                base_type: *base_type,
            };
            Some((remote, property))
        })
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
        let types = |write| join(&definitions, &subscriptions, write);
        let of = |types: &Types, remote: &str| {
            let Property { written, base_type } = &types[remote];
            (written.to_string(), *base_type)
        };
        let by_own_name = types(WriteService::UpdatePropertyValues);
        assert_eq!(of(&by_own_name, "spd"), ("Speed".into(), BaseType::Integer));
        let types = types(WriteService::default());
        assert_eq!(
            of(&types, "temperature"),
            ("temperature".into(), BaseType::Number)
        );
        assert_eq!(of(&types, "spd"), ("spd".into(), BaseType::Integer));
        assert_eq!(
            types.len(),
            2,
            "neither a local property nor a subscription without one"
        );
    }

    #[test]
    fn a_key_that_was_looked_for_in_vain_is_looked_for_less_and_less_often() {
        let begun = Definitions::of(&[("n", BaseType::Integer)]);
        let at = |definitions: &Definitions, age| definitions.fetched + age;
        assert!(
            !begun.may_refresh(0, at(&begun, MAX_AGE)),
            "nothing is missing"
        );
        assert!(!begun.may_refresh(1, at(&begun, MIN_AGE / 2)));
        assert!(begun.may_refresh(1, at(&begun, MIN_AGE)));

        let again = Definitions::of_types(begun.types.clone()).after(&begun, 1);
        assert!(!again.may_refresh(1, at(&again, MIN_AGE)));
        assert!(again.may_refresh(3, at(&again, MIN_AGE)), "another key");
        assert!(again.may_refresh(1, at(&again, MIN_AGE * 2)));
        let again = (0..9).fold(again, |last, _| {
            Definitions::of_types(last.types.clone()).after(&last, 1)
        });
        assert!(again.may_refresh(1, at(&again, VAIN)), "but not never");

        let changed = Definitions::of(&[("x", BaseType::Integer)]).after(&again, 1);
        assert!(changed.may_refresh(1, at(&changed, MIN_AGE)));
    }

    #[test]
    fn things_of_the_same_properties_share_them() {
        let shapes = Shapes::default();
        let types = |name: &str| {
            let of = Definitions::of(&[(name, BaseType::Number)]);
            Types::clone(&of.types)
        };
        let (one, two) = (shapes.share(types("a")), shapes.share(types("a")));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &shapes.share(types("b"))));
        drop((one, two));
        let _other = shapes.share(types("c"));
        assert_eq!(
            shapes.0.lock().unwrap().len(),
            1,
            "what nobody uses is forgotten"
        );
    }
}
