//! Claims of one connector at several endpoints: the hub has moved from one to the other.

use connector_config::annotation::CONNECTOR_UID;
use kube::api::ListParams;
use tokio::time::timeout;

use super::{CALL, Claims, SOURCE, claim_labels, source_text};
use crate::claim::ClaimError;

impl Claims {
    /// Whether this connector has claims in the same consumer group at another endpoint.
    ///
    /// # Errors
    /// [`ClaimError::Unavailable`] if the API server does not answer.
    pub async fn are_elsewhere(&self) -> Result<bool, ClaimError> {
        let selector: Vec<String> = claim_labels(&self.store.connector)
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let params = ListParams::default().labels(&selector.join(","));
        let listed = timeout(CALL, self.leases.list(&params))
            .await
            .map_err(|_| ClaimError::Unavailable("the API server did not answer in time".into()))?
            .map_err(|error| ClaimError::Unavailable(error.to_string()))?;
        let here = source_text(&self.source).to_lowercase();
        let group = format!("/{}", self.source.consumer_group.to_lowercase());
        let mut claims = listed.items.iter().filter_map(|lease| {
            let notes = lease.metadata.annotations.as_ref()?;
            let ours = notes.get(CONNECTOR_UID) == Some(&self.store.connector_uid);
            ours.then(|| notes.get(SOURCE))?
        });
        Ok(claims.any(|source| {
            let source = source.to_lowercase();
            source != here && source.ends_with(&group)
        }))
    }
}
