//! The operator: turns `AzureIotHubConnector` resources into replicated connector pods.
//!
//! ```text
//! observe → validate → desired → plan → apply → status
//! ```
//!
//! Only [`apply`] writes, and only while this operator holds its [`lease`]; what stands between it and the watches is functions of values.

pub mod admin;
pub mod api;
pub mod apply;
pub mod args;
pub mod client;
pub mod controller;
pub mod desired;
pub mod error;
pub mod event;
pub mod freshness;
pub mod health;
pub mod heard;
pub mod lease;
pub mod manager;
pub mod metrics;
pub mod mount;
pub mod observe;
pub mod packed;
pub mod pause;
pub mod plan;
pub mod pod_trouble;
pub mod queue;
pub mod reconcile;
pub mod refs;
pub mod replica_set;
pub mod resolve;
pub mod restart;
pub mod retained;
pub mod rollout;
pub mod run;
pub mod shutdown;
pub mod slots;
pub mod stale;
pub mod status;
pub mod store;
pub mod telemetry;
pub mod watch;
pub mod watches;
