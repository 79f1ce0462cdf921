//! Queries.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap};
use serde::Deserialize;
use serde_json::Value;

use crate::{hub::Hub, query::Query, refusal::Refusal};

use super::{
    error::Failure,
    page::{Paged, headers},
    request::Body,
};

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    query: String,
}

pub(super) async fn find(
    State(hub): State<Arc<Hub>>,
    page: Paged,
    Body(Asked { query: text }): Body<Asked>,
) -> Result<(HeaderMap, Json<Vec<Value>>), Failure> {
    let query = Query::parse(&text).map_err(|bad| Refusal::BadRequest(bad.to_string()))?;
    let found = hub.find(&query, page.from(&text)?, page.size);
    let headers = headers(query.item_type(), &text, found.next);
    Ok((headers, Json(found.items)))
}
