//! The settings, as a pod reads them.

use std::collections::BTreeMap;

use connector_config::{
    BlobStore, Checkpoints, DeadLetter, File, KubernetesStore, Settings, digest8,
};
use k8s_openapi::api::core::v1::ConfigMap;

use super::{Owner, RenderError};
use crate::{
    api::{CheckpointStore, Validated},
    mount,
};

/// The settings of a pod, where each secret is a file of [`mount`].
#[must_use]
pub fn settings(owner: &Owner, spec: &Validated) -> Settings {
    let mut iot_hub = spec.iot_hub.clone().map(
        |_| File::at(mount::HUB_CONNECTION),
        |_| File::at(mount::HUB_CA),
    );
    if let Some(registry) = &mut iot_hub.registry_connection_string {
        *registry = File::at(mount::REGISTRY_CONNECTION);
    }
    if let Some(events) = &mut iot_hub.event_hubs.connection_string {
        *events = File::at(mount::EVENTS_CONNECTION);
    }
    if let Some(DeadLetter::AzureBlob(blobs)) = &mut iot_hub.dead_letter {
        blobs.connection_string = File::at(mount::DEAD_LETTER_CONNECTION);
    }
    let claims = KubernetesStore {
        connector: owner.name.clone(),
        connector_uid: owner.uid.clone(),
    };
    let checkpoints = match &spec.checkpoints {
        CheckpointStore::Kubernetes => Checkpoints::Kubernetes(claims),
        CheckpointStore::AzureBlob(blobs) => Checkpoints::AzureBlob(BlobStore {
            container: blobs.container.clone(),
            connection_string: File::at(mount::STORAGE_CONNECTION),
            kubernetes: Some(claims),
        }),
    };
    Settings {
        hub_thing_name: spec.hub_thing.clone(),
        routing_group: spec.routing_group.clone(),
        thingworx: spec.thingworx.clone().map(
            |_| File::at(mount::APP_KEY),
            |_| File::at(mount::PLATFORM_CA),
        ),
        iot_hub,
        checkpoints,
    }
}

/// A `ConfigMap` that is named after its content and never changes: a pod of an older template that
/// starts again finds the settings it was made for.
pub(super) fn render(owner: &Owner, spec: &Validated) -> Result<ConfigMap, RenderError> {
    let text = settings(owner, spec).to_yaml()?;
    let name = format!("{}-{}", owner.child(), digest8(text.as_bytes()));
    Ok(ConfigMap {
        metadata: owner.metadata(name),
        data: Some(BTreeMap::from([(mount::SETTINGS_KEY.to_owned(), text)])),
        immutable: Some(true),
        ..ConfigMap::default()
    })
}
