//! Faults that tests ask for.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::operation::Operation;

/// One of the faces that clients connect to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaceName {
    /// Devices.
    Mqtt,
    /// The hub's own AMQP.
    HubAmqp,
    /// The Event Hubs-compatible AMQP.
    EventsAmqp,
    /// REST.
    Https,
}

/// A fault. `fault` names the kind: `{"fault": "detach", "partition": "0"}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(
    tag = "fault",
    rename_all = "kebab-case",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Fault {
    /// Detaches the readers of a partition with `amqp:link:detach-forced`, as happens when the
    /// service moves the partition.
    Detach {
        /// Which partition; all if absent.
        partition: Option<String>,
        /// Which consumer group; all if absent.
        group: Option<String>,
    },
    /// Closes connections without a word.
    DropConnections {
        /// Of which face; of all if absent.
        face: Option<FaceName>,
        /// Of which device, for the MQTT face; of all if absent.
        device: Option<String>,
    },
    /// The built-in endpoint gets another name, and the next of its addresses; its events are lost and
    /// positions begin anew. Services lose their AMQP connections.
    FailOver {},
    /// Event readers get nothing; their connections live on.
    FreezeEvents {
        /// For how long.
        seconds: f64,
    },
    /// The open readers of a partition get nothing any more, although their connections live; new
    /// readers work.
    StallReaders {
        /// Which partition; all if absent.
        partition: Option<String>,
    },
    /// The open connections to the Event Hubs-compatible endpoint neither read nor write any more, as
    /// if the host behind them were gone; new ones work.
    MuteEvents {},
    /// Readers are ended and refused with `com.microsoft:server-busy`.
    ThrottleEvents {
        /// For how long.
        seconds: f64,
    },
    /// The event stream is made again, as when a hub fails over: empty, counting from 0, its readers
    /// detached.
    RecreateStream {},
    /// Retention passes: of each partition only the newest events are kept.
    Expire {
        /// Which partition; all if absent.
        partition: Option<String>,
        /// How many events are kept.
        keep: usize,
    },
    /// The connections of a face neither read nor write, as if the host were gone.
    Silence {
        /// Of which face.
        face: FaceName,
        /// For how long.
        seconds: f64,
    },
    /// Every token is refused, on every face.
    RejectTokens {
        /// For how long.
        seconds: f64,
    },
    /// Method calls get 429.
    ThrottleMethods {
        /// For how long.
        seconds: f64,
        /// `Retry-After` of the answer, in seconds.
        retry_after: Option<u64>,
    },
    /// Cloud-to-device messages are rejected as throttled.
    ThrottleC2d {
        /// For how long.
        seconds: f64,
    },
    /// Devices' answers to methods are lost: the caller gets 504101 although the device has acted.
    LoseMethodAnswers {
        /// For how long.
        seconds: f64,
    },
    /// A class of operations gets 429.
    ThrottleOperations {
        /// Which.
        operation: Operation,
        /// For how long.
        seconds: f64,
        /// `Retry-After` of the answer, in seconds.
        retry_after: Option<u64>,
    },
    /// A class of operations is carried out, and the connection cut before the answer.
    LoseAnswers {
        /// Which.
        operation: Operation,
        /// For how long.
        seconds: f64,
        /// How many answers at most; all if absent.
        count: Option<u32>,
    },
    /// Ends all timed faults.
    Clear,
}

/// Which timed faults are on, until when.
#[derive(Debug, Default)]
pub struct Timed {
    freeze: Option<Instant>,
    reject_tokens: Option<Instant>,
    throttle_methods: Option<(Instant, Option<u64>)>,
    throttle_c2d: Option<Instant>,
    throttle_events: Option<Instant>,
    lose_answers: Option<Instant>,
    silence: Vec<(FaceName, Instant)>,
    throttle: Vec<(Operation, Instant, Option<u64>)>,
    lose: Vec<(Operation, Instant, Option<u32>)>,
}

/// Longest timed fault: an hour outlasts any test.
const MAX_SECONDS: f64 = 3600.0;

/// The timed faults, shared by all faces.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Timed>);

impl Faults {
    fn with<T>(&self, f: impl FnOnce(&mut Timed) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Switches a timed fault on; gives when it ends. Other faults are not this type's.
    pub fn start(&self, fault: &Fault) -> Option<Instant> {
        let until = |seconds: f64| {
            Instant::now() + Duration::from_secs_f64(seconds.clamp(0.0, MAX_SECONDS))
        };
        self.with(|timed| match *fault {
            Fault::FreezeEvents { seconds } => {
                timed.freeze.insert(until(seconds)).to_owned().into()
            }
            Fault::RejectTokens { seconds } => {
                timed.reject_tokens.insert(until(seconds)).to_owned().into()
            }
            Fault::ThrottleC2d { seconds } => {
                timed.throttle_c2d.insert(until(seconds)).to_owned().into()
            }
            Fault::ThrottleEvents { seconds } => timed
                .throttle_events
                .insert(until(seconds))
                .to_owned()
                .into(),
            Fault::LoseMethodAnswers { seconds } => {
                timed.lose_answers.insert(until(seconds)).to_owned().into()
            }
            Fault::ThrottleMethods {
                seconds,
                retry_after,
            } => Some(
                timed
                    .throttle_methods
                    .insert((until(seconds), retry_after))
                    .0,
            ),
            Fault::Silence { face, seconds } => {
                let end = until(seconds);
                timed.silence.retain(|(other, _)| *other != face);
                timed.silence.push((face, end));
                Some(end)
            }
            Fault::ThrottleOperations {
                operation,
                seconds,
                retry_after,
            } => {
                let end = until(seconds);
                timed.throttle.retain(|(other, ..)| *other != operation);
                timed.throttle.push((operation, end, retry_after));
                Some(end)
            }
            Fault::LoseAnswers {
                operation,
                seconds,
                count,
            } => {
                let end = until(seconds);
                timed.lose.retain(|(other, ..)| *other != operation);
                timed.lose.push((operation, end, count));
                Some(end)
            }
            Fault::Clear => {
                *timed = Timed::default();
                None
            }
            Fault::Detach { .. }
            | Fault::FailOver {}
            | Fault::DropConnections { .. }
            | Fault::StallReaders { .. }
            | Fault::MuteEvents {}
            | Fault::RecreateStream {}
            | Fault::Expire { .. } => None,
        })
    }

    /// Whether readers get nothing now.
    #[must_use]
    pub fn frozen(&self) -> bool {
        self.with(|timed| on(timed.freeze))
    }

    /// Whether tokens are refused now.
    #[must_use]
    pub fn rejects_tokens(&self) -> bool {
        self.with(|timed| on(timed.reject_tokens))
    }

    /// Whether methods are throttled now, and with which `Retry-After`.
    #[must_use]
    pub fn throttles_methods(&self) -> Option<Option<u64>> {
        self.with(|timed| {
            timed
                .throttle_methods
                .filter(|(until, _)| on(Some(*until)))
                .map(|(_, retry_after)| retry_after)
        })
    }

    /// Whether cloud-to-device messages are throttled now.
    #[must_use]
    pub fn throttles_c2d(&self) -> bool {
        self.with(|timed| on(timed.throttle_c2d))
    }

    /// Whether a class of operations is throttled now, and with which `Retry-After`.
    #[must_use]
    pub fn throttles(&self, operation: Operation) -> Option<Option<u64>> {
        self.with(|timed| {
            let mut throttled = timed.throttle.iter();
            let found = throttled.find(|(other, until, _)| *other == operation && on(Some(*until)));
            found.map(|(.., retry_after)| *retry_after)
        })
    }

    /// Whether the answer to one of a class of operations is to be lost; it is one of those to lose.
    #[must_use]
    pub fn loses(&self, operation: Operation) -> bool {
        self.with(|timed| {
            let mut lost = timed.lose.iter_mut();
            let found = lost.find(|(other, until, _)| *other == operation && on(Some(*until)));
            found.is_some_and(|(.., left)| match left {
                Some(0) => false,
                Some(left) => {
                    *left -= 1;
                    true
                }
                None => true,
            })
        })
    }

    /// Whether readers are throttled now.
    #[must_use]
    pub fn throttles_events(&self) -> bool {
        self.with(|timed| on(timed.throttle_events))
    }

    /// Whether devices' answers are lost now.
    #[must_use]
    pub fn loses_answers(&self) -> bool {
        self.with(|timed| on(timed.lose_answers))
    }

    /// Until when a face is silent, if it is.
    #[must_use]
    pub fn silent(&self, face: FaceName) -> Option<Instant> {
        self.with(|timed| {
            timed
                .silence
                .iter()
                .find(|(other, until)| *other == face && on(Some(*until)))
                .map(|(_, until)| *until)
        })
    }
}

fn on(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_written_form_and_nothing_else() {
        let read = |text| serde_json::from_str::<Fault>(text);
        assert_eq!(
            read(r#"{"fault": "throttle-methods", "seconds": 2, "retryAfter": 1}"#).unwrap(),
            Fault::ThrottleMethods {
                seconds: 2.0,
                retry_after: Some(1)
            }
        );
        assert!(read(r#"{"fault": "detach", "partitoin": "0"}"#).is_err());
        assert!(read(r#"{"fault": "explode"}"#).is_err());
        assert_eq!(
            read(r#"{"fault": "mute-events"}"#).unwrap(),
            Fault::MuteEvents {}
        );
        assert!(read(r#"{"fault": "recreate-stream", "partition": "0"}"#).is_err());
    }

    #[test]
    fn so_many_answers_are_lost_and_no_more() {
        let faults = Faults::default();
        let lose = |count| Fault::LoseAnswers {
            operation: Operation::Registry,
            seconds: 60.0,
            count,
        };
        faults.start(&lose(Some(2)));
        assert!(!faults.loses(Operation::Methods));
        let lost = [(); 3].map(|()| faults.loses(Operation::Registry));
        assert_eq!(lost, [true, true, false]);
        faults.start(&lose(None));
        assert!(faults.loses(Operation::Registry));
    }

    #[test]
    fn timed_faults_end() {
        let faults = Faults::default();
        faults.start(&Fault::RejectTokens { seconds: 0.0 });
        assert!(!faults.rejects_tokens());
        faults.start(&Fault::RejectTokens { seconds: 60.0 });
        assert!(faults.rejects_tokens());
        faults.start(&Fault::Clear);
        assert!(!faults.rejects_tokens());
    }
}
