//! The operator: turns `AzureIotHubConnector` resources into replicated connector pods.
//!
//! ```text
//! observe → validate → desired → plan → apply → status
//! ```
//!
//! [`apply`](crate::apply) is the only module that writes; what stands between it and the watches is
//! functions of values.

pub mod api;
