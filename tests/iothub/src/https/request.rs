//! Reading requests: whom they are about, on which condition, with which body.

use std::sync::Arc;

use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Path, Request},
    http::{HeaderMap, header::IF_MATCH, request::Parts},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    hub::{Etag, Hub},
    identity::Identity,
    refusal::Refusal,
};

use super::error::Failure;

/// Largest body: twice the largest payload of a method. The hub measures the payload by itself, so
/// that what is around it, escapes and white space, which do not count, have room.
const MAX_BODY: usize = 256 * 1024;

#[derive(Debug, Deserialize)]
struct Ids {
    device: String,
    module: Option<String>,
}

/// The device or module that the path names.
pub(super) struct Who(pub(super) Identity);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Failure> {
        let Path(ids) = Path::<Ids>::from_request_parts(parts, state)
            .await
            .map_err(|error| Refusal::BadRequest(error.body_text()))?;
        Ok(Self(Identity::new(&ids.device, ids.module.as_deref())?))
    }
}

/// The condition of a change.
pub(super) struct Condition(pub(super) Etag);

impl<S: Send + Sync> FromRequestParts<S> for Condition {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        Ok(Self(condition(&parts.headers)))
    }
}

fn condition(headers: &HeaderMap) -> Etag {
    let Some(text) = headers.get(IF_MATCH).and_then(|value| value.to_str().ok()) else {
        return Etag::Absent;
    };
    let text = text.trim();
    let text = text.strip_prefix("W/").unwrap_or(text);
    // The Python SDK writes "*" in quotes.
    match text.trim_matches('"') {
        "*" => Etag::Any,
        etag => Etag::Exactly(etag.to_owned()),
    }
}

/// Takes a request to its end before anything is decided. Were it refused before that, the HTTP server
/// would close the connection behind its answer, and clients whose pools have not seen it yet would
/// lose their next request.
pub(super) async fn whole(request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    match read(body).await {
        Ok(bytes) => next.run(Request::from_parts(parts, bytes.into())).await,
        Err(failure) => failure.into_response(),
    }
}

async fn read(body: axum::body::Body) -> Result<Bytes, Failure> {
    to_bytes(body, MAX_BODY)
        .await
        .map_err(|_| Refusal::TooLarge(format!("a body has at most {MAX_BODY} bytes")).into())
}

/// A JSON body, whatever its content type says.
pub(super) struct Body<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<Arc<Hub>> for Body<T> {
    type Rejection = Failure;

    async fn from_request(request: Request, _: &Arc<Hub>) -> Result<Self, Failure> {
        let bytes = read(request.into_body()).await?;
        let value = serde_json::from_slice(&bytes)
            .map_err(|error| Refusal::BadRequest(format!("cannot read the body: {error}")))?;
        Ok(Self(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_conditions_as_the_sdks_write_them() {
        let read =
            |text: &str| condition(&HeaderMap::from_iter([(IF_MATCH, text.parse().unwrap())]));
        assert_eq!(condition(&HeaderMap::new()), Etag::Absent);
        assert_eq!(read("*"), Etag::Any);
        assert_eq!(read("\"*\""), Etag::Any);
        assert_eq!(read("\"00a\""), Etag::Exactly("00a".into()));
        assert_eq!(read("W/\"00a\""), Etag::Exactly("00a".into()));
        assert_eq!(read("00a"), Etag::Exactly("00a".into()));
    }
}
