//! On which condition something is changed.

use reqwest::{
    RequestBuilder,
    header::{HeaderValue, IF_MATCH},
};

use crate::HubError;

/// On which condition the hub changes something (`If-Match`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Condition {
    /// It must exist, whatever it has become.
    #[default]
    Exists,
    /// It must still be of this version: an ETag as the hub gave it, without quotes. Otherwise
    /// [`HubError::Changed`]: read it again, decide again.
    Unchanged(String),
}

impl Condition {
    /// Adds the header, in quotes as Microsoft's SDKs write it, the asterisk too.
    pub(super) fn apply(&self, request: RequestBuilder) -> Result<RequestBuilder, HubError> {
        let etag = match self {
            Self::Exists => "*",
            Self::Unchanged(etag) => etag.as_str(),
        };
        let header =
            HeaderValue::from_str(&format!("\"{etag}\"")).map_err(|_| HubError::Settings {
                what: format!("{etag:?} cannot be an ETag"),
            })?;
        Ok(request.header(IF_MATCH, header))
    }
}
