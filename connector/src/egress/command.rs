//! AlwaysOn request → command. Pure.

use alwayson::{
    Characteristic, EntityType, InfoTable, Method, Request, Status, Value, json::to_json,
};
use connector_config::ThingName;
use serde_json::{Map, Value as Json, json};

use crate::identity::MemberId;

/// What the platform may ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// A property write: one cloud-to-device message `{"name": value}`.
    Send {
        /// The device.
        device: String,
        /// Body of the message.
        body: Json,
    },
    /// A remote service: a direct method.
    Invoke {
        /// The device.
        device: String,
        /// The module of it, for `module::method`.
        module: Option<String>,
        /// Name of the method.
        method: String,
        /// The inputs as an object.
        payload: Json,
    },
    /// What every edge answers for the names that it has bound.
    Edge(EdgeService),
}

/// Services that the platform calls on whatever is bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EdgeService {
    /// What is offered under this name.
    GetMetadata,
    /// The subscriptions have changed.
    NotifyPropertyUpdate,
    /// The subscriptions are pushed; present values are asked for.
    SynchronizeModelState,
    /// What the connector has bound.
    GetBoundEntities,
}

impl EdgeService {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "GetMetadata" => Self::GetMetadata,
            "NotifyPropertyUpdate" => Self::NotifyPropertyUpdate,
            "SynchronizeModelState" => Self::SynchronizeModelState,
            "GetBoundEntities" => Self::GetBoundEntities,
            _ => return None,
        })
    }
}

/// A request that is answered without asking the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The answer's status.
    pub status: Status,
    /// Why, in words an administrator understands.
    pub reason: String,
}

fn refuse<T>(status: Status, reason: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal {
        status,
        reason: reason.into(),
    })
}

/// Names that are the connector's own, not devices.
#[derive(Debug, Clone)]
pub struct OwnNames {
    /// The member's own Thing.
    pub member: MemberId,
    /// The hub Thing.
    pub hub: ThingName,
}

impl OwnNames {
    fn contains(&self, name: &str) -> bool {
        name == self.member.as_str() || name == self.hub.as_str()
    }
}

/// Reads a request. Any Thing name is accepted, not only bound ones: the platform redirects.
///
/// # Errors
/// [`Refusal`] if nothing on the hub corresponds to it.
pub fn command(request: &Request, own: &OwnNames) -> Result<Command, Refusal> {
    if request.entity_type != EntityType::THINGS {
        let what = format!(
            "the connector serves Things, not {}",
            request.entity_type.name()
        );
        return refuse(Status::NOT_FOUND, what);
    }
    // A Thing with an identifier is addressed by it, and the device is named so.
    let device = request.entity.strip_prefix('*').unwrap_or(&request.entity);
    match (request.method, request.characteristic) {
        (Method::Post, Characteristic::SERVICES) => match EdgeService::named(&request.target) {
            Some(service) => Ok(Command::Edge(service)),
            None if own.contains(device) => {
                let what = format!("no service {} on {device}", request.target);
                refuse(Status::NOT_FOUND, what)
            }
            None => invoke(device, request),
        },
        _ if own.contains(device) => refuse(
            Status::NOT_FOUND,
            format!("{device} has no remote properties"),
        ),
        (Method::Put, Characteristic::PROPERTIES) => send(device, request),
        (Method::Get, Characteristic::PROPERTIES) => refuse(
            Status::METHOD_NOT_ALLOWED,
            format!(
                "property {} of device {device} cannot be read from the device; it shows the value that \
                 the device reported last",
                request.target
            ),
        ),
        (method, side) => refuse(
            Status::METHOD_NOT_ALLOWED,
            format!("{method:?} of {} is nothing a device can do", side.name()),
        ),
    }
}

fn send(device: &str, request: &Request) -> Result<Command, Refusal> {
    let fields = object(request.params.as_ref());
    if fields.is_empty() {
        return refuse(Status::BAD_REQUEST, "the request holds no property value");
    }
    if let Some(name) = fields.keys().find(|name| name.contains("::")) {
        let what = format!(
            "property {name} belongs to a module, and IoT Hub sends messages to devices only; use a \
             remote service module::method or the module's twin"
        );
        return refuse(Status::METHOD_NOT_ALLOWED, what);
    }
    Ok(Command::Send {
        device: device.to_owned(),
        body: Json::Object(fields),
    })
}

fn invoke(device: &str, request: &Request) -> Result<Command, Refusal> {
    let (module, method) = match request.target.split_once("::") {
        Some((module, method)) => (Some(module.to_owned()), method),
        None => (None, request.target.as_str()),
    };
    if method.is_empty() || module.as_deref() == Some("") {
        let what = format!("{:?} names no method", request.target);
        return refuse(Status::BAD_REQUEST, what);
    }
    Ok(Command::Invoke {
        device: device.to_owned(),
        module,
        method: method.to_owned(),
        payload: Json::Object(object(request.params.as_ref())),
    })
}

/// Parameters as an object. Untyped JSON parameters travel in a field of their own.
fn object(params: Option<&InfoTable>) -> Map<String, Json> {
    let Some(params) = params else {
        return Map::new();
    };
    let row = params.rows().next().unwrap_or_default();
    let mut fields: Map<String, Json> = params
        .fields()
        .zip(&row)
        .map(|(field, value)| (field.name, to_json(value)))
        .collect();
    if let (1, Some(Json::Object(content))) = (fields.len(), fields.get("_content_")) {
        fields = content.clone();
    }
    fields
}

/// A direct method's result as a service's result, by the JSON that came back. The platform turns it
/// into the type that the service declares.
#[must_use]
pub fn result(payload: &Json) -> Value {
    match payload {
        Json::Null => Value::Nothing,
        Json::Bool(flag) => Value::Boolean(*flag),
        Json::Number(number) => number.as_f64().map_or(Value::Nothing, Value::Number),
        Json::String(text) => Value::string(text.as_str()),
        Json::Array(_) | Json::Object(_) => Value::json(payload.to_string()),
    }
}

/// What the connector says that it offers under a name: nothing of its own, which lets the platform's
/// usual follow-up of a bind succeed.
#[must_use]
pub fn metadata(name: &str) -> Value {
    Value::json(
        json!({
            "name": name, "description": "", "type": "Thing", "isSystemObject": false,
            "implementedShapes": [], "propertyDefinitions": {}, "serviceDefinitions": {},
            "eventDefinitions": {}
        })
        .to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(request: &Request) -> Result<Command, Refusal> {
        let own = OwnNames {
            member: MemberId::new("me"),
            hub: ThingName::new("Hub").unwrap(),
        };
        command(request, &own)
    }

    #[test]
    fn a_write_is_a_message_and_a_service_is_a_method() {
        assert_eq!(
            read(&Request::write("dev", "setpoint", Value::Number(3.5))),
            Ok(Command::Send {
                device: "dev".into(),
                body: json!({ "setpoint": 3.5 })
            })
        );
        assert_eq!(
            read(&Request::write("*SN-1", "on", Value::Boolean(true))),
            Ok(Command::Send {
                device: "SN-1".into(),
                body: json!({ "on": true })
            })
        );
        let params = InfoTable::one_row([("delay", Value::Integer(5))]);
        assert_eq!(
            read(&Request::call("dev", "reboot", Some(params.clone()))),
            Ok(Command::Invoke {
                device: "dev".into(),
                module: None,
                method: "reboot".into(),
                payload: json!({ "delay": 5 }),
            })
        );
        assert_eq!(
            read(&Request::call("dev", "cam::snap", None)),
            Ok(Command::Invoke {
                device: "dev".into(),
                module: Some("cam".into()),
                method: "snap".into(),
                payload: json!({}),
            })
        );
        let content = InfoTable::one_row([("_content_", Value::json(r#"{"a":1}"#))]);
        let Ok(Command::Invoke { payload, .. }) = read(&Request::call("dev", "m", Some(content)))
        else {
            panic!("a service with untyped parameters is a method")
        };
        assert_eq!(payload, json!({ "a": 1 }));
    }

    #[test]
    fn what_the_hub_cannot_do_is_refused_with_a_reason() {
        let status = |request: &Request| read(request).unwrap_err().status;
        let module = Request::write("dev", "cam::zoom", Value::Integer(1));
        assert!(read(&module).unwrap_err().reason.contains("module"));
        assert_eq!(
            status(&Request::read("dev", "temperature")),
            Status::METHOD_NOT_ALLOWED
        );
        assert_eq!(
            status(&Request::call("me", "Reboot", None)),
            Status::NOT_FOUND
        );
        assert_eq!(status(&Request::read("Hub", "x")), Status::NOT_FOUND);
        assert_eq!(
            status(&Request::call("dev", "cam::", None)),
            Status::BAD_REQUEST
        );
        let mut elsewhere = Request::call("dev", "m", None);
        elsewhere.entity_type = EntityType::USERS;
        assert_eq!(status(&elsewhere), Status::NOT_FOUND);
        assert_eq!(
            read(&Request::call("me", "GetMetadata", None)),
            Ok(Command::Edge(EdgeService::GetMetadata))
        );
    }
}
