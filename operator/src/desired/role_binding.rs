//! Gives the rights to the identity.

use k8s_openapi::api::rbac::v1::{RoleBinding, RoleRef, Subject};

use super::Owner;

pub(super) fn render(owner: &Owner) -> RoleBinding {
    RoleBinding {
        metadata: owner.metadata(owner.child()),
        role_ref: RoleRef {
            api_group: "rbac.authorization.k8s.io".to_owned(),
            kind: "Role".to_owned(),
            name: owner.child(),
        },
        subjects: Some(vec![Subject {
            kind: "ServiceAccount".to_owned(),
            name: owner.child(),
            namespace: Some(owner.namespace.clone()),
            ..Subject::default()
        }]),
    }
}
