//! Annotations on the objects that operator and connector share.

/// On a custom resource: `true` keeps the operator from writing anything but the status.
pub const PAUSED: &str = "iot-connectors.dev/paused";
/// On a custom resource: which operator manages it, as `<namespace>/<name>` of that operator's Lease.
pub const OPERATOR: &str = "iot-connectors.dev/operator";
/// On a custom resource, and from there on its pod template: any text; each new one replaces the pods once.
pub const RESTART: &str = "iot-connectors.dev/restart";
/// On a member's Lease: the [`MemberReport`](crate::MemberReport) as JSON.
pub const REPORT: &str = "iot-connectors.dev/report";
/// On a pod template: digest of the rendered settings.
pub const SETTINGS_DIGEST: &str = "iot-connectors.dev/settings-digest";
/// On a pod template: keyed digest of the values of the referenced Secrets and ConfigMaps.
pub const SECRET_DIGEST: &str = "iot-connectors.dev/secret-digest";
/// On every applied child: hash of what was applied, so that an unchanged child is not written.
pub const APPLIED_HASH: &str = "iot-connectors.dev/applied-hash";
/// On the Leases of members, claims and imports: uid of the custom resource they belong to. A resource that was
/// deleted and created again under its old name is another one.
pub const CONNECTOR_UID: &str = "iot-connectors.dev/connector-uid";
