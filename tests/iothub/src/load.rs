//! Load: telemetry of many devices, made here and put straight into the stream.
//!
//! Devices of their own cost a client each; a bench wants the stream's rate and nothing else. What is
//! appended looks as if devices had sent it: the hub's annotations, JSON content type, an application
//! property, and a body of five numbers, a boolean, a text and one key more. The number `stamp` is the
//! time of the append in microseconds of the clock that all processes of a machine share, so that who
//! writes the value at the other end can tell how long it took.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use rustix::time::{ClockId, clock_gettime};
use serde::Deserialize;
use tokio::{
    task::yield_now,
    time::{Instant, sleep_until},
};

use crate::{
    amqp::{binary, described, described_map, descriptor},
    hub::Hub,
    log::{NewEvent, Origin},
};

const PROPERTIES: u8 = 0x73;
const APPLICATION_PROPERTIES: u8 = 0x74;
const DATA: u8 = 0x75;

/// As the hub writes it for a device with a symmetric key.
const AUTH_METHOD: &str =
    r#"{"scope":"device","type":"sas","issuer":"iothub","acceptingIpFilterRule":null}"#;
/// Events appended before other tasks have their turn: a fraction of a millisecond.
const AT_ONCE: u64 = 250;
/// At a given rate events are appended this often; finer than that the timer does not go.
const TICK: Duration = Duration::from_millis(1);
/// Bodies of many sizes are made once, this many of them, and shared: no machine could keep a backlog
/// of them otherwise.
const SIZES: usize = 64;
/// One allocation for this many bytes of events.
const ARENA: usize = 1 << 20;
/// Largest body: that of IoT Hub, 256 KB, less what the properties take.
const MAX_BODY: usize = 255 * 1024;
/// More devices than the largest hub has units for.
const MAX_DEVICES: u32 = 1_000_000;

/// What to append. Event *n* is of device `{prefix}{n mod devices}`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Load {
    /// How many events.
    pub events: u64,
    /// How many devices they are of.
    #[serde(default = "thousand")]
    pub devices: u32,
    /// What their names begin with.
    #[serde(default = "device")]
    pub prefix: String,
    /// Events a second; as fast as possible if left out.
    #[serde(default)]
    pub rate: Option<u32>,
    /// Bytes of a body, about: the key that is one too many fills it up.
    #[serde(default = "quarter")]
    pub bytes: usize,
    /// Bodies are of any size from `bytes` up to this, and have no stamp (0).
    #[serde(default)]
    pub up_to: Option<usize>,
}

fn thousand() -> u32 {
    1000
}

fn device() -> String {
    "device-".into()
}

fn quarter() -> usize {
    256
}

/// A load that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadLoad {
    /// Devices there must be, and not too many.
    #[error("devices: 1 to {MAX_DEVICES}")]
    Devices,
    /// A rate of nothing.
    #[error("rate: leave it out, or more than 0")]
    Rate,
    /// Too large for a hub.
    #[error("bytes, upTo: at most {MAX_BODY}, and upTo not below bytes")]
    Size,
}

impl Load {
    /// Appends all of it; gives how many events that were. Ends when its caller does.
    ///
    /// # Errors
    /// [`BadLoad`]; then nothing has been appended.
    pub async fn append(&self, hub: &Hub) -> Result<u64, BadLoad> {
        self.check()?;
        let origins: Vec<Arc<Origin>> = (0..self.devices)
            .map(|number| Arc::new(origin(&self.prefix, number)))
            .collect();
        let mut bodies = Bodies::new(self);
        let mut pace = self.rate.map(Pace::new);
        let mut next = 0;
        while next < self.events {
            let due = match &mut pace {
                Some(pace) => pace.due().await.min(self.events),
                None => (next + AT_ONCE).min(self.events),
            };
            for number in next..due {
                // The remainder is below the count of devices, which fits.
                let device = usize::try_from(number % u64::from(self.devices)).unwrap_or(0);
                hub.append(NewEvent {
                    origin: Arc::clone(&origins[device]),
                    sections: bodies.next(number),
                });
            }
            next = due;
            yield_now().await;
        }
        Ok(next)
    }

    fn check(&self) -> Result<(), BadLoad> {
        if !(1..=MAX_DEVICES).contains(&self.devices) {
            return Err(BadLoad::Devices);
        }
        if self.rate == Some(0) {
            return Err(BadLoad::Rate);
        }
        let largest = self.up_to.unwrap_or(self.bytes);
        if largest > MAX_BODY || largest < self.bytes {
            return Err(BadLoad::Size);
        }
        Ok(())
    }
}

fn origin(prefix: &str, number: u32) -> Origin {
    Origin {
        device: format!("{prefix}{number}"),
        module: None,
        auth_method: AUTH_METHOD.to_owned(),
        // A number of this form is what the hub writes.
        generation: format!("{}", 638_000_000_000_000_000 + u64::from(number)),
        source: "Telemetry".to_owned(),
    }
}

/// How many events are due at a rate.
struct Pace {
    rate: u32,
    begun: Instant,
    tick: Instant,
}

impl Pace {
    fn new(rate: u32) -> Self {
        let now = Instant::now();
        Self {
            rate,
            begun: now,
            tick: now,
        }
    }

    /// Waits for the next tick; events due since the beginning.
    async fn due(&mut self) -> u64 {
        self.tick += TICK;
        sleep_until(self.tick).await;
        due(self.begun.elapsed(), self.rate)
    }
}

fn due(elapsed: Duration, rate: u32) -> u64 {
    u64::try_from(elapsed.as_micros() * u128::from(rate) / 1_000_000).unwrap_or(u64::MAX)
}

/// Makes the sections of events, or hands out those made before.
enum Bodies {
    Stamped {
        arena: BytesMut,
        text: String,
        bytes: usize,
    },
    Shared(Vec<Bytes>),
}

impl Bodies {
    fn new(load: &Load) -> Self {
        let Some(largest) = load.up_to else {
            return Self::Stamped {
                arena: BytesMut::new(),
                text: String::new(),
                bytes: load.bytes,
            };
        };
        let (mut arena, mut text) = (BytesMut::new(), String::new());
        let span = largest - load.bytes;
        let sections = (0..SIZES).map(|index| {
            let bytes = load.bytes + span * index / (SIZES - 1);
            sections(&mut arena, &mut text, index as u64, 0, bytes)
        });
        Self::Shared(sections.collect())
    }

    fn next(&mut self, number: u64) -> Bytes {
        match self {
            Self::Stamped { arena, text, bytes } => {
                sections(arena, text, number, monotonic_us(), *bytes)
            }
            Self::Shared(all) => {
                // A step prime to their count: neighbours differ in size, and devices do too.
                let at = number.wrapping_mul(37).wrapping_add(number / 64) % all.len() as u64;
                all[usize::try_from(at).unwrap_or(0)].clone()
            }
        }
    }
}

/// Microseconds of the clock that never goes back and that all processes of the machine share.
#[must_use]
pub fn monotonic_us() -> i64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec * 1_000_000 + now.tv_nsec / 1000
}

fn sections(
    arena: &mut BytesMut,
    text: &mut String,
    number: u64,
    stamp: i64,
    bytes: usize,
) -> Bytes {
    body(text, number, stamp, bytes);
    if arena.capacity() < text.len() + 256 {
        *arena = BytesMut::with_capacity(ARENA.max(text.len() + 256));
    }
    described(arena, PROPERTIES, |list| {
        // message-id, user-id, to, subject, reply-to, correlation-id
        list.nulls(6);
        list.symbol("application/json").symbol("utf-8");
        // expiry, creation, group-id, group-sequence, reply-to-group-id
        list.nulls(5);
    });
    described_map(arena, APPLICATION_PROPERTIES, |map| {
        map.string("level").string("normal");
    });
    descriptor(arena, DATA);
    binary(arena, text.as_bytes());
    arena.split().freeze()
}

/// Writes the JSON of an event; seven of its eight keys are meant to be properties.
fn body(text: &mut String, number: u64, stamp: i64, bytes: usize) {
    text.clear();
    let part = number % 1000;
    let on = number.is_multiple_of(2);
    let state = ["idle", "running", "stopped"][usize::try_from(number % 3).unwrap_or(0)];
    // Writing to a text cannot fail.
    let _ = write!(
        text,
        r#"{{"stamp":{stamp},"temperature":{}.{part:03},"pressure":1013.{part:03},"flow":{part}.5,"count":{number},"on":{on},"state":"{state}","trace":""#,
        20 + part % 10,
    );
    let used = text.len() + 2;
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(used)));
    text.push_str("\"}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe;

    fn load(events: u64) -> Load {
        Load {
            events,
            devices: 10,
            prefix: device(),
            rate: None,
            bytes: 256,
            up_to: None,
        }
    }

    fn json(sections: &[u8]) -> serde_json::Value {
        let at = sections.iter().position(|&byte| byte == b'{').unwrap();
        serde_json::from_slice(&sections[at..]).unwrap()
    }

    #[tokio::test]
    async fn every_device_gets_its_share_in_its_own_partition() {
        let hub = probe::hub();
        assert_eq!(load(40).append(&hub).await, Ok(40));
        let mut of_device = std::collections::BTreeMap::<String, Vec<u64>>::new();
        for partition in &hub.endpoint().partitions {
            for record in partition.kept() {
                let origin = &record.event.origin;
                let place = crate::log::partition_of(&origin.device, 4);
                assert_eq!(place, partition.id());
                let count = json(&record.event.sections)["count"].as_u64().unwrap();
                of_device
                    .entry(origin.device.clone())
                    .or_default()
                    .push(count);
            }
        }
        assert_eq!(of_device.len(), 10);
        assert_eq!(of_device["device-3"], [3, 13, 23, 33]);
    }

    #[test]
    fn a_body_has_the_size_asked_for_and_the_time_of_its_append() {
        let (mut arena, mut text) = (BytesMut::new(), String::new());
        let before = monotonic_us();
        let made = sections(&mut arena, &mut text, 7, monotonic_us(), 256);
        assert_eq!(text.len(), 256);
        let body = json(&made);
        assert_eq!(body.as_object().unwrap().len(), 8);
        assert!((before..=monotonic_us()).contains(&body["stamp"].as_i64().unwrap()));
    }

    #[test]
    fn sizes_reach_from_the_smallest_to_the_largest() {
        let mut bodies = Bodies::new(&Load {
            bytes: 1024,
            up_to: Some(MAX_BODY),
            ..load(1)
        });
        let sizes: Vec<usize> = (0..640).map(|n| bodies.next(n).len()).collect();
        let (least, most) = (sizes.iter().min().unwrap(), sizes.iter().max().unwrap());
        assert!((1024..1200).contains(least) && (MAX_BODY..MAX_BODY + 200).contains(most));
    }

    #[test]
    fn a_rate_is_kept_over_any_time() {
        assert_eq!(due(Duration::from_millis(1), 5000), 5);
        assert_eq!(due(Duration::from_secs(100), 3), 300);
        assert_eq!(due(Duration::from_micros(199), 5000), 0);
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let hub = probe::hub();
        for (bad, why) in [
            (
                Load {
                    devices: 0,
                    ..load(1)
                },
                BadLoad::Devices,
            ),
            (
                Load {
                    rate: Some(0),
                    ..load(1)
                },
                BadLoad::Rate,
            ),
            (
                Load {
                    up_to: Some(10),
                    ..load(1)
                },
                BadLoad::Size,
            ),
        ] {
            assert_eq!(bad.append(&hub).await, Err(why));
        }
        assert!(
            hub.endpoint()
                .partitions
                .iter()
                .all(|one| one.kept().is_empty())
        );
    }
}
