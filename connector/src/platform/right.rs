//! Rights that the connector's user lacks on the platform, as its refusals tell: said until a request of the same
//! sort is carried out.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use alwayson::{Characteristic, EntityType, Request, Response, Status};
use connector_config::{MemberReport, ReportClass};
use tokio::time::Instant;

use crate::report::{Part, Reporter, Trouble};

/// A right that is there for some Things and not for others comes and goes with each request: it is said this
/// seldom.
const AGAIN: Duration = Duration::from_secs(60);

/// What is known to be lacking. There are as many as the connector has sorts of requests.
pub(super) struct Rights {
    reporter: Reporter,
    lacking: Mutex<BTreeMap<String, Lack>>,
    /// Whether there is any: what succeeds needs no look otherwise.
    any: AtomicBool,
}

struct Lack {
    said: Instant,
    /// None once a request of this sort was carried out.
    trouble: Option<Trouble>,
}

impl Rights {
    pub(super) fn new(reporter: Reporter) -> Self {
        Self {
            reporter,
            lacking: Mutex::default(),
            any: AtomicBool::new(false),
        }
    }

    /// The platform has carried out a request.
    pub(super) fn has(&self, request: &Request) {
        if !self.any.load(Ordering::Relaxed) {
            return;
        }
        self.change(|lacking| {
            if let Some(lack) = lacking.get_mut(sort(request)) {
                lack.trouble = None;
            }
        });
    }

    /// The platform has refused a request, perhaps for lack of a right.
    pub(super) fn refused(&self, request: &Request, response: &Response) {
        // Whoever asks for these says what it means.
        let own = request.entity_type != EntityType::THINGS || request.target == "GetConfiguration";
        if own || !is_denial(response) {
            return;
        }
        let (sort, now) = (sort(request), Instant::now());
        self.change(|lacking| {
            let is_news = |lack: &Lack| lack.trouble.is_none() && now >= lack.said + AGAIN;
            if lacking.get(sort).is_none_or(is_news) {
                let trouble = Some(trouble(request, response));
                lacking.insert(sort.to_owned(), Lack { said: now, trouble });
            }
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<String, Lack>)) {
        // Nothing under this lock leaves the map half changed.
        let mut lacking = self.lacking.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut lacking);
        let open = || lacking.values().filter_map(|lack| lack.trouble.as_ref());
        self.any.store(open().next().is_some(), Ordering::Relaxed);
        // What keeps values from being written comes before what does not.
        let event = |trouble: &&Trouble| trouble.reason == MemberReport::EVENT_RIGHT;
        match open().min_by_key(event) {
            Some(trouble) => self.reporter.trouble(Part::Rights, trouble.clone()),
            None => self.reporter.well(Part::Rights),
        }
    }
}

/// Requests that need the same right, as far as can be told: rights are given on templates.
fn sort(request: &Request) -> &str {
    match request.characteristic {
        Characteristic::EVENTS => "events",
        _ => &request.target,
    }
}

/// Whether a refusal is for lack of a right. Releases differ in the status: 6.5 answers every failure alike and says
/// "Not authorized for ServiceInvoke on …"; 9.x may use FORBIDDEN.
pub(super) fn is_denial(response: &Response) -> bool {
    let says = |words: &str| {
        let reason = response.error_text().unwrap_or_default();
        reason.to_ascii_lowercase().contains(words)
    };
    matches!(response.status, Status::UNAUTHORIZED | Status::FORBIDDEN)
        || says("not authorized")
        || says("permission")
}

fn trouble(request: &Request, response: &Response) -> Trouble {
    let reason = response.error_text().unwrap_or_default();
    let Request { entity, target, .. } = request;
    let (what, code) = match request.characteristic {
        Characteristic::EVENTS => ("fire", MemberReport::EVENT_RIGHT),
        _ => ("run", "PlatformRightMissing"),
    };
    let message = format!(
        "the connector's user on ThingWorx may not {what} {target} of Thing {entity}; give it that right, best on the \
         Thing Template (ThingWorx: {reason})"
    );
    Trouble::new(ReportClass::Denied, code, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    fn denied() -> Response {
        let reason = "Unable to dispatch [ uri = x ] : Not authorized for ServiceInvoke on x in y";
        Response::error(Status::INTERNAL_ERROR, reason)
    }

    #[tokio::test(start_paused = true)]
    async fn a_lack_is_said_until_such_a_request_is_carried_out() {
        let reporter = Reporter::new(&Identity::from_env());
        let rights = Rights::new(reporter.clone());
        let write = Request::call("pump-1", "UpdatePropertyValues", None);
        let event = Request::event("ConnectionServicesHub", "EdgeError", Default::default());
        let failed = Response::error(Status::INTERNAL_ERROR, "Property [x] does not exist");
        rights.refused(&write, &failed);
        assert_eq!(reporter.now().class, None, "that is no lack of rights");
        rights.refused(&event, &denied());
        assert_eq!(reporter.now().reason, MemberReport::EVENT_RIGHT);
        rights.refused(&write, &denied());
        assert_eq!(reporter.now().reason, "PlatformRightMissing");
        assert!(
            reporter
                .now()
                .message
                .contains("run UpdatePropertyValues of Thing pump-1")
        );
        let other = Request::call("pump-2", "UpdatePropertyValues", None);
        rights.has(&other);
        assert_eq!(reporter.now().reason, MemberReport::EVENT_RIGHT);
        rights.has(&event);
        assert_eq!(reporter.now().class, None);
        rights.refused(&write, &denied());
        assert_eq!(reporter.now().class, None, "it comes and goes");
        tokio::time::advance(AGAIN).await;
        rights.refused(&write, &denied());
        assert_eq!(reporter.now().reason, "PlatformRightMissing");
    }
}
