//! The pods' identity.

use k8s_openapi::api::core::v1::ServiceAccount;

use super::Owner;

pub(super) fn render(owner: &Owner) -> ServiceAccount {
    ServiceAccount {
        metadata: owner.metadata(owner.child()),
        // The pod says so itself where it needs the token.
        automount_service_account_token: Some(false),
        ..ServiceAccount::default()
    }
}
