//! Settings of what the platform asks of devices and of the hub.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The shortest and the longest that a message may wait for its device (Microsoft Learn, "Send
/// cloud-to-device messages from an IoT hub": at most two days; a minute is about the hub's own precision).
const EXPIRY: std::ops::RangeInclusive<u32> = 60..=172_800;

/// What the platform asks of devices and of the hub. Everything has a default.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Commands {
    /// Seconds that a message with a property's new value waits in the hub for a device that is not
    /// connected; then it is dropped. 60 to 172,800. Default: as the hub is set, which is an hour unless it
    /// was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 60, max = 172_800))]
    pub message_expiry_seconds: Option<u32>,
    /// Report on `ConnectionServicesHub`, as an `EdgeError`, each message that a device has refused or let
    /// expire. The connector then reads the hub's feedback, which other applications of the same hub may
    /// read as well: each record comes to one of them. Default: false.
    pub feedback: bool,
    /// Send property writes that wait for the same device as one message with several values. Only what
    /// waits already is put together; nothing is held back for it. Default: false, a message for each write.
    pub coalesce: bool,
    /// Seconds that the hub waits for a device that is not connected when a direct method is called. 0 to 20.
    /// Default: 0, the call fails at once.
    #[schemars(range(max = 20))]
    pub method_connect_timeout_seconds: u8,
    /// Seconds that a device may take to answer a direct method. 5 to 300, but never more than what is left of
    /// `thingworx.platformRequestTimeoutSeconds`. Default: all of that.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 5, max = 300))]
    pub method_response_timeout_seconds: Option<u16>,
    /// Create a device in the hub when ThingWorx asks for it with `CreateAzureIotDevice`, and when a Thing of this
    /// hub comes up whose device is missing there. Default: true.
    pub create_devices: bool,
}

impl Default for Commands {
    fn default() -> Self {
        Self {
            message_expiry_seconds: None,
            feedback: false,
            coalesce: false,
            method_connect_timeout_seconds: 0,
            method_response_timeout_seconds: None,
            create_devices: true,
        }
    }
}

impl Commands {
    /// What the schema alone cannot say, to whoever writes a settings file by hand.
    ///
    /// # Errors
    /// The field at fault, below `commands`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        let at = |field: &str, what: String| Err((field.to_owned(), what));
        match self.message_expiry_seconds {
            Some(seconds) if !EXPIRY.contains(&seconds) => {
                let (least, most) = EXPIRY.into_inner();
                return at("messageExpirySeconds", format!("must be {least} to {most}"));
            }
            _ => {}
        }
        if self.method_connect_timeout_seconds > 20 {
            return at("methodConnectTimeoutSeconds", "must be 0 to 20".into());
        }
        match self.method_response_timeout_seconds {
            Some(seconds) if !(5..=300).contains(&seconds) => {
                at("methodResponseTimeoutSeconds", "must be 5 to 300".into())
            }
            _ => Ok(()),
        }
    }
}
