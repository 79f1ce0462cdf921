//! Devices' identities in the hub.

use alwayson::{InfoTable, Status, Value};
use iothub::{Condition, Device, DeviceStatus, HubError};
use tokio::time::Instant;

use super::{
    super::{
        command::{Refusal, Registry},
        table::time,
    },
    Done, Failure, Hub,
    limit::{Repeat, Sort},
};

/// Carries out an action on a device's identity.
pub(super) async fn carry_out(
    hub: &Hub,
    action: Registry,
    device: &str,
    deadline: Instant,
) -> Result<Done, Failure> {
    let (gates, rest) = (&hub.gates, &hub.ways.registry);
    match action {
        Registry::Create if !hub.settings.create_devices => Err(Failure::Refused(Refusal {
            status: Status::FORBIDDEN,
            reason: "the connector is set not to create devices (iotHub.commands.createDevices)"
                .into(),
        })),
        Registry::Create => {
            let create = || rest.create_device(device);
            let made = gates.pass(Sort::Registry, Repeat::Always, deadline, create);
            match made.await {
                Ok(_) | Err(HubError::AlreadyExists { .. }) => Ok(Done::Nothing),
                Err(error) => Err(error.into()),
            }
        }
        Registry::Delete => {
            let any = Condition::Exists;
            let delete = || rest.delete_device(device, &any);
            // Repeated, it could remove a device that somebody has made anew in between.
            let gone = gates.pass(Sort::Registry, Repeat::IfNotTaken, deadline, delete);
            match gone.await {
                Ok(()) | Err(HubError::DeviceNotFound { .. }) => Ok(Done::Nothing),
                Err(error) => Err(error.into()),
            }
        }
        Registry::Describe => {
            let look = || rest.device(device);
            let found = gates.pass(Sort::Registry, Repeat::Always, deadline, look);
            Ok(Done::Table(described(&found.await?)))
        }
    }
}

/// A device as the Data Shape `AzureIotHubDeviceDataShape` has it. Its keys stay with the hub.
fn described(device: &Device) -> InfoTable {
    let status = match device.status {
        DeviceStatus::Enabled => "enabled",
        DeviceStatus::Disabled => "disabled",
    };
    let text = |text: Option<&str>| Value::string(text.unwrap_or_default());
    InfoTable::one_row([
        ("deviceId", text(Some(&device.device_id))),
        ("status", text(Some(status))),
        ("statusReason", text(device.status_reason.as_deref())),
        ("connectionState", text(device.connection_state.as_deref())),
        ("lastActivityTime", time(device.last_activity_time)),
        (
            "c2dMessageCount",
            Value::Integer(
                device
                    .cloud_to_device_message_count
                    .try_into()
                    .unwrap_or(i32::MAX),
            ),
        ),
        ("generationId", text(Some(&device.generation_id))),
        ("etag", text(Some(&device.etag))),
    ])
}
