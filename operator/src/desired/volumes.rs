//! The files of a pod.

use connector_config::DeadLetter;
use k8s_openapi::api::core::v1::{
    ConfigMapProjection, ConfigMapVolumeSource, KeyToPath, ProjectedVolumeSource, SecretProjection,
    Volume, VolumeMount, VolumeProjection,
};

use crate::{
    api::{CertificateSource, KeyRef, SecretSource, Validated},
    mount,
};

/// Readable for the pod's group, by nobody else.
const MODE: i32 = 0o440;

/// The authorities of the hub, if given.
pub(super) fn hub_ca(spec: &Validated) -> Option<&CertificateSource> {
    spec.iot_hub.tls.as_ref()?.ca.as_ref()
}

fn platform_ca(spec: &Validated) -> Option<&CertificateSource> {
    spec.thingworx.tls.as_ref()?.ca.as_ref()
}

/// Volumes of the pod and where its container mounts them.
pub(super) fn render(spec: &Validated, settings: &str) -> (Vec<Volume>, Vec<VolumeMount>) {
    let mut volumes = vec![Volume {
        name: "settings".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: settings.to_owned(),
            default_mode: Some(MODE),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }];
    let mut mounts = vec![mount("settings", mount::SETTINGS_DIR)];
    let hub = &spec.iot_hub;
    let mut secrets = vec![
        secret(&spec.thingworx.app_key, mount::APP_KEY),
        secret(&hub.connection_string, mount::HUB_CONNECTION),
    ];
    let registry = hub.registry_connection_string.as_ref();
    secrets.extend(registry.map(|source| secret(source, mount::REGISTRY_CONNECTION)));
    let events = hub.event_hubs.connection_string.as_ref();
    secrets.extend(events.map(|source| secret(source, mount::EVENTS_CONNECTION)));
    if let Some(blobs) = spec.checkpoints.blobs() {
        secrets.push(secret(&blobs.connection_string, mount::STORAGE_CONNECTION));
    }
    let letters = hub.dead_letter.as_ref().and_then(DeadLetter::blobs);
    if let Some(blobs) = letters {
        secrets.push(secret(
            &blobs.connection_string,
            mount::DEAD_LETTER_CONNECTION,
        ));
    }
    // Projected as folders, not as single files, so that a running pod sees a changed value.
    volumes.push(projected("secrets", secrets));
    mounts.push(mount("secrets", mount::SECRETS_DIR));
    let certificates: Vec<_> = [
        platform_ca(spec).map(|source| certificate(source, mount::PLATFORM_CA)),
        hub_ca(spec).map(|source| certificate(source, mount::HUB_CA)),
    ]
    .into_iter()
    .flatten()
    .collect();
    if !certificates.is_empty() {
        volumes.push(projected("ca", certificates));
        mounts.push(mount("ca", mount::CA_DIR));
    }
    (volumes, mounts)
}

fn mount(name: &str, path: &str) -> VolumeMount {
    VolumeMount {
        name: name.to_owned(),
        mount_path: path.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    }
}

fn projected(name: &str, sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: name.to_owned(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(sources),
            default_mode: Some(MODE),
        }),
        ..Volume::default()
    }
}

fn item(key: &KeyRef, path: &str) -> Vec<KeyToPath> {
    vec![KeyToPath {
        key: key.key.clone(),
        path: mount::file_name(path).to_owned(),
        ..KeyToPath::default()
    }]
}

fn from_secret(key: &KeyRef, path: &str) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: key.name.clone(),
            items: Some(item(key, path)),
            ..SecretProjection::default()
        }),
        ..VolumeProjection::default()
    }
}

fn secret(source: &SecretSource, path: &str) -> VolumeProjection {
    from_secret(&source.secret_key_ref, path)
}

fn certificate(source: &CertificateSource, path: &str) -> VolumeProjection {
    match source {
        CertificateSource::SecretKeyRef(key) => from_secret(key, path),
        CertificateSource::ConfigMapKeyRef(key) => VolumeProjection {
            config_map: Some(ConfigMapProjection {
                name: key.name.clone(),
                items: Some(item(key, path)),
                ..ConfigMapProjection::default()
            }),
            ..VolumeProjection::default()
        },
    }
}
