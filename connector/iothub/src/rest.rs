//! The hub's REST face: direct methods.

use std::time::Duration;

use serde_json::Value;

use crate::{HubConnectionString, HubError, HubTls};

/// A call of a direct method.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodCall {
    /// The device.
    pub device: String,
    /// A module of the device.
    pub module: Option<String>,
    /// Name of the method.
    pub name: String,
    /// What the method gets; at most 128 KiB as JSON.
    pub payload: Value,
    /// How long the hub waits for the device's answer. In whole seconds, rounded up; 5 to 300.
    pub response_timeout: Duration,
    /// How long the hub waits for a disconnected device. In whole seconds, rounded up; 0 to 300.
    pub connect_timeout: Duration,
}

/// What the device's method answered.
#[derive(Debug, Clone, PartialEq)]
pub struct MethodAnswer {
    /// The method's own status; means what the device's program says it means.
    pub status: i32,
    /// What the method returned.
    pub payload: Value,
}

/// How the hub's REST face is reached.
#[derive(Debug, Clone)]
pub struct HubRestSettings {
    /// Policy that signs the requests.
    pub connection: HubConnectionString,
    /// How the hub's certificate is checked.
    pub tls: HubTls,
    /// `host:port` to connect to instead of the hub's host at port 443. The hub's host name is still
    /// what the certificate must show.
    pub address: Option<String>,
}

/// The hub's REST face. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HubRest {
    _settings: HubRestSettings,
}

impl HubRest {
    /// Prepares; connects on first use.
    ///
    /// # Errors
    /// [`HubError::Settings`] if the certificates to trust cannot be read.
    pub fn new(settings: HubRestSettings) -> Result<Self, HubError> {
        Ok(Self {
            _settings: settings,
        })
    }

    /// Calls a direct method and waits for the device's answer.
    ///
    /// # Errors
    /// [`HubError`]; [`HubError::taken`] tells whether the device may have run it.
    pub async fn invoke(&self, _call: &MethodCall) -> Result<MethodAnswer, HubError> {
        Err(HubError::NotSent {
            why: "pending".into(),
        })
    }
}
