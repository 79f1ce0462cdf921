//! Settings of where messages are kept that can never be written.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BlobContainer, FileStore};

/// Where messages are kept that can never be written, with the reason. `S` is where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", bound(deserialize = "S: Deserialize<'de>"))]
pub enum DeadLetter<S> {
    /// In blobs of an Azure Storage account: files of JSON lines, by hub, day and hour. How long they are
    /// kept is for the account's lifecycle rules to say. The authorities in `iotHub.tls.ca`, if given,
    /// count for the account as well.
    AzureBlob(BlobContainer<S>),
    /// In a local file, for a single process without Kubernetes.
    // A pod's own files go with the pod, so the resource does not have it.
    #[schemars(skip)]
    File(FileStore),
}

impl<S> DeadLetter<S> {
    /// The same settings with the secret taken from elsewhere.
    pub fn map<S2>(self, secret: impl Fn(S) -> S2) -> DeadLetter<S2> {
        match self {
            Self::AzureBlob(BlobContainer {
                container,
                connection_string,
            }) => DeadLetter::AzureBlob(BlobContainer {
                container,
                connection_string: secret(connection_string),
            }),
            Self::File(file) => DeadLetter::File(file),
        }
    }

    /// The blobs, if they are the place.
    #[must_use]
    pub fn blobs(&self) -> Option<&BlobContainer<S>> {
        match self {
            Self::AzureBlob(blobs) => Some(blobs),
            Self::File(_) => None,
        }
    }

    /// What the schema alone cannot say.
    ///
    /// # Errors
    /// The field at fault, below `deadLetter`, and what is wrong with it.
    pub fn check(&self) -> Result<(), (String, String)> {
        match self {
            Self::AzureBlob(blobs) => blobs
                .check()
                .map_err(|(field, what)| (format!("azureBlob.{field}"), what)),
            Self::File(file) if file.path.as_os_str().is_empty() => {
                Err(("file.path".into(), "is empty; name a file".into()))
            }
            Self::File(_) => Ok(()),
        }
    }
}
