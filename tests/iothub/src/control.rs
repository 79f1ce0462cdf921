//! The control face: what tests do to the stand-in and want to know of it. Plain HTTP without login,
//! and no part of IoT Hub: for tests only, on addresses that only they reach.
//!
//! | call | body or query | answer |
//! |---|---|---|
//! | `GET /health` | | 200 once all faces listen |
//! | `POST /devices` | `{"devices": ["a", …]}` | `{"devices": [{"deviceId", "key"}]}`; those that exist keep their keys |
//! | `GET /devices` | | `{"devices": [{"deviceId", "connected", "c2dDepth", "telemetry"}]}` |
//! | `GET /partitions` | | `{"entity", "partitions": [{"id", "begin", "last", "empty", "readers"}]}` |
//! | `GET /connections` | | open connections per face |
//! | `GET /receipts` | `after`, `limit` | `{"receipts": […], "next"}`; `next` is the next `after` |
//! | `POST /load` | a [`Load`] | `{"appended"}`, once all of it is in the stream |
//! | `POST /fleet` | a [`Crew`] | `{"connected"}`; they stay until they are dismissed |
//! | `DELETE /fleet` | | 204; none of them is connected any more |
//! | `POST /faults` | a [`Fault`] | 204 |
//! | `GET /operations` | | per [`Operation`]: `{"accepted", "refused", "lost"}` since the start |
//! | `PUT /limits` | [`Limits`], in place of those before | 204 |
//! | `DELETE /limits` | | 204 |

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Query, State},
    http::StatusCode,
    routing::{get, post, put},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    fault::{FaceName, Fault},
    fleet::Crew,
    hub::{Change, DeviceView, Etag, Hub},
    identity::Identity,
    load::{BadLoad, Load},
    log::{Last, PartitionView, ReaderView},
    meter::{Count, Limits},
    operation::Operation,
    refusal::Refusal,
};

/// Room for a hundred thousand devices of the longest names.
const MAX_BODY: usize = 16 * 1024 * 1024;

/// Receipts in one answer, unless asked for fewer: about a megabyte.
const MAX_RECEIPTS: usize = 10_000;

type Shared = State<Arc<Hub>>;

/// The control face of a hub.
pub fn router(hub: Arc<Hub>) -> Router {
    Router::new()
        .route("/health", get(async || StatusCode::OK))
        .route("/devices", get(devices).post(register))
        .route("/partitions", get(partitions))
        .route("/connections", get(connections))
        .route("/receipts", get(receipts))
        .route("/load", post(load))
        .route("/fleet", post(come).delete(dismiss))
        .route("/faults", post(fault))
        .route("/operations", get(operations))
        .route("/limits", put(limit).delete(lift))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(hub)
}

#[derive(Debug, Deserialize)]
struct Names {
    devices: Vec<String>,
    /// The module of this name of each of them, and not the devices themselves.
    module: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Made {
    device_id: String,
    key: String,
}

/// Nothing is registered if one of the names cannot be.
async fn register(
    State(hub): Shared,
    Json(names): Json<Names>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let identities: Vec<Identity> = names
        .devices
        .iter()
        .map(|name| Identity::new(name, names.module.as_deref()))
        .collect::<Result<_, _>>()
        .map_err(|bad| (StatusCode::BAD_REQUEST, bad.to_string()))?;
    let made: Vec<Made> = identities
        .iter()
        .map(|identity| {
            find_or_make(&hub, identity).map(|view| Made {
                device_id: identity.device_id().to_owned(),
                key: view.keys.primary.reveal().to_owned(),
            })
        })
        .collect::<Result<_, _>>()
        .map_err(|refusal| (StatusCode::CONFLICT, refusal.to_string()))?;
    Ok(Json(json!({"devices": made})))
}

fn find_or_make(hub: &Hub, identity: &Identity) -> Result<DeviceView, Refusal> {
    match hub.put(identity, Change::default(), &Etag::Absent) {
        Err(Refusal::AlreadyExists(_)) => hub.get(identity),
        other => other,
    }
}

async fn devices(State(hub): Shared) -> Json<Value> {
    let devices: Vec<Value> = hub
        .list(None, usize::MAX)
        .iter()
        .map(|view| {
            json!({
                "deviceId": view.identity.device_id(),
                "connected": view.connected,
                "c2dDepth": view.c2d_depth,
                "telemetry": view.telemetry,
            })
        })
        .collect();
    Json(json!({"devices": devices}))
}

async fn partitions(State(hub): Shared) -> Json<Value> {
    let endpoint = hub.endpoint();
    let partitions: Vec<Value> = endpoint
        .partitions
        .iter()
        .map(|partition| show(partition.view()))
        .collect();
    Json(json!({"entity": endpoint.entity, "partitions": partitions}))
}

fn show(view: PartitionView) -> Value {
    let PartitionView {
        id,
        begin,
        last,
        empty,
        readers,
    } = view;
    let last = last.map(|last| {
        let Last {
            sequence,
            offset,
            enqueued,
        } = last;
        json!({"sequence": sequence, "offset": offset, "enqueued": enqueued})
    });
    let reader = |view| {
        let ReaderView {
            group,
            name,
            epoch,
            next,
        } = view;
        json!({"group": group, "name": name, "epoch": epoch, "next": next})
    };
    json!({
        // A name, as in paths and in faults; not a number.
        "id": id.to_string(), "begin": begin, "last": last, "empty": empty,
        "readers": readers.into_iter().map(reader).collect::<Vec<_>>(),
    })
}

async fn connections(State(hub): Shared) -> Json<Map<String, Value>> {
    let faces = [
        FaceName::Mqtt,
        FaceName::HubAmqp,
        FaceName::EventsAmqp,
        FaceName::Https,
    ];
    let count = |face| {
        let name = json!(face).as_str().map(str::to_owned)?;
        Some((name, hub.connections.count(face).into()))
    };
    Json(faces.into_iter().filter_map(count).collect())
}

#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

async fn receipts(State(hub): Shared, Query(page): Query<Page>) -> Json<Value> {
    let limit = page.limit.unwrap_or(MAX_RECEIPTS).min(MAX_RECEIPTS);
    let receipts = hub.receipts.after(page.after, limit);
    let next = receipts.last().map_or(page.after, |last| last.n);
    Json(json!({"receipts": receipts, "next": next}))
}

async fn load(
    State(hub): Shared,
    Json(load): Json<Load>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let refused = |bad: BadLoad| (StatusCode::BAD_REQUEST, bad.to_string());
    let appended = load.append(&hub).await.map_err(refused)?;
    Ok(Json(json!({"appended": appended})))
}

async fn come(
    State(hub): Shared,
    Json(crew): Json<Crew>,
) -> Result<Json<Value>, (StatusCode, String)> {
    let refused = |refusal: Refusal| (StatusCode::BAD_REQUEST, refusal.to_string());
    let connected = crew.come(&hub).map_err(refused)?;
    Ok(Json(json!({"connected": connected})))
}

async fn dismiss(State(hub): Shared) -> StatusCode {
    hub.fleet.dismiss();
    StatusCode::NO_CONTENT
}

async fn fault(State(hub): Shared, Json(fault): Json<Fault>) -> StatusCode {
    tracing::info!(?fault, "a test asks for a fault");
    hub.inject(&fault);
    StatusCode::NO_CONTENT
}

async fn operations(State(hub): Shared) -> Json<BTreeMap<Operation, Count>> {
    Json(hub.meter.counts())
}

async fn limit(State(hub): Shared, Json(limits): Json<Limits>) -> StatusCode {
    hub.meter.limit(Some(&limits));
    StatusCode::NO_CONTENT
}

async fn lift(State(hub): Shared) -> StatusCode {
    hub.meter.limit(None);
    StatusCode::NO_CONTENT
}

#[cfg(test)]
mod tests;
