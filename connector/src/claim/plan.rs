//! Who should read what. Pure: every member computes the same from the same view.

use std::collections::{BTreeMap, BTreeSet};

use iothub::PartitionId;

use crate::identity::MemberId;

/// A member that takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// Who.
    pub id: MemberId,
    /// Its pod is of the newest template: it keeps or gets the surplus.
    pub newest: bool,
}

/// Gives every partition one member: loads differ by at most one, and a partition moves only if its
/// holder is not among the candidates or has too many. `held` tells the present holder of a partition.
#[must_use]
pub fn plan(
    candidates: &[Candidate],
    partitions: &BTreeSet<PartitionId>,
    held: &BTreeMap<PartitionId, MemberId>,
) -> BTreeMap<PartitionId, MemberId> {
    if candidates.is_empty() {
        return BTreeMap::new();
    }
    let mut shares: BTreeMap<&MemberId, Vec<&PartitionId>> = candidates
        .iter()
        .map(|candidate| (&candidate.id, Vec::new()))
        .collect();
    let mut free = Vec::new();
    for partition in partitions {
        match held
            .get(partition)
            .and_then(|holder| shares.get_mut(holder))
        {
            Some(share) => share.push(partition),
            None => free.push(partition),
        }
    }
    // Who has most now gets the one more, so that the fewest move; then the newest pods, so that a
    // rollout does not move a partition to a pod that goes next.
    let mut order: Vec<&Candidate> = candidates.iter().collect();
    order.sort_by(|a, b| {
        let load = |candidate: &Candidate| shares.get(&candidate.id).map_or(0, Vec::len);
        (load(b), b.newest, &a.id).cmp(&(load(a), a.newest, &b.id))
    });
    let (base, more) = (
        partitions.len() / order.len(),
        partitions.len() % order.len(),
    );
    let quota = |rank: usize| base + usize::from(rank < more);
    for (rank, candidate) in order.iter().enumerate() {
        if let Some(share) = shares.get_mut(&candidate.id) {
            let keep = share.len().min(quota(rank));
            free.extend(share.split_off(keep));
        }
    }
    free.sort();
    let mut free = free.into_iter();
    for (rank, candidate) in order.iter().enumerate() {
        if let Some(share) = shares.get_mut(&candidate.id) {
            let missing = quota(rank) - share.len();
            share.extend(free.by_ref().take(missing));
        }
    }
    shares
        .into_iter()
        .flat_map(|(member, share)| share.into_iter().map(|one| (one.clone(), member.clone())))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: usize) -> MemberId {
        MemberId::new(format!("m{n:02}"))
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_loads_are_even_and_moves_are_few(
            members in prop::collection::btree_set(0..12_usize, 1..10),
            newest in prop::collection::btree_set(0..12_usize, 0..10),
            partitions in 1..33_usize,
            holders in prop::collection::vec(prop::option::of(0..14_usize), 33),
        ) {
            let candidates: Vec<Candidate> = members
                .iter()
                .map(|n| Candidate { id: member(*n), newest: newest.contains(n) })
                .collect();
            let ids: BTreeSet<PartitionId> =
                (0..partitions).map(|n| PartitionId::new(n.to_string())).collect();
            let held: BTreeMap<PartitionId, MemberId> = ids
                .iter()
                .zip(&holders)
                .filter_map(|(id, holder)| Some((id.clone(), member((*holder)?))))
                .collect();
            let planned = plan(&candidates, &ids, &held);
            prop_assert_eq!(planned.keys().cloned().collect::<BTreeSet<_>>(), ids.clone());
            let load = |of: &BTreeMap<PartitionId, MemberId>, id: &MemberId| {
                of.values().filter(|holder| *holder == id).count()
            };
            let loads: Vec<usize> = candidates.iter().map(|c| load(&planned, &c.id)).collect();
            let (min, max) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(max - min <= 1, "{loads:?}");

            // What is held beyond the even share, and no more, moves away from its holder.
            let (base, more) = (partitions / candidates.len(), partitions % candidates.len());
            let mut before: Vec<usize> = candidates.iter().map(|c| load(&held, &c.id)).collect();
            before.sort_unstable_by(|a, b| b.cmp(a));
            let must: usize = before
                .iter()
                .enumerate()
                .map(|(rank, load)| load.saturating_sub(base + usize::from(rank < more)))
                .sum();
            let moved = held
                .iter()
                .filter(|(id, holder)| {
                    candidates.iter().any(|c| c.id == **holder) && planned.get(*id) != Some(holder)
                })
                .count();
            prop_assert_eq!(moved, must);

            // Once the plan is reached, nothing moves.
            prop_assert_eq!(plan(&candidates, &ids, &planned), planned);
        }
    }

    #[test]
    fn nobody_gets_anything_when_nobody_is_there() {
        let ids = BTreeSet::from([PartitionId::new("0")]);
        assert!(plan(&[], &ids, &BTreeMap::new()).is_empty());
    }
}
