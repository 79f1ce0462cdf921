//! Who this process is: a member is one incarnation of a pod.

use std::{env, fmt, sync::Arc};

use connector_config::digest8;
use rand::Rng;

/// The longest Thing name that every AlwaysOn peer can read.
const MAX_THING: usize = 127;

/// Who this process is, as the pod's environment says (downward API).
#[derive(Debug, Clone)]
pub struct Identity {
    /// Name of the pod; the host's name outside Kubernetes.
    pub pod: String,
    /// Namespace of the pod.
    pub namespace: String,
    /// Uid of the pod; empty outside Kubernetes.
    pub pod_uid: String,
    /// `pod-template-hash` of the pod; tells an old pod from a new one during a rollout.
    pub pod_template_hash: String,
    /// Digest of the settings that the pod was rolled out with.
    pub settings_digest: String,
    /// Digest of the secrets: those in the pod's files, or those that it was rolled out with.
    pub secret_digest: String,
    /// Tells this start from earlier ones of the same pod.
    nonce: String,
}

/// Identifies a member: unique over pods, restarts and namespaces. Also the name of its Thing.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MemberId(Arc<str>);

impl MemberId {
    /// A member by its id, as read from a claim.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Identity {
    /// Reads the downward API's variables and draws a nonce.
    #[must_use]
    pub fn from_env() -> Self {
        let read = |name: &str| env::var(name).unwrap_or_default();
        let or = |text: String, other: &str| {
            if text.is_empty() {
                other.to_owned()
            } else {
                text
            }
        };
        Self {
            pod: or(read("POD_NAME"), &or(read("HOSTNAME"), "connector")),
            namespace: or(read("POD_NAMESPACE"), "local"),
            pod_uid: read("POD_UID"),
            pod_template_hash: read("POD_TEMPLATE_HASH"),
            settings_digest: read("SETTINGS_DIGEST"),
            secret_digest: read("SECRET_DIGEST"),
            nonce: format!("{:06x}", rand::rng().random::<u32>() & 0xff_ffff),
        }
    }

    /// The member's id: `AzureIot-<namespace>-<pod>-<nonce>`, where namespace and pod give way to a
    /// digest if they are too long for a Thing name.
    #[must_use]
    pub fn member(&self) -> MemberId {
        let Self {
            namespace,
            pod,
            nonce,
            ..
        } = self;
        let name = format!("AzureIot-{namespace}-{pod}-{nonce}");
        if name.len() <= MAX_THING {
            return MemberId::new(name);
        }
        let digest = digest8(format!("{namespace}/{pod}").as_bytes());
        let tail: String = pod
            .chars()
            .skip(pod.chars().count().saturating_sub(40))
            .collect();
        MemberId::new(format!("AzureIot-{digest}-{tail}-{nonce}"))
    }

    /// Name of the member's Lease: DNS-safe, unlike a Thing's name.
    #[must_use]
    pub fn lease(&self) -> String {
        format!("{}-{}", self.pod, self.nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(namespace: &str, pod: &str) -> Identity {
        Identity {
            pod: pod.into(),
            namespace: namespace.into(),
            pod_uid: String::new(),
            pod_template_hash: String::new(),
            settings_digest: String::new(),
            secret_digest: String::new(),
            nonce: "00beef".into(),
        }
    }

    #[test]
    fn the_member_is_named_after_its_pod() {
        let member = identity("plant", "factory-connector-5d-x1").member();
        assert_eq!(
            member.as_str(),
            "AzureIot-plant-factory-connector-5d-x1-00beef"
        );
    }

    #[test]
    fn names_too_long_for_a_thing_stay_distinct() {
        let (a, b) = ("a".repeat(63), "b".repeat(63));
        let pod = "p".repeat(67);
        let one = identity(&a, &pod).member();
        assert!(one.as_str().len() <= MAX_THING, "{one}");
        assert_ne!(one, identity(&b, &pod).member());
    }
}
