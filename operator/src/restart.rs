//! Replaces the pods because somebody says so: an annotation whose value goes to their template.

use connector_config::{annotation, digest8};
use k8s_openapi::api::apps::v1::Deployment;
use kube::Resource;

/// Longest value that a template carries as it is, in characters; a longer one is cut and told from others by a
/// digest. Enough for a time, a ticket or a name.
const MAX: usize = 63;

/// What the annotation says, short enough for a template; `None` if it says nothing.
#[must_use]
pub fn asked<K: Resource>(resource: &K) -> Option<String> {
    let annotations = resource.meta().annotations.as_ref()?;
    let text = annotations.get(annotation::RESTART)?;
    if text.chars().count() <= MAX {
        return (!text.is_empty()).then(|| text.clone());
    }
    let digest = digest8(text.as_bytes());
    let head: String = text.chars().take(MAX - 1 - digest.len()).collect();
    Some(format!("{head}-{digest}"))
}

/// What the template of the pods should say: what is asked for, or else what it says already. Taking the
/// annotation away asks for nothing.
#[must_use]
pub fn wanted<K: Resource>(resource: &K, deployment: Option<&Deployment>) -> Option<String> {
    asked(resource).or_else(|| {
        let template = &deployment?.spec.as_ref()?.template;
        let annotations = template.metadata.as_ref()?.annotations.as_ref()?;
        annotations.get(annotation::RESTART).cloned()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn annotated(text: &str) -> ConfigMap {
        let annotations = json!({"annotations": {annotation::RESTART: text}});
        serde_json::from_value(json!({ "metadata": annotations })).unwrap()
    }

    #[test]
    fn long_texts_are_cut_and_still_told_apart() {
        assert_eq!(asked(&annotated("")), None);
        assert_eq!(asked(&ConfigMap::default()), None);
        assert_eq!(asked(&annotated("ticket 7")).as_deref(), Some("ticket 7"));
        let long = "ä".repeat(1000);
        let (one, two) = (
            asked(&annotated(&long)),
            asked(&annotated(&format!("{long}b"))),
        );
        assert_ne!(one, two);
        assert_eq!(one.unwrap().chars().count(), MAX);
    }

    #[test]
    fn what_the_template_says_stays_until_something_else_is_asked_for() {
        let live: Deployment =
            serde_json::from_value(json!({"spec": {"selector": {}, "template": {
                "metadata": {"annotations": {annotation::RESTART: "one"}},
            }}}))
            .unwrap();
        let wanted = |asked: &ConfigMap, live| wanted(asked, live);
        assert_eq!(
            wanted(&annotated("two"), Some(&live)).as_deref(),
            Some("two")
        );
        let nothing = ConfigMap::default();
        assert_eq!(wanted(&nothing, Some(&live)).as_deref(), Some("one"));
        assert_eq!(wanted(&nothing, None), None);
    }
}
