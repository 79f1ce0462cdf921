//! A fleet: connected devices that are made here, as a bench or a scenario needs them by the thousand.
//!
//! They meet the hub where the MQTT face does, and so get what devices get: methods, cloud-to-device
//! messages, desired properties, each with its receipt. What they do with it is chosen: answer at once or
//! slowly, not at all, fetch messages or let their queues fill up.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use futures::{StreamExt as _, stream::FuturesUnordered};
use rand::Rng as _;
use serde::Deserialize;
use serde_json::Value;
use tokio::{select, time::sleep};
use tokio_util::sync::CancellationToken;

use crate::{
    hub::{Change, DeviceSession, Etag, Hub, Subscription, ToDevice},
    identity::Identity,
    receipt::Received,
    refusal::Refusal,
};

/// A session and a task each: as many as fit into a gigabyte.
const MAX_DEVICES: u32 = 100_000;

/// Which devices are connected, and what they do. Their names are `{prefix}{number}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Crew {
    /// How many.
    pub devices: u32,
    /// What their names begin with.
    #[serde(default = "prefix")]
    pub prefix: String,
    /// After how many milliseconds a method is answered, at least; never if left out.
    #[serde(default)]
    pub answer_ms: Option<u64>,
    /// And at most; drawn anew for each call.
    #[serde(default)]
    pub up_to_ms: Option<u64>,
    /// The status that methods are answered with. The payload is what they were called with.
    #[serde(default = "ok")]
    pub status: i32,
    /// Whether cloud-to-device messages are fetched; else they wait in the queue.
    #[serde(default = "yes")]
    pub fetch: bool,
}

fn prefix() -> String {
    "device-".into()
}

fn ok() -> i32 {
    200
}

fn yes() -> bool {
    true
}

/// The devices that are connected.
#[derive(Debug, Default)]
pub struct Fleet(Mutex<CancellationToken>);

impl Fleet {
    fn end(&self) -> CancellationToken {
        let token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        token.clone()
    }

    /// Disconnects all of them. Those that come later are others.
    pub fn dismiss(&self) {
        let mut token = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *token).cancel();
    }
}

impl Crew {
    /// Registers those that are not, and connects all; a device of that name that is connected goes.
    ///
    /// # Errors
    /// [`Refusal::BadRequest`] for too many devices or names that cannot be.
    pub fn come(&self, hub: &Arc<Hub>) -> Result<u32, Refusal> {
        let bad = Refusal::BadRequest;
        if self.devices > MAX_DEVICES {
            return Err(bad(format!("devices: at most {MAX_DEVICES}")));
        }
        let end = hub.fleet.end();
        for number in 0..self.devices {
            let identity = Identity::device(&format!("{}{number}", self.prefix))
                .map_err(|error| bad(error.to_string()))?;
            match hub.put(&identity, Change::default(), &Etag::Absent) {
                Ok(_) | Err(Refusal::AlreadyExists(_)) => {}
                Err(refusal) => return Err(refusal),
            }
            // It may be deleted at any time.
            if let Some(session) = hub.start_session(&identity, true) {
                tokio::spawn(
                    end.clone()
                        .run_until_cancelled_owned(serve(session, self.clone())),
                );
            }
        }
        Ok(self.devices)
    }

    fn delay(&self) -> Option<Duration> {
        let least = self.answer_ms?;
        let most = self.up_to_ms.unwrap_or(least).max(least);
        Some(Duration::from_millis(
            rand::rng().random_range(least..=most),
        ))
    }
}

async fn serve(mut session: DeviceSession, crew: Crew) {
    session.subscribe(Subscription::Methods);
    session.subscribe(Subscription::Desired);
    if crew.fetch {
        session.subscribe(Subscription::C2d { acknowledged: true });
        fetch(&session);
    }
    let taken_over = session.taken_over.clone();
    let mut answers = FuturesUnordered::new();
    loop {
        let told = select! {
            () = taken_over.cancelled() => return,
            Some((rid, payload)) = answers.next() => {
                answer(&session, rid, crew.status, &payload);
                continue;
            }
            told = session.mailbox.recv() => told,
        };
        match told {
            Some(ToDevice::C2dWaiting) => fetch(&session),
            Some(ToDevice::Desired { version, patch }) => {
                session.note(Received::Desired { version, patch });
            }
            Some(ToDevice::Method { rid, name, payload }) => {
                session.note(Received::Method {
                    rid: format!("{rid:x}"),
                    name,
                    payload: payload.clone(),
                });
                match crew.delay() {
                    // The timer goes by the millisecond, which is what a call takes.
                    Some(Duration::ZERO) => answer(&session, rid, crew.status, &payload),
                    Some(delay) => answers.push(async move {
                        sleep(delay).await;
                        (rid, payload)
                    }),
                    None => {}
                }
            }
            None => return,
        }
    }
}

fn fetch(session: &DeviceSession) {
    while let Some((token, ..)) = session.next_c2d() {
        session.complete_c2d(token);
    }
}

fn answer(session: &DeviceSession, rid: u64, status: i32, payload: &Value) {
    session.answer_method(rid, status, &Bytes::from(payload.to_string()));
}
