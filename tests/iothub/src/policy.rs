//! Shared access policies of the hub: a name, a key, and what it may do.

use std::str::FromStr;

use crate::sas::{KeyForm, Sas, SasError, SharedKey};

/// One of the rights that a policy can hold. Source: Microsoft Learn, "IoT Hub permissions".
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Read identities.
    RegistryRead = 1,
    /// Change identities; includes reading them.
    RegistryWrite = 2,
    /// The service faces: telemetry, cloud-to-device messages, methods, twins.
    ServiceConnect = 4,
    /// The device faces.
    DeviceConnect = 8,
}

/// A set of rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// All of them, as `iothubowner` has.
    pub const ALL: Self = Self(15);

    /// With one more.
    #[must_use]
    pub fn with(self, right: Right) -> Self {
        let implied = match right {
            Right::RegistryWrite => Right::RegistryRead as u8,
            Right::RegistryRead | Right::ServiceConnect | Right::DeviceConnect => 0,
        };
        Self(self.0 | right as u8 | implied)
    }

    /// Whether `right` is among them.
    #[must_use]
    pub fn has(self, right: Right) -> bool {
        self.0 & right as u8 != 0
    }
}

/// Why a policy's text is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Not three parts.
    #[error("a policy is written name:base64key:rights")]
    Form,
    /// The key is not base64.
    #[error("the key of policy {0:?} is not base64")]
    Key(String),
    /// A right that does not exist.
    #[error(
        "policy {name:?}: no right {right:?}; there are RegistryRead, RegistryWrite, ServiceConnect, DeviceConnect and all"
    )]
    Right {
        /// The policy.
        name: String,
        /// What was written.
        right: String,
    },
}

impl FromStr for Rights {
    type Err = String;

    /// Names joined by `+`, or `all`.
    fn from_str(text: &str) -> Result<Self, String> {
        text.split('+').try_fold(Self::default(), |rights, name| {
            Ok(match name {
                "all" => Self::ALL,
                "RegistryRead" => rights.with(Right::RegistryRead),
                "RegistryWrite" => rights.with(Right::RegistryWrite),
                "ServiceConnect" => rights.with(Right::ServiceConnect),
                "DeviceConnect" => rights.with(Right::DeviceConnect),
                other => return Err(other.to_owned()),
            })
        })
    }
}

/// A shared access policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Its name: `SharedAccessKeyName` of a connection string.
    pub name: String,
    /// Its key.
    pub key: SharedKey,
    /// What it may do.
    pub rights: Rights,
}

impl FromStr for Policy {
    type Err = PolicyError;

    /// `name:base64key:rights`.
    fn from_str(text: &str) -> Result<Self, PolicyError> {
        let mut parts = text.splitn(3, ':');
        let (Some(name), Some(key), Some(rights)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(PolicyError::Form);
        };
        if name.is_empty() {
            return Err(PolicyError::Form);
        }
        Ok(Self {
            name: name.to_owned(),
            key: SharedKey::new(key).map_err(|_| PolicyError::Key(name.to_owned()))?,
            rights: rights.parse().map_err(|right| PolicyError::Right {
                name: name.to_owned(),
                right,
            })?,
        })
    }
}

/// All policies of the hub.
#[derive(Debug, Clone)]
pub struct Policies(pub Vec<Policy>);

impl Policies {
    /// The policy of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Policy> {
        self.0.iter().find(|policy| policy.name == name)
    }

    /// Checks a policy's signature for `resource` and that the policy has `right`.
    ///
    /// # Errors
    /// Why not.
    pub fn verify(
        &self,
        sas: &Sas,
        form: KeyForm,
        now: i64,
        resource: &str,
        right: Right,
    ) -> Result<(), SasError> {
        let policy = sas
            .policy()
            .and_then(|name| self.get(name))
            .ok_or(SasError::Policy)?;
        sas.verify([&policy.key], form, now, resource)?;
        if policy.rights.has(right) {
            Ok(())
        } else {
            Err(SasError::Right)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sas::sign;

    #[test]
    fn reads_the_written_form() {
        let policy: Policy = "registryReadWrite:AAAA:RegistryWrite+RegistryRead"
            .parse()
            .unwrap();
        assert_eq!(policy.name, "registryReadWrite");
        assert!(policy.rights.has(Right::RegistryRead));
        assert!(!policy.rights.has(Right::ServiceConnect));
        assert_eq!("x".parse::<Policy>().unwrap_err(), PolicyError::Form);
        assert!(matches!(
            "x:AAAA:Fly".parse::<Policy>().unwrap_err(),
            PolicyError::Right { .. }
        ));
        assert!(matches!(
            "x:?:all".parse::<Policy>().unwrap_err(),
            PolicyError::Key(_)
        ));
    }

    #[test]
    fn a_right_signature_of_the_wrong_policy_is_refused() {
        let policies = Policies(vec!["service:AAAA:ServiceConnect".parse().unwrap()]);
        let key = SharedKey::new("AAAA").unwrap();
        let check = |name, right| {
            let text = sign("h", &key, KeyForm::Decoded, 10, Some(name));
            policies.verify(
                &Sas::parse(&text).unwrap(),
                KeyForm::Decoded,
                0,
                "h/devices",
                right,
            )
        };
        assert_eq!(check("service", Right::ServiceConnect), Ok(()));
        assert_eq!(check("service", Right::RegistryRead), Err(SasError::Right));
        assert_eq!(check("other", Right::ServiceConnect), Err(SasError::Policy));
    }
}
