//! What the member says of itself: one value, changed by its stages, read by the probes and by the
//! writer of the member's Lease.

use std::collections::BTreeSet;

use connector_config::{MemberReport, Phase, ReportClass};
use tokio::sync::watch;

use crate::identity::Identity;

/// Something that is wrong, in words an administrator of ThingWorx understands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// Decides what is done about it.
    pub class: ReportClass,
    /// `CamelCase` reason from a closed list.
    pub reason: &'static str,
    /// What is wrong and what to do.
    pub message: String,
}

impl Trouble {
    /// Something wrong.
    pub fn new(class: ReportClass, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            class,
            reason,
            message: message.into(),
        }
    }
}

/// Changes the member's report. Cheap to clone; all clones change the same report.
#[derive(Clone)]
pub struct Reporter {
    state: watch::Sender<State>,
}

/// Which part of the connector a trouble stands for: each part clears only its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The hub's senders and its built-in endpoint.
    Hub,
    /// Nodes, binds and routing group.
    Platform,
    /// What the connector's user may do on the platform.
    Rights,
    /// The routing group.
    Group,
    /// Leases of members and partitions.
    Claims,
    /// The store of checkpoints, where that is not the Leases.
    Checkpoints,
    /// Reading of partitions.
    Ingress,
    /// Where the hub's built-in endpoint is.
    Endpoint,
    /// The store of dead letters: the last, since everything else goes on without it.
    DeadLetter,
    /// The process that runs the program of the settings.
    Mapping,
    /// The connector's services on `ConnectionServicesHub`.
    Services,
    /// Binds of devices by name.
    Devices,
    /// The list of devices that are bound by name.
    DeviceList,
    /// Changing of devices and jobs: the policy's right.
    RegistryWrite,
    /// Reading of devices and jobs: the policy's right.
    RegistryRead,
}

impl Part {
    /// All parts.
    pub const ALL: [Self; 15] = [
        Self::Hub,
        Self::Platform,
        Self::Rights,
        Self::Group,
        Self::Claims,
        Self::Checkpoints,
        Self::Ingress,
        Self::Endpoint,
        Self::DeadLetter,
        Self::Mapping,
        Self::Services,
        Self::Devices,
        Self::DeviceList,
        Self::RegistryWrite,
        Self::RegistryRead,
    ];

    /// What it is, for an administrator.
    #[must_use]
    pub fn description(self) -> &'static str {
        match self {
            Self::Hub => "Requests to the hub",
            Self::Platform => "Connections to the ThingWorx nodes",
            Self::Rights => "Rights on ThingWorx",
            Self::Group => "Routing group",
            Self::Claims => "Sharing of partitions with other pods",
            Self::Checkpoints => "Store of checkpoints",
            Self::Ingress => "Reading of telemetry",
            Self::Endpoint => "The hub's built-in endpoint",
            Self::DeadLetter => "Store of dead letters",
            Self::Mapping => "Mapping of messages",
            Self::Services => "Services on ConnectionServicesHub",
            Self::Devices => "Binds of devices by name",
            Self::DeviceList => "List of the hub's devices",
            Self::RegistryWrite => "Right to change devices and jobs of the hub",
            Self::RegistryRead => "Right to read devices and jobs of the hub",
        }
    }
}

#[derive(Debug, Clone)]
struct State {
    report: MemberReport,
    troubles: std::collections::BTreeMap<Part, Trouble>,
    /// Once bound on every node that accepts connections.
    bound: bool,
    partitions: BTreeSet<String>,
}

impl Reporter {
    /// The report of a member that has just started.
    #[must_use]
    pub fn new(identity: &Identity) -> Self {
        let report = MemberReport {
            settings_digest: identity.settings_digest.clone(),
            secret_digest: identity.secret_digest.clone(),
            pod_template_hash: identity.pod_template_hash.clone(),
            ..MemberReport::new(identity.member().as_str())
        };
        let state = State {
            report,
            troubles: std::collections::BTreeMap::default(),
            bound: false,
            partitions: BTreeSet::new(),
        };
        Self {
            state: watch::Sender::new(state),
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        self.state.send_if_modified(|state| {
            let before = (state.report.clone(), state.bound);
            change(state);
            let State {
                report,
                troubles,
                bound,
                partitions,
            } = state;
            report.partitions = partitions.iter().cloned().collect();
            // What keeps nobody from working must not hide what does.
            let minor = |trouble: &&Trouble| MemberReport::is_minor_reason(trouble.reason);
            let first = troubles.values().min_by_key(minor);
            report.class = first.map(|trouble| trouble.class);
            report.reason = first
                .map(|trouble| trouble.reason.to_owned())
                .unwrap_or_default();
            report.message = first
                .map(|trouble| MemberReport::cut(&trouble.message))
                .unwrap_or_default();
            (&*report, *bound) != (&before.0, before.1)
        });
    }

    /// The member has come to `phase`. Nothing comes after draining: a stage that ends at the moment of
    /// the signal must not make the member ready again.
    pub fn phase(&self, phase: Phase) {
        self.change(|state| {
            if !state.report.draining {
                state.report.phase = phase;
                state.report.draining = phase == Phase::Draining;
            }
        });
    }

    /// `part` is in trouble; logged when it is new.
    pub fn trouble(&self, part: Part, trouble: Trouble) {
        let known = self.state.borrow().troubles.get(&part) == Some(&trouble);
        if !known {
            let Trouble {
                class,
                reason,
                message,
            } = &trouble;
            tracing::warn!(?part, ?class, reason, "{message}");
            self.change(|state| {
                state.troubles.insert(part, trouble);
            });
        }
    }

    /// `part` is well; logged when it was in trouble.
    pub fn well(&self, part: Part) {
        if self.state.borrow().troubles.contains_key(&part) {
            tracing::info!(?part, "recovered");
            self.change(|state| {
                state.troubles.remove(&part);
            });
        }
    }

    /// The routing group is resolved.
    pub fn group(&self, group: &str) {
        self.change(|state| state.report.group = Some(group.to_owned()));
    }

    /// How many of how many nodes the hub Thing is bound on, and whether the member is ready by that.
    pub fn nodes(&self, bound: usize, of: usize, ready: bool) {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.change(|state| {
            state.report.nodes_bound = count(bound);
            state.report.nodes = count(of);
            state.bound = ready;
        });
    }

    /// The hub has `total` partitions.
    pub fn partitions_total(&self, total: usize) {
        self.change(|state| state.report.partitions_total = u32::try_from(total).ok());
    }

    /// The member reads `partition`, or no longer does.
    pub fn reading(&self, partition: &str, reads: bool) {
        self.change(|state| {
            if reads {
                state.partitions.insert(partition.to_owned());
            } else {
                state.partitions.remove(partition);
            }
        });
    }

    /// Why the member is not ready; `None` when it is.
    #[must_use]
    pub fn unready(&self) -> Option<String> {
        let state = self.state.borrow();
        let report = &state.report;
        if report.draining {
            return Some("draining".into());
        }
        if report.phase == Phase::Running && state.bound {
            return None;
        }
        if report.message.is_empty() || report.is_minor() {
            return Some(format!("{:?}", report.phase));
        }
        Some(format!("{}: {}", report.reason, report.message))
    }

    /// What is wrong with each part.
    #[must_use]
    pub fn troubles(&self) -> std::collections::BTreeMap<Part, Trouble> {
        self.state.borrow().troubles.clone()
    }

    /// The report as it is now.
    #[must_use]
    pub fn now(&self) -> MemberReport {
        self.state.borrow().report.clone()
    }

    /// Waits until the report has changed since this watcher last looked.
    #[must_use]
    pub fn watch(&self) -> ReportWatch {
        ReportWatch(self.state.subscribe())
    }
}

/// Sees each change of a report.
pub struct ReportWatch(watch::Receiver<State>);

impl ReportWatch {
    /// Waits until the member is about to leave.
    pub async fn draining(&mut self) {
        // Without a reporter nothing is going to leave.
        if self
            .0
            .wait_for(|state| state.report.draining)
            .await
            .is_err()
        {
            std::future::pending::<()>().await;
        }
    }

    /// Waits for a change and returns the report after it.
    pub async fn changed(&mut self) -> MemberReport {
        if self.0.changed().await.is_err() {
            // All reporters are gone, so no change can come.
            std::future::pending::<()>().await;
        }
        self.0.borrow_and_update().report.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_that_drains_never_gets_ready_again() {
        let reporter = Reporter::new(&Identity::from_env());
        reporter.nodes(1, 1, true);
        reporter.phase(Phase::Running);
        assert_eq!(reporter.unready(), None);
        reporter.phase(Phase::Draining);
        reporter.phase(Phase::Running);
        assert_eq!(reporter.unready().as_deref(), Some("draining"));
        assert!(reporter.now().draining);
    }

    #[test]
    fn dead_letters_keep_no_member_from_being_ready() {
        let reporter = Reporter::new(&Identity::from_env());
        let denied = Trouble::new(ReportClass::Denied, MemberReport::DEAD_LETTER, "no key");
        reporter.trouble(Part::DeadLetter, denied);
        assert_eq!(reporter.unready().as_deref(), Some("ProvingHub"));
        reporter.nodes(1, 1, true);
        reporter.phase(Phase::Running);
        assert_eq!(reporter.unready(), None);
        assert_eq!(reporter.now().message, "no key");
    }

    #[test]
    fn each_part_clears_only_its_own_trouble() {
        let reporter = Reporter::new(&Identity::from_env());
        let trouble = |reason| Trouble::new(ReportClass::Denied, reason, "no");
        reporter.trouble(Part::Platform, trouble("PlatformDenied"));
        reporter.trouble(Part::Hub, trouble("HubDenied"));
        assert_eq!(reporter.now().reason, "HubDenied", "the first stage counts");
        reporter.trouble(Part::Rights, trouble(MemberReport::EVENT_RIGHT));
        reporter.well(Part::Hub);
        reporter.trouble(Part::Claims, trouble("DuplicateReader"));
        reporter.well(Part::Platform);
        assert_eq!(
            reporter.now().reason,
            "DuplicateReader",
            "the other is minor"
        );
        reporter.well(Part::Claims);
        reporter.well(Part::Rights);
        reporter.trouble(Part::Platform, trouble("PlatformDenied"));
        reporter.trouble(Part::Hub, trouble("HubDenied"));
        reporter.well(Part::Hub);
        assert_eq!(reporter.now().reason, "PlatformDenied");
        reporter.well(Part::Platform);
        assert_eq!(reporter.now().class, None);
    }
}
