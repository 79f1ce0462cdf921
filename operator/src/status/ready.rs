//! The summary: the worst of what is known, in the order in which somebody would have to mend it.

use connector_config::{MemberReport, Phase, ReportClass};

use super::{Progress, group::Group, queued};
use crate::{
    api::{
        Validated,
        condition::{Reason, Verdict},
    },
    observe::Observed,
    rollout::Rollout,
};

pub(super) fn verdict(
    progress: Progress<'_>,
    observed: &Observed,
    rollout: &Rollout,
    group: &Group,
) -> Verdict {
    let spec = match progress {
        Progress::Undecodable(why) => return Verdict::no(Reason::Undecodable, why),
        Progress::Invalid(error) => return Verdict::no(error.reason(), error.to_string()),
        Progress::Unresolved(_, error) => return Verdict::no(error.reason(), error.to_string()),
        Progress::NotApplied(_, error) => return Verdict::no(error.reason(), error.to_string()),
        Progress::NotRendered(_, why) => return Verdict::no(Reason::ApplyFailed, why),
        Progress::Held(_) => {
            let message = "the spec asks for changes, which wait because the connector is paused";
            return Verdict::unknown(Reason::Paused, message);
        }
        Progress::Queued(spec, _) | Progress::Applied(spec) => spec,
    };
    if spec.replicas == 0 {
        return match rollout.replicas {
            0 => Verdict::yes(Reason::ScaledToZero, "no pods are wanted and none run"),
            _ => Verdict::no(Reason::RollingOut, "the pods are stopping"),
        };
    }
    if let Some(mismatch) = &group.mismatch {
        return Verdict::no(Reason::RoutingGroupMismatch, mismatch);
    }
    if let Some(verdict) = told_by_member(observed, |report| !passes(report)) {
        return verdict;
    }
    if let Some(trouble) = observed.pod_troubles.values().next() {
        return Verdict::no(trouble.reason.clone(), trouble.message.clone());
    }
    if let Progress::Queued(_, limit) = progress {
        return queued(limit, Verdict::no);
    }
    if rollout.done() && rollout.wanted == spec.replicas {
        return all_bound(spec, group, observed);
    }
    // Not there yet, and a member knows why: it waits for a node, or is told to wait.
    let waits = |report: &MemberReport| report.phase != Phase::Running && !report.is_minor();
    if let Some(verdict) = told_by_member(observed, waits) {
        return verdict;
    }
    if rollout.stalled {
        let message = "no pod became ready within ten minutes; see kubectl describe and logs of the \
                       pods";
        return Verdict::no(Reason::RolloutStalled, message);
    }
    Verdict::no(
        Reason::RollingOut,
        "waiting for pods to start, be replaced or bind the hub's Thing",
    )
}

fn all_bound(spec: &Validated, group: &Group, observed: &Observed) -> Verdict {
    let pods = match spec.replicas {
        1 => "1 pod is".to_owned(),
        n => format!("{n} pods are"),
    };
    let mut message = match &group.name {
        Some(name) => format!("{pods} bound under the routing group {name}"),
        None => format!("{pods} ready"),
    };
    let aside = observed
        .members
        .iter()
        .find(|(_, report)| report.is_minor());
    if let Some((pod, report)) = aside {
        message = format!("{message}; pod {pod}: {}", report.message);
    }
    Verdict::yes(Reason::AllMembersBound, message)
}

/// Whether a trouble ends without anybody's help, or needs none.
fn passes(report: &MemberReport) -> bool {
    if report.is_minor() {
        return true;
    }
    match report.class {
        None | Some(ReportClass::Transient | ReportClass::Throttled) => true,
        Some(
            ReportClass::User | ReportClass::Denied | ReportClass::NotFound | ReportClass::Bug,
        ) => false,
    }
}

/// The trouble of the first member (by pod) that has one of this sort.
fn told_by_member(observed: &Observed, sort: impl Fn(&MemberReport) -> bool) -> Option<Verdict> {
    let (pod, report) = observed.members.iter().find(|(_, report)| {
        !report.draining && !report.reason.is_empty() && report.class.is_some() && sort(report)
    })?;
    let reason = if is_reason(&report.reason) {
        &report.reason
    } else {
        "MemberTrouble"
    };
    let message = format!("pod {pod}: {}", report.message);
    Some(Verdict::no(Reason::Member(reason.to_owned()), message))
}

/// Kubernetes takes as a reason what begins with a letter and holds letters and digits.
fn is_reason(text: &str) -> bool {
    text.len() <= 128
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric())
}
