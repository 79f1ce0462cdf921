//! Twins, as services read and change them.

use serde_json::Value;

use crate::{identity::Identity, refusal::Refusal, twin::Twin};

use super::{
    Etag, Hub, Subscription, ToDevice,
    registry::{check_etag, not_found},
};

impl Hub {
    /// Reads a twin: revision (its etag) and the document, without the registry's part.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::ModuleNotFound`].
    pub fn twin(&self, identity: &Identity) -> Result<Twin, Refusal> {
        let identities = self.identities();
        let registered = identities
            .get(identity)
            .ok_or_else(|| not_found(identity))?;
        Ok(registered.twin.clone())
    }

    /// Changes tags and desired properties; a connected device that listens is told.
    ///
    /// # Errors
    /// [`Refusal::DeviceNotFound`], [`Refusal::ModuleNotFound`], [`Refusal::Precondition`],
    /// [`Refusal::BadRequest`], [`Refusal::TooLarge`]; then nothing has changed.
    pub fn patch_twin(
        &self,
        identity: &Identity,
        patch: &Value,
        condition: &Etag,
    ) -> Result<Twin, Refusal> {
        let mut identities = self.identities();
        let registered = identities
            .get_mut(identity)
            .ok_or_else(|| not_found(identity))?;
        check_etag(&registered.twin.revision.to_string(), condition)?;
        let mut changed = registered.twin.clone();
        if let Some(tags) = patch.get("tags") {
            changed.tag(tags)?;
        }
        let desired = patch.pointer("/properties/desired");
        let version = desired
            .map(|desired| changed.desired.patch(desired))
            .transpose()?;
        changed.revision += 1;
        // Nothing can be refused any more.
        registered.twin = changed;
        if let (Some(desired), Some(version)) = (desired, version) {
            let patch = desired.clone();
            registered.send_if(&Subscription::Desired, ToDevice::Desired { version, patch });
        }
        let mut told = patch.clone();
        if let Some(desired) = told.pointer_mut("/properties/desired") {
            desired["$version"] = registered.twin.desired.version().into();
        }
        self.tell_twin(identity, registered.twin.revision, told);
        Ok(registered.twin.clone())
    }
}
