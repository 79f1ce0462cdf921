//! How many connectors replace their pods at a time. A new version of the operator, or a Secret that all refer
//! to, changes the templates of all connectors at once; without a bound the platform would see all its
//! connections come and go together, and a bad image would take hold everywhere before anybody looks.
//!
//! Pure: what was seen and asked goes in, who may go on comes out.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;

use crate::{rollout::Rollout, store::ObjectKey};

/// Why a connector has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Hold {
    /// It has asked in this reconcile.
    Asked,
    /// Its template was written; the watch has to show this generation before anything else counts.
    Written { uid: String, generation: i64 },
    /// Its pods are being replaced.
    Replacing,
    /// The controller has not seen its latest generation, which may have been a matter of numbers alone.
    Unsure,
}

/// Who replaces pods, and who waits for that, in the order in which they asked.
#[derive(Debug)]
pub struct Slots {
    limit: usize,
    held: BTreeMap<ObjectKey, Hold>,
    line: BTreeMap<u64, ObjectKey>,
    places: BTreeMap<ObjectKey, u64>,
    next: u64,
}

impl Slots {
    /// For so many connectors at a time, at least one.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            limit: limit.max(1),
            held: BTreeMap::new(),
            line: BTreeMap::new(),
            places: BTreeMap::new(),
            next: 0,
        }
    }

    /// How many may replace pods at a time.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// The Deployment of a connector was seen like this. One whose pods are being replaced has a slot, whoever
    /// began it; one that is done, or has not got on within its deadline, has none.
    pub fn saw(&mut self, key: &ObjectKey, deployment: Option<&Deployment>) {
        if let Some(Hold::Written { uid, generation }) = self.held.get(key)
            && let Some(metadata) = deployment.map(|deployment| &deployment.metadata)
            && metadata.uid.as_ref() == Some(uid)
            && metadata.generation < Some(*generation)
        {
            return;
        }
        let rollout = Rollout::of(deployment);
        let known = matches!(
            self.held.get(key),
            Some(Hold::Written { .. } | Hold::Replacing)
        );
        if !rollout.replacing() {
            self.held.remove(key);
        } else if rollout.observed || known {
            self.held.insert(key.clone(), Hold::Replacing);
        } else {
            self.held.insert(key.clone(), Hold::Unsure);
        }
    }

    /// Whether a connector may replace its pods now. If not, it waits in line.
    pub fn ask(&mut self, key: &ObjectKey) -> bool {
        match self.held.get(key) {
            None | Some(Hold::Unsure) => {}
            Some(Hold::Asked | Hold::Written { .. } | Hold::Replacing) => return true,
        }
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            let place = self.next;
            self.next += 1;
            self.line.insert(place, key.clone());
            place
        });
        if self.line.range(..place).count() >= self.free() {
            return false;
        }
        self.leave(key);
        self.held.insert(key.clone(), Hold::Asked);
        true
    }

    /// The template of a connector was written; the server has made this of it.
    pub fn wrote(&mut self, key: &ObjectKey, deployment: &Deployment) {
        if let Some(hold) = self.held.get_mut(key) {
            *hold = Hold::Written {
                uid: deployment.metadata.uid.clone().unwrap_or_default(),
                generation: deployment.metadata.generation.unwrap_or(0),
            };
        }
    }

    /// A reconcile has ended. Who asked and wrote nothing gives the slot back; who does not wait leaves the line.
    pub fn ended(&mut self, key: &ObjectKey, waits: bool) {
        if self.held.get(key) == Some(&Hold::Asked) {
            self.held.remove(key);
        }
        if !waits {
            self.leave(key);
        }
    }

    /// The connector is gone, or somebody else's.
    pub fn forget(&mut self, key: &ObjectKey) {
        self.held.remove(key);
        self.leave(key);
    }

    /// Those in line that would be let through now.
    pub fn admitted(&self) -> impl Iterator<Item = &ObjectKey> {
        self.line.values().take(self.free())
    }

    /// How many replace their pods.
    #[must_use]
    pub fn replacing(&self) -> usize {
        self.held.len()
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    fn free(&self) -> usize {
        self.limit.saturating_sub(self.held.len())
    }

    fn leave(&mut self, key: &ObjectKey) {
        if let Some(place) = self.places.remove(key) {
            self.line.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn key(name: &str) -> ObjectKey {
        ObjectKey::new("plant", name)
    }

    /// Of two pods so many are of the latest template; the controller has seen the generation `seen` of `of`.
    fn deployment(updated: i32, seen: i64, of: i64) -> Deployment {
        serde_json::from_value(json!({
            "metadata": {"uid": "uid-1", "generation": of},
            "spec": {"replicas": 2, "selector": {}, "template": {}},
            "status": {"observedGeneration": seen, "replicas": 2, "updatedReplicas": updated},
        }))
        .unwrap()
    }

    /// Asks and writes, as a reconcile does.
    fn go(slots: &mut Slots, name: &str) -> bool {
        let may = slots.ask(&key(name));
        if may {
            slots.wrote(&key(name), &deployment(2, 1, 2));
        }
        slots.ended(&key(name), !may);
        may
    }

    fn admitted(slots: &Slots) -> Vec<&str> {
        slots.admitted().map(|key| &*key.name).collect()
    }

    #[test]
    fn no_more_than_the_limit_go_and_the_others_follow_in_order() {
        let mut slots = Slots::new(2);
        let went = ["a", "b", "c", "d"].map(|name| go(&mut slots, name));
        assert_eq!(went, [true, true, false, false]);
        assert!(go(&mut slots, "a"), "who has a slot may change his mind");
        assert!(admitted(&slots).is_empty());
        slots.saw(&key("b"), Some(&deployment(2, 2, 2)));
        assert_eq!(admitted(&slots), ["c"]);
        assert!(!go(&mut slots, "e"), "nobody jumps the line");
        assert!(!go(&mut slots, "d"));
        assert!(go(&mut slots, "c"));
        assert_eq!((slots.replacing(), slots.waiting()), (2, 2));
    }

    #[test]
    fn a_slot_is_kept_until_the_watch_has_shown_that_the_rollout_is_over() {
        let mut slots = Slots::new(1);
        assert!(go(&mut slots, "a"));
        for (before, what) in [
            (deployment(2, 1, 1), "the Deployment before the write"),
            (deployment(2, 1, 2), "not seen by the controller"),
            (deployment(0, 2, 2), "no pod is new"),
            (deployment(1, 2, 2), "one pod is old"),
        ] {
            slots.saw(&key("a"), Some(&before));
            assert!(!go(&mut slots, "b"), "{what}");
        }
        slots.saw(&key("a"), Some(&deployment(2, 2, 2)));
        assert!(go(&mut slots, "b"));
    }

    #[test]
    fn a_rollout_that_is_stuck_gives_its_slot_back() {
        let mut slots = Slots::new(1);
        assert!(go(&mut slots, "a"));
        let mut stuck = deployment(1, 2, 2);
        slots.saw(&key("a"), Some(&stuck));
        assert!(!go(&mut slots, "b"));
        let condition = json!([{
            "type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
        }]);
        stuck.status.as_mut().unwrap().conditions = serde_json::from_value(condition).unwrap();
        slots.saw(&key("a"), Some(&stuck));
        assert!(go(&mut slots, "b"));
        assert!(!go(&mut slots, "a"), "a new try waits like everybody");
    }

    #[test]
    fn rollouts_of_an_operator_before_this_one_count() {
        let mut slots = Slots::new(1);
        slots.saw(&key("a"), Some(&deployment(1, 2, 2)));
        assert!(!go(&mut slots, "b"));
        slots.forget(&key("a"));
        assert!(go(&mut slots, "b"));
    }

    #[test]
    fn a_connector_that_waits_and_is_scaled_goes_on_waiting() {
        let mut slots = Slots::new(1);
        assert!(go(&mut slots, "a"));
        assert!(!go(&mut slots, "b"));
        slots.saw(&key("b"), Some(&deployment(2, 1, 2)));
        assert!(
            !go(&mut slots, "b"),
            "the controller has not seen that it is scaled"
        );
        slots.saw(&key("b"), Some(&deployment(2, 2, 2)));
        assert!(!go(&mut slots, "b"));
        slots.saw(&key("a"), Some(&deployment(2, 2, 2)));
        assert!(go(&mut slots, "b"));
    }

    #[test]
    fn whoever_asked_and_wrote_nothing_or_no_longer_waits_holds_up_nobody() {
        let mut slots = Slots::new(1);
        assert!(slots.ask(&key("a")));
        slots.ended(&key("a"), false);
        assert!(go(&mut slots, "b"));
        assert!(!go(&mut slots, "c"));
        assert!(!go(&mut slots, "d"));
        slots.ended(&key("c"), false);
        slots.saw(&key("b"), None);
        assert_eq!(admitted(&slots), ["d"]);
    }
}
