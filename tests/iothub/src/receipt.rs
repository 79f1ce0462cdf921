//! What devices have received: an append-only list that tests compare with what they sent.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use serde_json::Value;

use crate::identity::Identity;

/// Something that a device has received.
#[derive(Debug, Clone, Serialize)]
pub struct Receipt {
    /// 1, 2, 3…
    pub n: u64,
    /// When; Unix milliseconds.
    pub at: i64,
    /// The device.
    pub device: String,
    /// The module, for a module's method.
    pub module: Option<String>,
    /// What.
    #[serde(flatten)]
    pub what: Received,
}

/// What a device can receive.
#[derive(Debug, Clone, Serialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum Received {
    /// A cloud-to-device message that the device has acknowledged.
    C2d {
        /// `message-id`.
        message_id: Option<String>,
        /// `correlation-id`.
        correlation_id: Option<String>,
        /// Body as text; what is not UTF-8 is replaced.
        body: String,
        /// Application properties.
        properties: Vec<(String, String)>,
    },
    /// A direct method that was handed to the device.
    Method {
        /// The hub's request id.
        rid: String,
        /// Name of the method.
        name: String,
        /// What it was called with.
        payload: Value,
    },
    /// A change of desired properties that was handed to the device.
    Desired {
        /// New version.
        version: u64,
        /// The patch.
        patch: Value,
    },
}

/// The list. Grows for as long as the process lives: it is what tests are judged by.
#[derive(Debug, Default)]
pub struct Receipts(Mutex<Vec<Receipt>>);

impl Receipts {
    /// Adds one; `at` in Unix milliseconds.
    pub fn add(&self, at: i64, identity: &Identity, what: Received) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let n = list.len() as u64 + 1;
        list.push(Receipt {
            n,
            at,
            device: identity.device_id().to_owned(),
            module: identity.module_id().map(str::to_owned),
            what,
        });
    }

    /// Those with a number above `n`, at most `limit`.
    #[must_use]
    pub fn after(&self, n: u64, limit: usize) -> Vec<Receipt> {
        let list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let skip = usize::try_from(n).unwrap_or(usize::MAX);
        list.iter().skip(skip).take(limit).cloned().collect()
    }
}
