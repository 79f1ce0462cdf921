//! Shared access signatures, in the two forms that one key of a hub must be used in. Pure.
//!
//! Both sign `{resource, percent-encoded}\n{expiry}` with HMAC-SHA256. At the hub's own host the key is
//! the *decoded* base64 text (Microsoft Learn: "Control access to IoT Hub with shared access
//! signatures"); at the Event Hubs endpoint it is the text itself (Microsoft Learn: "Generate SAS
//! token", Event Hubs).

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;

use crate::key::SecretKey;

/// All but RFC 3986's unreserved characters.
pub(crate) const COMPONENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A shared access signature. Hidden in `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SasToken(String);

impl SasToken {
    /// The token's text, as it goes over the wire; never to be shown.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SasToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SasToken(…)")
    }
}

/// The key is not base64, so it cannot sign for the hub's own host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared access key is not base64; copy it again from the portal")]
pub struct KeyError;

/// A token for the hub's own host (AMQP and REST). `resource` is the host, with or without a path, not
/// encoded; `expires_unix` in seconds since 1970.
///
/// # Errors
/// [`KeyError`] if the key is not base64.
pub fn hub_token(
    resource: &str,
    key_base64: &SecretKey,
    policy: &str,
    expires_unix: u64,
) -> Result<SasToken, KeyError> {
    let key = STANDARD.decode(key_base64.expose()).map_err(|_| KeyError)?;
    Ok(token(resource, &key, policy, expires_unix))
}

/// A token for the built-in Event Hubs endpoint. `resource` is a URI such as
/// `sb://{namespace}/{entity}`, not encoded; `expires_unix` in seconds since 1970.
#[must_use]
pub fn events_token(resource: &str, key: &SecretKey, policy: &str, expires_unix: u64) -> SasToken {
    token(resource, key.expose().as_bytes(), policy, expires_unix)
}

/// Whether a key can sign in both forms.
pub(crate) fn is_key(text: &str) -> bool {
    STANDARD.decode(text).is_ok_and(|key| !key.is_empty())
}

fn token(resource: &str, key: &[u8], policy: &str, expires_unix: u64) -> SasToken {
    let resource = utf8_percent_encode(resource, COMPONENT).to_string();
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else {
        unreachable!()
    };
    mac.update(resource.as_bytes());
    mac.update(b"\n");
    mac.update(expires_unix.to_string().as_bytes());
    let signature = STANDARD.encode(mac.finalize().into_bytes());
    let signature = utf8_percent_encode(&signature, COMPONENT);
    let policy = utf8_percent_encode(policy, COMPONENT);
    SasToken(format!(
        "SharedAccessSignature sr={resource}&sig={signature}&se={expires_unix}&skn={policy}"
    ))
}
