//! Who is alive, judged by what this observer has seen with its own clock: clocks of different pods
//! are never compared.

use std::{collections::HashMap, time::Duration};

use tokio::time::Instant;

use crate::identity::MemberId;

/// A member is dead once its Lease has not changed for so long…
const SILENCE: Duration = Duration::from_secs(8);
/// …over so many observations. A Lease is renewed every 2 s, so four renewals were missed.
const OBSERVATIONS: u32 = 3;
/// An observer that could not look for so long starts counting again: it has missed renewals.
const GAP: Duration = Duration::from_secs(6);

/// A Lease that has not changed for so long makes its member suspect: two renewals were missed.
const SUSPECT: Duration = Duration::from_secs(5);

/// What has been seen of the members' Leases.
#[derive(Debug, Default)]
pub struct Observer {
    seen: HashMap<MemberId, Seen>,
    last: Option<Instant>,
}

#[derive(Debug)]
struct Seen {
    /// Changes with each renewal; `None` while the Lease is missing.
    version: Option<String>,
    since: Instant,
    observations: u32,
}

impl Observer {
    /// Takes in one successful look at all members' Leases: id and version of each. `named` are members
    /// that are known otherwise, such as holders of claims; their Lease may be missing.
    pub fn look<'a>(
        &mut self,
        now: Instant,
        leases: impl Iterator<Item = (MemberId, String)>,
        named: impl Iterator<Item = &'a MemberId>,
    ) {
        if self.last.is_some_and(|last| now - last > GAP) {
            self.seen.clear();
        }
        self.last = Some(now);
        let mut present: HashMap<MemberId, String> = leases.collect();
        for id in named {
            self.seen.entry(id.clone()).or_insert(Seen {
                version: None,
                since: now,
                observations: 0,
            });
        }
        self.seen.retain(|id, seen| {
            // A missing Lease counts as unchanged since it was last seen.
            match present.remove(id) {
                Some(version) if seen.version.as_ref() != Some(&version) => {
                    *seen = Seen {
                        version: Some(version),
                        since: now,
                        observations: 1,
                    };
                    true
                }
                _ => {
                    seen.observations += 1;
                    // Members of long ago are forgotten; a claim that still names one names it again.
                    now - seen.since < SILENCE * 100
                }
            }
        });
        for (id, version) in present {
            self.seen.insert(
                id,
                Seen {
                    version: Some(version),
                    since: now,
                    observations: 1,
                },
            );
        }
    }

    /// Whether silence proves anything: while our own Lease does not change although we live, Leases
    /// cannot be written, and nobody's says whether its member lives. Counting then begins again.
    pub fn is_sound(&mut self, own: &MemberId, now: Instant) -> bool {
        let sound = !self.is_dead(own, now);
        if !sound {
            self.seen.clear();
        }
        sound
    }

    /// Whether some member may turn out to be dead within seconds: then it is worth looking often. One that
    /// has been dead for long is no news.
    #[must_use]
    pub fn suspects(&self, now: Instant) -> bool {
        self.seen.values().any(|seen| {
            let silent = now - seen.since;
            silent >= SUSPECT && silent < SILENCE + GAP
        })
    }

    /// Whether the member has given no sign of life for long enough.
    #[must_use]
    pub fn is_dead(&self, member: &MemberId, now: Instant) -> bool {
        self.seen
            .get(member)
            .is_some_and(|seen| seen.observations >= OBSERVATIONS && now - seen.since >= SILENCE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> MemberId {
        MemberId::new(name)
    }

    struct World {
        observer: Observer,
        now: Instant,
    }

    impl World {
        fn look(&mut self, after: u64, leases: &[(&str, &str)], named: &[&str]) {
            self.now += Duration::from_secs(after);
            let named: Vec<MemberId> = named.iter().map(|name| id(name)).collect();
            let leases = leases
                .iter()
                .map(|(name, version)| (id(name), (*version).to_owned()));
            self.observer.look(self.now, leases, named.iter());
        }

        fn dead(&self, name: &str) -> bool {
            self.observer.is_dead(&id(name), self.now)
        }
    }

    fn world() -> World {
        World {
            observer: Observer::default(),
            now: Instant::now(),
        }
    }

    #[test]
    fn a_lease_that_does_not_change_is_dead_after_eight_seconds() {
        let mut world = world();
        for after in [0, 2, 2, 2] {
            world.look(after, &[("a", "1")], &[]);
            assert!(!world.dead("a"));
        }
        assert!(world.observer.suspects(world.now));
        world.look(2, &[("a", "1")], &[]);
        assert!(world.dead("a"));
        world.look(2, &[("a", "2")], &[]);
        assert!(!world.dead("a"), "it has come back");
        assert!(!world.observer.suspects(world.now));
    }

    #[test]
    fn a_gap_in_the_observers_own_view_starts_the_clock_again() {
        let mut world = world();
        world.look(0, &[("a", "1")], &[]);
        world.look(60, &[("a", "1")], &[]);
        assert!(!world.dead("a"), "renewals may have been missed");
        for _ in 0..4 {
            world.look(2, &[("a", "1")], &[]);
        }
        assert!(world.dead("a"));
    }

    #[test]
    fn while_our_own_lease_does_not_change_nobody_is_dead() {
        let mut world = world();
        for _ in 0..5 {
            world.look(2, &[("own", "1"), ("a", "1")], &[]);
        }
        let now = world.now;
        assert!(!world.observer.is_sound(&id("own"), now));
        assert!(!world.dead("a"));
        // Leases can be written again: ours is renewed first, and the other has its eight seconds.
        for version in ["2", "3", "4"] {
            world.look(2, &[("own", version), ("a", "1")], &[]);
            let now = world.now;
            assert!(world.observer.is_sound(&id("own"), now));
            assert!(!world.dead("a"));
        }
        for version in ["5", "6"] {
            world.look(2, &[("own", version), ("a", "1")], &[]);
        }
        assert!(world.dead("a"));
    }

    #[test]
    fn a_missing_lease_is_no_proof_of_death_at_once() {
        let mut world = world();
        world.look(0, &[], &["a"]);
        world.look(2, &[], &["a"]);
        assert!(!world.dead("a"));
        for _ in 0..3 {
            world.look(2, &[], &["a"]);
        }
        assert!(world.dead("a"));
        assert!(!world.dead("never heard of"));
    }
}
