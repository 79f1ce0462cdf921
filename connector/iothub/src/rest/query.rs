//! Queries, page by page.

use std::{fmt, time::Duration};

use reqwest::{Method, RequestBuilder, header::HeaderValue};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    CONNECT, CONTINUATION, HubRest,
    answer::{Answer, typed},
};
use crate::{
    HubError,
    refusal::{Subject, words},
};

/// How long the hub may look through its twins: a million in the largest.
const SEARCH: Duration = Duration::from_secs(30);
/// Largest page that is read: a thousand twins of 16 KiB. Who has larger ones asks for smaller pages.
const PAGE_MAX: usize = 16 * 1024 * 1024;
const SIZE: &str = "x-ms-max-item-count";

/// Where in its result a query goes on. What it says is the hub's own; it outlives a process and can be
/// stored. The text of the query belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Continuation(String);

impl Continuation {
    /// One that was stored.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// To be stored.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Continuation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRequest {
    /// Most items that it may have; what the hub likes (100) if absent. The hub may give fewer than that
    /// although there are more, even none.
    pub size: Option<u16>,
    /// Where it begins; the first if absent.
    pub from: Option<Continuation>,
}

impl PageRequest {
    pub(super) fn apply(&self, mut request: RequestBuilder) -> Result<RequestBuilder, HubError> {
        if let Some(size) = self.size {
            request = request.header(SIZE, size);
        }
        if let Some(Continuation(text)) = &self.from {
            let header = HeaderValue::from_str(text).map_err(|_| HubError::Settings {
                what: "a continuation of a query is none of the hub's".into(),
            })?;
            request = request.header(CONTINUATION, header);
        }
        Ok(request.timeout(CONNECT + SEARCH))
    }
}

/// A page of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct Page<T> {
    /// What it has.
    pub items: Vec<T>,
    /// Where the next one begins; absent after the last.
    pub next: Option<Continuation>,
}

/// A text as a query quotes it. Source: Microsoft Learn, "IoT Hub query language for device and module
/// twins, jobs, and message routing" (string literals).
#[must_use]
pub fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('\'', "\\'");
    format!("'{escaped}'")
}

/// The hub says "argument invalid" of every mistake. Where all else is known to be right, it is the
/// query's.
pub(super) fn of_query(query: &str, error: HubError) -> HubError {
    match error {
        HubError::Invalid { answer, .. } => HubError::BadQuery {
            query: words(query),
            answer,
        },
        error => error,
    }
}

pub(super) fn page<T: DeserializeOwned>(
    answer: &Answer<'_>,
    subject: Subject<'_>,
) -> Result<Page<T>, HubError> {
    let next = answer.continuation.filter(|text| !text.is_empty());
    Ok(Page {
        items: typed(answer, subject)?,
        next: next.map(Continuation::new),
    })
}

impl HubRest {
    /// Asks for a page of what a query finds: `POST /devices/query`. `FROM devices` and
    /// `FROM devices.modules` find twins, which can be read as [`crate::Twin`] unless the query selects
    /// parts of them. What has just changed may be missing for minutes. The policy needs the right
    /// ServiceConnect. Source: Microsoft Learn, "Query - Get Twins".
    ///
    /// # Errors
    /// [`HubError::BadQuery`] if the hub does not understand the query; any other [`HubError`]. Asking
    /// can always be repeated.
    pub async fn query(&self, query: &str, page: &PageRequest) -> Result<Page<Value>, HubError> {
        self.query_of(query, page).await
    }

    /// The same, each item read.
    pub(super) async fn query_of<T: DeserializeOwned>(
        &self,
        query: &str,
        which: &PageRequest,
    ) -> Result<Page<T>, HubError> {
        let subject = Subject {
            what: "the query",
            id: query,
            right: "ServiceConnect",
        };
        let body = json!({ "query": query });
        let request = which.apply(self.request_with(Method::POST, "/devices/query", &body))?;
        let found = self.exchange(request, subject, PAGE_MAX, page).await;
        found.map_err(|error| of_query(query, error))
    }

    /// Asks for a page of a list that is not asked for with the query language.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        path: &str,
        which: &PageRequest,
        subject: Subject<'_>,
    ) -> Result<Page<T>, HubError> {
        let request = which.apply(self.request(Method::GET, path))?;
        self.exchange(request, subject, PAGE_MAX, page).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_quotes() {
        assert_eq!(quoted("pump-1"), "'pump-1'");
        assert_eq!(quoted("a' OR 'b"), r"'a\' OR \'b'");
        assert_eq!(quoted(r"a\"), r"'a\\'");
    }
}
