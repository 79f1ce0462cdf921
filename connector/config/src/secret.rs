//! A digest by which operator and pod see whether they mean the same secrets, without telling them.

use std::io;

use hmac::{Hmac, Mac};
use sha2::Sha256;

use crate::{BlobStore, Checkpoints, DeadLetter, File, Settings};

/// Digest of values, each with the field of the spec that refers to it, in the order of [`Settings::secrets`].
/// `uid` of the resource is the key, so that equal secrets of two connectors do not show as equal.
#[must_use]
pub fn secret_digest<'a>(uid: &str, values: impl Iterator<Item = (&'a str, &'a [u8])>) -> String {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(uid.as_bytes()) else {
        return String::new();
    };
    for (field, value) in values {
        // Lengths keep apart what would run together.
        for part in [field.as_bytes(), value] {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
    }
    let bytes = mac.finalize().into_bytes();
    bytes[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl Settings {
    /// The files that hold secrets and certificates, with the field of the resource's spec that each stands for.
    /// The order is part of the digest.
    #[must_use]
    pub fn secrets(&self) -> Vec<(&'static str, &File)> {
        let (thingworx, hub) = (&self.thingworx, &self.iot_hub);
        let events = hub.event_hubs.connection_string.as_ref();
        let letters = hub.dead_letter.as_ref().and_then(DeadLetter::blobs);
        let checkpoints = match &self.checkpoints {
            Checkpoints::AzureBlob(BlobStore {
                connection_string, ..
            }) => Some(connection_string),
            Checkpoints::Kubernetes(_) | Checkpoints::File(_) => None,
        };
        let files = [
            ("thingworx.appKey", Some(&thingworx.app_key)),
            ("iotHub.connectionString", Some(&hub.connection_string)),
            (
                "iotHub.registryConnectionString",
                hub.registry_connection_string.as_ref(),
            ),
            ("iotHub.eventHubs.connectionString", events),
            (
                "iotHub.deadLetter.azureBlob.connectionString",
                letters.map(|blobs| &blobs.connection_string),
            ),
            ("checkpoints.azureBlob.connectionString", checkpoints),
            (
                "thingworx.tls.ca",
                thingworx.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
            ),
            (
                "iotHub.tls.ca",
                hub.tls.as_ref().and_then(|tls| tls.ca.as_ref()),
            ),
        ];
        let given = files.into_iter();
        given
            .filter_map(|(field, file)| Some((field, file?)))
            .collect()
    }

    /// Digest of the secrets as they are in the files now; `None` if no resource stands behind these settings.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn secret_digest(&self) -> io::Result<Option<String>> {
        let claims = match &self.checkpoints {
            Checkpoints::Kubernetes(store) => Some(store),
            Checkpoints::AzureBlob(store) => store.kubernetes.as_ref(),
            Checkpoints::File(_) => None,
        };
        let Some(claims) = claims else {
            return Ok(None);
        };
        let values = self
            .secrets()
            .into_iter()
            .map(|(field, File { file })| Ok((field, std::fs::read(file)?)))
            .collect::<io::Result<Vec<_>>>()?;
        let values = values.iter().map(|(field, value)| (*field, &**value));
        Ok(Some(secret_digest(&claims.connector_uid, values)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    fn settings(folder: &std::path::Path, checkpoints: &str) -> Settings {
        let folder = folder.display();
        parse(&format!(
            "
hubThingName: FactoryHub
thingworx:
  endpoints: [wss://twx-0:8443/Thingworx/WS]
  appKey: {{file: {folder}/key}}
iotHub:
  connectionString: {{file: {folder}/hub}}
  eventHubs: {{consumerGroup: thingworx}}
checkpoints: {checkpoints}
"
        ))
        .unwrap()
    }

    #[test]
    fn the_digest_follows_the_files() {
        let folder = std::env::temp_dir().join(format!("secret-digest-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let ours = settings(
            &folder,
            "{kubernetes: {connector: factory, connectorUid: 1-2-3}}",
        );
        assert!(ours.secret_digest().is_err(), "the files are not there");
        let write = |key: &str, hub: &str| {
            std::fs::write(folder.join("key"), key).unwrap();
            std::fs::write(folder.join("hub"), hub).unwrap();
            ours.secret_digest().unwrap().unwrap()
        };
        let before = write("k1", "h1");
        let expected = [
            ("thingworx.appKey", &b"k1"[..]),
            ("iotHub.connectionString", b"h1"),
        ];
        assert_eq!(before, secret_digest("1-2-3", expected.into_iter()));
        assert_eq!(before, write("k1", "h1"));
        assert_ne!(before, write("k1h", "1"), "lengths count");
        assert_ne!(before, write("k1", "h2"));
        let alone = settings(&folder, "{file: {path: /tmp/positions}}");
        assert_eq!(
            alone.secret_digest().unwrap(),
            None,
            "no resource stands behind it"
        );
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
