//! TLS towards the hub's own host.

use std::sync::Arc;

use bytes::Bytes;
use rustls::ClientConfig;

use crate::error::HubError;

/// How the hub's certificate is checked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HubTls {
    /// Certificates (PEM) of the authorities to trust *instead of* those of the operating system.
    pub ca: Option<Bytes>,
}

impl HubTls {
    pub(crate) fn client(&self) -> Result<Arc<ClientConfig>, HubError> {
        let _ = self;
        Err(HubError::Settings {
            what: "pending".into(),
        })
    }
}
