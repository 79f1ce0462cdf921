//! Routes: the hub's own events that go into the stream as well.
//!
//! Sources: Microsoft Learn, "IoT Hub non-telemetry event schemas" (operations, properties and bodies of
//! lifecycle and twin events); "React to IoT Hub events by using Event Grid" (connection states and their
//! `sequenceNumber`). Which device an event is about stands in an application property: the
//! documentation shows no annotation for it.

use std::{str::FromStr, sync::Arc};

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use crate::{
    amqp::{binary, described, described_map, descriptor},
    identity::Identity,
    log::{NewEvent, Origin},
};

use super::{Hub, now_ms, registry::Registered};

const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;

/// A kind of event that the hub writes itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Devices and modules are created or deleted.
    Lifecycle,
    /// Twins are changed.
    Twin,
    /// Devices and modules connect or disconnect.
    Connection,
}

impl FromStr for Route {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "lifecycle" => Ok(Self::Lifecycle),
            "twin" => Ok(Self::Twin),
            "connection" => Ok(Self::Connection),
            _ => Err(format!(
                "no route: {name:?}; lifecycle, twin and connection are"
            )),
        }
    }
}

impl Route {
    /// `iothub-message-source`.
    fn source(self) -> &'static str {
        match self {
            Self::Lifecycle => "deviceLifecycleEvents",
            Self::Twin => "twinChangeEvents",
            Self::Connection => "deviceConnectionStateEvents",
        }
    }

    /// `iothub-message-schema`.
    fn schema(self, identity: &Identity) -> &'static str {
        match (self, identity.module_id()) {
            (Self::Lifecycle, None) => "deviceLifecycleNotification",
            (Self::Lifecycle, Some(_)) => "moduleLifecycleNotification",
            (Self::Twin, None) => "deviceTwin",
            (Self::Twin, Some(_)) => "moduleTwin",
            (Self::Connection, None) => "deviceConnectionStateNotification",
            (Self::Connection, Some(_)) => "moduleConnectionStateNotification",
        }
    }
}

impl Hub {
    /// An identity was created or deleted.
    pub(super) fn tell_lifecycle(&self, identity: &Identity, created: bool, was: &Registered) {
        let operation = match (created, identity.module_id().is_some()) {
            (true, false) => "createDeviceIdentity",
            (false, false) => "deleteDeviceIdentity",
            (true, true) => "createModuleIdentity",
            (false, true) => "deleteModuleIdentity",
        };
        let mut body = json!({
            "deviceId": identity.device_id(),
            "version": was.twin.revision,
            "tags": was.twin.tags,
            "properties": was.twin.for_device(),
        });
        if let Some(module) = identity.module_id() {
            body["moduleId"] = module.into();
        }
        self.tell(Route::Lifecycle, identity, operation, &body);
    }

    /// A twin was changed; `body` is the patch. Called while the change is still locked, so that events
    /// are in the order of versions.
    pub(super) fn tell_twin(&self, identity: &Identity, revision: u64, mut body: Value) {
        body["version"] = revision.into();
        self.tell(Route::Twin, identity, "updateTwin", &body);
    }

    /// An identity has connected or disconnected.
    pub(super) fn tell_connection(&self, identity: &Identity, connected: bool) {
        let operation = match (connected, identity.module_id().is_some()) {
            (true, false) => "deviceConnected",
            (false, false) => "deviceDisconnected",
            (true, true) => "moduleConnected",
            (false, true) => "moduleDisconnected",
        };
        let body = json!({ "sequenceNumber": format!("{:056X}", self.number()) });
        self.tell(Route::Connection, identity, operation, &body);
    }

    fn tell(&self, route: Route, identity: &Identity, operation: &str, body: &Value) {
        if !self.settings.routes.contains(&route) {
            return;
        }
        let now = jiff::Timestamp::from_millisecond(now_ms()).unwrap_or_default();
        let now = now.to_string();
        let mut properties = vec![
            ("hubName", self.settings.name.as_str()),
            ("deviceId", identity.device_id()),
            ("operationTimestamp", &now),
            ("iothub-message-schema", route.schema(identity)),
            ("opType", operation),
        ];
        properties.extend(identity.module_id().map(|module| ("moduleId", module)));
        self.append(NewEvent {
            origin: Arc::new(Origin {
                device: identity.device_id().to_owned(),
                module: None,
                auth_method: String::new(),
                generation: String::new(),
                source: route.source().to_owned(),
            }),
            sections: sections(&properties, body.to_string().as_bytes()),
        });
    }
}

fn sections(properties: &[(&str, &str)], body: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(512 + body.len());
    described(&mut out, PROPERTIES, |list| {
        // message-id, user-id, to, subject, reply-to, correlation-id
        list.nulls(6);
        list.symbol("application/json").symbol("utf-8");
        // expiry, creation, group-id, group-sequence, reply-to-group-id
        list.nulls(5);
    });
    described_map(&mut out, APPLICATION_PROPERTIES, |map| {
        for (name, value) in properties {
            map.string(name).string(value);
        }
    });
    descriptor(&mut out, DATA);
    binary(&mut out, body);
    out.freeze()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{
        hub::{Change, Etag},
        probe,
    };

    fn texts(hub: &Hub) -> Vec<String> {
        let endpoint = hub.endpoint();
        let partitions = endpoint.partitions.iter();
        partitions
            .flat_map(|partition| partition.kept())
            .map(|record| {
                assert_eq!(record.event.origin.device, "d");
                format!(
                    "{} {}",
                    record.event.origin.source,
                    String::from_utf8_lossy(&record.event.sections)
                )
            })
            .collect()
    }

    fn everything_that_can_be_told(routes: Vec<Route>) -> Vec<String> {
        let mut settings = probe::settings();
        settings.routes = routes;
        let hub = Hub::new(settings);
        let device = Identity::device("d").unwrap();
        hub.put(&device, Change::default(), &Etag::Absent).unwrap();
        let session = hub.start_session(&device, true).unwrap();
        session.report(&json!({"fw": 2})).unwrap();
        let patch = json!({"tags": {"site": "A"}, "properties": {"desired": {"rate": 5}}});
        hub.patch_twin(&device, &patch, &Etag::Absent).unwrap();
        drop(session);
        hub.delete(&device, &Etag::Any).unwrap();
        texts(&hub)
    }

    #[test]
    fn what_is_routed_is_told_in_order() {
        let told =
            everything_that_can_be_told(vec![Route::Lifecycle, Route::Twin, Route::Connection]);
        let expected: [(&str, &[&str]); 6] = [
            (
                "deviceLifecycleEvents",
                &["createDeviceIdentity", "\"deviceId\":\"d\""],
            ),
            (
                "deviceConnectionStateEvents",
                &["deviceConnected", "sequenceNumber"],
            ),
            (
                "twinChangeEvents",
                &["updateTwin", "\"fw\":2", "\"version\":1"],
            ),
            (
                "twinChangeEvents",
                &["\"site\":\"A\"", "\"rate\":5", "\"version\":2"],
            ),
            ("deviceConnectionStateEvents", &["deviceDisconnected"]),
            ("deviceLifecycleEvents", &["deleteDeviceIdentity"]),
        ];
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, (source, parts)) in told.iter().zip(expected) {
            assert!(told.starts_with(source), "{told}");
            for part in parts {
                assert!(told.contains(part), "{told} has no {part}");
            }
        }
    }

    #[test]
    fn without_routes_nothing_is_told() {
        assert!(everything_that_can_be_told(Vec::new()).is_empty());
    }
}
