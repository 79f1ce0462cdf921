//! The connector pod: telemetry of an IoT Hub's devices → property values on ThingWorx ([`ingress`]),
//! and ThingWorx's requests → devices ([`egress`]).

pub mod admin;
pub mod args;
pub mod claim;
pub mod egress;
pub mod hash;
pub mod identity;
pub mod import;
pub mod ingress;
pub mod inventory;
pub mod log;
pub mod member;
pub mod metrics;
pub mod platform;
pub mod report;
pub mod run;
pub mod secret;
pub mod shutdown;
pub mod storage;
pub mod trust;
