//! Stand-in for an Azure IoT Hub, as far as a connector and the devices behind it meet one.
//!
//! Four faces share one [`hub::Hub`]: MQTT for devices, AMQP for services (cloud-to-device messages),
//! Event Hubs-compatible AMQP for readers of telemetry, and HTTPS for registry, twins and direct
//! methods. Microsoft's SDKs work against them unchanged (`sdk/`). A fifth face, [`control`], is no
//! part of IoT Hub: tests register devices there, switch faults on and ask what devices received.
//!
//! It keeps everything in memory, and is as strict as the service is documented or has been observed
//! to be: signatures, owner levels, start positions, queue depths and error codes are IoT Hub's.

// Added when they are there: control, https, listen, mqtt.
mod amqp;
pub mod c2d;
pub mod face;
pub mod fault;
pub mod hub;
pub mod identity;
pub mod log;
pub mod policy;
pub mod receipt;
pub mod refusal;
pub mod sas;
pub mod twin;
