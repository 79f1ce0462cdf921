//! Append-only logs: tests compare sets, not last values.

use std::sync::Arc;

use serde::Serialize;

/// One property value that the platform took.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ValueEntry {
    /// When it was taken, in milliseconds since 1970.
    pub taken_ms: i64,
    /// Which node took it.
    pub node: usize,
    /// The Thing.
    pub thing: Arc<str>,
    /// The property, by its local name.
    pub property: Arc<str>,
    /// The value as JSON text.
    pub value: Box<str>,
    /// The value's own time, in milliseconds since 1970.
    pub time_ms: i64,
    /// Its quality.
    pub quality: Arc<str>,
    /// Gateway Thing of the endpoint that sent it; empty if it has none.
    pub gateway: Arc<str>,
}

/// One request of the platform to an edge.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DrawEntry {
    /// When it was drawn, in milliseconds since 1970.
    pub drawn_ms: i64,
    /// Which node sent it.
    pub node: usize,
    /// To which endpoint; 0 if nobody has bound the Thing.
    pub endpoint: i32,
    /// Gateway Thing of that endpoint.
    pub gateway: String,
    /// The Thing.
    pub thing: String,
    /// `read`, `write` or `call`.
    pub kind: &'static str,
    /// Property or service, by its remote name.
    pub target: String,
    /// The parameters by name: tells apart requests that are otherwise the same.
    pub params: serde_json::Value,
    /// Name of the answer's status; `TIMED_OUT`, `LOST` or `NOT_BOUND` if there was none.
    pub outcome: String,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// An event that was fired on the platform.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EventEntry {
    /// When, in milliseconds since 1970.
    pub fired_ms: i64,
    /// The Thing.
    pub thing: String,
    /// The event.
    pub event: String,
    /// Its data as JSON.
    pub data: serde_json::Value,
}

/// A log that only grows, up to a bound.
#[derive(Debug)]
pub struct Log<T> {
    entries: Vec<T>,
    bound: usize,
    dropped: u64,
}

/// A page of a log.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// Index to ask for next.
    pub next: usize,
    /// Entries that the log has altogether.
    pub total: usize,
    /// Entries that came when the log was full.
    pub dropped: u64,
    /// The entries.
    pub entries: Vec<T>,
}

impl<T: Clone> Log<T> {
    /// An empty log that holds at most `bound` entries.
    #[must_use]
    pub fn new(bound: usize) -> Self {
        Self {
            entries: Vec::new(),
            bound,
            dropped: 0,
        }
    }

    /// Adds an entry.
    pub fn push(&mut self, entry: T) {
        if self.entries.len() < self.bound {
            self.entries.push(entry);
        } else {
            self.dropped += 1;
        }
    }

    /// Entries from index `after` on.
    #[must_use]
    pub fn page(&self, after: usize, limit: usize) -> Page<T> {
        let from = after.min(self.entries.len());
        let to = from.saturating_add(limit).min(self.entries.len());
        Page {
            next: to,
            total: self.entries.len(),
            dropped: self.dropped,
            entries: self.entries[from..to].to_vec(),
        }
    }
}
