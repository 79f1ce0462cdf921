//! Twins.

use async_trait::async_trait;
use percent_encoding::utf8_percent_encode;
use serde_json::Value;

use super::{API_VERSION, CONNECT, HubRest, MARGIN, answer::document};
use crate::{HubError, refusal::Subject, sas::COMPONENT};

/// Whatever twins can be read from.
#[async_trait]
pub trait TwinReader: Send + Sync {
    /// The twin of a device, or of a module of it, as the hub's REST face writes it: an object with
    /// `version`, `tags` and `properties`.
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError>;
}

#[async_trait]
impl TwinReader for HubRest {
    async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError> {
        HubRest::twin(self, device, module).await
    }
}

impl HubRest {
    /// Reads a twin: `GET /twins/{device}` or `GET /twins/{device}/modules/{module}`. The policy needs
    /// the right *Service connect*.
    ///
    /// # Errors
    /// [`HubError`]; reading can always be repeated.
    pub async fn twin(&self, device: &str, module: Option<&str>) -> Result<Value, HubError> {
        let id = match module {
            Some(module) => format!("{device}/{module}"),
            None => device.to_owned(),
        };
        // In a URL, an id of dots alone is a way to another resource, even encoded.
        let ids = [Some(device), module];
        if ids
            .into_iter()
            .flatten()
            .any(|id| matches!(id, "" | "." | ".."))
        {
            return Err(HubError::DeviceNotFound { id });
        }
        let encoded = |part: &str| utf8_percent_encode(part, COMPONENT).to_string();
        let path = match module {
            Some(module) => format!("{}/modules/{}", encoded(device), encoded(module)),
            None => encoded(device),
        };
        let url = format!("{}/twins/{path}?api-version={API_VERSION}", self.face.root);
        let subject = Subject {
            what: "reading a twin",
            id: &id,
        };
        let request = self.client.get(url).timeout(CONNECT + MARGIN);
        self.exchange(request, subject, document).await
    }
}
