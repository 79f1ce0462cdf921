//! Which endpoint gets the requests for a name, on one node. Pure.
//!
//! A name conflicts only with a different gateway: an endpoint that reconnects under its gateway's name
//! replaces its own older bind. A Thing with the shape `MultiBindRemoteThing` keeps a set of binders; the
//! group bind's own bytes are not public, so the stand-in's rule is that everybody who binds such a Thing
//! joins that Thing's routing group. Two Things are two groups, and are kept apart.

use std::collections::BTreeMap;

/// Number of an endpoint; positive.
pub type EndpointId = i32;

/// Whoever has bound a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binder {
    /// Its endpoint.
    pub endpoint: EndpointId,
    /// Name of the endpoint's gateway Thing, if it has bound one.
    pub gateway: Option<String>,
}

impl Binder {
    fn same_party(&self, other: &Self) -> bool {
        match (&self.gateway, &other.gateway) {
            (Some(a), Some(b)) => a == b,
            _ => self.endpoint == other.endpoint,
        }
    }
}

/// What a second bind of a name does, as the WebSocket subsystem's *Bind Protection Policy*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Policy {
    /// It is refused: the platform's default from 8.x on. A bind of several names of which one is refused binds
    /// none of them; whether the platform does so is not public, so there is the next as well.
    #[default]
    FirstInWins,
    /// The same, but what is not refused is bound.
    FirstInWinsByName,
    /// It replaces the first.
    LastInWins,
}

/// A bind that is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlreadyBound {
    /// The name.
    pub name: String,
    /// Who has it.
    pub by: Binder,
}

/// The binds of one node.
#[derive(Debug, Default)]
pub struct BindTable {
    names: BTreeMap<String, Vec<Binder>>,
}

impl BindTable {
    /// Binds a name. `many` tells whether the Thing of that name takes several binders.
    ///
    /// # Errors
    /// [`AlreadyBound`] under [`Policy::FirstInWins`] if somebody else has it.
    pub fn bind(
        &mut self,
        name: &str,
        binder: Binder,
        many: bool,
        policy: Policy,
    ) -> Result<(), AlreadyBound> {
        if let Some(by) = self.holder(name, &binder, many, policy) {
            let (name, by) = (name.to_owned(), by.clone());
            return Err(AlreadyBound { name, by });
        }
        let binders = self.names.entry(name.to_owned()).or_default();
        binders.retain(|one| many && !one.same_party(&binder));
        binders.push(binder);
        Ok(())
    }

    /// Who keeps `binder` from binding a name.
    #[must_use]
    pub fn holder(
        &self,
        name: &str,
        binder: &Binder,
        many: bool,
        policy: Policy,
    ) -> Option<&Binder> {
        let mut others = self
            .binders(name)
            .iter()
            .filter(|one| !one.same_party(binder));
        match policy {
            Policy::LastInWins => None,
            Policy::FirstInWins | Policy::FirstInWinsByName if many => None,
            Policy::FirstInWins | Policy::FirstInWinsByName => others.next(),
        }
    }

    /// Unbinds a name; one that another endpoint has is left alone.
    pub fn unbind(&mut self, name: &str, endpoint: EndpointId) {
        if let Some(binders) = self.names.get_mut(name) {
            binders.retain(|binder| binder.endpoint != endpoint);
            if binders.is_empty() {
                self.names.remove(name);
            }
        }
    }

    /// Unbinds everything of an endpoint; tells the names.
    pub fn unbind_all(&mut self, endpoint: EndpointId) -> Vec<String> {
        let mut gone = Vec::new();
        self.names.retain(|name, binders| {
            let before = binders.len();
            binders.retain(|binder| binder.endpoint != endpoint);
            if binders.len() < before {
                gone.push(name.clone());
            }
            !binders.is_empty()
        });
        gone
    }

    /// Who has bound a name.
    #[must_use]
    pub fn binders(&self, name: &str) -> &[Binder] {
        self.names.get(name).map_or(&[], Vec::as_slice)
    }

    /// All bound names.
    pub fn names(&self) -> impl Iterator<Item = (&str, &[Binder])> {
        self.names
            .iter()
            .map(|(name, binders)| (name.as_str(), binders.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binder(endpoint: EndpointId, gateway: &str) -> Binder {
        Binder {
            endpoint,
            gateway: (!gateway.is_empty()).then(|| gateway.to_owned()),
        }
    }

    #[test]
    fn the_first_wins_by_default_and_the_last_by_setting() {
        let mut table = BindTable::default();
        let (first, last) = (Policy::FirstInWins, Policy::LastInWins);
        table.bind("t", binder(1, "a"), false, first).unwrap();
        let refused = table.bind("t", binder(2, "b"), false, first).unwrap_err();
        assert_eq!(refused.by, binder(1, "a"));
        table.bind("t", binder(2, "b"), false, last).unwrap();
        assert_eq!(table.binders("t"), [binder(2, "b")]);
    }

    #[test]
    fn a_gateway_that_comes_back_replaces_itself() {
        let mut table = BindTable::default();
        table
            .bind("t", binder(1, "a"), false, Policy::FirstInWins)
            .unwrap();
        table
            .bind("t", binder(7, "a"), false, Policy::FirstInWins)
            .unwrap();
        assert_eq!(table.binders("t"), [binder(7, "a")]);
        assert!(table.unbind_all(1).is_empty());
        assert_eq!(table.unbind_all(7), ["t"]);
    }

    #[test]
    fn a_multi_bind_thing_keeps_a_set_and_groups_are_apart() {
        let mut table = BindTable::default();
        for (endpoint, gateway, hub) in [
            (1, "a", "hub1"),
            (2, "b", "hub1"),
            (2, "b", "hub1"),
            (3, "c", "hub2"),
        ] {
            table
                .bind(hub, binder(endpoint, gateway), true, Policy::FirstInWins)
                .unwrap();
        }
        assert_eq!(table.binders("hub1").len(), 2);
        assert_eq!(table.binders("hub2"), [binder(3, "c")]);
        table.unbind("hub1", 3);
        table.unbind("hub1", 1);
        assert_eq!(table.binders("hub1"), [binder(2, "b")]);
    }
}
