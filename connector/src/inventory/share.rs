//! Which devices are whose. Pure: every member computes the same from the same members.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    hash::{spread, stable},
    identity::MemberId,
};

/// Members, among whom each device goes to the one that draws highest for it (rendezvous hashing): only the devices
/// of a member that comes or goes change hands.
#[derive(Debug, Default)]
pub struct Owners(Vec<(u64, MemberId)>);

impl Owners {
    /// These members.
    #[must_use]
    pub fn new(members: &BTreeSet<MemberId>) -> Self {
        let hashed = members.iter().cloned();
        Self(hashed.map(|one| (stable(one.as_str()), one)).collect())
    }

    /// Whose a device is. Nobody's, if there are no members.
    #[must_use]
    pub fn owner(&self, device: &str) -> Option<&MemberId> {
        let device = stable(device);
        let drawn = self
            .0
            .iter()
            .map(|(hash, one)| (spread(hash ^ device), one));
        drawn.max().map(|(_, one)| one)
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(&self, member: &MemberId) -> bool {
        self.0.iter().any(|(_, one)| one == member)
    }

    /// Those of `devices` that are `own`'s.
    #[must_use]
    pub fn share(&self, devices: &BTreeSet<Arc<str>>, own: &MemberId) -> BTreeSet<Arc<str>> {
        let is_own = |device: &&Arc<str>| self.owner(device) == Some(own);
        devices.iter().filter(is_own).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: usize) -> MemberId {
        MemberId::new(format!("AzureIot-factory-connector-7c9f8d-x{n}"))
    }

    proptest! {
        #[test]
        fn each_device_is_one_members_shares_are_even_and_only_those_of_the_leaver_move(
            count in 1..12_usize, prefix in "[a-z]{0,6}", seed in 0..1000_usize,
        ) {
            let devices: BTreeSet<Arc<str>> =
                (0..2000).map(|n| format!("{prefix}{n}").into()).collect();
            let members: BTreeSet<MemberId> = (seed..seed + count).map(member).collect();
            let shares: Vec<_> =
                members.iter().map(|own| (own, Owners::new(&members).share(&devices, own))).collect();
            let total: usize = shares.iter().map(|(_, share)| share.len()).sum();
            let all: BTreeSet<_> = shares.iter().flat_map(|(_, share)| share.clone()).collect();
            prop_assert_eq!((total, all.len()), (devices.len(), devices.len()));
            let even = devices.len() / count;
            prop_assert!(shares.iter().all(|(_, share)| share.len() < even * 3 / 2 + 1));
            let (leaver, left) = &shares[0];
            let rest: BTreeSet<MemberId> =
                members.iter().filter(|one| one != leaver).cloned().collect();
            for (own, before) in &shares[1..] {
                let after = Owners::new(&rest).share(&devices, own);
                prop_assert!(before.is_subset(&after) && after.difference(before).all(|one| left.contains(one)));
            }
        }
    }

    #[test]
    fn while_nobody_is_known_nothing_is_bound() {
        let devices = BTreeSet::from(["a".into()]);
        assert!(Owners::default().share(&devices, &member(0)).is_empty());
    }
}
