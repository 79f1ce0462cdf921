//! The REST face: what a user of the platform does, and what a test wants to know.
//!
//! `/Thingworx/health` and `/Thingworx/ready` need no login; everything else the header `appKey`. Paths
//! below `/Thingworx` are the platform's own; those below `/standin` are not.

mod look;
mod switch;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use alwayson::{
    BaseType, Field, InfoTable, Request, Response as Answer, Value,
    json::{from_json, table_to_json},
};
use axum::{
    Json, Router,
    extract::{Path, Request as HttpRequest, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::Deserialize;
use serde_json::{Value as Any, json};
use tokio::time::timeout;

use crate::{
    cluster::{Shared, lock},
    draw,
    model::Thing,
};

pub(crate) fn router(cluster: Shared) -> Router {
    let closed = Router::new()
        .route(
            "/Thingworx/Things/{thing}",
            get(thing).put(define).delete(remove),
        )
        .route(
            "/Thingworx/Things/{thing}/Properties/{property}",
            get(read).put(write),
        )
        .route("/Thingworx/Things/{thing}/Services/{service}", post(call))
        .route("/standin/remote/{thing}/{property}", get(read_remote))
        .route("/standin/things", get(things).put(define_many))
        .route("/standin/generate", post(generate))
        .route("/standin/load", post(switch::load))
        .route("/standin/templates/{name}", put(derive))
        .route("/standin/census", get(look::census))
        .route("/standin/tally", get(look::tally).delete(look::clear_tally))
        .route("/standin/endpoints", get(look::endpoints))
        .route("/standin/log/values", get(look::values))
        .route("/standin/log/draws", get(look::draws))
        .route("/standin/log/events", get(look::events))
        .route("/standin/served", get(look::served))
        .route("/standin/faults", post(switch::fault))
        .route(
            "/standin/keys/{key}",
            put(switch::add_key).delete(switch::revoke_key),
        )
        .route("/standin/policy", put(switch::policy))
        .route(
            "/standin/foreign/{name}",
            put(switch::hold).delete(switch::let_go),
        )
        .route("/standin/rights", get(switch::rights).put(switch::grant))
        .layer(middleware::from_fn_with_state(cluster.clone(), logged_in));
    Router::new()
        .route("/Thingworx/health", get(async || StatusCode::OK))
        .route("/Thingworx/ready", get(ready))
        .merge(closed)
        .with_state(cluster)
}

/// What a caller is told: a status and a reason.
struct Failure(StatusCode, String);

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

fn fail<T>(status: StatusCode, reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure(status, reason.into()))
}

async fn logged_in(State(cluster): State<Shared>, request: HttpRequest, next: Next) -> Response {
    let key = request
        .headers()
        .get("appKey")
        .and_then(|key| key.to_str().ok());
    // The keys as they were set at the start: revoking the connector's must not lock a test out.
    if key.is_none_or(|key| !cluster.settings.app_keys.contains(key)) {
        return Failure(StatusCode::UNAUTHORIZED, "no valid appKey".into()).into_response();
    }
    next.run(request).await
}

async fn ready(State(cluster): State<Shared>) -> StatusCode {
    let away = cluster.nodes.iter().all(|node| node.faults.borrow().away);
    if away {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    }
}

// ---- the model ----

async fn thing(
    State(cluster): State<Shared>,
    Path(name): Path<String>,
) -> Result<Json<Any>, Failure> {
    let connected = cluster
        .nodes
        .iter()
        .any(|node| !lock(&node.binds).binders(&name).is_empty());
    let model = lock(&cluster.model);
    let Some((name, thing)) = model.thing(&name) else {
        return fail(
            StatusCode::NOT_FOUND,
            format!("Thing [{name}] does not exist"),
        );
    };
    let values = model.all(name);
    Ok(Json(json!({
        "name": name, "definition": **thing, "values": values, "isConnected": connected
    })))
}

async fn define(
    State(cluster): State<Shared>,
    Path(name): Path<String>,
    Json(thing): Json<Thing>,
) -> StatusCode {
    cluster.define(&name, thing);
    StatusCode::OK
}

async fn define_many(
    State(cluster): State<Shared>,
    Json(things): Json<BTreeMap<String, Thing>>,
) -> StatusCode {
    for (name, thing) in things {
        cluster.define(&name, thing);
    }
    StatusCode::OK
}

/// Many Things of few kinds.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Generate {
    /// What their names begin with; a number from 0 follows.
    prefix: String,
    /// How many.
    count: usize,
    /// What they are, in turn.
    things: Vec<Thing>,
}

async fn generate(
    State(cluster): State<Shared>,
    Json(generate): Json<Generate>,
) -> Result<StatusCode, Failure> {
    let Generate {
        prefix,
        count,
        things,
    } = generate;
    if things.is_empty() {
        return fail(StatusCode::BAD_REQUEST, "things: at least one");
    }
    cluster.generate(&prefix, count, things);
    Ok(StatusCode::OK)
}

async fn remove(State(cluster): State<Shared>, Path(name): Path<String>) -> StatusCode {
    match lock(&cluster.model).remove(&name) {
        Some(_) => StatusCode::OK,
        None => StatusCode::NOT_FOUND,
    }
}

async fn things(State(cluster): State<Shared>) -> Json<BTreeSet<String>> {
    Json(lock(&cluster.model).names().map(str::to_owned).collect())
}

/// Derives a template of `AzureIotThing`, as users do.
async fn derive(State(cluster): State<Shared>, Path(name): Path<String>) -> StatusCode {
    lock(&cluster.model).derive(&name);
    StatusCode::OK
}

// ---- properties and services ----

async fn read(
    State(cluster): State<Shared>,
    Path((thing, property)): Path<(String, String)>,
) -> Result<Json<Any>, Failure> {
    let model = lock(&cluster.model);
    let Some((name, found)) = model.thing(&thing) else {
        return fail(
            StatusCode::NOT_FOUND,
            format!("Thing [{thing}] does not exist"),
        );
    };
    let wanted: Vec<&String> = found
        .properties
        .keys()
        .filter(|one| property == "*" || **one == property)
        .collect();
    if wanted.is_empty() {
        return fail(
            StatusCode::NOT_FOUND,
            format!("Property [{property}] does not exist"),
        );
    }
    let cells = wanted.into_iter().map(|property| {
        let value = model.get(name, property).cloned().unwrap_or(Value::Nothing);
        (property.clone(), value)
    });
    Ok(Json(table_to_json(&InfoTable::one_row(cells))))
}

/// Reads a property from the edge, as the platform does for one that it does not cache.
async fn read_remote(
    State(cluster): State<Shared>,
    Path((thing, property)): Path<(String, String)>,
) -> Result<Json<Any>, Failure> {
    let (name, address) = {
        let model = lock(&cluster.model);
        let Some((name, found)) = model.thing(&thing) else {
            return fail(
                StatusCode::NOT_FOUND,
                format!("Thing [{thing}] does not exist"),
            );
        };
        (name.to_owned(), address(name, found))
    };
    let answer = edge(&cluster, "read", &name, Request::read(address, property)).await?;
    Ok(Json(
        answer.content.as_ref().map_or(Any::Null, table_to_json),
    ))
}

/// A property that is bound to the edge is written there; its value on the platform changes only when the
/// edge reports it.
async fn write(
    State(cluster): State<Shared>,
    Path((thing, property)): Path<(String, String)>,
    Json(body): Json<BTreeMap<String, Any>>,
) -> Result<StatusCode, Failure> {
    if property != "*" && !body.keys().eq([&property]) {
        return fail(
            StatusCode::BAD_REQUEST,
            format!("the body must have the one key {property}"),
        );
    }
    for (property, json) in body {
        let (name, address, value, remote) = {
            let model = lock(&cluster.model);
            let Some((name, found)) = model.thing(&thing) else {
                return fail(
                    StatusCode::NOT_FOUND,
                    format!("Thing [{thing}] does not exist"),
                );
            };
            let Some(definition) = found.properties.get(&property) else {
                return fail(
                    StatusCode::NOT_FOUND,
                    format!("Property [{property}] does not exist"),
                );
            };
            let value = from_json(definition.base_type, &json)
                .map_err(|error| Failure(StatusCode::BAD_REQUEST, error.to_string()))?;
            let remote = definition.remote_name(&property).map(str::to_owned);
            (name.to_owned(), address(name, found), value, remote)
        };
        match remote {
            Some(remote) => {
                let request = Request::write(address, remote, value);
                edge(&cluster, "write", &name, request).await?;
            }
            None => {
                lock(&cluster.model).set(&name, &property, value);
            }
        }
    }
    Ok(StatusCode::OK)
}

async fn call(
    State(cluster): State<Shared>,
    Path((thing, service)): Path<(String, String)>,
    body: Option<Json<BTreeMap<String, Any>>>,
) -> Result<Json<Any>, Failure> {
    let body = body.map(|Json(body)| body).unwrap_or_default();
    let (name, address, remote, params) = {
        let model = lock(&cluster.model);
        let Some((name, found)) = model.thing(&thing) else {
            return fail(
                StatusCode::NOT_FOUND,
                format!("Thing [{thing}] does not exist"),
            );
        };
        let (remote, params) = match found.services.get(&service) {
            Some(definition) => {
                let remote = &definition.remote_name;
                let remote = if remote.is_empty() { &service } else { remote };
                (remote.clone(), inputs(&definition.inputs, &body)?)
            }
            // The services of a connector's own Thing are all remote.
            None if found.ephemeral => (service.clone(), inputs(&BTreeMap::new(), &body)?),
            None => {
                return fail(
                    StatusCode::NOT_FOUND,
                    format!("Service [{service}] does not exist"),
                );
            }
        };
        (name.to_owned(), address(name, found), remote, params)
    };
    let answer = edge(
        &cluster,
        "call",
        &name,
        Request::call(address, remote, params),
    )
    .await?;
    Ok(Json(
        answer.content.as_ref().map_or(Any::Null, table_to_json),
    ))
}

/// `*` and the identifier, if the Thing has one, else its name.
fn address(name: &str, thing: &Thing) -> String {
    thing
        .identifier
        .as_ref()
        .map_or_else(|| name.to_owned(), |identifier| format!("*{identifier}"))
}

fn inputs(
    definitions: &BTreeMap<String, String>,
    body: &BTreeMap<String, Any>,
) -> Result<Option<InfoTable>, Failure> {
    let bad = |reason: String| Failure(StatusCode::BAD_REQUEST, reason);
    let mut fields = Vec::new();
    let mut row = Vec::new();
    for (name, json) in body {
        let base_type: BaseType = match definitions.get(name) {
            Some(base_type) => base_type
                .parse()
                .map_err(|_| bad(format!("input [{name}] has no base type that exists")))?,
            None => return Err(bad(format!("input [{name}] is not defined"))),
        };
        row.push(from_json(base_type, json).map_err(|error| bad(format!("{name}: {error}")))?);
        fields.push(Field::new(name.as_str(), base_type));
    }
    if fields.is_empty() {
        return Ok(None);
    }
    let mut table = InfoTable::new(fields);
    table.push(&row).map_err(|error| bad(error.to_string()))?;
    Ok(Some(table))
}

async fn edge(
    cluster: &Shared,
    kind: &'static str,
    thing: &str,
    request: Request,
) -> Result<Answer, Failure> {
    let longest = draw::longest(cluster) + Duration::from_secs(1);
    match timeout(longest, draw::ask(cluster, kind, thing, request)).await {
        Ok(Ok(answer)) if draw::succeeded(&answer) => Ok(answer),
        Ok(Ok(answer)) => {
            let reason = answer.error_text().unwrap_or_default();
            let reason = format!("{}: {reason}", answer.status.name());
            fail(StatusCode::INTERNAL_SERVER_ERROR, reason)
        }
        Ok(Err(error)) => fail(StatusCode::SERVICE_UNAVAILABLE, error.to_string()),
        Err(_) => fail(StatusCode::GATEWAY_TIMEOUT, "the request timed out"),
    }
}
