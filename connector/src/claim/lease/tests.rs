//! Claims against an API server that does of Leases what the real one does: each write has a version, and
//! one that was made from an older version is refused.

use std::sync::{Arc, Mutex};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde_json::{Value, json};

use super::*;
use crate::claim::BlobStore;

type Leases = Arc<Mutex<BTreeMap<String, Value>>>;
type Answer = Result<Json<Value>, (StatusCode, Json<Value>)>;

fn refused(code: StatusCode) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code.as_u16(), "message": "",
        "reason": if code == StatusCode::NOT_FOUND { "NotFound" } else { "Conflict" }
    });
    Err((code, Json(status)))
}

async fn create(State(leases): State<Leases>, Json(mut lease): Json<Value>) -> Answer {
    let mut leases = leases.lock().unwrap();
    let name = lease["metadata"]["name"].as_str().unwrap().to_owned();
    if leases.contains_key(&name) {
        return refused(StatusCode::CONFLICT);
    }
    lease["metadata"]["resourceVersion"] = json!("1");
    leases.insert(name, lease.clone());
    Ok(Json(lease))
}

/// All of them, whatever the selector says.
async fn list(State(leases): State<Leases>) -> Json<Value> {
    let items: Vec<Value> = leases.lock().unwrap().values().cloned().collect();
    Json(json!({
        "kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": {}, "items": items
    }))
}

async fn read(State(leases): State<Leases>, Path(name): Path<String>) -> Answer {
    match leases.lock().unwrap().get(&name) {
        Some(lease) => Ok(Json(lease.clone())),
        None => refused(StatusCode::NOT_FOUND),
    }
}

async fn replace(
    State(leases): State<Leases>,
    Path(name): Path<String>,
    Json(mut lease): Json<Value>,
) -> Answer {
    let mut leases = leases.lock().unwrap();
    let Some(stored) = leases.get_mut(&name) else {
        return refused(StatusCode::NOT_FOUND);
    };
    let version = stored["metadata"]["resourceVersion"].clone();
    if lease["metadata"]["resourceVersion"] != version {
        return refused(StatusCode::CONFLICT);
    }
    let next = version.as_str().unwrap().parse::<u64>().unwrap() + 1;
    lease["metadata"]["resourceVersion"] = json!(next.to_string());
    *stored = lease.clone();
    Ok(Json(lease))
}

async fn remove(State(leases): State<Leases>, Path(name): Path<String>) -> Answer {
    match leases.lock().unwrap().remove(&name) {
        Some(lease) => Ok(Json(lease)),
        None => refused(StatusCode::NOT_FOUND),
    }
}

pub(crate) async fn api() -> Api<Lease> {
    let all = "/apis/coordination.k8s.io/v1/namespaces/plant/leases";
    let app = Router::new()
        .route(all, post(create).get(list))
        .route(
            &format!("{all}/{{name}}"),
            get(read).put(replace).delete(remove),
        )
        .with_state(Leases::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    let client = kube::Client::try_from(kube::Config::new(uri.parse().unwrap())).unwrap();
    Api::namespaced(client, "plant")
}

fn member(leases: &Api<Lease>, name: &str) -> Claims {
    of(leases, name, "uid", "hub")
}

/// Claims of a member of the connector `uid`, at the endpoint of that name.
fn of(leases: &Api<Lease>, name: &str, uid: &str, hub: &str) -> Claims {
    let store = KubernetesStore {
        connector: "factory".into(),
        connector_uid: uid.into(),
    };
    let source = SourceIdentity {
        namespace: "ns".into(),
        hub: hub.into(),
        consumer_group: "group".into(),
    };
    let mut identity = Identity::from_env();
    identity.pod_uid = format!("pod-of-{name}");
    let mut claims = Claims::new(leases.clone(), store, source, &identity);
    claims.member = MemberId::new(name);
    claims
}

fn zero() -> PartitionId {
    PartitionId::new("0")
}

fn at(sequence: i64) -> Mark {
    Mark {
        offset: format!("{}", sequence * 100).into(),
        sequence,
        enqueued_ms: sequence,
    }
}

async fn record(claims: &Claims) -> ClaimRecord {
    claims.get(&zero()).await.unwrap().unwrap()
}

#[tokio::test]
async fn a_claim_that_was_lost_cannot_checkpoint() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    let mut held = a.create(&zero()).await.unwrap();
    assert_eq!((held.mark(), held.fence()), (None, Duration::ZERO));
    held.save(&at(1)).await.unwrap();

    let mut taken = b.take(&record(&b).await).await.unwrap();
    assert_eq!(taken.mark(), Some(at(1)), "goes on where the other was");
    assert_eq!(
        taken.epoch().0,
        held.epoch().0 + 1,
        "which evicts the other"
    );
    assert_eq!(taken.fence(), FENCE, "the other may have writes under way");
    taken.save(&at(2)).await.unwrap();

    for lost in [
        held.save(&at(9)).await,
        held.confirm().await,
        held.release(Some(&at(9))).await,
    ] {
        assert!(matches!(lost, Err(ClaimError::Lost)), "{lost:?}");
    }
    assert_eq!(mark(&record(&a).await.lease), Some(at(2)));
}

#[tokio::test]
async fn only_one_of_two_gets_a_claim() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    a.create(&zero()).await.unwrap();
    assert!(matches!(
        b.create(&zero()).await.err(),
        Some(ClaimError::Lost)
    ));
    let seen = record(&b).await;
    a.take(&seen).await.unwrap();
    assert!(matches!(b.take(&seen).await.err(), Some(ClaimError::Lost)));
}

#[tokio::test]
async fn a_release_names_the_next_position_and_the_next_owner_need_not_wait() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    let mut held = a.create(&zero()).await.unwrap();
    held.release(Some(&at(7))).await.unwrap();
    let free = record(&b).await;
    assert_eq!(free.holder, None);
    let taken = b.take(&free).await.unwrap();
    assert_eq!((taken.mark(), taken.fence()), (Some(at(7)), Duration::ZERO));
}

/// An answer of the API server that was lost left our own write behind, which looks like somebody else's.
#[tokio::test]
async fn a_write_whose_answer_was_lost_is_no_loss() {
    let leases = api().await;
    let a = member(&leases, "a");
    let mut held = a.create(&zero()).await.unwrap();
    let before = held.lease.clone();
    held.save(&at(1)).await.unwrap();
    held.lease = before;
    held.save(&at(2)).await.unwrap();
    assert_eq!(mark(&record(&a).await.lease), Some(at(2)));
}

/// A reader that could not release its claim left it to a member that lives and does not read: nobody else
/// could ever take it.
#[tokio::test]
async fn a_claim_that_could_not_be_released_is_given_back_later() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    let mut held = a.create(&zero()).await.unwrap();
    held.save(&at(3)).await.unwrap();
    a.give_back(&record(&a).await).await.unwrap();
    let free = record(&b).await;
    assert_eq!((&free.holder, free.holder_pod.as_str()), (&None, ""));
    assert_eq!(mark(&free.lease), Some(at(3)), "its position stays");
    let lost = held.save(&at(4)).await;
    assert!(matches!(lost, Err(ClaimError::Lost)));
}

/// A hub that fails over while nobody reads: `start: Latest` would skip what has come since.
#[tokio::test]
async fn a_connector_that_has_read_another_endpoint_knows_it() {
    let leases = api().await;
    let moved = of(&leases, "b", "uid", "hub-after-1");
    assert!(!moved.are_elsewhere().await.unwrap(), "it has read nothing");
    let a = member(&leases, "a");
    a.create(&zero()).await.unwrap();
    assert!(!a.are_elsewhere().await.unwrap(), "it has read only here");
    let stranger = of(&leases, "c", "another", "hub-after-1");
    assert!(!stranger.are_elsewhere().await.unwrap());
    assert!(moved.are_elsewhere().await.unwrap());
    moved.create(&zero()).await.unwrap();
    let late = of(&leases, "d", "uid", "hub-after-1");
    assert!(
        late.are_elsewhere().await.unwrap(),
        "other partitions may not be claimed here yet"
    );
}

/// With checkpoints in blobs the Lease still decides who may write them, and at a hand-over knows the position
/// too, so that a connector can change its store at any time.
#[tokio::test]
async fn over_a_lease_a_checkpoint_in_a_blob_moves_with_the_claim() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    let memory = Arc::new(object_store::memory::InMemory::new());
    let container = crate::storage::Container::over(memory, "container marks");
    let blob = |claims: &Claims, lease: LeaseClaim| {
        let reporter = crate::report::Reporter::new(&crate::identity::Identity::from_env());
        BlobStore::new(container.clone(), claims.member.clone(), reporter)
            .over(&claims.source, Box::new(lease))
    };
    let mut lease = a.create(&zero()).await.unwrap();
    lease.save(&at(1)).await.unwrap();
    let mut held = blob(&a, lease);
    held.begin().await.unwrap();
    assert_eq!(held.mark(), Some(at(1)), "goes on where the Lease was");
    held.save(&at(2)).await.unwrap();
    let kept = mark(&record(&a).await.lease);
    assert_eq!(kept, Some(at(1)), "the Lease is written for moves only");

    let mut taken = blob(&b, b.take(&record(&b).await).await.unwrap());
    taken.begin().await.unwrap();
    assert_eq!((taken.mark(), taken.fence()), (Some(at(2)), FENCE));
    for lost in [held.save(&at(9)).await, held.release(Some(&at(9))).await] {
        assert!(matches!(lost, Err(ClaimError::Lost)), "{lost:?}");
    }
    taken.release(Some(&at(3))).await.unwrap();
    let free = record(&a).await;
    assert_eq!((&free.holder, mark(&free.lease)), (&None, Some(at(3))));
}

/// Found by a scenario: a claim that was deleted by hand was made anew without a position, and the whole
/// stream was read again.
#[tokio::test]
async fn a_claim_that_was_deleted_is_made_again_with_its_position() {
    let leases = api().await;
    let (a, b) = (member(&leases, "a"), member(&leases, "b"));
    let mut held = a.create(&zero()).await.unwrap();
    held.save(&at(1)).await.unwrap();
    let epoch = held.epoch();
    let delete = kube::api::DeleteParams::default();
    leases.delete(&a.name(&zero()), &delete).await.unwrap();
    held.save(&at(2)).await.unwrap();
    let again = record(&a).await;
    assert_eq!(again.holder.as_ref(), Some(&a.member));
    assert_eq!(
        (mark(&again.lease), super::epoch(&again.lease)),
        (Some(at(2)), Some(epoch.0))
    );

    leases.delete(&a.name(&zero()), &delete).await.unwrap();
    b.create(&zero()).await.unwrap();
    let lost = held.save(&at(3)).await;
    assert!(
        matches!(lost, Err(ClaimError::Lost)),
        "somebody else was faster"
    );
}
