//! What jobs do, and how far they are. Pure.

use serde::{Deserialize, Deserializer};

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobKind {
    /// It changes twins: `scheduleUpdateTwin`.
    UpdateTwin,
    /// It calls a method: `scheduleDeviceMethod`.
    DeviceMethod,
    /// Something else, such as `export`.
    Other(String),
}

/// How far a job is, or one device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for its time.
    Scheduled,
    /// Its time has come, and it waits for other jobs.
    Queued,
    /// A device of it has not begun.
    Pending,
    /// It runs, and cannot be cancelled any more.
    Running,
    /// It has ended. Some of its devices may have failed.
    Completed,
    /// It has ended without doing what it should.
    Failed,
    /// It was cancelled before it ran.
    Cancelled,
    /// Something else.
    Other(String),
}

impl JobKind {
    /// As the hub writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::UpdateTwin => "scheduleUpdateTwin",
            Self::DeviceMethod => "scheduleDeviceMethod",
            Self::Other(name) => name,
        }
    }
}

impl JobStatus {
    /// As the hub writes it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Other(name) => name,
        }
    }

    /// Whether it stays as it is.
    #[must_use]
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

impl From<&str> for JobKind {
    fn from(name: &str) -> Self {
        match name {
            "scheduleUpdateTwin" => Self::UpdateTwin,
            "scheduleDeviceMethod" => Self::DeviceMethod,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl From<&str> for JobStatus {
    fn from(name: &str) -> Self {
        match name {
            "scheduled" => Self::Scheduled,
            // The first is that of jobs of the registry.
            "enqueued" | "queued" => Self::Queued,
            "pending" => Self::Pending,
            "running" => Self::Running,
            "completed" => Self::Completed,
            "failed" => Self::Failed,
            // Of one device the hub writes it with one l.
            "cancelled" | "canceled" => Self::Cancelled,
            other => Self::Other(other.to_owned()),
        }
    }
}

impl<'de> Deserialize<'de> for JobKind {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|name| name.as_str().into())
    }
}

impl<'de> Deserialize<'de> for JobStatus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(|name| name.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for name in [
            "scheduled",
            "queued",
            "pending",
            "running",
            "completed",
            "failed",
            "cancelled",
            "new",
        ] {
            assert_eq!(JobStatus::from(name).name(), name);
        }
        for name in ["scheduleUpdateTwin", "scheduleDeviceMethod", "export"] {
            assert_eq!(JobKind::from(name).name(), name);
        }
        assert!(JobStatus::from("canceled").is_final());
        assert!(!JobStatus::Running.is_final());
    }
}
