//! Letters in blobs: one for each batch, by hub and hour. A member and a number of its own name the blob, so
//! that no two members ever write the same one.

use async_trait::async_trait;
use bytes::Bytes;
use connector_config::MemberReport;
use jiff::Timestamp;
use object_store::path::Path;

use super::Shelf;
use crate::{
    identity::MemberId,
    report::Trouble,
    storage::{Container, StorageError},
};

/// A container for letters.
pub struct BlobShelf {
    container: Container,
    /// Host name of the hub.
    hub: String,
    member: MemberId,
    /// Blobs that this member has written.
    written: u64,
}

impl BlobShelf {
    /// Letters of messages of `hub`, written by `member`, in a container. Nothing is asked of it yet.
    #[must_use]
    pub fn new(container: Container, hub: String, member: MemberId) -> Self {
        Self {
            container,
            hub,
            member,
            written: 0,
        }
    }

    /// Where the next letters go: `<hub>/<year>/<month>/<day>/<hour>/<member>-<number>.jsonl`, in UTC.
    fn path(&self, now: Timestamp) -> Path {
        let hour = now.strftime("%Y/%m/%d/%H").to_string();
        let folders = std::iter::once(self.hub.as_str()).chain(hour.split('/'));
        let name = format!("{}-{:06}.jsonl", self.member, self.written);
        Path::from_iter(folders.chain([name.as_str()]))
    }
}

fn trouble(error: &StorageError) -> Trouble {
    let message = format!("iotHub.deadLetter.azureBlob: {error}");
    Trouble::new(error.class(), MemberReport::DEAD_LETTER, message)
}

#[async_trait]
impl Shelf for BlobShelf {
    async fn prove(&mut self) -> Result<bool, Trouble> {
        let path = Path::from_iter([self.hub.as_str(), "proof"]);
        let proven = self.container.prove(&path).await;
        proven.map(|()| true).map_err(|error| trouble(&error))
    }

    /// What could not be stored goes to the same name again: if it was there all the same, it is replaced.
    async fn put(&mut self, letters: Bytes) -> Result<(), Trouble> {
        let path = self.path(Timestamp::now());
        let put = self.container.put(&path, letters).await;
        put.map_err(|error| trouble(&error))?;
        self.written += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use connector_config::ReportClass;
    use object_store::{ObjectStore, ObjectStoreExt as _, memory::InMemory};

    use super::*;

    #[test]
    fn what_is_wrong_with_the_container_is_told_with_the_remedy() {
        let place = "container letters of storage account plant7".to_owned();
        for (error, class, says) in [
            (
                StorageError::NotFound {
                    place: place.clone(),
                },
                ReportClass::NotFound,
                "make it",
            ),
            (
                StorageError::Denied {
                    place,
                    code: "AuthenticationFailed".into(),
                },
                ReportClass::Denied,
                "check the connection string",
            ),
        ] {
            let Trouble {
                class: told,
                reason,
                message,
            } = trouble(&error);
            assert_eq!((told, reason), (class, "DeadLetterUnwritable"));
            assert!(message.starts_with("iotHub.deadLetter.azureBlob: container letters"));
            assert!(MemberReport::cut(&message).contains(says), "{message}");
        }
    }

    #[tokio::test]
    async fn each_batch_is_a_blob_of_its_own_by_hub_and_hour() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let container = Container::over(store.clone(), "container letters");
        let member = |id: &str| MemberId::new(id);
        let hub = || "plant7.azure-devices.net".to_owned();
        let mut a = BlobShelf::new(container.clone(), hub(), member("a"));
        let mut b = BlobShelf::new(container, hub(), member("b"));
        assert_eq!(a.prove().await, Ok(true));
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(
            a.path(now).as_ref(),
            "plant7.azure-devices.net/2023/11/14/22/a-000000.jsonl"
        );
        for line in ["1\n", "2\n"] {
            a.put(Bytes::from_static(line.as_bytes())).await.unwrap();
        }
        b.put(Bytes::from_static(b"3\n")).await.unwrap();
        let listed = store.list_with_delimiter(None).await.unwrap();
        assert_eq!(listed.common_prefixes.len(), 1);
        assert_ne!(a.path(now), b.path(now));
        assert_eq!((a.written, b.written), (2, 1));
        let proof = Path::from("plant7.azure-devices.net/proof");
        assert!(store.head(&proof).await.is_ok());
    }
}
