//! Where a pod finds what the operator gives it. One place, because the settings name the files and the
//! Deployment mounts them.

/// Folder of the settings.
pub const SETTINGS_DIR: &str = "/etc/connector/settings";
/// Key of the settings in their `ConfigMap`.
pub const SETTINGS_KEY: &str = "settings.yaml";
/// The settings file.
pub const SETTINGS: &str = "/etc/connector/settings/settings.yaml";

/// Folder of the secrets.
pub const SECRETS_DIR: &str = "/etc/connector/secrets";
/// Application key for the platform.
pub const APP_KEY: &str = "/etc/connector/secrets/thingworx-app-key";
/// Connection string of the hub.
pub const HUB_CONNECTION: &str = "/etc/connector/secrets/hub-connection-string";
/// Connection string of the hub for its registry of devices.
pub const REGISTRY_CONNECTION: &str = "/etc/connector/secrets/registry-connection-string";
/// Connection string of the hub's built-in endpoint.
pub const EVENTS_CONNECTION: &str = "/etc/connector/secrets/events-connection-string";
/// Connection string of the storage account with the checkpoints.
pub const STORAGE_CONNECTION: &str = "/etc/connector/secrets/storage-connection-string";
/// Connection string of the storage account with the dead letters.
pub const DEAD_LETTER_CONNECTION: &str = "/etc/connector/secrets/dead-letter-connection-string";

/// Folder of the certificates.
pub const CA_DIR: &str = "/etc/connector/ca";
/// Authorities of the platform's nodes.
pub const PLATFORM_CA: &str = "/etc/connector/ca/thingworx.crt";
/// Authorities of the hub.
pub const HUB_CA: &str = "/etc/connector/ca/hub.crt";

/// Name of a file within its folder.
#[must_use]
pub fn file_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}
