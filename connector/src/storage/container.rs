//! One container: blobs are read, and written only if they are as they were last seen.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use object_store::{
    Attributes, ClientOptions, Error, GetOptions, ObjectStore, ObjectStoreExt as _, PutMode,
    PutOptions, PutPayload, RetryConfig, UpdateVersion,
    azure::{AzureConfigKey, MicrosoftAzureBuilder},
    path::Path,
};
use tokio::time::timeout;

use super::{StorageConnectionString, StorageError, connection_string::Access};

/// One request. A small blob is written in tens of milliseconds; while a checkpoint waits, its partition
/// does not read.
const CALL: Duration = Duration::from_secs(3);

/// A container of a storage account. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Container {
    store: Arc<dyn ObjectStore>,
    /// The container and its account, for texts.
    place: Arc<str>,
}

/// A blob as it was read: what is told of it, not its content.
#[derive(Debug)]
pub struct Blob {
    /// Its metadata.
    pub attributes: Attributes,
    /// Which of its versions this is.
    pub version: UpdateVersion,
}

/// What became of a write.
#[derive(Debug)]
pub enum Wrote {
    /// The blob has this version now.
    Version(UpdateVersion),
    /// The blob is not as it was last seen; nothing was written.
    Conflict,
}

impl Container {
    /// The container `name` of an account. Nothing is asked of it yet.
    ///
    /// # Errors
    /// What cannot work about the settings.
    pub fn open(connection: &StorageConnectionString, name: &str) -> Result<Self, String> {
        let StorageConnectionString {
            account,
            endpoint,
            access,
        } = connection;
        // Time runs out here and not in the library, which has several words for it.
        let options = ClientOptions::new()
            .with_allow_http(endpoint.scheme() == "http")
            .with_timeout(CALL * 2)
            .with_connect_timeout(CALL * 2);
        // Our callers know better when to try again, and a repeated write could meet itself.
        let retry = RetryConfig {
            max_retries: 0,
            retry_timeout: CALL,
            ..RetryConfig::default()
        };
        let builder = MicrosoftAzureBuilder::new()
            .with_account(account)
            .with_container_name(name)
            .with_endpoint(endpoint.as_str().trim_end_matches('/').to_owned())
            .with_client_options(options)
            .with_retry(retry);
        let builder = match access {
            Access::Key(key) => builder.with_access_key(key.expose()),
            Access::Signature(query) => builder.with_config(AzureConfigKey::SasKey, query.expose()),
        };
        // The library's text is not passed on: it may quote what it was given.
        let store = builder
            .build()
            .map_err(|_| format!("the way to {connection} cannot be built"))?;
        Ok(Self::over(
            Arc::new(store),
            &format!("container {name} of {connection}"),
        ))
    }

    /// A container over any store.
    pub(crate) fn over(store: Arc<dyn ObjectStore>, place: &str) -> Self {
        Self {
            store,
            place: place.into(),
        }
    }

    /// Reads what is told of a blob; `None` if there is none.
    ///
    /// # Errors
    /// [`StorageError`]; also if the container does not exist.
    pub async fn read(&self, path: &Path) -> Result<Option<Blob>, StorageError> {
        // Not HEAD: its answer has no body, which alone tells a missing container from a missing blob.
        match self
            .within(self.store.get_opts(path, GetOptions::new()))
            .await?
        {
            Ok(found) => Ok(Some(Blob {
                attributes: found.attributes,
                version: UpdateVersion {
                    e_tag: found.meta.e_tag,
                    version: found.meta.version,
                },
            })),
            Err(error @ Error::NotFound { .. }) => match self.error(&error) {
                missing @ StorageError::NotFound { .. } => Err(missing),
                StorageError::Answer { code, .. } if code != "BlobNotFound" => {
                    Err(self.error(&error))
                }
                _ => Ok(None),
            },
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Writes a blob that was last seen as `seen`; `None`: that was not there.
    ///
    /// # Errors
    /// [`StorageError`]. The blob may have been written all the same if the answer was lost.
    pub async fn write(
        &self,
        path: &Path,
        seen: Option<UpdateVersion>,
        attributes: Attributes,
    ) -> Result<Wrote, StorageError> {
        let options = PutOptions {
            mode: seen.map_or(PutMode::Create, PutMode::Update),
            attributes,
            ..PutOptions::default()
        };
        let put = self.store.put_opts(path, PutPayload::default(), options);
        match self.within(put).await? {
            Ok(done) => Ok(Wrote::Version(UpdateVersion {
                e_tag: done.e_tag,
                version: done.version,
            })),
            Err(
                error @ (Error::AlreadyExists { .. }
                | Error::Precondition { .. }
                | Error::NotFound { .. }),
            ) => match self.error(&error) {
                missing @ StorageError::NotFound { .. } => Err(missing),
                _ => Ok(Wrote::Conflict),
            },
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Writes a blob of this content, whatever it was.
    ///
    /// # Errors
    /// [`StorageError`]. The blob may have been written all the same if the answer was lost.
    pub async fn put(&self, path: &Path, content: Bytes) -> Result<(), StorageError> {
        match self.within(self.store.put(path, content.into())).await? {
            Ok(_) => Ok(()),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// Writes a blob whatever it was, to show that writing is allowed.
    ///
    /// # Errors
    /// [`StorageError`].
    pub async fn prove(&self, path: &Path) -> Result<(), StorageError> {
        match self
            .within(self.store.put(path, PutPayload::default()))
            .await?
        {
            Ok(_) => self.read(path).await.map(drop),
            Err(error) => Err(self.error(&error)),
        }
    }

    /// The answer of one request, if it comes in time.
    async fn within<T>(&self, request: impl Future<Output = T>) -> Result<T, StorageError> {
        timeout(CALL, request)
            .await
            .map_err(|_| StorageError::Unreachable {
                place: self.place.to_string(),
                what: "no answer in time".into(),
            })
    }

    fn error(&self, error: &Error) -> StorageError {
        StorageError::new(&self.place, error)
    }
}
