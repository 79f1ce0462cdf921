//! Who speaks MQTT to the hub: a device, or a module of one.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Longest id. Source: Microsoft Learn, "Identity registry".
const MAX_ID: usize = 128;

/// Characters that ids may have beside ASCII letters and digits (same source).
const ID_PUNCTUATION: &[u8] = b"-:.+%_#*?!(),=@;$'";

const PATH_SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// An id that the registry refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid identity: 1 to 128 ASCII letters, digits and -:.+%_#*?!(),=@;$'")]
pub struct BadIdentity(pub String);

/// A device, or a module of one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    device: String,
    module: Option<String>,
}

impl Identity {
    /// A device.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn device(device: &str) -> Result<Self, BadIdentity> {
        Self::new(device, None)
    }

    /// A device or a module.
    ///
    /// # Errors
    /// [`BadIdentity`].
    pub fn new(device: &str, module: Option<&str>) -> Result<Self, BadIdentity> {
        for id in [Some(device), module].into_iter().flatten() {
            let allowed = |b: u8| b.is_ascii_alphanumeric() || ID_PUNCTUATION.contains(&b);
            if id.is_empty() || id.len() > MAX_ID || !id.bytes().all(allowed) {
                return Err(BadIdentity(id.to_owned()));
            }
        }
        Ok(Self {
            device: device.to_owned(),
            module: module.map(str::to_owned),
        })
    }

    /// The device's id.
    #[must_use]
    pub fn device_id(&self) -> &str {
        &self.device
    }

    /// The module's id.
    #[must_use]
    pub fn module_id(&self) -> Option<&str> {
        self.module.as_deref()
    }

    /// `devices/{d}` or `devices/{d}/modules/{m}`, ids as they are: the form of MQTT topics and of
    /// decoded signatures.
    #[must_use]
    pub fn path(&self) -> String {
        match &self.module {
            None => format!("devices/{}", self.device),
            Some(module) => format!("devices/{}/modules/{module}", self.device),
        }
    }

    /// `devices/{d}` or `devices/{d}/modules/{m}`, ids percent-encoded: the form of addresses.
    #[must_use]
    pub fn encoded_path(&self) -> String {
        let encode = |id: &str| utf8_percent_encode(id, PATH_SEGMENT).to_string();
        match &self.module {
            None => format!("devices/{}", encode(&self.device)),
            Some(module) => format!(
                "devices/{}/modules/{}",
                encode(&self.device),
                encode(module)
            ),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.module {
            None => f.write_str(&self.device),
            Some(module) => write!(f, "{}/{module}", self.device),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_ids_that_the_hub_takes() {
        assert!(Identity::device("a-:.+%_#*?!(),=@;$'Z9").is_ok());
        assert!(Identity::device(&"x".repeat(128)).is_ok());
        for bad in ["", "a b", "a/b", "é", &"x".repeat(129)] {
            assert!(Identity::device(bad).is_err(), "{bad}");
        }
        assert!(Identity::new("d", Some("m/n")).is_err());
    }

    #[test]
    fn writes_both_paths() {
        let identity = Identity::new("d#1", Some("m")).unwrap();
        assert_eq!(identity.path(), "devices/d#1/modules/m");
        assert_eq!(identity.encoded_path(), "devices/d%231/modules/m");
    }
}
