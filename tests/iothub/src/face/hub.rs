//! The hub's own AMQP: cloud-to-device messages, and the redirect of those who look for telemetry.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use bytes::{Bytes, BytesMut};
use percent_encoding::percent_decode_str;
use tokio_util::sync::CancellationToken;

use super::{CBS, grant::Grants, no_such_node, path_of, reply::Replies, unauthorized};
use crate::{
    amqp::{
        AmqpError, Attach, Body, Face, LinkId, Login, Message, Outcome, Pulled, Role, binary,
        condition, described, descriptor, text,
    },
    c2d::C2dMessage,
    feedback::Record,
    hub::Hub,
    identity::Identity,
    operation::Operation,
    policy::Right,
    refusal::Refusal,
    sas::SasError,
};

/// Where services send cloud-to-device messages.
const DEVICE_BOUND: &str = "messages/devicebound";
/// Where services hear of them.
const FEEDBACK: &str = "messages/servicebound/feedback";
const FEEDBACK_TYPE: &str = "application/vnd.microsoft.iothub.feedback.json";
/// Where services that know only the hub's host look for telemetry.
const EVENTS: &str = "messages/events";

/// IoT Hub answers 200 where Event Hubs answers 202.
const ACCEPTED: i32 = 200;

/// One connection's view of the hub.
pub(super) struct HubFace {
    hub: Arc<Hub>,
    grants: Grants,
    replies: Replies,
    senders: HashSet<LinkId>,
    /// Links for feedback, each with the number under which it holds batches.
    listeners: HashMap<LinkId, u64>,
    /// Ends the connection without a word.
    dropped: CancellationToken,
    /// Logged in with user and password: only to those the hub is known to tell of its endpoint.
    with_password: bool,
}

impl HubFace {
    pub(super) fn new(hub: Arc<Hub>, dropped: CancellationToken) -> Self {
        Self {
            hub,
            grants: Grants::default(),
            replies: Replies::default(),
            senders: HashSet::new(),
            listeners: HashMap::new(),
            dropped,
            with_password: false,
        }
    }

    fn put_token(&mut self, message: Message) {
        let hub = &self.hub;
        self.grants
            .put(message, &mut self.replies, ACCEPTED, |token, path| {
                hub.check_service(token, path, Right::ServiceConnect)
            });
    }

    /// Where the node `tail` below the hub's events is. The keys of `info`: AMQP 1.0, 2.8.17; the form of
    /// the address: Microsoft's sample `iothubConnectionString` (azure-sdk-for-js).
    fn redirect(&self, tail: &str) -> AmqpError {
        let endpoint = self.hub.endpoint();
        match &endpoint.address {
            Some(_) if !self.with_password => AmqpError::new(
                condition::NOT_ALLOWED,
                "only who logs in with SASL PLAIN is redirected",
            ),
            Some((host, port)) => {
                let address = format!("amqps://{host}:{port}/{}/{tail}", endpoint.entity);
                AmqpError::new(condition::LINK_REDIRECT, "read from the address in info")
                    .with_info("hostname", host)
                    .with_info("network-host", host)
                    .with_info("port", port.to_string())
                    .with_info("address", address)
            }
            None => AmqpError::new(
                condition::NOT_ALLOWED,
                "this hub redirects nobody to its built-in endpoint",
            ),
        }
    }

    fn send(&self, mut message: Message) -> Result<(), AmqpError> {
        let (identity, message) = c2d(&mut message)?;
        self.hub
            .send_c2d(&identity, message)
            .map_err(|refusal| rejected(&refusal))?;
        if self.hub.faults.loses(Operation::C2d) {
            self.hub.meter.lost(Operation::C2d);
            self.dropped.cancel();
        }
        Ok(())
    }
}

/// A batch of feedback as a message.
fn feedback(hub: &str, number: u64, records: &[Record]) -> Bytes {
    let mut out = BytesMut::new();
    described(&mut out, 0x73, |properties| {
        properties
            .string(&number.to_string())
            .binary(hub.as_bytes())
            .nulls(4);
        properties.symbol(FEEDBACK_TYPE).symbol("utf-8").nulls(5);
    });
    descriptor(&mut out, 0x75);
    // Names, times and enums: it can always be written.
    binary(&mut out, &serde_json::to_vec(records).unwrap_or_default());
    out.freeze()
}

/// Reads a cloud-to-device message: whom it is for, and what it says.
fn c2d(message: &mut Message) -> Result<(Identity, C2dMessage), AmqpError> {
    let invalid = |what: String| AmqpError::new(condition::INVALID_FIELD, what);
    let to = message.properties.text(2).unwrap_or_default();
    let identity = to
        .strip_prefix("/devices/")
        .and_then(|rest| rest.strip_suffix("/messages/devicebound"))
        .and_then(|id| percent_decode_str(id).decode_utf8().ok())
        .ok_or_else(|| {
            invalid(format!(
                "to must be /devices/{{id}}/messages/devicebound, not {to:?}"
            ))
        })
        .and_then(|id| Identity::device(&id).map_err(|error| invalid(error.to_string())))?;
    let body = match &message.body {
        Body::Data(bytes) => bytes.clone(),
        Body::Empty => bytes::Bytes::new(),
        Body::Value(value) => text(value).unwrap_or_default().into(),
    };
    let properties = message
        .application
        .iter()
        .filter_map(|(name, value)| Some((text(name)?, text(value)?)))
        .collect();
    let fields = &mut message.properties;
    let message = C2dMessage {
        message_id: fields.text(0),
        to,
        correlation_id: fields.text(5),
        user_id: fields.text(1),
        content_type: fields.text(6),
        content_encoding: fields.text(7),
        expires: fields.signed(8),
        properties,
        body,
    };
    Ok((identity, message))
}

/// How IoT Hub words a refusal over AMQP.
fn rejected(refusal: &Refusal) -> AmqpError {
    let condition = match refusal {
        Refusal::BadRequest(_) => condition::INVALID_FIELD,
        Refusal::Unauthorized(_) => condition::UNAUTHORIZED_ACCESS,
        Refusal::QueueFull(_) => condition::RESOURCE_LIMIT_EXCEEDED,
        Refusal::DeviceNotFound(_) | Refusal::ModuleNotFound(_) => condition::NOT_FOUND,
        Refusal::TooLarge(_) => condition::MESSAGE_SIZE_EXCEEDED,
        Refusal::Throttled { .. } => condition::SERVER_BUSY,
        Refusal::DeviceNotOnline(_)
        | Refusal::AlreadyExists(_)
        | Refusal::JobNotFound(_)
        | Refusal::JobAlreadyExists(_)
        | Refusal::NotInThisState(_)
        | Refusal::TooManyJobs
        | Refusal::Precondition { .. }
        | Refusal::DeviceTimeout => condition::INTERNAL_ERROR,
    };
    AmqpError::new(condition, format!("ErrorCode:{};{refusal}", refusal.name()))
        .with_info("errorcode", refusal.code().to_string())
}

impl Face for HubFace {
    fn container(&self) -> &str {
        &self.hub.settings.name
    }

    fn login(&mut self, login: &Login) -> bool {
        match login {
            Login::Anonymous => true,
            Login::Plain { user, password } => {
                let root = format!("@sas.root.{}", self.hub.settings.name);
                let policy = user.strip_suffix(&root).ok_or(SasError::Policy);
                let checked = policy.and_then(|policy| self.hub.check_login(policy, password));
                match checked {
                    Ok((path, expires)) => {
                        self.grants.add(&path, expires);
                        self.with_password = true;
                        true
                    }
                    Err(error) => {
                        tracing::info!(user, %error, "login refused");
                        false
                    }
                }
            }
        }
    }

    fn attach(&mut self, link: LinkId, attach: &Attach) -> Result<(), AmqpError> {
        let path = path_of(attach.address());
        if path == CBS {
            self.replies.attach(link, attach, CBS);
            return Ok(());
        }
        if !self.grants.allow(path) {
            return Err(unauthorized(SasError::Policy, path));
        }
        let lower = path.to_lowercase();
        if lower == DEVICE_BOUND && attach.role == Role::Sender {
            self.senders.insert(link);
            Ok(())
        } else if lower == FEEDBACK && attach.role == Role::Receiver {
            self.listeners.insert(link, self.hub.number());
            Ok(())
        } else if let Some(tail) = lower.strip_prefix(EVENTS)
            && (tail.is_empty() || tail.starts_with('/'))
            && attach.role == Role::Receiver
        {
            // As it was written: names of groups keep their case.
            let tail = path.get(EVENTS.len()..).unwrap_or_default();
            Err(self.redirect(tail.trim_matches('/')))
        } else {
            Err(no_such_node(attach.address()))
        }
    }

    fn message(&mut self, link: LinkId, message: Message) -> Result<(), AmqpError> {
        if self.replies.node(link).is_some() {
            self.put_token(message);
            return Ok(());
        }
        if !self.grants.allow(DEVICE_BOUND) {
            return Err(unauthorized(SasError::Expired, DEVICE_BOUND));
        }
        self.send(message)
    }

    fn pull(&mut self, link: LinkId, credit: bool) -> Pulled {
        if !credit {
            return Pulled::Nothing;
        }
        if let Some(holder) = self.listeners.get(&link) {
            return match self.hub.feedback.lock_next(*holder) {
                Some((number, records)) => {
                    let bytes = feedback(&self.hub.settings.name, number, &records);
                    Pulled::Tracked(bytes, number)
                }
                None => Pulled::Nothing,
            };
        }
        self.replies
            .pull(link)
            .map_or(Pulled::Nothing, Pulled::Message)
    }

    fn settled(&mut self, link: LinkId, number: u64, outcome: Outcome) {
        let Some(holder) = self.listeners.get(&link) else {
            return;
        };
        match outcome {
            Outcome::Accepted | Outcome::Rejected => self.hub.feedback.complete(*holder, number),
            Outcome::Released => {
                self.hub.feedback.abandon(*holder, number);
                self.hub.connections.wake_all();
            }
        }
    }

    fn detached(&mut self, link: LinkId) {
        self.replies.detached(link);
        self.senders.remove(&link);
        if let Some(holder) = self.listeners.remove(&link) {
            self.hub.feedback.abandon_all(holder);
            self.hub.connections.wake_all();
        }
    }
}

impl Drop for HubFace {
    /// A connection that is lost gives back what its links held.
    fn drop(&mut self) {
        for holder in self.listeners.values() {
            self.hub.feedback.abandon_all(*holder);
        }
        if !self.listeners.is_empty() {
            self.hub.connections.wake_all();
        }
    }
}
