//! Feedback: what has become of cloud-to-device messages, batch by batch, for those who send them.
//!
//! Source: Microsoft Learn, "Send cloud-to-device messages from an IoT hub" (message feedback). How long
//! feedback is kept, an hour by default, is left out: no test lasts as long.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use jiff::Timestamp;
use serde::Serialize;

/// Most records of a batch (same source).
pub const MAX_BATCH: usize = 64;

/// How often a batch is delivered before it is given up (IoT Hub's default, `maxDeliveryCount`).
pub const MAX_DELIVERIES: u32 = 10;

/// What has become of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Fate {
    /// The device has acknowledged it.
    Success,
    /// Nobody has fetched it in time.
    Expired,
    /// It was delivered again and again.
    DeliveryCountExceeded,
    /// It was removed from the queue.
    Purged,
}

/// A record of feedback.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// `message-id` of the message.
    pub original_message_id: String,
    /// When it came to this.
    pub enqueued_time_utc: Timestamp,
    /// What has become of it.
    pub status_code: Fate,
    /// The same, for people.
    pub description: Fate,
    /// The device.
    pub device_id: String,
    /// Tells it apart from others that had its id.
    pub device_generation_id: String,
}

#[derive(Debug)]
struct Batch {
    number: u64,
    records: Vec<Record>,
    holder: Option<u64>,
    deliveries: u32,
}

#[derive(Debug, Default)]
struct State {
    gathered: Vec<Record>,
    batches: VecDeque<Batch>,
    next: u64,
}

impl State {
    fn flush(&mut self) {
        if self.gathered.is_empty() {
            return;
        }
        self.next += 1;
        self.batches.push_back(Batch {
            number: self.next,
            records: std::mem::take(&mut self.gathered),
            holder: None,
            deliveries: 0,
        });
    }
}

/// The hub's queue of feedback.
#[derive(Debug, Default)]
pub struct Feedback(Mutex<State>);

/// What the first, or the last, record of a batch means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The first: the batch is sent when its time is over.
    First,
    /// One among others.
    More,
    /// The last that a batch takes: it can be fetched.
    Full,
}

impl Feedback {
    fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Adds a record to the batch that is gathered.
    pub fn add(&self, record: Record) -> Added {
        self.with(|state| {
            state.gathered.push(record);
            match state.gathered.len() {
                MAX_BATCH => {
                    state.flush();
                    Added::Full
                }
                1 => Added::First,
                _ => Added::More,
            }
        })
    }

    /// What is gathered can be fetched from now on.
    pub fn flush(&self) {
        self.with(State::flush);
    }

    /// Locks the oldest batch that nobody holds.
    pub fn lock_next(&self, holder: u64) -> Option<(u64, Vec<Record>)> {
        self.with(|state| {
            let mut batches = state.batches.iter_mut();
            let batch = batches.find(|batch| batch.holder.is_none())?;
            batch.holder = Some(holder);
            batch.deliveries += 1;
            Some((batch.number, batch.records.clone()))
        })
    }

    /// The holder has taken the batch.
    pub fn complete(&self, holder: u64, number: u64) {
        let held = |batch: &Batch| batch.number == number && batch.holder == Some(holder);
        self.with(|state| state.batches.retain(|batch| !held(batch)));
    }

    /// The holder does not want the batch: others may have it, unless it has been given back too often.
    pub fn abandon(&self, holder: u64, number: u64) {
        self.release(|batch| batch.number == number && batch.holder == Some(holder));
    }

    /// The holder is gone.
    pub fn abandon_all(&self, holder: u64) {
        self.release(|batch| batch.holder == Some(holder));
    }

    fn release(&self, which: impl Fn(&Batch) -> bool) {
        self.with(|state| {
            state.batches.retain_mut(|batch| {
                let released = which(batch);
                if released {
                    batch.holder = None;
                }
                !released || batch.deliveries < MAX_DELIVERIES
            });
        });
    }

    /// How many batches wait or are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.with(|state| state.batches.len())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: usize) -> Record {
        Record {
            original_message_id: id.to_string(),
            enqueued_time_utc: Timestamp::UNIX_EPOCH,
            status_code: Fate::Success,
            description: Fate::Success,
            device_id: "d".into(),
            device_generation_id: "g".into(),
        }
    }

    #[test]
    fn a_batch_is_full_or_flushed_before_it_is_given() {
        let feedback = Feedback::default();
        assert_eq!(feedback.add(record(0)), Added::First);
        assert_eq!(feedback.add(record(1)), Added::More);
        assert!(feedback.lock_next(1).is_none());
        feedback.flush();
        assert_eq!(feedback.lock_next(1).unwrap().1.len(), 2);
        for id in 0..MAX_BATCH - 1 {
            feedback.add(record(id));
        }
        assert_eq!(feedback.add(record(63)), Added::Full);
        assert_eq!(feedback.lock_next(1).unwrap().1.len(), MAX_BATCH);
        feedback.flush();
        assert_eq!(feedback.len(), 2, "nothing was gathered");
    }

    #[test]
    fn a_batch_that_is_given_back_goes_to_others_ten_times() {
        let feedback = Feedback::default();
        feedback.add(record(0));
        feedback.flush();
        let (number, _) = feedback.lock_next(1).unwrap();
        assert!(feedback.lock_next(2).is_none());
        feedback.complete(2, number);
        assert_eq!(feedback.len(), 1, "only its holder completes it");
        feedback.abandon_all(1);
        for _ in 1..MAX_DELIVERIES {
            let (number, _) = feedback.lock_next(2).unwrap();
            feedback.abandon(2, number);
        }
        assert!(feedback.is_empty());
    }

    #[test]
    fn records_are_written_as_the_hub_writes_them() {
        let written = serde_json::to_value(record(7)).unwrap();
        let expected = serde_json::json!({
            "originalMessageId": "7", "enqueuedTimeUtc": "1970-01-01T00:00:00Z",
            "statusCode": "Success", "description": "Success", "deviceId": "d",
            "deviceGenerationId": "g",
        });
        assert_eq!(written, expected);
    }
}
