//! What keeps a pod from running, in words that do not change from one look to the next.

use k8s_openapi::api::core::v1::{ContainerStatus, Pod};

use crate::api::condition::Reason;

/// What keeps a pod from running.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodTrouble {
    /// In one word.
    pub reason: Reason,
    /// For people.
    pub message: String,
}

/// Exit code of a connector whose settings are wrong (`EX_USAGE`).
const BAD_SETTINGS: i32 = 64;

/// What keeps `pod` from running; `None` if nothing is known to.
#[must_use]
pub fn trouble(pod: &Pod) -> Option<PodTrouble> {
    if pod.metadata.deletion_timestamp.is_some() {
        return None;
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    let unscheduled = status.conditions.iter().flatten().find(|condition| {
        condition.type_ == "PodScheduled"
            && condition.status == "False"
            && condition.reason.as_deref() == Some("Unschedulable")
    });
    if let Some(condition) = unscheduled {
        let why = condition.message.as_deref().unwrap_or("no node takes it");
        return Some(PodTrouble {
            reason: Reason::Unschedulable,
            message: format!("pod {name} cannot be placed on a node: {why}"),
        });
    }
    status
        .container_statuses
        .iter()
        .flatten()
        .find_map(|container| waiting(name, container))
}

fn waiting(pod: &str, container: &ContainerStatus) -> Option<PodTrouble> {
    let waiting = container.state.as_ref()?.waiting.as_ref()?;
    let said = waiting.message.as_deref().unwrap_or_default();
    let (reason, message) = match waiting.reason.as_deref()? {
        "ErrImagePull" | "ImagePullBackOff" | "ErrImageNeverPull" | "InvalidImageName" => {
            // The two first take turns, so neither is named.
            let message = format!("pod {pod}: the image {} cannot be pulled", container.image);
            (Reason::ImagePullFailed, message)
        }
        "CrashLoopBackOff" => {
            let ended = container.last_state.as_ref()?.terminated.as_ref()?;
            let message = match ended.exit_code {
                BAD_SETTINGS => format!(
                    "pod {pod}: the connector does not accept its settings; kubectl logs {pod} \
                     names the field"
                ),
                code => format!(
                    "pod {pod}: the connector ends with exit code {code} again and again; see \
                     kubectl logs {pod} --previous"
                ),
            };
            (Reason::Crashing, message)
        }
        "CreateContainerConfigError" | "CreateContainerError" | "RunContainerError" => (
            Reason::PodConfigError,
            format!("pod {pod} cannot be set up: {said}"),
        ),
        _ => return None,
    };
    Some(PodTrouble { reason, message })
}
