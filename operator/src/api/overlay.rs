//! What a user may put over the pods: nothing that the operator owns, and nothing that weakens them.
//!
//! The security context, volumes, probes, command and environment cannot be given at all, so a pod meets the
//! Pod Security standard "restricted" whatever the spec says.

use connector_config::label;

use super::Pod;

/// Prefix of the operator's own labels and annotations.
const OWN: &str = "iot-connectors.dev/";
/// Labels by which pods are found, by the operator or by the controllers.
const FOUND_BY: [&str; 5] = [
    label::NAME,
    label::INSTANCE,
    label::COMPONENT,
    label::MANAGED_BY,
    "pod-template-hash",
];
/// Annotations by which a pod could take its container's confinement away.
const CONFINEMENT: [&str; 2] = [
    "container.apparmor.security.beta.kubernetes.io/",
    "seccomp.security.alpha.kubernetes.io/",
];
/// Longest name of a label or annotation, and longest value of a label.
const MAX_NAME: usize = 63;
/// Longest prefix of a key, and longest name of an object.
const MAX_PREFIX: usize = 253;

impl Pod {
    /// Checks what the schema cannot say.
    ///
    /// # Errors
    /// The field at fault, below `spec.pod`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        for (key, value) in &self.labels {
            let at = |what: String| (format!("labels[{key}]"), what);
            check_key(key).map_err(|what| at(what.to_owned()))?;
            if key.starts_with(OWN) || FOUND_BY.contains(&&**key) {
                return Err(at("is set by the operator and cannot be changed".to_owned()));
            }
            if !(value.is_empty() || is_name(value)) {
                return Err(at(format!(
                    "has a value that is no label: at most {MAX_NAME} letters, digits, '-', '_' and '.', with a \
                     letter or digit first and last"
                )));
            }
        }
        for key in self.annotations.keys() {
            let at = |what: &str| (format!("annotations[{key}]"), what.to_owned());
            check_key(key).map_err(at)?;
            if key.starts_with(OWN) {
                return Err(at("is set by the operator and cannot be changed"));
            }
            if CONFINEMENT.iter().any(|prefix| key.starts_with(prefix)) {
                return Err(at(
                    "would loosen the confinement of the pods, which stay within Pod Security \"restricted\"",
                ));
            }
        }
        if let Some(class) = &self.priority_class_name
            && !is_subdomain(class)
        {
            let what = "is no name of a PriorityClass: lower-case letters, digits, '-' and '.'";
            return Err(("priorityClassName".to_owned(), what.to_owned()));
        }
        Ok(())
    }
}

/// A key is a name, perhaps after a domain and a slash.
fn check_key(key: &str) -> Result<(), &'static str> {
    let good = match key.split_once('/') {
        Some((prefix, name)) => is_subdomain(prefix) && is_name(name),
        None => is_name(key),
    };
    if good {
        Ok(())
    } else {
        Err(
            "is no key: a name of at most 63 letters, digits, '-', '_' and '.', perhaps after a domain and '/'",
        )
    }
}

fn is_name(text: &str) -> bool {
    let inner = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.len() <= MAX_NAME
        && is_between(text, u8::is_ascii_alphanumeric)
        && text.bytes().all(|byte| inner(&byte))
}

fn is_subdomain(text: &str) -> bool {
    let lower = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        is_between(label, lower) && label.bytes().all(|byte| lower(&byte) || byte == b'-')
    };
    text.len() <= MAX_PREFIX && text.split('.').all(label)
}

/// Whether the first and the last character are of a sort; there must be one.
fn is_between(text: &str, sort: impl Fn(&u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(&sort) && bytes.last().is_some_and(&sort)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(pod: &Value) -> String {
        let pod: Pod = serde_json::from_value(pod.clone()).unwrap();
        match pod.check() {
            Ok(()) => String::new(),
            Err((field, what)) => format!("{field} {what}"),
        }
    }

    #[test]
    fn what_is_the_operators_own_or_weakens_the_pods_is_refused() {
        for (pod, begins) in [
            (
                json!({"labels": {"app.kubernetes.io/instance": "x"}}),
                "labels[app.kubernetes.io/instance] is set by",
            ),
            (
                json!({"labels": {"pod-template-hash": "x"}}),
                "labels[pod-template-hash] is set by",
            ),
            (
                json!({"labels": {"iot-connectors.dev/x": "x"}}),
                "labels[iot-connectors.dev/x] is set by",
            ),
            (
                json!({"labels": {"a": "no value"}}),
                "labels[a] has a value",
            ),
            (json!({"labels": {"-a": "x"}}), "labels[-a] is no key"),
            (json!({"labels": {"": "x"}}), "labels[] is no key"),
            (
                json!({"annotations": {"iot-connectors.dev/restart": "x"}}),
                "annotations[iot-connectors.dev/restart] is set by",
            ),
            (
                json!({"annotations": {"A_b.c/x/y": "x"}}),
                "annotations[A_b.c/x/y] is no key",
            ),
            (
                json!({"annotations": {"container.apparmor.security.beta.kubernetes.io/connector": "unconfined"}}),
                "annotations[container.apparmor.security.beta.kubernetes.io/connector] would loosen",
            ),
            (
                json!({"priorityClassName": "High"}),
                "priorityClassName is no name",
            ),
        ] {
            assert!(told(&pod).starts_with(begins), "{pod}: {}", told(&pod));
        }
    }

    #[test]
    fn what_kubernetes_takes_is_taken() {
        let pod = json!({
            "labels": {"team": "", "example.com/cost-center": "A_7.b"},
            "annotations": {"prometheus.io/scrape": "true", "note": "anything at all: ä\n"},
            "priorityClassName": "business.critical-1",
        });
        assert_eq!(told(&pod), "");
    }
}
