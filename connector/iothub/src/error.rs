//! What can go wrong between us and the hub.

use std::time::Duration;

/// Who can do something about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// The settings or the request must be changed.
    User,
    /// The credentials are refused, or lack a right.
    Denied,
    /// The hub, consumer group, device or module does not exist.
    NotFound,
    /// A limit is reached; later it may work.
    Throttled,
    /// It may work when tried again.
    Transient,
    /// The hub behaves as this crate does not know it.
    Bug,
}

/// Whether the hub took what it was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Taken {
    /// Provably not: sending again cannot do it twice.
    No,
    /// Yes, and answered with an error of its own.
    Yes,
    /// Nobody can tell: sending again may do it twice.
    Unknown,
}

/// An error of the hub, of the way to it, or of what it was asked.
///
/// Texts are written for an administrator and hold no secrets. Numbers such as 404001 are the hub's own
/// error codes (Microsoft Learn: "Understand and resolve Azure IoT Hub errors").
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// A setting of ours that cannot work.
    #[error("{what}")]
    Settings {
        /// Which setting, and what is wrong with it.
        what: String,
    },
    /// 401: the hub refuses the credentials, or they lack a right.
    #[error(
        "the hub denies access: {what}; check the shared access policy, its key and its rights"
    )]
    Denied {
        /// What was asked for, and the hub's words.
        what: String,
    },
    /// The hub's endpoint, its Event Hubs-compatible entity, or the consumer group does not exist.
    #[error("not found at the hub: {what}")]
    NotFound {
        /// What does not exist, and the hub's words.
        what: String,
    },
    /// 404001: the hub has no such device or module.
    #[error("the hub has no device or module {id:?}; register it there, or correct its name")]
    DeviceNotFound {
        /// The device, or device and module.
        id: String,
    },
    /// 404103: the device is not connected, or listens to no methods.
    #[error("device {id:?} is not connected, or does not listen to direct methods")]
    NotOnline {
        /// The device, or device and module.
        id: String,
    },
    /// 504101: the device was connected but did not answer a method in time; it may have run it.
    #[error("device {id:?} did not answer the direct method in time; it may have run it")]
    MethodTimedOut {
        /// The device, or device and module.
        id: String,
    },
    /// 403004: 50 messages wait for the device already.
    #[error(
        "the hub's queue for device {id:?} is full: it must fetch or let expire what waits for it"
    )]
    QueueFull {
        /// The device.
        id: String,
    },
    /// 403002: the hub's messages of this day are used up.
    #[error(
        "the daily message quota of the hub is used up; it returns at 00:00 UTC, or with more units"
    )]
    QuotaExceeded,
    /// 429001: too many operations at once for the hub's tier and units.
    #[error("the hub throttles{}", retry_after_text(.retry_after))]
    Throttled {
        /// After what time the hub wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// Not asked: more than the hub's size allows.
    #[error(
        "more than the hub allows with tier {tier} and units {units} (iotHub.tier, iotHub.units); there is room in {} s",
        .wait.as_secs() + 1
    )]
    BeyondQuota {
        /// The hub's tier.
        tier: &'static str,
        /// How many units of it.
        units: u16,
        /// How long it would have to wait.
        wait: Duration,
    },
    /// Not asked: too many wait for the hub to take more of the same sort.
    #[error(
        "the hub takes no more of this sort of operation now, and {waiting} requests wait for it already"
    )]
    Crowded {
        /// How many wait.
        waiting: usize,
    },
    /// 412: what was to be changed has been changed by somebody else. Whoever reads it again can decide
    /// again.
    #[error("somebody else has changed {what:?} in the meantime; read it again and repeat")]
    Changed {
        /// What was to be changed: the device, or device and module.
        what: String,
    },
    /// 409: there is one of that name already.
    #[error("the hub has a device, module or job {id:?} already")]
    AlreadyExists {
        /// The name.
        id: String,
    },
    /// The hub has no such job, or none any more.
    #[error("the hub has no job {id:?}; it keeps jobs for 30 days")]
    JobNotFound {
        /// The job.
        id: String,
    },
    /// It cannot be done as things are now, such as to cancel a job that runs.
    #[error("the hub does not allow {what} now: {answer}")]
    NotInThisState {
        /// What was asked for.
        what: String,
        /// The hub's words.
        answer: String,
    },
    /// 429004: the hub runs as many jobs as it may.
    #[error(
        "the hub runs as many jobs at once as its tier allows (S1 1, S2 5, S3 10); try again when \
         one has ended"
    )]
    TooManyJobs,
    /// 413002: the registry is full.
    #[error("the hub takes no more devices; delete some, or use another hub")]
    TooManyDevices,
    /// 400: the hub does not understand a query.
    #[error("the hub does not understand the query {query:?}: {answer}")]
    BadQuery {
        /// The query, or its beginning.
        query: String,
        /// The hub's words.
        answer: String,
    },
    /// 413: more bytes than the hub takes (C2D 64 KiB, direct method 128 KiB).
    #[error("{what} is larger than the hub takes")]
    TooLarge {
        /// What was sent.
        what: String,
    },
    /// 403010: cloud-to-device messages, direct methods and twins need the tier Standard.
    #[error("the hub's tier does not offer {what}; the tier Standard is needed")]
    NotInTier {
        /// What was asked for.
        what: String,
    },
    /// 400: the hub cannot make anything of it, such as a name with characters that it does not take.
    #[error("the hub does not take {what}: {answer}")]
    Invalid {
        /// What was asked for.
        what: String,
        /// The hub's words.
        answer: String,
    },
    /// The hub refused in another way. It has not taken the request.
    #[error("the hub refused {what}: {answer}")]
    Refused {
        /// What was asked for.
        what: String,
        /// The hub's words.
        answer: String,
    },
    /// The hub is ill, or asks to come back later; it may have taken the request.
    #[error("the hub failed at {what}: {answer}")]
    Unavailable {
        /// What was asked for.
        what: String,
        /// The hub's words.
        answer: String,
    },
    /// A reader with the same or a higher epoch took the partition from us.
    #[error("partition {partition} was taken over by another reader of the consumer group")]
    Evicted {
        /// The partition.
        partition: String,
    },
    /// A reader with a higher epoch holds the partition: we cannot attach.
    #[error("partition {partition} is held by a reader with a higher epoch")]
    LowerEpoch {
        /// The partition.
        partition: String,
    },
    /// The hub does not accept the position: the stream was made anew, or the position is of another.
    #[error("the hub does not accept the position in partition {partition}: {answer}")]
    PositionRefused {
        /// The partition.
        partition: String,
        /// The hub's words.
        answer: String,
    },
    /// The hub could not be reached, or the connection was lost while nothing was under way that could
    /// be done twice.
    #[error("{what}: {cause}")]
    Transport {
        /// What was tried.
        what: String,
        /// What the network, TLS or AMQP said.
        cause: String,
    },
    /// No answer in time.
    #[error("no answer from the hub in time: {what}")]
    TimedOut {
        /// What was waited for.
        what: String,
    },
    /// Not sent: the deadline passed, or the sender stopped, before anything was handed to the hub.
    #[error("not sent to the hub: {why}")]
    NotSent {
        /// Why.
        why: String,
    },
    /// Not sent: too much waits to be sent already.
    #[error("not sent to the hub: {waiting} messages wait to be sent already")]
    Backlog {
        /// How many wait.
        waiting: usize,
    },
    /// Handed over, but the answer was lost: the hub may or may not have taken it.
    #[error("it is unknown whether the hub has taken {what}: {cause}")]
    OutcomeUnknown {
        /// What was sent.
        what: String,
        /// How the answer was lost.
        cause: String,
    },
    /// The hub answered what this crate does not understand.
    #[error("the hub answered {what} in an unknown way: {answer}")]
    Unexpected {
        /// What was asked for.
        what: String,
        /// What is not understood.
        answer: String,
    },
}

fn retry_after_text(after: &Option<Duration>) -> String {
    after.map_or_else(String::new, |after| {
        format!("; it asks to wait {} s", after.as_secs())
    })
}

impl HubError {
    /// Who can do something about it.
    #[must_use]
    pub fn class(&self) -> Class {
        match self {
            Self::Settings { .. }
            | Self::TooLarge { .. }
            | Self::NotInTier { .. }
            | Self::AlreadyExists { .. }
            | Self::NotInThisState { .. }
            | Self::TooManyDevices
            | Self::Invalid { .. }
            | Self::BadQuery { .. } => Class::User,
            Self::Denied { .. } => Class::Denied,
            Self::NotFound { .. } | Self::DeviceNotFound { .. } | Self::JobNotFound { .. } => {
                Class::NotFound
            }
            Self::QueueFull { .. }
            | Self::QuotaExceeded
            | Self::Throttled { .. }
            | Self::BeyondQuota { .. }
            | Self::Crowded { .. }
            | Self::TooManyJobs
            | Self::Backlog { .. } => Class::Throttled,
            Self::NotOnline { .. }
            | Self::MethodTimedOut { .. }
            | Self::Changed { .. }
            | Self::Unavailable { .. }
            | Self::Evicted { .. }
            | Self::LowerEpoch { .. }
            | Self::PositionRefused { .. }
            | Self::Transport { .. }
            | Self::TimedOut { .. }
            | Self::NotSent { .. }
            | Self::OutcomeUnknown { .. } => Class::Transient,
            Self::Refused { .. } | Self::Unexpected { .. } => Class::Bug,
        }
    }

    /// Whether the hub took what it was given.
    #[must_use]
    pub fn taken(&self) -> Taken {
        match self {
            Self::MethodTimedOut { .. }
            | Self::Unavailable { .. }
            | Self::TimedOut { .. }
            | Self::OutcomeUnknown { .. }
            | Self::Unexpected { .. } => Taken::Unknown,
            Self::Settings { .. }
            | Self::Denied { .. }
            | Self::NotFound { .. }
            | Self::DeviceNotFound { .. }
            | Self::NotOnline { .. }
            | Self::QueueFull { .. }
            | Self::QuotaExceeded
            | Self::Throttled { .. }
            | Self::BeyondQuota { .. }
            | Self::Crowded { .. }
            | Self::Changed { .. }
            | Self::AlreadyExists { .. }
            | Self::JobNotFound { .. }
            | Self::NotInThisState { .. }
            | Self::TooManyJobs
            | Self::TooManyDevices
            | Self::Invalid { .. }
            | Self::BadQuery { .. }
            | Self::TooLarge { .. }
            | Self::NotInTier { .. }
            | Self::Refused { .. }
            | Self::Evicted { .. }
            | Self::LowerEpoch { .. }
            | Self::PositionRefused { .. }
            | Self::Transport { .. }
            | Self::NotSent { .. }
            | Self::Backlog { .. } => Taken::No,
        }
    }
}
