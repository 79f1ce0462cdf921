//! The Event Hubs-compatible endpoint: who may read which partition, from where, and what readers get.

use std::{collections::HashMap, sync::Arc};

use bytes::{BufMut as _, Bytes, BytesMut};
use serde_amqp::Value;
use tokio::sync::Notify;

use super::{CBS, MANAGEMENT, grant::Grants, no_such_node, path_of, reply::Replies, unauthorized};
use crate::{
    amqp::{
        AmqpError, Attach, Face, Items, LinkId, Login, Message, Pulled, Role, answer, condition,
        described_map, lookup, signed, text,
    },
    hub::{Endpoint, Hub},
    log::{OpenError, PartitionView, Position, Reader, ReaderRequest, Record, Stolen},
    sas::SasError,
};

/// Filter by which readers say where they begin; and the older name of it.
const SELECTORS: [&str; 2] = ["apache.org:selector-filter:string", "selector-filter"];
/// Link properties of readers.
const EPOCH: &str = "com.microsoft:epoch";
const RECEIVER_NAME: &str = "com.microsoft:receiver-name";

/// Types of entity that `$management` knows.
const EVENT_HUB: &str = "com.microsoft:eventhub";
const PARTITION: &str = "com.microsoft:partition";

/// Event Hubs answers 202 where IoT Hub answers 200.
const ACCEPTED: i32 = 202;

/// One connection's view of the event stream.
pub(super) struct EventsFace {
    hub: Arc<Hub>,
    /// Name of the endpoint that was connected to.
    entity: String,
    wake: Arc<Notify>,
    grants: Grants,
    replies: Replies,
    readers: HashMap<LinkId, Reading>,
}

struct Reading {
    path: String,
    reader: Reader,
}

impl EventsFace {
    pub(super) fn new(hub: Arc<Hub>, wake: Arc<Notify>) -> Self {
        Self {
            entity: hub.endpoint().entity.clone(),
            hub,
            wake,
            grants: Grants::default(),
            replies: Replies::default(),
            readers: HashMap::new(),
        }
    }

    fn put_token(&mut self, message: Message) {
        let hub = &self.hub;
        self.grants
            .put(message, &mut self.replies, ACCEPTED, |token, path| {
                hub.check_events(token, path)
            });
    }

    fn manage(&mut self, mut message: Message) {
        let (id, to) = (message.id(), message.reply_to());
        let asked = |name: &str| {
            lookup(&message.application, name)
                .and_then(text)
                .unwrap_or_default()
        };
        let (operation, kind, name) = (asked("operation"), asked("type"), asked("name"));
        let endpoint = self.hub.endpoint();
        let bytes = if operation != "READ" {
            answer(&id, 400, "only READ is known", None)
        } else if !endpoint.is_named(&name) {
            answer(&id, 404, &no_such_node(&name).description, None)
        } else if !self.grants.allow_some_of(&name) {
            answer(
                &id,
                401,
                &unauthorized(SasError::Policy, &name).description,
                None,
            )
        } else if kind == EVENT_HUB {
            answer(&id, 200, "OK", Some(&|map| describe_hub(&endpoint, map)))
        } else if kind == PARTITION {
            match endpoint.partition(&asked("partition")) {
                Some(partition) => {
                    let view = partition.view();
                    answer(
                        &id,
                        200,
                        "OK",
                        Some(&|map| describe_partition(&endpoint, &view, map)),
                    )
                }
                None => answer(&id, 404, "no such partition", None),
            }
        } else {
            answer(&id, 400, &format!("type {kind:?} is not known"), None)
        };
        self.replies.push(MANAGEMENT, to, bytes);
    }

    fn read(&mut self, link: LinkId, attach: &Attach, path: &str) -> Result<(), AmqpError> {
        if self.hub.faults.throttles_events() {
            return Err(busy());
        }
        let parts: Vec<&str> = path.split('/').collect();
        let [entity, "ConsumerGroups", group, "Partitions", partition] = parts[..] else {
            return Err(no_such_node(path));
        };
        let endpoint = self.hub.endpoint();
        if !endpoint.is_named(entity) {
            return Err(no_such_node(path));
        }
        let group = self
            .hub
            .consumer_group(group)
            .ok_or_else(|| no_such_node(path))?;
        let partition = endpoint.partition(partition).ok_or_else(|| {
            AmqpError::new(
                condition::ARGUMENT_ERROR,
                format!(
                    "The specified partition is invalid for an EventHub partition: {partition}"
                ),
            )
        })?;
        let request = ReaderRequest {
            group: group.to_owned(),
            name: lookup(&attach.properties, RECEIVER_NAME)
                .and_then(text)
                .unwrap_or_else(|| attach.name.clone()),
            epoch: lookup(&attach.properties, EPOCH).and_then(signed),
            position: position(attach)?,
            wake: Arc::clone(&self.wake),
        };
        let (name, epoch) = (request.name.clone(), request.epoch);
        let reader = Reader::open(Arc::clone(partition), request).map_err(|error| {
            tracing::info!(path, name, ?epoch, %error, "reader refused");
            refused(&error)
        })?;
        tracing::info!(path, name, ?epoch, "reader attached");
        let path = path.to_owned();
        self.readers.insert(link, Reading { path, reader });
        Ok(())
    }
}

fn describe_hub(endpoint: &Endpoint, map: &mut Items<'_>) {
    let ids: Vec<String> = endpoint
        .partitions
        .iter()
        .map(|p| p.id().to_string())
        .collect();
    let count = i32::try_from(ids.len()).unwrap_or(i32::MAX);
    map.string("name").string(&endpoint.entity);
    map.string("type").string(EVENT_HUB);
    map.string("created_at").timestamp(endpoint.created);
    map.string("partition_count").int(count);
    map.string("partition_ids").strings(&ids);
    map.string("georeplication_factor").int(1);
}

fn describe_partition(endpoint: &Endpoint, view: &PartitionView, map: &mut Items<'_>) {
    let last = view.last;
    map.string("name").string(&endpoint.entity);
    map.string("type").string(PARTITION);
    map.string("partition").string(&view.id.to_string());
    map.string("begin_sequence_number").long(view.begin);
    map.string("last_enqueued_sequence_number")
        .long(last.map_or(-1, |last| last.sequence));
    map.string("last_enqueued_offset")
        .string(&last.map_or("-1".to_owned(), |last| last.offset.to_string()));
    map.string("last_enqueued_time_utc")
        .timestamp(last.map_or(endpoint.created, |last| last.enqueued));
    map.string("is_partition_empty").bool(view.empty);
    map.string("begin_sequence_number_epoch").int(0);
    map.string("last_enqueued_sequence_number_epoch").int(0);
}

/// Where a reader begins; without a filter at the start, as with the real endpoint.
fn position(attach: &Attach) -> Result<Position, AmqpError> {
    let Some(filter) = SELECTORS
        .iter()
        .find_map(|name| lookup(&attach.filter, name))
    else {
        return Ok(Position::Earliest);
    };
    let selector = match filter {
        Value::Described(described) => text(&described.value),
        plain => text(plain),
    };
    Position::from_selector(&selector.unwrap_or_default())
        .map_err(|error| AmqpError::new(condition::INVALID_FIELD, error.to_string()))
}

fn refused(error: &OpenError) -> AmqpError {
    let condition = match error {
        OpenError::LowerEpoch { .. } | OpenError::EpochNeeded { .. } => condition::STOLEN,
        OpenError::TooMany => condition::RESOURCE_LIMIT_EXCEEDED,
        OpenError::OffsetBeyondEnd { .. } | OpenError::SequenceBeyondEnd { .. } => {
            condition::ARGUMENT_ERROR
        }
    };
    AmqpError::new(condition, error.to_string())
}

/// Source: Microsoft Learn, "Event Hubs messaging exceptions".
fn busy() -> AmqpError {
    let text = "The request was terminated because the entity is being throttled. Error code: 50002. \
                Please wait 4 seconds and try again.";
    AmqpError::new(condition::SERVER_BUSY, text)
}

fn evicted(stolen: &Stolen) -> AmqpError {
    let condition = match stolen {
        Stolen::ByEpoch { .. } => condition::STOLEN,
        Stolen::Forced(_) => condition::DETACH_FORCED,
    };
    AmqpError::new(condition, stolen.to_string())
}

/// An event as its readers get it: the hub's annotations, then what the device has sent.
fn encode(record: &Record) -> Bytes {
    let origin = &record.event.origin;
    let mut out = BytesMut::with_capacity(record.event.sections.len() + 512);
    described_map(&mut out, 0x72, |map| {
        map.symbol("x-opt-sequence-number").long(record.sequence);
        map.symbol("x-opt-offset")
            .string(&record.offset.to_string());
        map.symbol("x-opt-enqueued-time").timestamp(record.enqueued);
        // The hub's own events name the device in a property only.
        if !origin.auth_method.is_empty() {
            map.symbol("iothub-connection-device-id")
                .string(&origin.device);
        }
        if let Some(module) = &origin.module {
            map.symbol("iothub-connection-module-id").string(module);
        }
        if !origin.auth_method.is_empty() {
            map.symbol("iothub-connection-auth-method")
                .string(&origin.auth_method);
            map.symbol("iothub-connection-auth-generation-id")
                .string(&origin.generation);
        }
        map.symbol("iothub-enqueuedtime").timestamp(record.enqueued);
        map.symbol("iothub-message-source").string(&origin.source);
    });
    out.put_slice(&record.event.sections);
    out.freeze()
}

impl Face for EventsFace {
    fn container(&self) -> &str {
        &self.entity
    }

    fn login(&mut self, login: &Login) -> bool {
        // Passwords are for the hub's own host.
        *login == Login::Anonymous
    }

    fn attach(&mut self, link: LinkId, attach: &Attach) -> Result<(), AmqpError> {
        let path = path_of(attach.address());
        if path == CBS {
            self.replies.attach(link, attach, CBS);
            return Ok(());
        }
        if path.ends_with(MANAGEMENT) {
            self.replies.attach(link, attach, MANAGEMENT);
            return Ok(());
        }
        if !self.grants.allow(path) {
            return Err(unauthorized(SasError::Policy, path));
        }
        match attach.role {
            Role::Receiver => self.read(link, attach, path),
            Role::Sender => Err(AmqpError::new(
                condition::NOT_ALLOWED,
                "the built-in endpoint is written by the hub alone",
            )),
        }
    }

    fn message(&mut self, link: LinkId, message: Message) -> Result<(), AmqpError> {
        match self.replies.node(link) {
            Some(CBS) => self.put_token(message),
            Some(_) => self.manage(message),
            None => {
                return Err(AmqpError::new(
                    condition::NOT_ALLOWED,
                    "nothing is sent here",
                ));
            }
        }
        Ok(())
    }

    fn pull(&mut self, link: LinkId, credit: bool) -> Pulled {
        let Some(reading) = self.readers.get_mut(&link) else {
            return match credit.then(|| self.replies.pull(link)).flatten() {
                Some(bytes) => Pulled::Message(bytes),
                None => Pulled::Nothing,
            };
        };
        if let Some(stolen) = reading.reader.stolen() {
            return Pulled::Detach(evicted(&stolen));
        }
        if !self.grants.allow(&reading.path) {
            return Pulled::Detach(unauthorized(SasError::Expired, &reading.path));
        }
        if self.hub.faults.throttles_events() {
            return Pulled::Detach(busy());
        }
        if !credit || self.hub.faults.frozen() {
            return Pulled::Nothing;
        }
        match reading.reader.next() {
            Ok(Some(record)) => Pulled::Message(encode(&record)),
            Ok(None) => Pulled::Nothing,
            Err(stolen) => Pulled::Detach(evicted(&stolen)),
        }
    }

    fn detached(&mut self, link: LinkId) {
        self.replies.detached(link);
        self.readers.remove(&link);
    }
}
