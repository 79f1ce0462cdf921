//! Answers in pages.

use axum::{
    extract::FromRequestParts,
    http::{HeaderMap, HeaderName, HeaderValue, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Serialize, de::DeserializeOwned};

use crate::refusal::Refusal;

use super::error::Failure;

const SIZE: HeaderName = HeaderName::from_static("x-ms-max-item-count");
const CONTINUATION: HeaderName = HeaderName::from_static("x-ms-continuation");
const ITEM_TYPE: HeaderName = HeaderName::from_static("x-ms-item-type");

/// Items of a page unless fewer or more are asked for, and at most. Source: Microsoft Learn, "IoT Hub
/// query language for device and module twins, jobs, and message routing".
const USUAL: usize = 100;
const MOST: usize = 1000;

/// Which page is asked for.
pub(super) struct Paged {
    pub(super) size: usize,
    continuation: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for Paged {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Failure> {
        let header = |name| {
            parts
                .headers
                .get(name)
                .and_then(|value: &HeaderValue| value.to_str().ok())
        };
        let size = match header(SIZE) {
            None => USUAL,
            Some(text) => text
                .parse()
                .ok()
                .filter(|size| (1..=MOST).contains(size))
                .ok_or_else(|| Refusal::BadRequest(format!("a page has 1 to {MOST} items")))?,
        };
        let continuation = header(CONTINUATION).filter(|text| !text.is_empty());
        Ok(Self {
            size,
            continuation: continuation.map(str::to_owned),
        })
    }
}

impl Paged {
    /// Where the page begins; the first does so nowhere. `of` is what must be asked for again: a
    /// continuation is good for nothing else.
    pub(super) fn from<P: DeserializeOwned>(&self, of: &str) -> Result<Option<P>, Refusal> {
        let Some(text) = &self.continuation else {
            return Ok(None);
        };
        let read = || {
            let bytes = STANDARD.decode(text).ok()?;
            let (asked, place): (String, P) = serde_json::from_slice(&bytes).ok()?;
            (asked == of).then_some(place)
        };
        match read() {
            Some(place) => Ok(Some(place)),
            None => Err(Refusal::BadRequest(
                "the continuation token is not valid".into(),
            )),
        }
    }
}

/// The headers of a page: what is in it, and where the next one begins.
pub(super) fn headers(
    item_type: &'static str,
    of: &str,
    next: Option<impl Serialize>,
) -> HeaderMap {
    let mut headers = HeaderMap::from_iter([(ITEM_TYPE, HeaderValue::from_static(item_type))]);
    let token = next.and_then(|place| {
        let text = serde_json::to_string(&(of, place)).ok()?;
        HeaderValue::from_str(&STANDARD.encode(text)).ok()
    });
    if let Some(token) = token {
        headers.insert(CONTINUATION, token);
    }
    headers
}
