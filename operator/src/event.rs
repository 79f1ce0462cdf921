//! Events on a resource: one when it becomes ready or stops being so, and one for each pod that is started again.

use kube::{
    Client, Resource,
    runtime::events::{Event, EventType, Recorder, Reporter},
};

use crate::{
    api::{AzureIotHubConnector, AzureIotHubConnectorStatus},
    apply::FIELD_MANAGER,
    desired::Owner,
    error::CALL,
    stale::Stale,
    status::ready_of,
};

/// Longest note that the API server takes, in bytes; cut by characters of at most four.
const MAX_NOTE: usize = 1024 / 4;

/// Publishes events.
#[derive(Clone)]
pub struct Announcer {
    recorder: Recorder,
}

impl Announcer {
    /// Publishes with `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        let reporter = Reporter {
            controller: FIELD_MANAGER.to_owned(),
            instance: None,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// Publishes an event if the `Ready` condition has another status or reason than before. An event
    /// that cannot be published is not tried again: the condition says the same.
    pub async fn announce(
        &self,
        owner: &Owner,
        before: &AzureIotHubConnectorStatus,
        after: &AzureIotHubConnectorStatus,
    ) {
        let Some(event) = transition(before, after) else {
            return;
        };
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            reason = event.reason,
            note = event.note.as_deref().unwrap_or_default(),
            "ready condition changed"
        );
        self.publish(owner, &event).await;
    }

    /// Publishes that a pod was started again because its member disagreed with its Deployment.
    pub async fn restarted(&self, owner: &Owner, stale: &Stale) {
        let Stale { pod, uid: _, what } = stale;
        let note = format!(
            "pod {pod} still had old {what} when its rollout was over, so another takes its place"
        );
        tracing::info!(
            namespace = owner.namespace,
            name = owner.name,
            note,
            "member restarted"
        );
        let event = Event {
            type_: EventType::Warning,
            reason: "MemberRestarted".to_owned(),
            note: Some(note),
            action: "Restart".to_owned(),
            secondary: None,
        };
        self.publish(owner, &event).await;
    }

    async fn publish(&self, owner: &Owner, event: &Event) {
        let Owner {
            namespace,
            name,
            uid,
        } = owner;
        let reference = k8s_openapi::api::core::v1::ObjectReference {
            api_version: Some(AzureIotHubConnector::api_version(&()).into_owned()),
            kind: Some(AzureIotHubConnector::kind(&()).into_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            uid: Some(uid.clone()),
            ..Default::default()
        };
        match tokio::time::timeout(CALL, self.recorder.publish(event, &reference)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(namespace, name, %error, "event not published"),
            Err(_) => tracing::debug!(namespace, name, "event not published in time"),
        }
    }
}

fn transition(
    before: &AzureIotHubConnectorStatus,
    after: &AzureIotHubConnectorStatus,
) -> Option<Event> {
    let new = ready_of(&after.conditions)?;
    let unchanged = ready_of(&before.conditions)
        .is_some_and(|old| old.status == new.status && old.reason == new.reason);
    if unchanged {
        return None;
    }
    let normal =
        new.status == "True" || ["RollingOut", "RolloutQueued", "Paused"].contains(&&*new.reason);
    Some(Event {
        type_: if normal {
            EventType::Normal
        } else {
            EventType::Warning
        },
        reason: new.reason.clone(),
        note: Some(new.message.chars().take(MAX_NOTE).collect()),
        action: "Reconcile".to_owned(),
        secondary: None,
    })
}
