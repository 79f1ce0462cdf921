//! The routing group that the pods use.

use std::collections::BTreeSet;

use connector_config::RoutingGroup;

use crate::{
    api::{AzureIotHubConnectorStatus, Validated},
    observe::Observed,
};

/// The group, and whether all members agree on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) name: Option<String>,
    /// What is wrong, if members use different groups.
    pub(super) mismatch: Option<String>,
}

/// The group is what the user wrote; else what the first member resolved, for as long as members live.
pub(super) fn resolve(
    spec: Option<&Validated>,
    observed: &Observed,
    before: &AzureIotHubConnectorStatus,
) -> Group {
    let used: BTreeSet<&str> = observed
        .members
        .values()
        .filter(|report| !report.draining)
        .filter_map(|report| report.group.as_deref())
        .collect();
    let given = spec
        .and_then(|spec| spec.routing_group.as_ref())
        .map(RoutingGroup::as_str);
    let recorded = before.routing_group.as_deref();
    let name = match (given, used.len()) {
        (Some(given), _) => Some(given),
        // Stopped: the next start resolves it anew.
        (None, 0) if spec.is_some_and(|spec| spec.replicas == 0) => None,
        (None, 0) => recorded,
        // All agree: so it was resolved anew after a stop that went by unseen.
        (None, 1) => used.first().copied(),
        (None, _) => recorded.or(used.first().copied()),
    };
    let other = used.iter().find(|group| Some(**group) != name);
    let mismatch = other.map(|other| {
        format!(
            "pods use different routing groups ({} and {other}), so the platform would split the \
             requests among them; set spec.routingGroup while the connector is scaled to 0",
            name.unwrap_or_default()
        )
    });
    Group {
        name: name.map(str::to_owned),
        mismatch,
    }
}
