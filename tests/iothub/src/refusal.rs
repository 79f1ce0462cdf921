//! Why the hub does not do what it was asked to, with IoT Hub's own codes.
//!
//! Source: Microsoft Learn, "Understand and resolve Azure IoT Hub errors", and the bodies that its
//! REST face sends.

/// A refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// 400004: the request makes no sense.
    #[error("{0}")]
    BadRequest(String),
    /// 401003: signature, expiry, resource or policy.
    #[error("{0}")]
    Unauthorized(String),
    /// 403004: 50 messages wait already.
    #[error("Device Maximum Queue Depth Exceeded: {0}")]
    QueueFull(String),
    /// 404001: no such device.
    #[error("Device {0} not registered")]
    DeviceNotFound(String),
    /// 404010: no such module.
    #[error("Module {0} not registered")]
    ModuleNotFound(String),
    /// 404103: not connected, or has no handler.
    #[error("{0}")]
    DeviceNotOnline(String),
    /// 409001: exists already.
    #[error("Device {0} already registered")]
    AlreadyExists(String),
    /// No such job.
    #[error("Job {0} not found")]
    JobNotFound(String),
    /// There is a job of that id.
    #[error("Job {0} already exists")]
    JobAlreadyExists(String),
    /// Not as things are (azure-iot-sdk-node#464).
    #[error("{0}")]
    NotInThisState(String),
    /// 429004: as many jobs as may run at once.
    #[error("Maximum number of active jobs exceeded")]
    TooManyJobs,
    /// 412001: not that etag any more.
    #[error(
        "Precondition failed: Device version did not match, existingVersion:{existing} newVersion:{given}"
    )]
    Precondition {
        /// The etag it has.
        existing: String,
        /// The etag given.
        given: String,
    },
    /// 413001: too large.
    #[error("{0}")]
    TooLarge(String),
    /// 429001: too much at once.
    #[error("Throttling exception")]
    Throttled {
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// 504101: the device did not answer.
    #[error("Timed out waiting for the response from device.")]
    DeviceTimeout,
}

impl Refusal {
    /// IoT Hub's number for it. The first three digits are the HTTP status.
    #[must_use]
    pub fn code(&self) -> u32 {
        match self {
            Self::BadRequest(_) => 400_004,
            Self::Unauthorized(_) => 401_003,
            Self::QueueFull(_) => 403_004,
            Self::DeviceNotFound(_) => 404_001,
            Self::ModuleNotFound(_) => 404_010,
            Self::DeviceNotOnline(_) => 404_103,
            Self::AlreadyExists(_) => 409_001,
            // Of these three only the first half is known.
            Self::JobNotFound(_) => 404_002,
            Self::JobAlreadyExists(_) => 409_002,
            Self::NotInThisState(_) => 400_003,
            Self::TooManyJobs => 429_004,
            Self::Precondition { .. } => 412_001,
            Self::TooLarge(_) => 413_001,
            Self::Throttled { .. } => 429_001,
            Self::DeviceTimeout => 504_101,
        }
    }

    /// HTTP status.
    #[must_use]
    pub fn http_status(&self) -> u16 {
        u16::try_from(self.code() / 1000).unwrap_or(500)
    }

    /// IoT Hub's name for it: what follows `ErrorCode:`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BadRequest(_) => "ArgumentInvalid",
            Self::Unauthorized(_) => "IotHubUnauthorizedAccess",
            Self::QueueFull(_) => "DeviceMaximumQueueDepthExceeded",
            Self::DeviceNotFound(_) => "DeviceNotFound",
            Self::ModuleNotFound(_) => "ModuleNotFound",
            Self::DeviceNotOnline(_) => "DeviceNotOnline",
            Self::AlreadyExists(_) => "DeviceAlreadyExists",
            Self::JobNotFound(_) => "JobNotFound",
            Self::JobAlreadyExists(_) => "JobAlreadyExists",
            Self::NotInThisState(_) => "OperationNotAllowedInCurrentState",
            Self::TooManyJobs => "ThrottlingMaxActiveJobCountExceeded",
            Self::Precondition { .. } => "PreconditionFailed",
            Self::TooLarge(_) => "MessageTooLarge",
            Self::Throttled { .. } => "ThrottlingException",
            Self::DeviceTimeout => "GatewayTimeout",
        }
    }
}
