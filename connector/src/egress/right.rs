//! Rights that the policy lacks on the hub's registry: found when the hub first denies something, and said until it
//! does something that needs the same right.

use connector_config::{MemberReport, ReportClass};
use iothub::HubError;

use super::{
    command::{Command, Job, Registry},
    operation::{Done, Failure},
};
use crate::report::{Part, Reporter, Trouble};

/// A right on the registry. Source: Microsoft Learn, "IoT Hub permissions"; writing includes reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Devices and jobs are looked at.
    Read,
    /// They are made, changed or removed.
    Write,
}

/// What is known of the policy's rights.
#[derive(Clone)]
pub struct RegistryRights {
    /// Name of the policy.
    pub policy: String,
    /// The setting that names it.
    pub setting: &'static str,
    /// Where a lack is said.
    pub reporter: Reporter,
}

impl RegistryRights {
    /// Learns from what came of a command that needs `right`.
    pub fn learn(&self, right: Right, outcome: &Result<Done, Failure>) {
        match (right, outcome) {
            (Right::Read, Ok(_)) => self.reporter.well(Part::RegistryRead),
            (Right::Write, Ok(_)) => {
                self.reporter.well(Part::RegistryRead);
                self.reporter.well(Part::RegistryWrite);
            }
            (right, Err(Failure::Hub(HubError::Denied { what }))) => self.lacks(right, what),
            _ => {}
        }
    }

    fn lacks(&self, right: Right, what: &str) {
        let Self {
            policy, setting, ..
        } = self;
        let (part, name) = match right {
            Right::Read => (Part::RegistryRead, "RegistryRead"),
            Right::Write => (Part::RegistryWrite, "RegistryWrite"),
        };
        let message = format!(
            "the hub's shared access policy {policy} ({setting}) lacks the right {name}; give it that right, or name \
             another policy there; all else works (the hub: {what})"
        );
        let trouble = Trouble::new(ReportClass::Denied, MemberReport::REGISTRY_RIGHT, message);
        self.reporter.trouble(part, trouble);
    }
}

/// The right that a command needs on the registry, if any.
#[must_use]
pub fn needed(command: &Command) -> Option<Right> {
    match command {
        Command::Registry { action, .. } => Some(match action {
            Registry::Describe => Right::Read,
            Registry::Create | Registry::Delete => Right::Write,
        }),
        Command::Job(job) => match job {
            Job::Get(_) | Job::Find { .. } => Some(Right::Read),
            Job::Schedule(_) | Job::Cancel(_) => Some(Right::Write),
            Job::Results(_) => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn a_lack_is_said_until_something_that_needs_the_right_is_done() {
        let reporter = Reporter::new(&Identity::from_env());
        let rights = RegistryRights {
            policy: "service".into(),
            setting: "iotHub.connectionString",
            reporter: reporter.clone(),
        };
        let denied = || {
            Err(Failure::Hub(HubError::Denied {
                what: "making a device".into(),
            }))
        };
        rights.learn(Right::Write, &denied());
        let report = reporter.now();
        assert!(report.is_minor(), "everything else works");
        for words in [
            "policy service (iotHub.connectionString)",
            "right RegistryWrite",
        ] {
            assert!(report.message.contains(words), "{}", report.message);
        }
        rights.learn(Right::Read, &Ok(Done::Nothing));
        assert_eq!(reporter.now(), report, "reading proves nothing of writing");
        let full = Err(Failure::Hub(HubError::TooManyDevices));
        rights.learn(Right::Write, &full);
        assert_eq!(reporter.now(), report);
        rights.learn(Right::Write, &Ok(Done::Nothing));
        assert_eq!(reporter.now().class, None);
    }
}
