//! Ids of messages to devices: whose they are, which one, and what for. The hub's feedback names a message
//! by its id alone, and any member of the routing group may get it.

use connector_config::{ThingName, digest8};

/// Between the parts.
const BETWEEN: char = '~';
/// Longest id of a message (Microsoft Learn, "Create and read IoT Hub messages"); ASCII only.
const LONGEST: usize = 128;

/// What the ids of all connectors of a hub Thing begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark(String);

impl Mark {
    /// The mark of those who serve a hub Thing.
    #[must_use]
    pub fn new(hub: &ThingName) -> Self {
        Self(digest8(hub.as_str().as_bytes()))
    }

    /// A new id: `<mark>~<random>~<property>`.
    pub(in super::super) fn id(&self, property: Option<&str>) -> String {
        let mut id = format!(
            "{}{BETWEEN}{:032x}{BETWEEN}",
            self.0,
            rand::random::<u128>()
        );
        let named = property.unwrap_or_default().chars();
        id.extend(named.map(|c| if c.is_ascii_graphic() { c } else { '_' }));
        id.truncate(LONGEST);
        id
    }

    /// The property that a message of ours was for, empty if it was for several; `None` if it is not ours.
    #[must_use]
    pub fn property<'a>(&self, id: &'a str) -> Option<&'a str> {
        let (random, property) = id
            .strip_prefix(&self.0)?
            .strip_prefix(BETWEEN)?
            .split_once(BETWEEN)?;
        (random.len() == 32).then_some(property)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_tells_whose_and_what_for_and_is_not_endless() {
        let mark = |hub: &str| Mark::new(&ThingName::new(hub).unwrap());
        let (ours, other) = (mark("Factory"), mark("Other"));
        let id = ours.id(Some("set point/ä"));
        assert_eq!(ours.property(&id), Some("set_point/_"));
        assert_eq!(other.property(&id), None);
        assert_eq!(ours.property(&ours.id(None)), Some(""));
        assert_eq!(ours.property("somebody's own"), None);
        let long = ours.id(Some(&"x".repeat(500)));
        assert_eq!(
            (long.len(), ours.property(&long).is_some()),
            (LONGEST, true)
        );
        assert_ne!(ours.id(None), ours.id(None));
    }
}
