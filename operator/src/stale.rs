//! Members that run with something else than their Deployment says, although its rollout is over: they are
//! started again, one at a time. Pure; the clock is a parameter.

use std::time::Duration;

use connector_config::{MemberReport, annotation};
use k8s_openapi::api::apps::v1::Deployment;
use tokio::time::Instant;

use crate::{observe::Observed, rollout::Rollout};

/// Longest wait between two restarts of one connector's pods: a restart that does not help is not a thing to do
/// every minute.
const LAST: Duration = Duration::from_secs(3600);

/// A pod whose member disagrees with its Deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// Name of the pod.
    pub pod: String,
    /// Its uid.
    pub uid: String,
    /// What is old: settings or secrets.
    pub what: &'static str,
}

/// What the members of a connector are like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Members {
    /// Pods come and go.
    Changing,
    /// All have what their Deployment says.
    Agree,
    /// The first (by name) that has not.
    Disagree(Stale),
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Rest,
    /// Look again after this long.
    Wait(Duration),
    /// Start this pod again.
    Restart(Stale),
}

/// How long members of one connector have disagreed.
#[derive(Debug, Clone, Default)]
pub struct Patience {
    since: Option<Instant>,
    /// Restarts since all agreed.
    restarts: u32,
}

/// Looks at the members.
#[must_use]
pub fn members(observed: &Observed) -> Members {
    let Some(deployment) = &observed.deployment else {
        return Members::Changing;
    };
    if !Rollout::of(Some(deployment)).done() {
        return Members::Changing;
    }
    let found = observed.pods.iter().find_map(|(pod, uid)| {
        let what = differs(deployment, observed.members.get(pod)?)?;
        Some(Stale {
            pod: pod.clone(),
            uid: uid.clone(),
            what,
        })
    });
    found.map_or(Members::Agree, Members::Disagree)
}

fn differs(deployment: &Deployment, report: &MemberReport) -> Option<&'static str> {
    let template = &deployment.spec.as_ref()?.template;
    let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
    let digests = [
        (
            "settings",
            annotation::SETTINGS_DIGEST,
            &report.settings_digest,
        ),
        ("secrets", annotation::SECRET_DIGEST, &report.secret_digest),
    ];
    let old = digests.into_iter().find(|(_, key, said)| {
        // A member that says nothing may be of a version that does not know.
        !said.is_empty() && annotations.get(*key).is_some_and(|wanted| wanted != *said)
    });
    old.map(|(what, ..)| what)
}

impl Patience {
    /// What to do about `members` at `now`, if what is old is given `first` to become new by itself, and longer
    /// after each restart.
    pub fn step(&mut self, members: Members, first: Duration, now: Instant) -> Step {
        let stale = match members {
            Members::Changing => {
                self.since = None;
                return Step::Rest;
            }
            Members::Agree => {
                *self = Self::default();
                return Step::Rest;
            }
            Members::Disagree(stale) => stale,
        };
        let since = *self.since.get_or_insert(now);
        let grace = first
            .saturating_mul(2u32.saturating_pow(self.restarts.min(16)))
            .min(LAST);
        let rest = (since + grace).saturating_duration_since(now);
        if !rest.is_zero() {
            return Step::Wait(rest);
        }
        self.restarts = self.restarts.saturating_add(1);
        self.since = None;
        Step::Restart(stale)
    }
}

#[cfg(test)]
mod tests {
    use connector_config::Phase;
    use serde_json::json;

    use super::*;

    const FIRST: Duration = Duration::from_secs(60);

    fn report(settings: &str, secrets: &str) -> MemberReport {
        MemberReport {
            phase: Phase::Running,
            nodes_bound: 1,
            nodes: 1,
            settings_digest: settings.into(),
            secret_digest: secrets.into(),
            ..MemberReport::new("")
        }
    }

    fn observed(updated: i32, reports: &[MemberReport]) -> Observed {
        let deployment = json!({
            "spec": {"replicas": 2, "selector": {}, "template": {"metadata": {"annotations": {
                annotation::SETTINGS_DIGEST: "new", annotation::SECRET_DIGEST: "new",
            }}}},
            "status": {
                "replicas": 2, "updatedReplicas": updated, "readyReplicas": 2, "availableReplicas": 2,
            },
        });
        let pod = |n: usize| format!("pod-{n}");
        let count = 0..reports.len();
        Observed {
            deployment: serde_json::from_value(deployment).ok(),
            pods: count.map(|n| (pod(n), format!("uid-{n}"))).collect(),
            members: reports
                .iter()
                .enumerate()
                .map(|(n, report)| (pod(n), report.clone()))
                .collect(),
            ..Observed::default()
        }
    }

    #[test]
    fn only_what_is_said_and_only_after_a_rollout_counts() {
        let good = || report("new", "new");
        let of = |report: MemberReport| members(&observed(2, &[good(), report]));
        assert_eq!(of(good()), Members::Agree);
        assert_eq!(of(report("", "")), Members::Agree, "it does not say");
        for (old, what) in [
            (report("old", "new"), "settings"),
            (report("new", "old"), "secrets"),
        ] {
            let stale = Stale {
                pod: "pod-1".into(),
                uid: "uid-1".into(),
                what,
            };
            assert_eq!(of(old), Members::Disagree(stale));
        }
        let rolling = observed(1, &[good(), report("old", "old")]);
        assert_eq!(members(&rolling), Members::Changing);
        let mut going = observed(2, &[report("old", "old")]);
        going.pods.clear();
        assert_eq!(
            members(&going),
            Members::Agree,
            "a pod that ends is left alone"
        );
    }

    #[test]
    fn one_at_a_time_and_each_later_than_the_one_before() {
        let old = || members(&observed(2, &[report("old", "new"), report("old", "new")]));
        let (mut patience, mut now) = (Patience::default(), Instant::now());
        assert_eq!(patience.step(old(), FIRST, now), Step::Wait(FIRST));
        now += FIRST;
        assert!(
            matches!(patience.step(old(), FIRST, now), Step::Restart(stale) if stale.pod == "pod-0")
        );
        assert_eq!(patience.step(Members::Changing, FIRST, now), Step::Rest);
        assert_eq!(patience.step(old(), FIRST, now), Step::Wait(2 * FIRST));
        patience.step(Members::Agree, FIRST, now);
        assert_eq!(patience.step(old(), FIRST, now), Step::Wait(FIRST));
    }
}
