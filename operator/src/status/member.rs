//! What the members say of themselves.

use std::collections::BTreeSet;

use connector_config::{MemberReport, Phase};

use super::count;
use crate::{
    api::{MAX_MEMBERS, MemberStatus, PartitionStatus},
    observe::Observed,
};

/// Members that have bound the hub's Thing.
pub(super) fn bound(observed: &Observed) -> impl Iterator<Item = &MemberReport> {
    observed
        .members
        .values()
        .filter(|report| report.phase == Phase::Running && report.nodes_bound > 0)
}

/// Partitions that are read, of those there are.
pub(super) fn partitions(observed: &Observed) -> Option<PartitionStatus> {
    let reports = || observed.members.values();
    // During a hand-over two may say that they read it: it counts once.
    let owned: BTreeSet<&String> = reports().flat_map(|report| &report.partitions).collect();
    let total = reports().filter_map(|report| report.partitions_total).max();
    if owned.is_empty() && total.is_none() {
        return None;
    }
    let owned = count(owned.len());
    let total = total.map(|total| i32::try_from(total).unwrap_or(i32::MAX));
    let summary = match total {
        Some(total) => format!("{owned}/{total}"),
        None => format!("{owned}/?"),
    };
    Some(PartitionStatus {
        owned: Some(owned),
        total,
        summary: Some(summary),
    })
}

/// The members one by one: those in trouble first, then by name of the pod.
pub(super) fn table(observed: &Observed) -> Vec<MemberStatus> {
    let mut members: Vec<_> = observed.members.iter().collect();
    members.sort_by_key(|(_, report)| report.reason.is_empty());
    members
        .into_iter()
        .take(MAX_MEMBERS)
        .map(|(pod, report)| line(pod, report))
        .collect()
}

fn line(pod: &str, report: &MemberReport) -> MemberStatus {
    let MemberReport {
        format: _,
        phase,
        class: _,
        reason,
        message,
        thing,
        group: _,
        nodes_bound,
        nodes,
        partitions,
        partitions_total: _,
        settings_digest: _,
        secret_digest: _,
        pod_template_hash: _,
        draining: _,
    } = report;
    let text = |text: &String| (!text.is_empty()).then(|| text.clone());
    let mut partitions = partitions.clone();
    // Partition ids are numbers written as text.
    partitions.sort_by_key(|id| (id.len(), id.clone()));
    MemberStatus {
        pod: Some(pod.to_owned()),
        thing: Some(thing.clone()),
        phase: Some(format!("{phase:?}")),
        nodes: Some(format!("{nodes_bound}/{nodes}")),
        partitions,
        reason: text(reason),
        message: text(message),
    }
}
