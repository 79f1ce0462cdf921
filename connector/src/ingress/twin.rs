//! Twins: what changes make of them. Pure.
//!
//! A change notification carries only what has changed, in the form of a patch (Microsoft Learn,
//! "Understand and use device twins in IoT Hub", twin change notifications); a property on the platform
//! holds the whole of a part. So the connector keeps the twin while changes follow one another, and
//! reads it where one is missing.

use serde_json::{Map, Value as Json};

/// One part of a twin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `properties.desired`
    Desired,
    /// `properties.reported`
    Reported,
    /// `tags`
    Tags,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 3] = [Self::Desired, Self::Reported, Self::Tags];

    /// The remote property that holds it, by PTC's names.
    #[must_use]
    pub fn property(self) -> &'static str {
        match self {
            Self::Desired => "twinDesired",
            Self::Reported => "twinReported",
            Self::Tags => "twinTags",
        }
    }

    fn of(self, document: &Json) -> Option<&Map<String, Json>> {
        let part = match self {
            Self::Desired => document.pointer("/properties/desired"),
            Self::Reported => document.pointer("/properties/reported"),
            Self::Tags => document.get("tags"),
        };
        part?.as_object()
    }
}

/// A change of a twin, as the hub tells it.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The twin's version after it; none if the hub has not said.
    pub version: Option<i64>,
    /// The parts in it replace what was there; else they are merged into it.
    pub replace: bool,
    document: Json,
}

impl Change {
    /// Reads a change from the body of a twin change event.
    #[must_use]
    pub fn new(document: Json, replace: bool) -> Self {
        Self {
            version: document.get("version").and_then(Json::as_i64),
            replace,
            document,
        }
    }
}

/// A twin as it is known.
#[derive(Debug, Clone, PartialEq)]
pub struct Twin {
    version: i64,
    /// Version of the last change that was looked at.
    seen: i64,
    desired: Map<String, Json>,
    reported: Map<String, Json>,
    tags: Map<String, Json>,
}

/// What is to be done about a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It follows what is known: [`Twin::apply`].
    Apply,
    /// It is in what is known already.
    Known,
    /// Changes are missing in between: read the twin.
    Read,
}

/// What is to be done about a change of a twin that is known so far.
#[must_use]
pub fn step(known: Option<&Twin>, change: &Change) -> Step {
    match (known, change.version) {
        // A change that is not newer than the last one is of another twin: the device was made again.
        (Some(twin), Some(version)) if version > twin.seen => {
            if version <= twin.version {
                Step::Known
            } else if version == twin.version + 1 {
                Step::Apply
            } else {
                Step::Read
            }
        }
        _ => Step::Read,
    }
}

impl Twin {
    /// A twin as the hub's REST face writes it; `None` if it has no version.
    #[must_use]
    pub fn read(document: &Json, change: &Change) -> Option<Self> {
        let version = document.get("version")?.as_i64()?;
        let part = |part: Part| part.of(document).map(bare).unwrap_or_default();
        Some(Self {
            version,
            seen: change.version.unwrap_or(version),
            desired: part(Part::Desired),
            reported: part(Part::Reported),
            tags: part(Part::Tags),
        })
    }

    /// It holds what the change has made of it.
    #[must_use]
    pub fn is_at(&self, change: &Change) -> bool {
        change.version.is_none_or(|version| self.version >= version)
    }

    /// A change has been looked at whose content is known already.
    pub fn see(&mut self, change: &Change) {
        self.seen = change.version.unwrap_or(self.seen);
    }

    /// Applies the change that follows; the parts it touches.
    pub fn apply(&mut self, change: &Change) -> Vec<Part> {
        let touched = Part::ALL.into_iter().filter(|part| {
            let Some(patch) = part.of(&change.document) else {
                return false;
            };
            let target = self.part_mut(*part);
            if change.replace {
                *target = bare(patch);
            } else {
                merge(target, patch);
            }
            true
        });
        let touched = touched.collect();
        self.version = change.version.unwrap_or(self.version);
        self.see(change);
        touched
    }

    /// A part as it is now, without the hub's own `$metadata` and `$version`.
    #[must_use]
    pub fn part(&self, part: Part) -> &Map<String, Json> {
        match part {
            Part::Desired => &self.desired,
            Part::Reported => &self.reported,
            Part::Tags => &self.tags,
        }
    }

    fn part_mut(&mut self, part: Part) -> &mut Map<String, Json> {
        match part {
            Part::Desired => &mut self.desired,
            Part::Reported => &mut self.reported,
            Part::Tags => &mut self.tags,
        }
    }

    /// What it takes in memory, in bytes, about.
    #[must_use]
    pub fn bytes(&self) -> usize {
        [&self.desired, &self.reported, &self.tags]
            .into_iter()
            .map(size)
            .sum()
    }
}

/// Keys that the hub adds; users' own cannot begin so.
fn hubs(key: &str) -> bool {
    key.starts_with('$')
}

fn bare(part: &Map<String, Json>) -> Map<String, Json> {
    let own = part.iter().filter(|(key, _)| !hubs(key));
    own.map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

/// Merges a patch: null removes, objects merge, all else replaces. What it recurses over has been
/// parsed within a bound of depth.
fn merge(target: &mut Map<String, Json>, patch: &Map<String, Json>) {
    for (key, value) in patch.iter().filter(|(key, _)| !hubs(key)) {
        match value {
            Json::Null => {
                target.remove(key);
            }
            Json::Object(inner) => match target.get_mut(key) {
                Some(Json::Object(into)) => merge(into, inner),
                _ => {
                    let mut into = Map::new();
                    merge(&mut into, inner);
                    target.insert(key.clone(), Json::Object(into));
                }
            },
            other => {
                target.insert(key.clone(), other.clone());
            }
        }
    }
}

fn size(part: &Map<String, Json>) -> usize {
    /// Key, cell and their share of the map.
    const CELL: usize = 100;
    let value = |json: &Json| match json {
        Json::String(text) => text.len(),
        Json::Object(inner) => size(inner),
        Json::Array(list) => list.len() * CELL,
        Json::Null | Json::Bool(_) | Json::Number(_) => 0,
    };
    part.iter()
        .map(|(key, json)| CELL + key.len() + value(json))
        .sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn change(version: i64, document: Json) -> Change {
        let mut document = document;
        document["version"] = version.into();
        Change::new(document, false)
    }

    fn twin() -> Twin {
        let document = json!({
            "deviceId": "dev", "version": 5,
            "tags": {"site": "A"},
            "properties": {
                "desired": {"rate": 1, "$metadata": {"rate": {}}, "$version": 2},
                "reported": {"fw": {"v": 1, "ok": true}, "$metadata": {}, "$version": 3},
            },
        });
        Twin::read(&document, &change(5, json!({}))).unwrap()
    }

    fn shown(twin: &Twin, part: Part) -> Json {
        Json::Object(twin.part(part).clone())
    }

    #[test]
    fn a_twin_is_read_without_what_the_hub_adds() {
        let twin = twin();
        assert_eq!(shown(&twin, Part::Desired), json!({"rate": 1}));
        assert_eq!(
            shown(&twin, Part::Reported),
            json!({"fw": {"v": 1, "ok": true}})
        );
        assert_eq!(shown(&twin, Part::Tags), json!({"site": "A"}));
        assert_eq!(Twin::read(&json!({}), &change(1, json!({}))), None);
    }

    #[test]
    fn a_change_is_merged_and_null_removes() {
        let mut twin = twin();
        let touched = twin.apply(&change(
            6,
            json!({"properties": {"reported": {
                "fw": {"v": 2, "ok": null}, "new": {"a": null, "b": [null]}, "gone": null,
                "$metadata": {"fw": {}}, "$version": 4,
            }}}),
        ));
        assert_eq!(touched, [Part::Reported]);
        assert_eq!(
            shown(&twin, Part::Reported),
            json!({"fw": {"v": 2}, "new": {"b": [null]}})
        );
        assert_eq!(shown(&twin, Part::Desired), json!({"rate": 1}));
        let touched = twin.apply(&change(7, json!({"tags": {"site": {"x": 1}}})));
        assert_eq!(touched, [Part::Tags]);
        assert_eq!(shown(&twin, Part::Tags), json!({"site": {"x": 1}}));
    }

    #[test]
    fn a_replacement_leaves_nothing_of_what_was_there() {
        let mut twin = twin();
        let mut replace = change(6, json!({"tags": {}, "properties": {"desired": {"a": 1}}}));
        replace.replace = true;
        assert_eq!(twin.apply(&replace), [Part::Desired, Part::Tags]);
        assert_eq!(shown(&twin, Part::Desired), json!({"a": 1}));
        assert_eq!(shown(&twin, Part::Tags), json!({}));
        assert_eq!(
            shown(&twin, Part::Reported),
            json!({"fw": {"v": 1, "ok": true}})
        );
    }

    #[test]
    fn the_version_tells_whether_the_twin_must_be_read() {
        let none = |document| Change::new(document, false);
        let mut twin = twin();
        let ask = |twin: &Twin, version| step(Some(twin), &change(version, json!({})));
        assert_eq!(step(None, &change(6, json!({}))), Step::Read);
        assert_eq!(step(Some(&twin), &none(json!({}))), Step::Read);
        assert_eq!(ask(&twin, 6), Step::Apply);
        assert_eq!(ask(&twin, 7), Step::Read, "one is missing");
        assert_eq!(ask(&twin, 5), Step::Read, "the device was made again");
        // Read because of change 6, when there had been 7 and 8 already.
        twin.version = 8;
        twin.seen = 6;
        assert_eq!(ask(&twin, 7), Step::Known);
        twin.see(&change(7, json!({})));
        assert_eq!(ask(&twin, 8), Step::Known);
        assert_eq!(ask(&twin, 9), Step::Apply);
        assert_eq!(ask(&twin, 2), Step::Read);
    }

    fn any_part() -> impl Strategy<Value = Map<String, Json>> {
        let leaf = prop_oneof![Just(Json::Null), (0..3_i32).prop_map(Json::from)];
        let value = leaf.prop_recursive(3, 12, 3, |inner| {
            proptest::collection::btree_map("[abc$]", inner, 0..3)
                .prop_map(|fields| Json::Object(fields.into_iter().collect()))
        });
        proptest::collection::btree_map("[abc$]", value, 0..4)
            .prop_map(|fields| fields.into_iter().collect())
    }

    fn has_null(json: &Json) -> bool {
        match json {
            Json::Null => true,
            Json::Object(fields) => fields.values().any(has_null),
            _ => false,
        }
    }

    proptest! {
        /// A change that arrives twice does no harm, and none of its nulls stays.
        #[test]
        fn merging_twice_is_merging_once(patches in proptest::collection::vec(any_part(), 1..5)) {
            let mut target = Map::new();
            for patch in &patches {
                merge(&mut target, patch);
                let once = target.clone();
                merge(&mut target, patch);
                prop_assert_eq!(&target, &once);
                prop_assert!(!has_null(&Json::Object(once)));
            }
        }
    }
}
