//! How programs outside of this process reach a server that shows one of our certificates.

use serde_json::{Value, json};

use crate::authority::{Authority, Identity};

/// A kubeconfig; without a user for a server that asks for none.
pub fn kubeconfig(authority: &Authority, url: &str, user: Option<&Identity>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {
            "server": url,
            "certificate-authority-data": base64(authority.pem.as_bytes()),
        }}],
        "users": [{"name": "test", "user": user.map_or_else(|| json!({}), credentials)}],
    })
}

/// What a kubeconfig says of a user.
pub fn credentials(user: &Identity) -> Value {
    json!({
        "client-certificate-data": base64(user.certificate.as_bytes()),
        "client-key-data": base64(user.key.as_bytes()),
    })
}

fn base64(bytes: &[u8]) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(bytes.to_vec())).unwrap()
}
