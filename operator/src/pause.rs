//! Hands off: an annotation with which a person keeps the operator from writing.

use connector_config::annotation;
use kube::Resource;

use crate::api::condition::{Reason, Verdict};

/// Whether the operator must leave the children of a resource as they are.
#[must_use]
pub fn paused<K: Resource>(resource: &K) -> bool {
    let annotations = resource.meta().annotations.as_ref();
    annotations
        .and_then(|map| map.get(annotation::PAUSED))
        .map(String::as_str)
        == Some("true")
}

/// What the condition says of it.
pub(crate) fn verdict(paused: bool) -> Verdict {
    if paused {
        let message = format!(
            "the annotation {} is true: nothing is written but this status; pods go on",
            annotation::PAUSED
        );
        return Verdict::yes(Reason::Paused, message);
    }
    Verdict::no(Reason::NotPaused, "changes are written as they come")
}
