//! The topics that a device has. Source: Microsoft Learn, "Communicate with an IoT hub using the
//! MQTT protocol".

use crate::{c2d::C2dMessage, hub::Subscription, identity::Identity};

use super::bag;

/// What a device publishes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FromDevice<'t> {
    /// A message for the event stream.
    Telemetry {
        /// Its properties.
        bag: &'t str,
    },
    /// The answer to a direct method.
    MethodAnswer {
        /// The device's own status.
        status: i32,
        /// The hub's request id.
        rid: u64,
    },
    /// A question for the twin.
    TwinGet {
        /// The device's request id.
        rid: &'t str,
    },
    /// A change of reported properties.
    Report {
        /// The device's request id.
        rid: &'t str,
    },
}

impl<'t> FromDevice<'t> {
    /// Reads a topic that `identity` publishes to; `None` if it must not.
    pub(super) fn parse(topic: &'t str, identity: &Identity) -> Option<Self> {
        if let Some(rest) = topic.strip_prefix("$iothub/methods/res/") {
            let (status, query) = rest.split_once('/')?;
            return Some(Self::MethodAnswer {
                status: status.parse().ok()?,
                rid: u64::from_str_radix(rid(query)?, 16).ok()?,
            });
        }
        if let Some(query) = topic.strip_prefix("$iothub/twin/GET/") {
            return Some(Self::TwinGet { rid: rid(query)? });
        }
        if let Some(query) = topic.strip_prefix("$iothub/twin/PATCH/properties/reported/") {
            return Some(Self::Report { rid: rid(query)? });
        }
        let rest = own(topic, identity)?.strip_prefix("messages/events")?;
        let bag = match rest.strip_prefix('/') {
            Some(bag) => bag,
            None if rest.is_empty() => "",
            None => return None,
        };
        Some(Self::Telemetry { bag })
    }
}

/// What a filter subscribes to; `None` if `identity` must not.
pub(super) fn subscription(
    filter: &str,
    acknowledged: bool,
    identity: &Identity,
) -> Option<Subscription> {
    match filter {
        "$iothub/methods/POST/#" => return Some(Subscription::Methods),
        "$iothub/twin/res/#" => return Some(Subscription::TwinAnswers),
        "$iothub/twin/PATCH/properties/desired/#" => return Some(Subscription::Desired),
        _ => {}
    }
    match (own(filter, identity)?, identity.module_id()) {
        ("messages/devicebound/#", None) => Some(Subscription::C2d { acknowledged }),
        // The second form is what the Node SDK's modules ask for.
        ("inputs/#" | "#", Some(_)) => Some(Subscription::Inputs),
        _ => None,
    }
}

/// What follows `devices/{d}/` or `devices/{d}/modules/{m}/`.
fn own<'t>(topic: &'t str, identity: &Identity) -> Option<&'t str> {
    let rest = without_id(topic.strip_prefix("devices/")?, identity.device_id())?;
    match identity.module_id() {
        None => Some(rest),
        Some(module) => without_id(rest.strip_prefix("modules/")?, module),
    }
}

/// The hub decodes no ids in topics, so SDKs do not encode them. Source: wiki of the Python SDK, "URL
/// Encoding (MQTT)".
fn without_id<'t>(text: &'t str, id: &str) -> Option<&'t str> {
    text.strip_prefix(id)?.strip_prefix('/')
}

/// `$rid` of `?$rid=…`; not empty.
fn rid(query: &str) -> Option<&str> {
    query
        .strip_prefix('?')?
        .split('&')
        .find_map(|pair| {
            pair.strip_prefix("$rid=")
                .or_else(|| pair.strip_prefix("%24rid="))
        })
        .filter(|rid| !rid.is_empty())
}

/// Topic of a cloud-to-device message.
pub(super) fn c2d(identity: &Identity, message: &C2dMessage) -> String {
    let path = identity.path();
    format!("{path}/messages/devicebound/{}", bag::of_c2d(message))
}

/// Topic of a direct method. The name is encoded, and the SDKs decode it.
pub(super) fn method(name: &str, rid: u64) -> String {
    format!("$iothub/methods/POST/{}/?$rid={rid:x}", bag::encode(name))
}

/// Topic of a change of desired properties.
pub(super) fn desired(version: u64) -> String {
    format!("$iothub/twin/PATCH/properties/desired/?$version={version}")
}

/// Topic of an answer about the twin.
pub(super) fn twin_answer(status: u16, rid: &str, version: Option<u64>) -> String {
    let version = version.map_or(String::new(), |version| format!("&$version={version}"));
    format!("$iothub/twin/res/{status}/?$rid={rid}{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device() -> Identity {
        Identity::device("d%1").unwrap()
    }

    fn module() -> Identity {
        Identity::new("d", Some("m")).unwrap()
    }

    #[test]
    fn knows_what_a_device_publishes() {
        for (topic, expected) in [
            (
                "devices/d%1/messages/events/a=1",
                Some(FromDevice::Telemetry { bag: "a=1" }),
            ),
            (
                "devices/d%1/messages/events/",
                Some(FromDevice::Telemetry { bag: "" }),
            ),
            (
                "devices/d%1/messages/events",
                Some(FromDevice::Telemetry { bag: "" }),
            ),
            ("devices/d%1/messages/eventsx", None),
            ("devices/d/messages/events/", None),
            ("devices/d%251/messages/events/", None),
            ("devices/d%1/modules/m/messages/events/", None),
            (
                "$iothub/methods/res/-200/?$rid=1f",
                Some(FromDevice::MethodAnswer {
                    status: -200,
                    rid: 31,
                }),
            ),
            ("$iothub/methods/res/200/?$rid=xyz", None),
            ("$iothub/methods/res/fine/?$rid=1", None),
            ("$iothub/methods/res/200", None),
            (
                "$iothub/twin/GET/?%24rid=a-b",
                Some(FromDevice::TwinGet { rid: "a-b" }),
            ),
            (
                "$iothub/twin/GET/?$version=1&$rid=7",
                Some(FromDevice::TwinGet { rid: "7" }),
            ),
            ("$iothub/twin/GET/?$rid=", None),
            ("$iothub/twin/GET/", None),
            (
                "$iothub/twin/PATCH/properties/reported/?$rid=7",
                Some(FromDevice::Report { rid: "7" }),
            ),
            ("$iothub/twin/PATCH/properties/desired/?$rid=7", None),
            ("factory/line/1", None),
            ("", None),
        ] {
            assert_eq!(FromDevice::parse(topic, &device()), expected, "{topic}");
        }
    }

    #[test]
    fn a_module_has_its_own_topics() {
        for (topic, expected) in [
            (
                "devices/d/modules/m/messages/events/x",
                Some(FromDevice::Telemetry { bag: "x" }),
            ),
            ("devices/d/modules/n/messages/events/x", None),
            ("devices/d/messages/events/x", None),
        ] {
            assert_eq!(FromDevice::parse(topic, &module()), expected, "{topic}");
        }
    }

    #[test]
    fn knows_what_can_be_subscribed_to() {
        let c2d = Subscription::C2d { acknowledged: true };
        for (filter, by_device, by_module) in [
            (
                "$iothub/methods/POST/#",
                Some(Subscription::Methods),
                Some(Subscription::Methods),
            ),
            (
                "$iothub/twin/res/#",
                Some(Subscription::TwinAnswers),
                Some(Subscription::TwinAnswers),
            ),
            (
                "$iothub/twin/PATCH/properties/desired/#",
                Some(Subscription::Desired),
                Some(Subscription::Desired),
            ),
            ("devices/d%1/messages/devicebound/#", Some(c2d), None),
            (
                "devices/d/modules/m/inputs/#",
                None,
                Some(Subscription::Inputs),
            ),
            ("devices/d/modules/m/#", None, Some(Subscription::Inputs)),
            ("devices/d/modules/m/messages/devicebound/#", None, None),
            ("devices/+/messages/devicebound/#", None, None),
            ("#", None, None),
            ("", None, None),
        ] {
            assert_eq!(subscription(filter, true, &device()), by_device, "{filter}");
            assert_eq!(subscription(filter, true, &module()), by_module, "{filter}");
        }
    }

    #[test]
    fn writes_what_devices_read() {
        assert_eq!(method("reboot", 31), "$iothub/methods/POST/reboot/?$rid=1f");
        assert_eq!(method("a/+", 1), "$iothub/methods/POST/a%2F%2B/?$rid=1");
        assert_eq!(
            desired(5),
            "$iothub/twin/PATCH/properties/desired/?$version=5"
        );
        assert_eq!(twin_answer(200, "a", None), "$iothub/twin/res/200/?$rid=a");
        assert_eq!(
            twin_answer(204, "a", Some(2)),
            "$iothub/twin/res/204/?$rid=a&$version=2"
        );
    }
}
