//! The pods' rights: Leases of their namespace.

use k8s_openapi::api::rbac::v1::{PolicyRule, Role};

use super::Owner;

pub(super) fn render(owner: &Owner) -> Role {
    let list = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect();
    Role {
        metadata: owner.metadata(owner.child()),
        rules: Some(vec![
            PolicyRule {
                api_groups: Some(list(&["coordination.k8s.io"])),
                resources: Some(list(&["leases"])),
                // Members, claims and imports: made, renewed, taken over, handed over, removed. The names are
                // not known beforehand; the chart's admission policy limits writes to Leases of this
                // connector.
                verbs: list(&[
                    "get", "list", "watch", "create", "update", "patch", "delete",
                ]),
                ..PolicyRule::default()
            },
            PolicyRule {
                api_groups: Some(list(&["iot-connectors.dev"])),
                resources: Some(list(&["azureiothubconnectors"])),
                resource_names: Some(vec![owner.name.clone()]),
                // No verb of the API: it marks the identity, and the admission policy asks for it.
                verbs: list(&["use"]),
                ..PolicyRule::default()
            },
        ]),
    }
}
