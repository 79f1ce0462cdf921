//! A stage of the start: tried until it succeeds, with its failure in the member's report.

use std::time::Duration;

use connector_config::ReportClass;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::hub::Unproven;
use crate::{
    claim::ClaimError,
    member::MemberError,
    platform::Unresolved,
    report::{Part, Reporter, Trouble},
};

/// First pause between two tries; doubles up to [`MAX_PAUSE`].
const PAUSE: Duration = Duration::from_secs(1);
/// What a person has mended is noticed within this.
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Where a stage tells how it fares.
pub(super) struct Retry<'a> {
    pub(super) reporter: &'a Reporter,
    pub(super) part: Part,
}

/// Tries a stage until it succeeds; `None` if `stopping` comes first.
pub(super) async fn until<T, E, F>(
    stopping: &CancellationToken,
    Retry { reporter, part }: Retry<'_>,
    attempt: impl Fn() -> F,
) -> Option<T>
where
    F: Future<Output = Result<T, E>>,
    Trouble: From<E>,
{
    let mut pause = PAUSE;
    loop {
        let tried = tokio::select! {
            () = stopping.cancelled() => return None,
            tried = attempt() => tried,
        };
        match tried {
            Ok(done) => {
                reporter.well(part);
                return Some(done);
            }
            Err(error) => reporter.trouble(part, error.into()),
        }
        tokio::select! {
            () = stopping.cancelled() => return None,
            () = sleep(pause) => {}
        }
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

impl From<MemberError> for Trouble {
    fn from(error: MemberError) -> Self {
        Self::new(
            ReportClass::Transient,
            "ApiServerUnreachable",
            error.to_string(),
        )
    }
}

impl From<ClaimError> for Trouble {
    fn from(error: ClaimError) -> Self {
        let message = format!("the Kubernetes API server cannot be used: {error}");
        Self::new(ReportClass::Transient, "ApiServerUnreachable", message)
    }
}

impl From<Unresolved> for Trouble {
    fn from(error: Unresolved) -> Self {
        let (class, reason) = match &error {
            Unresolved::Empty { .. } => (ReportClass::User, "RoutingGroupNull"),
            Unresolved::Unreadable { .. } => (ReportClass::NotFound, "HubThingUnreadable"),
        };
        Self::new(class, reason, error.to_string())
    }
}

impl From<Unproven> for Trouble {
    fn from(unproven: Unproven) -> Self {
        let (what, error) = match unproven {
            Unproven::Hub { what, error } => (what, error),
            Unproven::Moved(trouble) => return trouble,
        };
        let (class, reason) = match error.class() {
            iothub::Class::User => (ReportClass::User, "HubSettings"),
            iothub::Class::Denied => (ReportClass::Denied, "HubDenied"),
            iothub::Class::NotFound => (ReportClass::NotFound, "HubNotFound"),
            iothub::Class::Throttled => (ReportClass::Throttled, "HubThrottled"),
            iothub::Class::Transient => (ReportClass::Transient, "HubUnreachable"),
            iothub::Class::Bug => (ReportClass::Bug, "HubAnswer"),
        };
        Self::new(class, reason, format!("{what}: {error}"))
    }
}
