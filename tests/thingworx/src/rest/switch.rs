//! What a test does: load, faults, keys, rights.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};

use super::Failure;
use crate::{
    bind::Policy,
    cluster::{Shared, lock},
    fault::Fault,
    load::{BadLoad, Load, LoadView},
    right::Rights,
};

/// Answers once all of it is answered.
pub(super) async fn load(
    State(cluster): State<Shared>,
    Json(load): Json<Load>,
) -> Result<Json<LoadView>, Failure> {
    let refused = |bad: BadLoad| Failure(StatusCode::BAD_REQUEST, bad.to_string());
    load.send(&cluster).await.map(Json).map_err(refused)
}

pub(super) async fn fault(State(cluster): State<Shared>, Json(fault): Json<Fault>) -> StatusCode {
    tracing::info!(?fault, "fault");
    cluster.fault(&fault);
    StatusCode::OK
}

pub(super) async fn add_key(State(cluster): State<Shared>, Path(key): Path<String>) -> StatusCode {
    lock(&cluster.keys).insert(key);
    StatusCode::OK
}

pub(super) async fn revoke_key(
    State(cluster): State<Shared>,
    Path(key): Path<String>,
) -> StatusCode {
    lock(&cluster.keys).remove(&key);
    StatusCode::OK
}

pub(super) async fn hold(State(cluster): State<Shared>, Path(name): Path<String>) -> StatusCode {
    cluster.hold(&name, true);
    StatusCode::OK
}

pub(super) async fn let_go(State(cluster): State<Shared>, Path(name): Path<String>) -> StatusCode {
    cluster.hold(&name, false);
    StatusCode::OK
}

pub(super) async fn rights(State(cluster): State<Shared>) -> Json<BTreeSet<String>> {
    Json(lock(&cluster.rights).iter().map(str::to_owned).collect())
}

pub(super) async fn grant(
    State(cluster): State<Shared>,
    Json(rights): Json<BTreeSet<String>>,
) -> StatusCode {
    *lock(&cluster.rights) = Rights::only(rights);
    StatusCode::OK
}

pub(super) async fn policy(
    State(cluster): State<Shared>,
    Json(policy): Json<Policy>,
) -> StatusCode {
    *lock(&cluster.policy) = policy;
    StatusCode::OK
}
