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

/// Who holds a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The holder.
    pub by: MemberId,
    /// How often it has moved among pods of the holder's template.
    pub moves: u32,
}

/// Gives every partition one member.
///
/// Loads differ by at most one, and a partition moves only if its holder is not among the candidates or
/// has too many. During a rollout, while pods of two templates are there, the old ones only give: what
/// they lose goes to the newest, evenly among those, and of these the ones that have moved least move
/// on. So a rollout moves a partition twice at most: to the newest, and once among them.
#[must_use]
pub fn plan(
    candidates: &[Candidate],
    partitions: &BTreeSet<PartitionId>,
    held: &BTreeMap<PartitionId, Held>,
) -> BTreeMap<PartitionId, MemberId> {
    let mut shares: BTreeMap<&MemberId, Vec<&PartitionId>> = candidates
        .iter()
        .map(|candidate| (&candidate.id, Vec::new()))
        .collect();
    let mut free = Vec::new();
    for partition in partitions {
        let holder = held.get(partition).map(|held| &held.by);
        match holder.and_then(|holder| shares.get_mut(holder)) {
            Some(share) => share.push(partition),
            None => free.push(partition),
        }
    }
    // What has moved most is kept longest.
    let moves = |partition: &PartitionId| held.get(partition).map_or(0, |held| held.moves);
    for share in shares.values_mut() {
        share.sort_by_key(|partition| (std::cmp::Reverse(moves(partition)), *partition));
    }
    let load = |shares: &BTreeMap<&MemberId, Vec<&PartitionId>>, one: &Candidate| {
        shares.get(&one.id).map_or(0, Vec::len)
    };
    let (newest, old): (Vec<&Candidate>, Vec<&Candidate>) =
        candidates.iter().partition(|candidate| candidate.newest);
    let (takers, givers) = if newest.is_empty() {
        (old, newest)
    } else {
        (newest, old)
    };
    // The old ones keep an even share at most.
    let even = partitions.len().div_ceil(candidates.len().max(1));
    for giver in &givers {
        if let Some(share) = shares.get_mut(&giver.id) {
            free.extend(share.split_off(share.len().min(even)));
        }
    }
    let kept: usize = givers.iter().map(|one| load(&shares, one)).sum();
    let loads = takers
        .iter()
        .map(|one| (*one, load(&shares, one)))
        .collect();
    let quota = quotas(loads, partitions.len() - kept);
    for (member, quota) in &quota {
        if let Some(share) = shares.get_mut(member) {
            free.extend(share.split_off(share.len().min(*quota)));
        }
    }
    free.sort();
    let mut free = free.into_iter();
    for (member, quota) in &quota {
        if let Some(share) = shares.get_mut(member) {
            let missing = quota - share.len();
            share.extend(free.by_ref().take(missing));
        }
    }
    shares
        .into_iter()
        .flat_map(|(member, share)| share.into_iter().map(|one| (one.clone(), member.clone())))
        .collect()
}

/// Even quotas. Who has most now gets the one more, so that the fewest move; then the newest pods, so
/// that a rollout does not move a partition to a pod that goes next.
fn quotas(mut loads: Vec<(&Candidate, usize)>, partitions: usize) -> BTreeMap<&MemberId, usize> {
    loads.sort_by(|(a, has), (b, has_too)| (has_too, b.newest, &a.id).cmp(&(has, a.newest, &b.id)));
    let members = loads.len().max(1);
    let (base, more) = (partitions / members, partitions % members);
    let ranked = loads.into_iter().enumerate();
    ranked
        .map(|(rank, (one, _))| (&one.id, base + usize::from(rank < more)))
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(n: usize) -> MemberId {
        MemberId::new(format!("m{n:02}"))
    }

    fn held(by: &BTreeMap<PartitionId, MemberId>) -> BTreeMap<PartitionId, Held> {
        let held = |by: &MemberId| Held {
            by: by.clone(),
            moves: 1,
        };
        by.iter().map(|(id, by)| (id.clone(), held(by))).collect()
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
            let holders: BTreeMap<PartitionId, MemberId> = ids
                .iter()
                .zip(&holders)
                .filter_map(|(id, holder)| Some((id.clone(), member((*holder)?))))
                .collect();
            let planned = plan(&candidates, &ids, &held(&holders));
            prop_assert_eq!(planned.keys().cloned().collect::<BTreeSet<_>>(), ids.clone());
            let load = |of: &BTreeMap<PartitionId, MemberId>, id: &MemberId| {
                of.values().filter(|holder| *holder == id).count()
            };
            let mixed = candidates.iter().any(|c| c.newest) && !candidates.iter().all(|c| c.newest);
            let takes = |c: &&Candidate| c.newest || !mixed;
            let takers: Vec<&Candidate> = candidates.iter().filter(takes).collect();
            let loads: Vec<usize> = takers.iter().map(|c| load(&planned, &c.id)).collect();
            let (min, max) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
            prop_assert!(max - min <= 1, "{loads:?}");
            for giver in candidates.iter().filter(|c| !takes(c)) {
                prop_assert!(load(&planned, &giver.id) <= load(&holders, &giver.id));
                prop_assert!(load(&planned, &giver.id) <= partitions.div_ceil(candidates.len()));
            }

            // Once the plan is reached, nothing moves.
            prop_assert_eq!(&plan(&candidates, &ids, &held(&planned)), &planned);
            if mixed {
                return Ok(());
            }
            // What is held beyond the even share, and no more, moves away from its holder.
            let (base, more) = (partitions / candidates.len(), partitions % candidates.len());
            let mut before: Vec<usize> = candidates.iter().map(|c| load(&holders, &c.id)).collect();
            before.sort_unstable_by(|a, b| b.cmp(a));
            let must: usize = before
                .iter()
                .enumerate()
                .map(|(rank, load)| load.saturating_sub(base + usize::from(rank < more)))
                .sum();
            let moved = holders
                .iter()
                .filter(|(id, holder)| {
                    candidates.iter().any(|c| c.id == **holder) && planned.get(*id) != Some(holder)
                })
                .count();
            prop_assert_eq!(moved, must);
        }
    }

    #[test]
    fn nobody_gets_anything_when_nobody_is_there() {
        let ids = BTreeSet::from([PartitionId::new("0")]);
        assert!(plan(&[], &ids, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn what_has_moved_already_is_not_moved_again_if_something_else_can_be() {
        let ids: BTreeSet<PartitionId> = (0..4).map(|n| PartitionId::new(n.to_string())).collect();
        let moves = [1, 2, 1, 2];
        let held: BTreeMap<PartitionId, Held> = ids
            .iter()
            .zip(moves)
            .map(|(id, moves)| {
                (
                    id.clone(),
                    Held {
                        by: member(0),
                        moves,
                    },
                )
            })
            .collect();
        let candidates = [0, 1].map(|n| Candidate {
            id: member(n),
            newest: true,
        });
        let planned = plan(&candidates, &ids, &held);
        let moved = planned.iter().filter(|(_, to)| **to == member(1));
        let moved: Vec<&str> = moved.map(|(id, _)| id.as_str()).collect();
        assert_eq!(moved, ["0", "2"]);
    }
}
