//! What a test wants to know.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{Query, State},
    http::StatusCode,
    response::IntoResponse,
};
use serde::Deserialize;
use serde_json::{Value as Any, json};

use super::{Failure, fail};
use crate::{
    cluster::{Shared, lock},
    tally::TallyView,
};

/// How many Things there are of each template, enabled or not, and of each gateway.
pub(super) async fn census(State(cluster): State<Shared>) -> Json<Vec<Any>> {
    let census = lock(&cluster.model).census();
    let rows = census.into_iter().map(|(alike, count)| {
        let mut row = json!(alike);
        row["count"] = json!(count);
        row
    });
    Json(rows.collect())
}

#[derive(Deserialize)]
pub(super) struct PageQuery {
    #[serde(default)]
    after: usize,
    #[serde(default = "page")]
    limit: usize,
}

/// Entries of a page: a few megabytes of JSON.
const fn page() -> usize {
    20_000
}

pub(super) async fn values(
    State(cluster): State<Shared>,
    Query(at): Query<PageQuery>,
) -> impl IntoResponse {
    Json(lock(&cluster.values).page(at.after, at.limit))
}

pub(super) async fn tally(State(cluster): State<Shared>) -> Result<Json<TallyView>, Failure> {
    match cluster.tally() {
        Some(tally) => Ok(Json(tally)),
        None => fail(StatusCode::NOT_FOUND, "values are logged, not counted"),
    }
}

pub(super) async fn clear_tally(State(cluster): State<Shared>) -> StatusCode {
    match &cluster.tally {
        Some(tally) => lock(tally).clear(),
        None => return StatusCode::NOT_FOUND,
    }
    StatusCode::OK
}

pub(super) async fn draws(
    State(cluster): State<Shared>,
    Query(at): Query<PageQuery>,
) -> impl IntoResponse {
    Json(lock(&cluster.draws).page(at.after, at.limit))
}

pub(super) async fn events(
    State(cluster): State<Shared>,
    Query(at): Query<PageQuery>,
) -> impl IntoResponse {
    Json(lock(&cluster.events).page(at.after, at.limit))
}

pub(super) async fn served(State(cluster): State<Shared>) -> Json<BTreeMap<String, u64>> {
    Json(lock(&cluster.served).clone())
}

pub(super) async fn endpoints(State(cluster): State<Shared>) -> Json<Any> {
    let nodes = cluster.nodes.iter().enumerate().map(|(index, node)| {
        let binds = lock(&node.binds);
        let endpoints: Vec<Any> = lock(&node.endpoints)
            .iter()
            .map(|(id, endpoint)| {
                let bound: Vec<&str> = binds
                    .names()
                    .filter(|(_, binders)| binders.iter().any(|binder| binder.endpoint == *id))
                    .map(|(name, _)| name)
                    .collect();
                json!({
                    "endpoint": id, "gateway": endpoint.gateway, "bound": bound,
                    "sockets": endpoint.sockets.len(), "sessions": endpoint.sessions.len(),
                    "pending": endpoint.pending.len()
                })
            })
            .collect();
        json!({ "node": index, "away": node.faults.borrow().away, "endpoints": endpoints })
    });
    Json(Any::Array(nodes.collect()))
}
