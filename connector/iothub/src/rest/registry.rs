//! The identity registry.

use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::{
    DOCUMENT_MAX, HubRest,
    answer::{done, typed},
    condition::Condition,
    identity::Identity,
};
use crate::{HubError, instant, refusal::Subject};

/// Longest id, and what an id may have beside ASCII letters and digits. Source: Microsoft Learn,
/// "Understand the identity registry in your IoT hub".
const LONGEST: usize = 128;
const PUNCTUATION: &[u8] = b"-:.+%_#*?!(),=@;$'";

/// A device as the registry has it. Its keys are not kept: nothing here needs them.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Its id.
    pub device_id: String,
    /// Changes when a device is deleted and another one made of the same id.
    #[serde(default)]
    pub generation_id: String,
    /// Its version, for [`Condition::Unchanged`]: without quotes.
    #[serde(default)]
    pub etag: String,
    /// Whether it may connect.
    pub status: DeviceStatus,
    /// Why it may not, if somebody has said so.
    #[serde(default)]
    pub status_reason: Option<String>,
    /// Whether it is connected; the hub updates this with a delay, and only for MQTT and AMQP.
    #[serde(default)]
    pub connection_state: Option<String>,
    /// When it connected, received or sent something for the last time.
    #[serde(default, deserialize_with = "instant::optional")]
    pub last_activity_time: Option<Timestamp>,
    /// How many cloud-to-device messages wait for it; 50 are the most.
    #[serde(default)]
    pub cloud_to_device_message_count: u32,
}

/// Whether a device may connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceStatus {
    /// It may.
    Enabled,
    /// It may not.
    Disabled,
}

/// How many devices the registry has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RegistryStatistics {
    /// All.
    pub total_device_count: u64,
    /// Those that may connect.
    pub enabled_device_count: u64,
    /// Those that may not.
    pub disabled_device_count: u64,
}

fn named(device: &str) -> Result<(), HubError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || PUNCTUATION.contains(&b);
    if device.len() <= LONGEST && device.bytes().all(allowed) {
        return Ok(());
    }
    Err(HubError::Settings {
        what: format!(
            "{device:?} cannot be the id of a device at the hub: at most {LONGEST} letters and digits \
             of ASCII and -:.+%_#*?!(),=@;$'"
        ),
    })
}

impl HubRest {
    /// Makes a device that may connect, with keys made by the hub: `PUT /devices/{device}`. The policy
    /// needs the right RegistryWrite. Source: Microsoft Learn, "Devices - Create Or Update Identity".
    ///
    /// # Errors
    /// [`HubError::AlreadyExists`] if the hub has a device of that id, also if an earlier call whose
    /// answer was lost has made it: a caller that wants the device to be there takes it for success.
    /// [`HubError::Settings`] if the hub takes no such id; any other [`HubError`]. Where
    /// [`HubError::taken`] is unknown, the call may be repeated.
    pub async fn create_device(&self, device: &str) -> Result<Device, HubError> {
        let identity = Identity::new(device, None)?;
        named(device)?;
        let subject = Subject {
            what: "the creation of a device",
            id: device,
            right: "RegistryWrite",
        };
        // Without `If-Match` the hub creates, and never changes what is there; without `authentication`
        // it makes keys. So Microsoft's Node SDK writes it.
        let body = json!({"deviceId": device, "status": "enabled"});
        let request = self.request_with(Method::PUT, &identity.registry_path(), &body);
        self.exchange(request, subject, DOCUMENT_MAX, typed).await
    }

    /// Removes a device with its modules, its twin and what waits for it: `DELETE /devices/{device}`.
    /// The policy needs the right RegistryWrite. Source: Microsoft Learn, "Devices - Delete Identity".
    ///
    /// # Errors
    /// [`HubError::DeviceNotFound`] if there is none, also if an earlier call whose answer was lost has
    /// removed it. [`HubError::Changed`] if it is not of the version in `condition`; any other
    /// [`HubError`]. Repeating a call whose outcome is unknown may remove a device that somebody has
    /// made anew in between, unless `condition` names a version.
    pub async fn delete_device(&self, device: &str, condition: &Condition) -> Result<(), HubError> {
        let identity = Identity::new(device, None)?;
        let subject = Subject {
            what: "the deletion of a device",
            id: device,
            right: "RegistryWrite",
        };
        let request = self.request(Method::DELETE, &identity.registry_path());
        let request = condition.apply(request)?;
        self.exchange(request, subject, DOCUMENT_MAX, done).await
    }

    /// Looks a device up: `GET /devices/{device}`. The policy needs the right RegistryRead. Source:
    /// Microsoft Learn, "Devices - Get Identity".
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    pub async fn device(&self, device: &str) -> Result<Device, HubError> {
        let identity = Identity::new(device, None)?;
        let subject = Subject {
            what: "looking a device up",
            id: device,
            right: "RegistryRead",
        };
        let request = self.request(Method::GET, &identity.registry_path());
        self.exchange(request, subject, DOCUMENT_MAX, typed).await
    }

    /// Counts the devices: `GET /statistics/devices`. The policy needs the right RegistryRead. The hub
    /// counts with a delay. Source: Microsoft Learn, "Statistics - Get Device Statistics".
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    pub async fn registry_statistics(&self) -> Result<RegistryStatistics, HubError> {
        let subject = Subject {
            what: "counting the devices",
            id: "",
            right: "RegistryRead",
        };
        let request = self.request(Method::GET, "/statistics/devices");
        self.exchange(request, subject, DOCUMENT_MAX, typed).await
    }
}
