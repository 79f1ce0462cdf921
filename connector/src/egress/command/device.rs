//! What the platform asks of a device: writes and reads of properties, services.

use alwayson::{Request, Status};
use serde_json::{Map, Value as Json, json};

use super::{
    Command, Refused, bad,
    params::object,
    refuse,
    twin::{TwinChange, TwinOf, TwinPart},
};

/// One change of a device, in the order of the request.
#[derive(Debug, Clone, PartialEq)]
pub enum Change {
    /// A cloud-to-device message `{"name": value}`.
    Message(Map<String, Json>),
    /// A change of a twin.
    Twin(TwinChange),
}

/// `module::name`, or a name.
pub(super) fn split(device: &str, name: &str) -> (TwinOf, String) {
    let (module, name) = match name.split_once("::") {
        Some((module, name)) => (Some(module.to_owned()), name),
        None => (None, name),
    };
    let twin = TwinOf {
        device: device.to_owned(),
        module,
    };
    (twin, name.to_owned())
}

/// A property write.
pub(super) fn write(device: &str, request: &Request) -> Refused<Command> {
    let changes = object(request.params.as_ref())
        .into_iter()
        .map(|(property, value)| change(device, property, value))
        .collect::<Refused<Vec<_>>>()?;
    if changes.is_empty() {
        return bad("the request holds no property value");
    }
    let device = device.to_owned();
    Ok(Command::Write { device, changes })
}

fn change(device: &str, property: String, value: Json) -> Refused<Change> {
    let (twin, name) = split(device, &property);
    if let Some(part) = TwinPart::named(&name) {
        return TwinChange::read(twin, part, &property, value).map(Change::Twin);
    }
    if twin.module.is_some() {
        let what = format!(
            "property {property} belongs to a module, and IoT Hub sends messages to devices only; use a \
             remote service module::method or the property module::twinDesired"
        );
        return refuse(Status::METHOD_NOT_ALLOWED, what);
    }
    Ok(Change::Message(Map::from_iter([(property, value)])))
}

/// A property read.
pub(super) fn read(device: &str, request: &Request) -> Refused<Command> {
    let property = request.target.clone();
    if matches!(property.as_str(), "" | "*") {
        let what = format!(
            "the properties of device {device} cannot be read all at once; read twinReported, or one by its \
             name"
        );
        return refuse(Status::METHOD_NOT_ALLOWED, what);
    }
    let (twin, name) = split(device, &property);
    Ok(Command::Read {
        part: TwinPart::named(&name),
        twin,
        name,
        property,
    })
}

/// A service: a direct method.
pub(super) fn invoke(device: &str, request: &Request) -> Refused<Command> {
    let (TwinOf { device, module }, method) = split(device, &request.target);
    if method.is_empty() || module.as_deref() == Some("") {
        return bad(format!("{:?} names no method", request.target));
    }
    let payload = match &request.params {
        None => json!({}),
        params => Json::Object(object(params.as_ref())),
    };
    Ok(Command::Invoke {
        device,
        module,
        method,
        payload,
    })
}
