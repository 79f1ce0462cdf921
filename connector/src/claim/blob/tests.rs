//! Checkpoints in blobs against a store that does of versions what Azure does: each write has one, and one
//! that was made from an older version is refused.

use std::sync::{Arc, Mutex};

use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    ObjectStoreExt as _, PutMultipartOptions, PutOptions, PutPayload, PutResult, memory::InMemory,
};

use super::*;
use crate::identity::Identity;

/// Who holds the partition, as a Lease says it to everybody.
type Holder = Arc<Mutex<(String, i64)>>;

/// Holder while the API server is away.
const NOBODY_KNOWS: &str = "?";

/// A hold that can be lost to another member, and the position that it was released with.
struct Held {
    partition: PartitionId,
    holder: Holder,
    member: String,
    epoch: i64,
    mark: Option<Mark>,
    released: Arc<Mutex<Option<Mark>>>,
}

#[async_trait]
impl Claim for Held {
    fn partition(&self) -> &PartitionId {
        &self.partition
    }

    fn epoch(&self) -> Epoch {
        Epoch(self.epoch)
    }

    fn mark(&self) -> Option<Mark> {
        self.mark.clone()
    }

    fn fence(&self) -> Duration {
        Duration::ZERO
    }

    async fn save(&mut self, _: &Mark) -> Result<(), ClaimError> {
        panic!("positions belong into the blob");
    }

    async fn confirm(&mut self) -> Result<(), ClaimError> {
        if self.holder.lock().unwrap().0 == NOBODY_KNOWS {
            return Err(ClaimError::Unavailable("no API server".into()));
        }
        if *self.holder.lock().unwrap() == (self.member.clone(), self.epoch) {
            Ok(())
        } else {
            Err(ClaimError::Lost)
        }
    }

    async fn release(&mut self, mark: Option<&Mark>) -> Result<(), ClaimError> {
        *self.released.lock().unwrap() = mark.cloned();
        Ok(())
    }
}

/// One partition's claim and blob.
struct World {
    store: Arc<dyn ObjectStore>,
    holder: Holder,
    released: Arc<Mutex<Option<Mark>>>,
}

impl World {
    fn over(store: Arc<dyn ObjectStore>) -> Self {
        Self {
            store,
            holder: Holder::default(),
            released: Arc::default(),
        }
    }

    fn new() -> Self {
        Self::over(Arc::new(InMemory::new()))
    }

    /// `member` takes the claim; whoever had it has lost it.
    fn take(&self, member: &str, mark: Option<Mark>) -> BlobClaim {
        let epoch = {
            let mut holder = self.holder.lock().unwrap();
            *holder = (member.to_owned(), holder.1 + 1);
            holder.1
        };
        self.claim(member, epoch, mark)
    }

    fn claim(&self, member: &str, epoch: i64, mark: Option<Mark>) -> BlobClaim {
        let container = Container::over(self.store.clone(), "container marks");
        let reporter = Reporter::new(&Identity::from_env());
        let held = Held {
            partition: PartitionId::new("0"),
            holder: self.holder.clone(),
            member: member.to_owned(),
            epoch,
            mark,
            released: self.released.clone(),
        };
        BlobStore::new(container, MemberId::new(member), reporter).over(&source(), Box::new(held))
    }

    async fn record(&self) -> Record {
        let path = record::path(&source(), &PartitionId::new("0"));
        let found = self.store.get_opts(&path, GetOptions::new()).await.unwrap();
        Record::read(&found.attributes)
    }
}

fn source() -> SourceIdentity {
    SourceIdentity {
        namespace: "ns.servicebus.windows.net".into(),
        hub: "hub".into(),
        consumer_group: "group".into(),
    }
}

fn at(sequence: i64) -> Mark {
    Mark {
        offset: format!("{}", sequence * 100).into(),
        sequence,
        enqueued_ms: sequence,
    }
}

fn is_lost(done: &Result<(), ClaimError>) -> bool {
    matches!(done, Err(ClaimError::Lost))
}

#[tokio::test]
async fn after_a_take_over_an_earlier_owner_cannot_checkpoint() {
    let world = World::new();
    let mut a = world.take("a", None);
    a.begin().await.unwrap();
    assert_eq!(a.mark(), None);
    a.save(&at(1)).await.unwrap();

    let mut b = world.take("b", None);
    b.begin().await.unwrap();
    assert_eq!(b.mark(), Some(at(1)), "goes on where the other was");
    for lost in [a.save(&at(9)).await, a.release(Some(&at(9))).await] {
        assert!(is_lost(&lost), "{lost:?}");
    }
    assert_eq!(world.record().await.mark, Some(at(1)));
    b.save(&at(2)).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(2)));
}

/// Nothing was ever checkpointed, so there would be no version that a late first write could miss.
#[tokio::test]
async fn an_earlier_owner_cannot_make_the_first_checkpoint_either() {
    let world = World::new();
    let mut a = world.take("a", None);
    let mut b = world.take("b", None);
    b.begin().await.unwrap();
    assert!(is_lost(&a.save(&at(9)).await));
    assert_eq!(world.record().await.mark, None);
    assert!(is_lost(&a.begin().await));
}

#[tokio::test]
async fn of_eight_claimers_one_wins() {
    for _ in 0..50 {
        let world = World::new();
        let barrier = Arc::new(tokio::sync::Barrier::new(8));
        let claimers: Vec<_> = (0..8)
            .map(|n| {
                let mut claim = world.take(&format!("m{n}"), None);
                let barrier = barrier.clone();
                tokio::spawn(async move {
                    barrier.wait().await;
                    let begun = claim.begin().await;
                    // Those who got so far before a later one have to see it now.
                    barrier.wait().await;
                    match begun {
                        Ok(()) => claim.save(&at(n)).await,
                        lost => lost,
                    }
                })
            })
            .collect();
        let mut winners = Vec::new();
        for (n, claimer) in claimers.into_iter().enumerate() {
            match claimer.await.unwrap() {
                Ok(()) => winners.push(n),
                lost => assert!(is_lost(&lost), "{lost:?}"),
            }
        }
        assert_eq!(winners, [7], "the one that holds the claim");
        assert_eq!(world.record().await.owner, "m7");
        assert_eq!(world.record().await.mark, Some(at(7)));
    }
}

#[tokio::test]
async fn a_checkpoint_never_goes_backwards_but_follows_a_stream_made_anew() {
    let world = World::new();
    let mut a = world.take("a", None);
    a.begin().await.unwrap();
    a.save(&at(5)).await.unwrap();
    a.save(&at(3)).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(5)));

    // An older claim's checkpoint that is further on was settled by its owner.
    let mut b = world.take("b", Some(at(4)));
    b.begin().await.unwrap();
    assert_eq!(b.mark(), Some(at(5)));

    let anew = Mark {
        enqueued_ms: 1000,
        ..at(0)
    };
    b.save(&anew).await.unwrap();
    assert_eq!(world.record().await.mark, Some(anew));
}

/// A connector whose checkpoints were in Leases, or whose blob could not be written when it handed over.
#[tokio::test]
async fn a_claim_that_knows_a_later_position_takes_it_along() {
    let world = World::new();
    let mut a = world.take("a", Some(at(7)));
    a.begin().await.unwrap();
    assert_eq!(a.mark(), Some(at(7)));
    assert_eq!(world.record().await.mark, Some(at(7)));
    a.release(Some(&at(8))).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(8)));
    assert_eq!(*world.released.lock().unwrap(), Some(at(8)));
}

/// As long as nobody can tell whether the claim is still ours, another's record is left as it is.
#[tokio::test]
async fn without_the_api_server_anothers_record_is_not_overwritten() {
    let world = World::new();
    let mut old = world.take("old", None);
    let mut new = world.take("new", None);
    new.begin().await.unwrap();
    old.begin().await.unwrap_err();
    *world.holder.lock().unwrap() = (NOBODY_KNOWS.into(), 0);
    // By its epoch the record is of an earlier claim, which only the Lease can tell for sure.
    let mut third = world.claim("third", 9, None);
    for _ in 0..2 {
        let saved = third.save(&at(9)).await;
        assert!(
            matches!(saved, Err(ClaimError::Unavailable(_))),
            "{saved:?}"
        );
    }
    assert_eq!(world.record().await.owner, "new");
    *world.holder.lock().unwrap() = ("third".into(), 9);
    third.save(&at(9)).await.unwrap();
    assert_eq!(world.record().await.owner, "third");
}

/// A Lease that was deleted and made anew by a pod whose clock is behind.
#[tokio::test]
async fn a_record_of_a_later_epoch_yields_to_whoever_holds_the_claim() {
    let world = World::new();
    let mut old = world.claim("old", 1000, None);
    *world.holder.lock().unwrap() = ("old".into(), 1000);
    old.begin().await.unwrap();
    old.save(&at(3)).await.unwrap();

    *world.holder.lock().unwrap() = ("new".into(), 1);
    let mut new = world.claim("new", 1, None);
    new.begin().await.unwrap();
    assert_eq!(new.mark(), Some(at(3)));
    assert!(is_lost(&old.save(&at(9)).await));
    new.save(&at(4)).await.unwrap();
}

#[tokio::test]
async fn a_blob_that_somebody_removed_is_made_again() {
    let world = World::new();
    let mut a = world.take("a", None);
    a.begin().await.unwrap();
    let path = record::path(&source(), &PartitionId::new("0"));
    world.store.delete(&path).await.unwrap();
    a.save(&at(1)).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(1)));
}

/// What the store does instead of answering.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    /// It does what it was asked, and the answer is lost.
    LosesAnswers,
    /// It does nothing.
    Away,
    /// It does nothing once, as over a connection that was idle for too long.
    AwayOnce,
}

/// A store with faults.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    fault: Arc<Mutex<Option<Fault>>>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Faulty")
    }
}

fn no_answer() -> object_store::Error {
    object_store::Error::Generic {
        store: "Faulty",
        source: "connection reset by peer".into(),
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(
        &self,
        path: &Path,
        payload: PutPayload,
        options: PutOptions,
    ) -> object_store::Result<PutResult> {
        let fault = *self.fault.lock().unwrap();
        if fault == Some(Fault::AwayOnce) {
            *self.fault.lock().unwrap() = None;
        }
        if matches!(fault, Some(Fault::Away | Fault::AwayOnce)) {
            return Err(no_answer());
        }
        let done = self.inner.put_opts(path, payload, options).await;
        if fault == Some(Fault::LosesAnswers) {
            Err(no_answer())
        } else {
            done
        }
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(path, options).await
    }

    async fn get_opts(&self, path: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        if *self.fault.lock().unwrap() == Some(Fault::Away) {
            return Err(no_answer());
        }
        self.inner.get_opts(path, options).await
    }

    fn delete_stream(
        &self,
        paths: futures::stream::BoxStream<'static, object_store::Result<Path>>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<Path>> {
        self.inner.delete_stream(paths)
    }

    fn list(
        &self,
        prefix: Option<&Path>,
    ) -> futures::stream::BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(
        &self,
        from: &Path,
        to: &Path,
        options: CopyOptions,
    ) -> object_store::Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

fn faulty() -> (World, Arc<Mutex<Option<Fault>>>) {
    let fault = Arc::new(Mutex::new(None));
    let store = Faulty {
        inner: InMemory::new(),
        fault: fault.clone(),
    };
    (World::over(Arc::new(store)), fault)
}

fn set(fault: &Arc<Mutex<Option<Fault>>>, to: Option<Fault>) {
    *fault.lock().unwrap() = to;
}

#[tokio::test]
async fn our_own_write_whose_answer_was_lost_is_no_loss() {
    let (world, fault) = faulty();
    let mut a = world.take("a", None);
    set(&fault, Some(Fault::LosesAnswers));
    assert!(matches!(a.begin().await, Err(ClaimError::Unavailable(_))));
    set(&fault, None);
    a.begin().await.unwrap();

    set(&fault, Some(Fault::LosesAnswers));
    assert!(matches!(
        a.save(&at(1)).await,
        Err(ClaimError::Unavailable(_))
    ));
    assert_eq!(world.record().await.mark, Some(at(1)), "it had arrived");
    set(&fault, None);
    a.save(&at(2)).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(2)));
}

#[tokio::test]
async fn a_store_that_is_away_is_told_and_the_claim_stays_held() {
    let (world, fault) = faulty();
    let mut a = world.take("a", None);
    let reporter = a.store.reporter.clone();
    set(&fault, Some(Fault::Away));
    assert!(matches!(a.begin().await, Err(ClaimError::Unavailable(_))));
    assert_eq!(reporter.now().reason, "CheckpointStoreUnreachable");
    assert!(reporter.now().message.contains("connection reset by peer"));
    set(&fault, None);
    a.begin().await.unwrap();
    assert_eq!(reporter.now().reason, "");

    set(&fault, Some(Fault::Away));
    assert!(matches!(
        a.save(&at(1)).await,
        Err(ClaimError::Unavailable(_))
    ));
    set(&fault, Some(Fault::AwayOnce));
    a.release(Some(&at(2))).await.unwrap();
    assert_eq!(world.record().await.mark, Some(at(2)), "tried once more");

    set(&fault, Some(Fault::Away));
    // The hand-over is exact all the same: the claim takes the position along.
    a.release(Some(&at(3))).await.unwrap();
    assert_eq!(*world.released.lock().unwrap(), Some(at(3)));
}
