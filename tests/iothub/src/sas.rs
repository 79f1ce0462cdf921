//! Shared access signatures: `SharedAccessSignature sr=…&sig=…&se=…[&skn=…]`.
//!
//! Source: Microsoft Learn, "Control access to IoT Hub by using shared access signatures" and
//! "Authenticate access to Event Hubs resources using shared access signatures". Both sign the text
//! of `sr`, a line feed and the text of `se`; they differ in what they take for the key.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, Mac as _};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;

/// What RFC 3986 leaves unescaped.
const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// A shared access key in its written (base64) form. Never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedKey(String);

/// How the written key becomes the key of the signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyForm {
    /// The hub's own faces: base64-decoded.
    Decoded,
    /// The Event Hubs-compatible endpoint: the bytes of the text itself.
    Raw,
}

/// Why a signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SasError {
    /// Not of the form `SharedAccessSignature sr=…&sig=…&se=…`.
    #[error("malformed shared access signature")]
    Malformed,
    /// Signed by no key that this policy or device has.
    #[error("signature does not match")]
    Signature,
    /// `se` has passed.
    #[error("signature has expired")]
    Expired,
    /// `sr` does not cover what is asked for.
    #[error("signature is for another resource")]
    Resource,
    /// `skn` names no policy, or none was named where one is needed.
    #[error("no such policy")]
    Policy,
    /// The policy lacks the right.
    #[error("the policy lacks the right")]
    Right,
}

/// A key is written in standard base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a shared access key is base64")]
pub struct BadKey;

impl SharedKey {
    /// Takes a written key.
    ///
    /// # Errors
    /// [`BadKey`] if it is empty or not base64.
    pub fn new(written: impl Into<String>) -> Result<Self, BadKey> {
        let written = written.into();
        match STANDARD.decode(&written) {
            Ok(bytes) if !bytes.is_empty() => Ok(Self(written)),
            _ => Err(BadKey),
        }
    }

    /// A new random key of 32 bytes, the length that IoT Hub generates.
    #[must_use]
    pub fn generate() -> Self {
        Self(STANDARD.encode(rand::random::<[u8; 32]>()))
    }

    /// The written form; for connection strings and the registry's answers.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    fn mac(&self, form: KeyForm, resource: &str, expires: &str) -> Option<Hmac<Sha256>> {
        let key = match form {
            KeyForm::Decoded => STANDARD.decode(&self.0).ok()?,
            KeyForm::Raw => self.0.as_bytes().to_vec(),
        };
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(resource.as_bytes());
        mac.update(b"\n");
        mac.update(expires.as_bytes());
        Some(mac)
    }
}

impl fmt::Debug for SharedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedKey(…)")
    }
}

/// A parsed shared access signature; proves nothing until [`Sas::verify`].
#[derive(Clone)]
pub struct Sas {
    /// `sr` as it stood in the token, which is what was signed.
    signed_resource: String,
    signed_expiry: String,
    signature: Vec<u8>,
    /// `sr`, decoded, without scheme.
    resource: String,
    expires: i64,
    policy: Option<String>,
}

impl fmt::Debug for Sas {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sas")
            .field("resource", &self.resource)
            .field("expires", &self.expires)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

impl Sas {
    /// Reads a token.
    ///
    /// # Errors
    /// [`SasError::Malformed`].
    pub fn parse(token: &str) -> Result<Self, SasError> {
        let fields = token
            .strip_prefix("SharedAccessSignature ")
            .ok_or(SasError::Malformed)?;
        let (mut sr, mut sig, mut se, mut skn) = (None, None, None, None);
        for field in fields.split('&') {
            let (name, value) = field.split_once('=').ok_or(SasError::Malformed)?;
            let slot = match name {
                "sr" => &mut sr,
                "sig" => &mut sig,
                "se" => &mut se,
                "skn" => &mut skn,
                _ => return Err(SasError::Malformed),
            };
            if slot.replace(value).is_some() {
                return Err(SasError::Malformed);
            }
        }
        let (Some(sr), Some(sig), Some(se)) = (sr, sig, se) else {
            return Err(SasError::Malformed);
        };
        let decode = |text: &str| {
            percent_decode_str(text)
                .decode_utf8()
                .map(std::borrow::Cow::into_owned)
                .map_err(|_| SasError::Malformed)
        };
        Ok(Self {
            signed_resource: sr.to_owned(),
            signed_expiry: se.to_owned(),
            signature: STANDARD
                .decode(decode(sig)?)
                .map_err(|_| SasError::Malformed)?,
            resource: without_scheme(&decode(sr)?).to_owned(),
            expires: se.parse().map_err(|_| SasError::Malformed)?,
            // An empty `skn` is how some device SDKs write "none".
            policy: skn.map(decode).transpose()?.filter(|name| !name.is_empty()),
        })
    }

    /// The policy that signed; `None` for a device's own key.
    #[must_use]
    pub fn policy(&self) -> Option<&str> {
        self.policy.as_deref()
    }

    /// When it ends, in Unix seconds.
    #[must_use]
    pub fn expires(&self) -> i64 {
        self.expires
    }

    /// What it is for: host and path, decoded, without scheme.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// Checks signature, then expiry, then that it covers `resource` (`host/path`).
    ///
    /// # Errors
    /// The first check that fails.
    pub fn verify<'k>(
        &self,
        keys: impl IntoIterator<Item = &'k SharedKey>,
        form: KeyForm,
        now: i64,
        resource: &str,
    ) -> Result<(), SasError> {
        let signed = keys.into_iter().any(|key| {
            key.mac(form, &self.signed_resource, &self.signed_expiry)
                // `verify_slice` compares in constant time.
                .is_some_and(|mac| mac.verify_slice(&self.signature).is_ok())
        });
        if !signed {
            return Err(SasError::Signature);
        }
        if self.expires <= now {
            return Err(SasError::Expired);
        }
        if !covers(&self.resource, resource) {
            return Err(SasError::Resource);
        }
        Ok(())
    }
}

/// Whether a signature for `granted` is good for `asked`: the same path or one above it. Scheme,
/// port, case and a trailing slash do not count.
#[must_use]
pub fn covers(granted: &str, asked: &str) -> bool {
    let (granted, asked) = (segments(granted), segments(asked));
    granted.len() <= asked.len() && granted.iter().zip(&asked).all(|(g, a)| g == a)
}

fn segments(resource: &str) -> Vec<String> {
    let mut segments: Vec<String> = without_scheme(resource)
        .split('/')
        .filter(|segment| !segment.is_empty())
        .map(str::to_lowercase)
        .collect();
    if let Some(host) = segments.first_mut()
        && let Some((name, port)) = host.split_once(':')
        && port.bytes().all(|b| b.is_ascii_digit())
    {
        *host = name.to_owned();
    }
    segments
}

fn without_scheme(uri: &str) -> &str {
    uri.split_once("://").map_or(uri, |(_, rest)| rest)
}

/// Signs; what clients do. For tests and for the connection strings that the control face gives out.
#[must_use]
pub fn sign(
    resource: &str,
    key: &SharedKey,
    form: KeyForm,
    expires: i64,
    policy: Option<&str>,
) -> String {
    let resource = utf8_percent_encode(resource, UNRESERVED).to_string();
    let signature = key
        .mac(form, &resource, &expires.to_string())
        .map(|mac| STANDARD.encode(mac.finalize().into_bytes()))
        .unwrap_or_default();
    let signature = utf8_percent_encode(&signature, UNRESERVED);
    let mut token = format!("SharedAccessSignature sr={resource}&sig={signature}&se={expires}");
    if let Some(policy) = policy {
        token.push_str("&skn=");
        token.push_str(policy);
    }
    token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(seed: u8) -> SharedKey {
        SharedKey::new(STANDARD.encode([seed; 32])).unwrap()
    }

    fn token(resource: &str, form: KeyForm) -> Sas {
        Sas::parse(&sign(resource, &key(1), form, 100, Some("service"))).unwrap()
    }

    #[test]
    fn accepts_what_the_same_key_signed() {
        for form in [KeyForm::Decoded, KeyForm::Raw] {
            let sas = token("hub.example/devices/d 1", form);
            assert_eq!(sas.policy(), Some("service"));
            assert_eq!(sas.resource(), "hub.example/devices/d 1");
            assert_eq!(
                sas.verify([&key(1)], form, 99, "hub.example/devices/d 1"),
                Ok(())
            );
        }
    }

    #[test]
    fn the_two_forms_of_a_key_are_not_the_same() {
        let sas = token("hub.example", KeyForm::Raw);
        assert_eq!(
            sas.verify([&key(1)], KeyForm::Decoded, 0, "hub.example"),
            Err(SasError::Signature)
        );
    }

    #[test]
    fn either_key_of_a_pair_will_do() {
        let sas = token("hub.example", KeyForm::Decoded);
        assert_eq!(
            sas.verify([&key(2), &key(1)], KeyForm::Decoded, 0, "hub.example"),
            Ok(())
        );
    }

    #[test]
    fn refuses_other_key_expiry_and_resource() {
        let sas = token("hub.example/devices/d1", KeyForm::Decoded);
        let check = |seed, now, resource| {
            sas.verify([&key(seed)], KeyForm::Decoded, now, resource)
                .unwrap_err()
        };
        assert_eq!(check(2, 0, "hub.example/devices/d1"), SasError::Signature);
        assert_eq!(check(1, 100, "hub.example/devices/d1"), SasError::Expired);
        assert_eq!(check(1, 0, "hub.example/devices/d2"), SasError::Resource);
        assert_eq!(check(1, 0, "hub.example/devices/d12"), SasError::Resource);
        assert_eq!(check(1, 0, "hub.example"), SasError::Resource);
    }

    #[test]
    fn a_changed_expiry_breaks_the_signature() {
        let text = sign("hub.example", &key(1), KeyForm::Decoded, 100, None);
        let sas = Sas::parse(&text.replace("se=100", "se=900")).unwrap();
        assert_eq!(
            sas.verify([&key(1)], KeyForm::Decoded, 0, "hub.example"),
            Err(SasError::Signature)
        );
    }

    #[test]
    fn covers_paths_below_whatever_scheme_port_and_case() {
        assert!(covers(
            "sb://NS.example/hub",
            "ns.example:5671/hub/ConsumerGroups/$Default"
        ));
        assert!(covers("hub.example", "hub.example/twins/d/methods"));
        assert!(!covers("hub.example/a", "hub.example/ab"));
        assert!(!covers("hub.example", "other.example/a"));
    }

    #[test]
    fn malformed_tokens_are_refused() {
        for text in [
            "",
            "SharedAccessSignature ",
            "SharedAccessSignature sr=a&sig=AA==",
            "SharedAccessSignature sr=a&sig=AA==&se=x",
            "SharedAccessSignature sr=a&sig=%%%&se=1",
            "SharedAccessSignature sr=a&sr=b&sig=AA==&se=1",
            "Bearer abc",
        ] {
            assert_eq!(Sas::parse(text).unwrap_err(), SasError::Malformed, "{text}");
        }
    }

    #[test]
    fn keys_stay_out_of_debug() {
        let shown = format!("{:?} {:?}", key(1), token("h", KeyForm::Raw));
        assert!(!shown.contains("AQEB"), "{shown}");
        assert!(!shown.contains("signature:"), "{shown}");
    }
}
