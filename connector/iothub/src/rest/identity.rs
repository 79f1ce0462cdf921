//! Devices and modules in paths. Pure.

use percent_encoding::utf8_percent_encode;

use crate::{HubError, sas::COMPONENT};

/// A device or a module of it, fit to stand in a path.
#[derive(Debug, Clone, Copy)]
pub(super) struct Identity<'a> {
    device: &'a str,
    module: Option<&'a str>,
}

impl<'a> Identity<'a> {
    /// In a URL, an empty id or one of dots alone is no id but a way to another resource, even encoded:
    /// the hub has no device of such a name.
    pub(super) fn new(device: &'a str, module: Option<&'a str>) -> Result<Self, HubError> {
        let identity = Self { device, module };
        let mut ids = [Some(device), module].into_iter().flatten();
        if ids.any(|id| matches!(id, "" | "." | "..")) {
            return Err(HubError::DeviceNotFound { id: identity.id() });
        }
        Ok(identity)
    }

    /// The device, or device and module, as an error names it.
    pub(super) fn id(&self) -> String {
        match self.module {
            Some(module) => format!("{}/{module}", self.device),
            None => self.device.to_owned(),
        }
    }

    /// Where its twin is.
    pub(super) fn twin_path(&self) -> String {
        self.below("twins")
    }

    /// Where its methods are called.
    pub(super) fn method_path(&self) -> String {
        format!("{}/methods", self.twin_path())
    }

    /// Where it stands in the registry.
    pub(super) fn registry_path(&self) -> String {
        self.below("devices")
    }

    fn below(&self, folder: &str) -> String {
        let encoded = |part: &str| utf8_percent_encode(part, COMPONENT).to_string();
        let device = encoded(self.device);
        match self.module {
            Some(module) => format!("/{folder}/{device}/modules/{}", encoded(module)),
            None => format!("/{folder}/{device}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_encoded() {
        let device = Identity::new("pump 1/ä?", None).unwrap();
        assert_eq!(device.method_path(), "/twins/pump%201%2F%C3%A4%3F/methods");
        assert_eq!(device.registry_path(), "/devices/pump%201%2F%C3%A4%3F");
        assert_eq!(device.id(), "pump 1/ä?");
        let module = Identity::new("pump 1/ä?", Some("m#")).unwrap();
        assert_eq!(
            module.twin_path(),
            "/twins/pump%201%2F%C3%A4%3F/modules/m%23"
        );
        assert_eq!(module.id(), "pump 1/ä?/m#");
    }

    #[test]
    fn an_id_cannot_lead_to_another_resource() {
        for (device, module) in [("", None), (".", None), ("..", None), ("d", Some(".."))] {
            let error = Identity::new(device, module).unwrap_err();
            assert!(matches!(error, HubError::DeviceNotFound { .. }), "{error}");
        }
    }
}
