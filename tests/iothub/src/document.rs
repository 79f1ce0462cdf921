//! Identities and twins as services read them. Pure.

use serde_json::{Value, json};

use crate::{hub::DeviceView, twin::Twin};

/// What IoT Hub writes for "never".
const NEVER: &str = "0001-01-01T00:00:00";

fn connection_state(view: &DeviceView) -> &'static str {
    if view.connected {
        "Connected"
    } else {
        "Disconnected"
    }
}

fn status(view: &DeviceView) -> &'static str {
    if view.enabled { "enabled" } else { "disabled" }
}

/// An identity, with its keys.
pub(crate) fn identity(view: &DeviceView) -> Value {
    let mut shown = json!({
        "deviceId": view.identity.device_id(),
        "generationId": view.generation,
        "etag": view.etag,
        "connectionState": connection_state(view),
        "connectionStateUpdatedTime": NEVER,
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": view.c2d_depth,
        "authentication": {
            "type": "sas",
            "symmetricKey": {
                "primaryKey": view.keys.primary.reveal(),
                "secondaryKey": view.keys.secondary.reveal(),
            },
            "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        },
    });
    if let Some(module) = view.identity.module_id() {
        shown["moduleId"] = module.into();
        shown["managedBy"] = Value::Null;
    } else {
        shown["status"] = status(view).into();
        shown["statusReason"] = Value::Null;
        shown["statusUpdatedTime"] = NEVER.into();
        shown["capabilities"] = json!({"iotEdge": false});
    }
    shown
}

/// A twin, with the identity's part of it.
pub(crate) fn twin(view: &DeviceView, twin: &Twin) -> Value {
    let mut shown = json!({
        "deviceId": view.identity.device_id(),
        "etag": twin.revision.to_string(),
        "deviceEtag": view.etag,
        "status": status(view),
        "statusUpdateTime": NEVER,
        "connectionState": connection_state(view),
        "lastActivityTime": NEVER,
        "cloudToDeviceMessageCount": view.c2d_depth,
        "authenticationType": "sas",
        "x509Thumbprint": {"primaryThumbprint": null, "secondaryThumbprint": null},
        "version": twin.revision,
        "tags": twin.tags,
        "properties": twin.for_device(),
    });
    if let Some(module) = view.identity.module_id() {
        shown["moduleId"] = module.into();
    }
    shown
}
