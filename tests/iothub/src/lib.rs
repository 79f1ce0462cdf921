//! Stand-in for an Azure IoT Hub, as far as a connector and the devices behind it meet one.
//!
//! Four faces share one [`hub::Hub`]: MQTT for devices, AMQP for services (cloud-to-device messages),
//! Event Hubs-compatible AMQP for readers of telemetry, and HTTPS for registry, twins and direct
//! methods. Microsoft's SDKs work against them unchanged (`sdk/`). A fifth face, [`control`], is no
//! part of IoT Hub: tests register devices there, switch faults on and ask what devices received.
//!
//! [`run`] starts all of it. It keeps everything in memory, and is as strict as the service is
//! documented or has been observed to be: signatures, owner levels, start positions, queue depths
//! and error codes are IoT Hub's.

mod amqp;
pub mod c2d;
pub mod control;
mod document;
mod face;
pub mod fault;
pub mod feedback;
pub mod fleet;
mod https;
pub mod hub;
pub mod identity;
pub mod job;
mod listen;
pub mod load;
pub mod log;
pub mod meter;
mod mqtt;
pub mod operation;
pub mod policy;
#[cfg(test)]
mod probe;
pub mod query;
pub mod receipt;
pub mod refusal;
pub mod sas;
pub mod tls;
pub mod twin;
mod web_socket;

pub use listen::{Addresses, Running, Settings, run};
