//! What `amqp:link:redirect` says. Pure.
//!
//! The keys are those of AMQP 1.0, 2.8.17, with strings or symbols for values: `hostname` (for Open and
//! TLS), `network-host`, `port` and `address`. IoT Hub's address reads
//! `amqps://{namespace}:5671/{entity}/$management`, which is where the entity's name stands.

use fe2o3_amqp_types::{
    definitions::Error,
    primitives::{Symbol, Value},
};

use super::{NODE, not_redirected};
use crate::HubError;

/// AMQP over TLS.
const AMQPS: u16 = 5671;

/// Where a redirect leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Host name of the Event Hubs namespace, in lower case. `network-host` is not looked at: the
    /// portal's connection string has no such thing, and clients that only have that one find their way.
    pub(super) host: String,
    /// The port, if it is another than that of AMQP over TLS.
    pub(super) port: Option<u16>,
    /// Event Hubs-compatible name.
    pub(super) entity: String,
}

/// Reads where a redirect leads.
pub(super) fn target(error: &Error) -> Result<Target, HubError> {
    let incomplete = |what: &str| not_redirected(&format!("its redirect {what}"));
    let address = field(error, "address").ok_or_else(|| incomplete("has no address"))?;
    let (authority, path) = split(&address).ok_or_else(|| incomplete("has a broken address"))?;
    let entity = entity(path).ok_or_else(|| incomplete("names no entity"))?;
    let (addressed, port) = match authority.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (authority, None),
    };
    let host = field(error, "hostname").unwrap_or_else(|| addressed.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(incomplete("names no host"));
    }
    let port = field(error, "port").or_else(|| port.map(str::to_owned));
    let port = port
        .map(|port| port.parse::<u16>())
        .transpose()
        .map_err(|_| incomplete("has a broken port"))?;
    Ok(Target {
        host: host.to_ascii_lowercase(),
        port: port.filter(|port| *port != AMQPS),
        entity: entity.to_owned(),
    })
}

fn field(error: &Error, name: &str) -> Option<String> {
    match error.info.as_ref()?.get(&Symbol::from(name))? {
        Value::String(text) => Some(text.clone()),
        Value::Symbol(text) => Some(text.to_string()),
        Value::Ushort(number) => Some(number.to_string()),
        Value::Uint(number) => Some(number.to_string()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Authority and path of an address.
fn split(address: &str) -> Option<(&str, &str)> {
    let (_, rest) = address.split_once("://")?;
    rest.split_once('/')
}

/// The entity's name: what stands before the node that was asked for.
fn entity(path: &str) -> Option<&str> {
    let (name, node) = path.trim_matches('/').rsplit_once('/')?;
    let plain = |c: char| !c.is_whitespace() && !matches!(c, '/' | '?' | '#' | ';');
    (node.eq_ignore_ascii_case(NODE) && !name.is_empty() && name.chars().all(plain)).then_some(name)
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp_types::{definitions::LinkError, primitives::OrderedMap};

    use super::*;

    fn read(fields: &[(&str, Value)]) -> Result<Target, HubError> {
        let mut info = OrderedMap::new();
        for (name, value) in fields {
            info.insert(Symbol::from(*name), value.clone());
        }
        target(&Error::new(LinkError::Redirect, None, Some(info)))
    }

    fn text(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    #[test]
    fn the_hubs_redirect_is_read() {
        let address =
            text("amqps://Iothub-NS-1.servicebus.windows.net:5671/iothub-ehub-x/$management");
        let hostname = text("Iothub-NS-1.servicebus.windows.net");
        let expected = Target {
            host: "iothub-ns-1.servicebus.windows.net".into(),
            port: None,
            entity: "iothub-ehub-x".into(),
        };
        let whole = read(&[
            ("hostname", hostname.clone()),
            ("network-host", text("elsewhere")),
            ("port", Value::Ushort(5671)),
            ("address", address.clone()),
        ]);
        assert_eq!(whole.unwrap(), expected);
        assert_eq!(
            read(&[("address", address)]).unwrap(),
            expected,
            "the address says it all"
        );
    }

    #[test]
    fn a_port_of_its_own_is_kept() {
        for (port, address) in [
            (Some(text("5672")), "amqps://h/e/$Management"),
            (Some(Value::Uint(5672)), "amqps://h/e/$management"),
            (None, "amqps://h:5672/e/$management/"),
        ] {
            let mut fields = vec![("address", text(address))];
            fields.extend(port.map(|port| ("port", port)));
            assert_eq!(read(&fields).unwrap().port, Some(5672), "{address}");
        }
    }

    #[test]
    fn a_redirect_that_leads_nowhere_is_said() {
        for fields in [
            vec![],
            vec![("hostname", text("h"))],
            vec![("address", text("h/e/$management"))],
            vec![("address", text("amqps://h"))],
            vec![("address", text("amqps://h/$management"))],
            vec![("address", text("amqps://h/e"))],
            vec![("address", text("amqps://h/a/b/$management"))],
            vec![("address", text("amqps://h/e;EntityPath=f/$management"))],
            vec![("address", text("amqps://h:port/e/$management"))],
            vec![("address", text("amqps:///e/$management"))],
            vec![
                ("address", text("amqps://h/e/$management")),
                ("hostname", text("h;x")),
            ],
            vec![
                ("address", text("amqps://h/e/$management")),
                ("port", text("70000")),
            ],
        ] {
            let error = read(&fields).unwrap_err();
            assert!(
                matches!(error, HubError::Unexpected { .. }),
                "{fields:?}: {error}"
            );
        }
    }
}
