//! What a Thing says of its remote properties: name on the device's side and base type.

use std::{
    collections::HashMap,
    hash::BuildHasher,
    ops::BitOrAssign,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use alwayson::{BaseType, InfoTable, Request, Value};
use connector_config::WriteService;
use rustc_hash::{FxBuildHasher, FxHashMap};
use tokio::time::Instant;

use crate::platform::{Destination, Kind, Unwritten};

/// Definitions older than this are fetched again, those of some Things after half the time so that they
/// do not all come at once: a change of a type is then noticed even if every value happens to fit the old
/// one.
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

/// What Things of one template have in common.
#[derive(Debug, Default)]
struct Shape {
    types: Types,
    /// The set of remote names that are subscribed, with a property or without, as a sum of hashes.
    subscribed: u64,
    /// Marks of unknown keys that were looked for in vain on any of these Things: a hundred thousand
    /// devices that send a key without a property look for it once a minute, not each as often as the
    /// first.
    vain: AtomicU64,
}

/// Shapes that are in use, so that Things of one template share them: a hundred thousand Things have
/// a few dozen. Cheap to clone.
#[derive(Clone, Default)]
pub struct Shapes(Arc<Mutex<HashMap<u64, Weak<Shape>>>>);

/// Keys of messages to which the definitions do not fit, as two sets of marks ([`mark`]): newer ones
/// could make more of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unfit {
    /// Keys that no remote property has.
    pub unknown: u64,
    /// Keys whose values have another type.
    pub wrong: u64,
}

impl Unfit {
    fn all(self) -> u64 {
        self.unknown | self.wrong
    }
}

impl BitOrAssign for Unfit {
    fn bitor_assign(&mut self, other: Self) {
        self.unknown |= other.unknown;
        self.wrong |= other.wrong;
    }
}

/// One of 64 marks for a key: tells a key that was looked for in vain from one that was not, but for
/// the few that share a mark.
#[must_use]
pub fn mark(name: &str) -> u64 {
    1 << (FxBuildHasher.hash_one(name) >> 58)
}

/// The remote properties of one Thing.
#[derive(Debug)]
pub struct Definitions {
    shape: Arc<Shape>,
    /// No longer to be relied upon from then on.
    stale: Instant,
    /// When unknown keys were last looked for.
    looked: Instant,
    /// Marks of the keys that were looked for in vain.
    vain: u64,
    /// They are looked for again at this age.
    again: Duration,
}

impl Shapes {
    fn share(&self, types: Types, subscribed: u64) -> Arc<Shape> {
        let hashes = types.iter().map(|entry| FxBuildHasher.hash_one(entry));
        let hash = hashes.fold(subscribed, u64::wrapping_add);
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.get(&hash).and_then(Weak::upgrade)
            && same.subscribed == subscribed
            && same.types == types
        {
            return same;
        }
        known.retain(|_, shape| shape.strong_count() > 0);
        let shape = Arc::new(Shape {
            types,
            subscribed,
            vain: AtomicU64::default(),
        });
        known.insert(hash, Arc::downgrade(&shape));
        shape
    }
}

impl Definitions {
    /// The property with this remote name.
    #[must_use]
    pub fn find(&self, remote: &str) -> Option<&Property> {
        self.shape.types.get(remote)
    }

    /// Too old to be relied upon.
    #[must_use]
    pub fn is_stale(&self, now: Instant) -> bool {
        now >= self.stale
    }

    /// May be fetched again for what does not fit.
    #[must_use]
    pub fn may_refresh(&self, unfit: Unfit, now: Instant) -> bool {
        let looked_for = self.vain;
        // Whether a value of another device has the wrong type says nothing of this one's.
        let known = looked_for | self.shape.vain.load(Ordering::Relaxed);
        let new = (unfit.wrong & !looked_for) | (unfit.unknown & !known);
        let wait = match unfit.all() {
            0 => return false,
            _ if new != 0 => MIN_AGE,
            all if all & !looked_for != 0 => VAIN,
            _ => self.again,
        };
        now - self.looked >= wait
    }

    /// The Thing's shape, found to be `shape` now that it was asked for again because of `unfit`.
    fn after(&self, shape: Arc<Shape>, stale: Instant, unfit: Unfit) -> Self {
        if self.shape.types != shape.types {
            return Self::new(shape, stale);
        }
        shape.vain.fetch_or(unfit.unknown, Ordering::Relaxed);
        Self {
            vain: self.vain | unfit.all(),
            again: (self.again * 2).min(VAIN),
            ..Self::new(shape, stale)
        }
    }

    /// Asks the platform: `GetPropertyDefinitions` for the types, `GetPropertySubscriptions` for the
    /// remote names. `earlier` tells what was known, and what did not fit; unknown keys alone are looked
    /// for among the names.
    ///
    /// # Errors
    /// As [`Destination::ask`].
    pub async fn fetch(
        platform: &dyn Destination,
        shapes: &Shapes,
        write: WriteService,
        thing: &str,
        earlier: Option<(&Self, Unfit)>,
    ) -> Result<Arc<Self>, Unwritten> {
        let subscriptions = || ask(platform, thing, "GetPropertySubscriptions");
        let definitions = || ask(platform, thing, "GetPropertyDefinitions");
        let (definitions, subscriptions) = match earlier {
            Some((earlier, unfit)) if unfit.wrong == 0 => {
                let subscriptions = subscriptions().await?;
                if subscribed(&subscriptions) == earlier.shape.subscribed {
                    let shape = earlier.shape.clone();
                    return Ok(Arc::new(earlier.after(shape, earlier.stale, unfit)));
                }
                (definitions().await?, subscriptions)
            }
            _ => futures::try_join!(definitions(), subscriptions())?,
        };
        let types = join(&definitions, &subscriptions, write);
        let shape = shapes.share(types, subscribed(&subscriptions));
        let stale = Instant::now() + MAX_AGE.mul_f64(rand::random_range(0.5..1.0));
        Ok(Arc::new(match earlier {
            Some((earlier, unfit)) => earlier.after(shape, stale, unfit),
            None => Self::new(shape, stale),
        }))
    }

    fn new(shape: Arc<Shape>, stale: Instant) -> Self {
        Self {
            shape,
            stale,
            looked: Instant::now(),
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
        let shape = Shape {
            types: types.collect(),
            ..Shape::default()
        };
        Self::new(Arc::new(shape), Instant::now() + MAX_AGE)
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

/// The names on the device's side that the Thing has bound properties to.
fn names(subscriptions: &InfoTable) -> impl Iterator<Item = Arc<str>> {
    let edge = subscriptions.column("edgeName");
    let names = move |edge: usize| {
        let rows = subscriptions.rows();
        rows.filter_map(move |row| row.get(edge)?.as_text().map(Arc::from))
    };
    edge.into_iter().flat_map(names)
}

/// They, as a sum of hashes.
fn subscribed(subscriptions: &InfoTable) -> u64 {
    let hashes = names(subscriptions).map(|name| FxBuildHasher.hash_one(name));
    hashes.fold(0, u64::wrapping_add)
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
    names(subscriptions)
        .filter_map(|remote| {
            let (own, base_type) = by_name.get(remote.as_ref())?;
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

    fn unknown(marks: u64) -> Unfit {
        Unfit {
            unknown: marks,
            wrong: 0,
        }
    }

    #[test]
    fn a_key_that_was_looked_for_in_vain_is_looked_for_less_and_less_often() {
        let begun = Definitions::of(&[("n", BaseType::Integer)]);
        let at = |definitions: &Definitions, age| definitions.looked + age;
        assert!(
            !begun.may_refresh(unknown(0), at(&begun, MAX_AGE)),
            "nothing is missing"
        );
        assert!(!begun.may_refresh(unknown(1), at(&begun, MIN_AGE / 2)));
        assert!(begun.may_refresh(unknown(1), at(&begun, MIN_AGE)));

        let same = |last: &Definitions| last.after(last.shape.clone(), last.stale, unknown(1));
        let again = same(&begun);
        assert!(!again.may_refresh(unknown(1), at(&again, MIN_AGE)));
        assert!(
            again.may_refresh(unknown(3), at(&again, MIN_AGE)),
            "another key"
        );
        assert!(again.may_refresh(unknown(1), at(&again, MIN_AGE * 2)));
        let again = (0..9).fold(again, |last, _| same(&last));
        assert!(
            again.may_refresh(unknown(1), at(&again, VAIN)),
            "but not never"
        );

        let other = Definitions::of(&[("x", BaseType::Integer)]);
        let changed = again.after(other.shape, other.stale, unknown(1));
        assert!(changed.may_refresh(unknown(1), at(&changed, MIN_AGE)));
    }

    #[test]
    fn what_one_thing_lacks_others_of_its_template_hardly_look_for() {
        let first = Definitions::of(&[("n", BaseType::Integer)]);
        let second = Definitions::new(first.shape.clone(), first.stale);
        let at = |age| second.looked + age;
        let wrong = Unfit {
            unknown: 0,
            wrong: 1,
        };
        let _ = first.after(first.shape.clone(), first.stale, unknown(1));
        assert!(!second.may_refresh(unknown(1), at(VAIN / 2)));
        assert!(second.may_refresh(unknown(1), at(VAIN)));
        assert!(second.may_refresh(unknown(3), at(MIN_AGE)), "another key");
        let _ = first.after(first.shape.clone(), first.stale, wrong);
        assert!(
            second.may_refresh(wrong, at(MIN_AGE)),
            "a type is each Thing's own"
        );
    }

    #[test]
    fn things_of_the_same_properties_share_them() {
        let shapes = Shapes::default();
        let share = |name: &str, subscribed| {
            let of = Definitions::of(&[(name, BaseType::Number)]);
            shapes.share(Types::clone(&of.shape.types), subscribed)
        };
        let (one, two) = (share("a", 1), share("a", 1));
        assert!(Arc::ptr_eq(&one, &two));
        assert!(!Arc::ptr_eq(&one, &share("b", 1)));
        assert!(!Arc::ptr_eq(&one, &share("a", 2)), "another is subscribed");
        drop((one, two));
        let _other = share("c", 1);
        assert_eq!(
            shapes.0.lock().unwrap().len(),
            1,
            "what nobody uses is forgotten"
        );
    }
}
