//! The two connection strings of a hub.
//!
//! They carry the same policy and key but are signed differently ([`crate::sas`]): the portal's page
//! *Shared access policies* shows the hub's own, the page *Built-in endpoints* the Event
//! Hubs-compatible one.

use std::{fmt, str::FromStr};

use crate::key::SecretKey;

/// Why a connection string cannot be used. Names parts, never their values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// A needed part is not there.
    #[error("the connection string has no {part}; it must read {form}")]
    Missing {
        /// Name of the part.
        part: &'static str,
        /// What a whole one looks like.
        form: &'static str,
    },
    /// A needed part has no value.
    #[error("{part} is empty in the connection string")]
    Empty {
        /// Name of the part.
        part: &'static str,
    },
    /// A part is there twice.
    #[error("the connection string has {part} twice")]
    Twice {
        /// Name of the part.
        part: &'static str,
    },
    /// A part that this program does not know.
    #[error(
        "the connection string has a part that is not known here: {name:?}; it must read {form}"
    )]
    Unknown {
        /// Its name.
        name: String,
        /// What a whole one looks like.
        form: &'static str,
    },
    /// A piece without a name.
    #[error(
        "piece {place} of the connection string is not of the form Name=Value; it must read {form}"
    )]
    NotNamed {
        /// Which piece, from 1.
        place: usize,
        /// What a whole one looks like.
        form: &'static str,
    },
    /// A part whose presence shows that the string is for something else.
    #[error("the connection string has {part}: {why}")]
    Unsuitable {
        /// Name of the part.
        part: &'static str,
        /// What to use instead.
        why: &'static str,
    },
    /// A part whose value cannot be right.
    #[error("{part} of the connection string {why}")]
    Invalid {
        /// Name of the part.
        part: &'static str,
        /// What is wrong.
        why: &'static str,
    },
}

const HUB_FORM: &str = "HostName=…;SharedAccessKeyName=…;SharedAccessKey=…";
const EVENTS_FORM: &str = "Endpoint=sb://…/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=…";

/// A shared access policy of a hub, at the hub's own host:
/// `HostName=…;SharedAccessKeyName=…;SharedAccessKey=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubConnectionString {
    /// Host name of the hub, in lower case.
    pub host: String,
    /// Name of the policy; it needs the right *Service connect*.
    pub policy: String,
    /// Its key.
    pub key: SecretKey,
}

/// A shared access policy of a hub, at its built-in endpoint:
/// `Endpoint=sb://…/;SharedAccessKeyName=…;SharedAccessKey=…;EntityPath=…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventHubsConnectionString {
    /// Host name of the Event Hubs namespace, in lower case.
    pub namespace: String,
    /// Name of the policy; it needs the right *Service connect*.
    pub policy: String,
    /// Its key.
    pub key: SecretKey,
    /// Event Hubs-compatible name of the hub.
    pub entity: String,
}

impl FromStr for HubConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = Parts::read(text, HUB_FORM)?;
        for (part, why) in [
            (
                "DeviceId",
                "it is a device's; use that of a shared access policy with Service connect",
            ),
            (
                "GatewayHostName",
                "service programs talk to the hub itself; leave this part out",
            ),
            (
                "SharedAccessSignature",
                "a signature runs out and cannot be renewed; use SharedAccessKey",
            ),
            (
                "Endpoint",
                "it is that of the built-in endpoint; here the hub's own is needed (HostName=…)",
            ),
        ] {
            parts.refuse(part, why)?;
        }
        parts.only(&["HostName", "SharedAccessKeyName", "SharedAccessKey"])?;
        let host = host("HostName", parts.get("HostName")?)?;
        let (policy, key) = parts.policy()?;
        Ok(Self { host, policy, key })
    }
}

impl FromStr for EventHubsConnectionString {
    type Err = ConnectionStringError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parts = Parts::read(text, EVENTS_FORM)?;
        for (part, why) in [
            (
                "HostName",
                "it is the hub's own; here that of the page Built-in endpoints is needed",
            ),
            (
                "SharedAccessSignature",
                "a signature runs out and cannot be renewed; use SharedAccessKey",
            ),
        ] {
            parts.refuse(part, why)?;
        }
        // The emulator's marker is let through: it says nothing that a custom endpoint does not.
        parts.only(&[
            "Endpoint",
            "SharedAccessKeyName",
            "SharedAccessKey",
            "EntityPath",
            "UseDevelopmentEmulator",
        ])?;
        let endpoint = parts.get("Endpoint")?;
        let rest = endpoint.split_once("://").filter(|(scheme, _)| {
            ["sb", "amqps", "amqp"]
                .iter()
                .any(|known| scheme.eq_ignore_ascii_case(known))
        });
        let Some((_, authority)) = rest else {
            return Err(ConnectionStringError::Invalid {
                part: "Endpoint",
                why: "must begin with sb://",
            });
        };
        // A port says nothing either: the SDK takes 5671 unless told by a custom endpoint.
        let authority = authority.split('/').next().unwrap_or_default();
        let name = authority
            .split_once(':')
            .map_or(authority, |(name, _)| name);
        let namespace = host("Endpoint", name)?;
        let (policy, key) = parts.policy()?;
        let entity = parts.get("EntityPath")?.to_owned();
        if entity.contains(['/', '?', '#']) || entity.contains(char::is_whitespace) {
            return Err(ConnectionStringError::Invalid {
                part: "EntityPath",
                why: "must be a plain name, the Event Hubs-compatible name of the hub",
            });
        }
        Ok(Self {
            namespace,
            policy,
            key,
            entity,
        })
    }
}

impl EventHubsConnectionString {
    /// The whole string again, with the key, for a library that takes only that.
    pub(crate) fn expose(&self) -> String {
        let Self {
            namespace,
            policy,
            key,
            entity,
        } = self;
        let key = key.expose();
        format!(
            "Endpoint=sb://{namespace}/;SharedAccessKeyName={policy};SharedAccessKey={key};\
             EntityPath={entity}"
        )
    }
}

/// Host names are compared without case; what else they hold is the resolver's affair, but nothing that
/// could lead a URL astray.
fn host(part: &'static str, name: &str) -> Result<String, ConnectionStringError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if name.is_empty() || !name.chars().all(plain) {
        let why = "must hold a plain host name";
        return Err(ConnectionStringError::Invalid { part, why });
    }
    Ok(name.to_ascii_lowercase())
}

/// The parts of a connection string. Names are compared without case, as Microsoft's libraries do.
pub struct Parts<'a> {
    form: &'static str,
    parts: Vec<(&'a str, &'a str)>,
}

impl fmt::Debug for Parts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.parts.iter().map(|(name, _)| name))
            .finish()
    }
}

impl<'a> Parts<'a> {
    /// Takes a connection string apart. `form` is what a whole one looks like, for errors.
    ///
    /// # Errors
    /// [`ConnectionStringError::NotNamed`].
    pub fn read(text: &'a str, form: &'static str) -> Result<Self, ConnectionStringError> {
        let mut parts = Vec::new();
        for (place, piece) in text.trim().split(';').enumerate() {
            let piece = piece.trim();
            if piece.is_empty() {
                continue;
            }
            // A key ends in '=': only the first one divides. A piece without one may be part of a key,
            // so it is told by its place.
            let Some((name, value)) = piece.split_once('=') else {
                return Err(ConnectionStringError::NotNamed {
                    place: place + 1,
                    form,
                });
            };
            parts.push((name.trim(), value.trim()));
        }
        Ok(Self { form, parts })
    }

    fn values(&self, part: &'static str) -> impl Iterator<Item = &'a str> {
        self.parts
            .iter()
            .filter(move |(name, _)| name.eq_ignore_ascii_case(part))
            .map(|(_, value)| *value)
    }

    /// The value of a part that is needed.
    ///
    /// # Errors
    /// If it is missing, empty or there twice.
    pub fn get(&self, part: &'static str) -> Result<&'a str, ConnectionStringError> {
        self.find(part)?.ok_or(ConnectionStringError::Missing {
            part,
            form: self.form,
        })
    }

    /// The value of a part that may be left out.
    ///
    /// # Errors
    /// If it is empty or there twice.
    pub fn find(&self, part: &'static str) -> Result<Option<&'a str>, ConnectionStringError> {
        let mut values = self.values(part);
        let Some(value) = values.next() else {
            return Ok(None);
        };
        if values.next().is_some() {
            return Err(ConnectionStringError::Twice { part });
        }
        if value.is_empty() {
            return Err(ConnectionStringError::Empty { part });
        }
        Ok(Some(value))
    }

    fn policy(&self) -> Result<(String, SecretKey), ConnectionStringError> {
        let policy = self.get("SharedAccessKeyName")?.to_owned();
        let key = self.get("SharedAccessKey")?;
        if !crate::sas::is_key(key) {
            let why = "is not base64; copy it again from the portal";
            return Err(ConnectionStringError::Invalid {
                part: "SharedAccessKey",
                why,
            });
        }
        Ok((policy, SecretKey::new(key)))
    }

    /// A part whose presence shows that the string is for something else.
    ///
    /// # Errors
    /// [`ConnectionStringError::Unsuitable`] if it is there.
    pub fn refuse(
        &self,
        part: &'static str,
        why: &'static str,
    ) -> Result<(), ConnectionStringError> {
        match self.values(part).next() {
            Some(_) => Err(ConnectionStringError::Unsuitable { part, why }),
            None => Ok(()),
        }
    }

    /// Nothing but these parts.
    ///
    /// # Errors
    /// [`ConnectionStringError::Unknown`].
    pub fn only(&self, known: &[&str]) -> Result<(), ConnectionStringError> {
        for (name, _) in &self.parts {
            if !known.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                let name = shown(name);
                return Err(ConnectionStringError::Unknown {
                    name,
                    form: self.form,
                });
            }
        }
        Ok(())
    }
}

/// A name as it may be shown. A key that was torn apart by a stray `;` looks like a name: what is not
/// made of letters alone, or is long, is not shown.
fn shown(name: &str) -> String {
    if name.len() <= 32 && name.chars().all(|c| c.is_ascii_alphabetic()) {
        name.to_owned()
    } else {
        "…".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "c2VjcmV0LXNlY3JldC1zZWNyZXQ=";

    fn hub(text: &str) -> Result<HubConnectionString, ConnectionStringError> {
        text.replace("KEY", KEY).parse()
    }

    fn events(text: &str) -> Result<EventHubsConnectionString, ConnectionStringError> {
        text.replace("KEY", KEY).parse()
    }

    #[test]
    fn both_forms_are_read() {
        let parsed = hub(
            " HostName=My-Hub.azure-devices.net;SharedAccessKeyName=service;SharedAccessKey=KEY\n",
        )
        .unwrap();
        assert_eq!(parsed.host, "my-hub.azure-devices.net");
        assert_eq!(parsed.policy, "service");
        assert_eq!(parsed.key.expose(), KEY);

        for endpoint in [
            "sb://NS.servicebus.windows.net/",
            "sb://ns.servicebus.windows.net:5671",
        ] {
            let parsed = events(&format!(
                "endpoint={endpoint};SharedAccessKeyName=service;SharedAccessKey=KEY;EntityPath=hub-1;"
            ))
            .unwrap();
            assert_eq!(parsed.namespace, "ns.servicebus.windows.net");
            assert_eq!(parsed.entity, "hub-1");
            let again: EventHubsConnectionString = parsed.expose().parse().unwrap();
            assert_eq!(again, parsed);
        }
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        for (text, says) in [
            ("", "no HostName"),
            ("HostName=h;SharedAccessKey=KEY", "no SharedAccessKeyName"),
            ("HostName=h;SharedAccessKeyName=p", "no SharedAccessKey;"),
            (
                "HostName=;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "HostName is empty",
            ),
            (
                "HostName=h;HostName=i;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "HostName twice",
            ),
            (
                "HostName=h/x;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "plain host name",
            ),
            (
                "HostName=h;SharedAccessKeyName=p;SharedAccessKey=!KEY",
                "not base64",
            ),
            (
                "HostName=h;DeviceId=d;SharedAccessKey=KEY",
                "it is a device's",
            ),
            (
                "HostName=h;SharedAccessKeyName=p;SharedAccessKey=KEY;GatewayHostName=g",
                "leave this part",
            ),
            ("HostName=h;SharedAccessSignature=KEY", "cannot be renewed"),
            ("HostName=h;Colour=red;SharedAccessKey=KEY", "\"Colour\""),
            ("HostName=h;SharedAccessKeyName=p;KEY", "\"…\""),
            ("HostName=h;SharedAccessKeyName=p;secretsecret", "piece 3"),
            (
                "Endpoint=sb://n/;SharedAccessKeyName=p;SharedAccessKey=KEY;EntityPath=e",
                "hub's own",
            ),
        ] {
            let error = hub(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(
                !error.contains(&KEY[..10]) && !error.contains("secretsecret"),
                "{error}"
            );
        }
        for (text, says) in [
            (
                "Endpoint=sb://n/;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "no EntityPath",
            ),
            (
                "Endpoint=https://n/;SharedAccessKeyName=p;SharedAccessKey=KEY;EntityPath=e",
                "sb://",
            ),
            (
                "Endpoint=sb:///;SharedAccessKeyName=p;SharedAccessKey=KEY;EntityPath=e",
                "plain host",
            ),
            (
                "Endpoint=sb://n/;SharedAccessKeyName=p;SharedAccessKey=KEY;EntityPath=e/f",
                "plain name",
            ),
            (
                "HostName=h;SharedAccessKeyName=p;SharedAccessKey=KEY",
                "Built-in endpoints",
            ),
        ] {
            let error = events(text).unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
            assert!(!error.contains(&KEY[..10]), "{error}");
        }
    }

    #[test]
    fn debug_hides_the_key() {
        let parsed = hub("HostName=h;SharedAccessKeyName=p;SharedAccessKey=KEY").unwrap();
        assert!(!format!("{parsed:?}").contains(&KEY[..10]));
        assert!(
            !format!("{:?}", Parts::read(&format!("a={KEY}"), "").unwrap()).contains(&KEY[..10])
        );
    }
}
