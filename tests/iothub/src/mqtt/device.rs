//! A connected device: its packets become calls of the hub, and what the hub has becomes packets.

use std::{collections::HashMap, sync::Arc};

use mqttbytes::{
    QoS,
    v4::{Packet, PubAck, Publish, SubAck, Subscribe, SubscribeReasonCode, UnsubAck, Unsubscribe},
    valid_topic,
};
use serde_json::{Value, json};

use crate::{
    c2d::{C2dMessage, LockToken},
    hub::{DeviceSession, Hub, MAX_METHOD_PAYLOAD, Subscription, ToDevice},
    identity::Identity,
    log::{NewEvent, Origin},
    receipt::Received,
    twin::BadPatch,
};

use super::{
    End,
    bag::Bag,
    event,
    inbox::MAX_BODY,
    outbox::{Delivered, Outbox, ToPeer, TooLong},
    topic::{self, FromDevice},
};

/// How many cloud-to-device messages may be on their way without an acknowledgement. The hub's own
/// number is not published; a few keep a slow line busy.
const WINDOW: usize = 10;

/// A connected device or module.
#[derive(Debug)]
pub(super) struct Device {
    hub: Arc<Hub>,
    pub(super) session: DeviceSession,
    origin: Arc<Origin>,
    /// Cloud-to-device messages on their way, by packet id.
    in_flight: HashMap<u16, LockToken>,
    last_id: u16,
    /// Whether the queue has been changed since it was last found empty.
    queue_changed: bool,
}

impl Device {
    /// Connects; `None` if the identity has just been deleted.
    pub(super) fn start(hub: &Arc<Hub>, identity: &Identity, clean: bool) -> Option<Self> {
        Some(Self {
            session: hub.start_session(identity, clean)?,
            origin: hub.origin(identity, "Telemetry")?,
            hub: Arc::clone(hub),
            in_flight: HashMap::new(),
            last_id: 0,
            // Subscriptions of an earlier connection may live on.
            queue_changed: true,
        })
    }

    /// Does what a packet asks for.
    pub(super) fn receive(&mut self, packet: Packet, out: &mut Outbox) -> Result<(), End> {
        match packet {
            Packet::Publish(publish) => self.publish(&publish, out),
            Packet::PubAck(ack) => {
                // One that is not ours is a repetition, or a client's mistake that harms nobody.
                if let Some(token) = self.in_flight.remove(&ack.pkid) {
                    self.session.complete_c2d(token);
                    self.queue_changed = true;
                }
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.subscribe(&subscribe, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(&unsubscribe, out),
            Packet::PingReq => say(out, &ToPeer::PingResp),
            Packet::Disconnect => Err(End::Disconnect),
            Packet::Connect(_) => Err(End::Violation("a second CONNECT")),
            Packet::PubRec(_) | Packet::PubRel(_) | Packet::PubComp(_) => {
                Err(End::Violation("QoS 2 is not supported"))
            }
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(End::Violation("a packet that only servers send"))
            }
        }
    }

    fn publish(&mut self, publish: &Publish, out: &mut Outbox) -> Result<(), End> {
        if publish.qos == QoS::ExactlyOnce {
            return Err(End::Violation("QoS 2 is not supported"));
        }
        if !valid_topic(&publish.topic) || publish.topic.contains('\0') {
            return Err(End::Violation("a topic with wildcards or NUL"));
        }
        let topic = FromDevice::parse(&publish.topic, self.session.identity()).ok_or(
            End::Violation("a topic that this identity must not publish to"),
        )?;
        match topic {
            FromDevice::Telemetry { bag } => self.telemetry(bag, publish)?,
            FromDevice::MethodAnswer { status, rid } => {
                if publish.payload.len() > MAX_METHOD_PAYLOAD {
                    return Err(End::Violation("the answer to a method is too large"));
                }
                self.session.answer_method(rid, status, &publish.payload);
            }
            FromDevice::TwinGet { rid } => {
                let twin = self.session.twin().ok_or(End::TakenOver)?;
                self.answer_twin(topic::twin_answer(200, rid, None), &twin, out)?;
            }
            FromDevice::Report { rid } => self.report(rid, &publish.payload, out)?,
        }
        if publish.qos == QoS::AtLeastOnce {
            say(out, &ToPeer::PubAck(PubAck::new(publish.pkid)))?;
        }
        Ok(())
    }

    fn telemetry(&self, bag: &str, publish: &Publish) -> Result<(), End> {
        if publish.payload.len() > MAX_BODY {
            return Err(End::Violation("the message is too large"));
        }
        let bag = Bag::parse(bag).map_err(|_| End::Violation("not a property bag"))?;
        self.hub.append(NewEvent {
            origin: Arc::clone(&self.origin),
            sections: event::sections(&bag, publish.retain, &publish.payload),
        });
        self.session.count_telemetry();
        Ok(())
    }

    fn report(&self, rid: &str, payload: &[u8], out: &mut Outbox) -> Result<(), End> {
        let reported = serde_json::from_slice(payload)
            .map_err(|_| BadPatch::NotAnObject)
            .and_then(|patch| self.session.report(&patch));
        let status = match reported {
            Ok(version) => {
                let version = version.ok_or(End::TakenOver)?;
                let topic = topic::twin_answer(204, rid, Some(version));
                return self.answer_twin(topic, &Value::Null, out);
            }
            Err(BadPatch::NotAnObject | BadPatch::Property(_)) => 400,
            Err(BadPatch::TooLarge) => 413,
        };
        self.answer_twin(topic::twin_answer(status, rid, None), &Value::Null, out)
    }

    /// Answers if the device listens, as a broker would; without a body for null.
    fn answer_twin(&self, topic: String, body: &Value, out: &mut Outbox) -> Result<(), End> {
        if !self.session.listens(&Subscription::TwinAnswers) {
            return Ok(());
        }
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        out.publish(topic, body)
            .map_err(|TooLong| End::Violation("the request id is too long"))
    }

    fn subscribe(&mut self, subscribe: &Subscribe, out: &mut Outbox) -> Result<(), End> {
        if subscribe.pkid == 0 || subscribe.filters.is_empty() {
            return Err(End::Violation("SUBSCRIBE without packet id or filter"));
        }
        let grant = |filter: &mqttbytes::v4::SubscribeFilter| {
            let acknowledged = filter.qos != QoS::AtMostOnce;
            match topic::subscription(&filter.path, acknowledged, self.session.identity()) {
                Some(subscription) => {
                    self.session.subscribe(subscription);
                    SubscribeReasonCode::Success(match acknowledged {
                        true => QoS::AtLeastOnce,
                        false => QoS::AtMostOnce,
                    })
                }
                None => SubscribeReasonCode::Failure,
            }
        };
        let codes = subscribe.filters.iter().map(grant).collect();
        self.queue_changed = true;
        say(out, &ToPeer::SubAck(SubAck::new(subscribe.pkid, codes)))
    }

    fn unsubscribe(&self, unsubscribe: &Unsubscribe, out: &mut Outbox) -> Result<(), End> {
        if unsubscribe.pkid == 0 || unsubscribe.topics.is_empty() {
            return Err(End::Violation("UNSUBSCRIBE without packet id or filter"));
        }
        for filter in &unsubscribe.topics {
            if let Some(kind) = topic::subscription(filter, true, self.session.identity()) {
                self.session.unsubscribe(&kind);
            }
        }
        let pkid = unsubscribe.pkid;
        say(out, &ToPeer::UnsubAck(UnsubAck { pkid }))
    }

    /// Passes on what the hub has.
    pub(super) fn pass_on(&mut self, what: ToDevice, out: &mut Outbox) {
        // Whatever came, something may wait in the queue too: the mailbox may have been too full to
        // say so.
        self.queue_changed = true;
        match what {
            ToDevice::C2dWaiting => {}
            ToDevice::Method { rid, name, payload } => {
                let sent = out.publish(topic::method(&name, rid), payload.to_string());
                // A name that no topic can carry: its caller waits in vain.
                if sent.is_ok() {
                    let rid = format!("{rid:x}");
                    let receipt = Received::Method { rid, name, payload };
                    out.when_sent(Delivered::Other(receipt));
                }
            }
            ToDevice::Desired { version, patch } => {
                let mut body = patch.clone();
                if let Some(object) = body.as_object_mut() {
                    object.insert("$version".into(), json!(version));
                }
                if out
                    .publish(topic::desired(version), body.to_string())
                    .is_ok()
                {
                    out.when_sent(Delivered::Other(Received::Desired { version, patch }));
                }
            }
        }
    }

    /// Takes cloud-to-device messages from the queue while there is room for them.
    pub(super) fn pull(&mut self, out: &mut Outbox) {
        while self.queue_changed && self.in_flight.len() < WINDOW && !out.is_full() {
            match self.session.next_c2d() {
                Some((token, message, acknowledged)) => {
                    self.send_c2d(token, message, acknowledged, out);
                }
                None => self.queue_changed = false,
            }
        }
    }

    fn send_c2d(
        &mut self,
        token: LockToken,
        message: C2dMessage,
        acknowledged: bool,
        out: &mut Outbox,
    ) {
        let topic = topic::c2d(self.session.identity(), &message);
        let sent = if acknowledged {
            let pkid = self.free_id();
            let mut publish = Publish::from_bytes(topic, QoS::AtLeastOnce, message.body);
            publish.pkid = pkid;
            let sent = out.say(&ToPeer::Publish(publish));
            if sent.is_ok() {
                self.in_flight.insert(pkid, token);
            }
            sent
        } else {
            let sent = out.publish(topic, message.body);
            if sent.is_ok() {
                out.when_sent(Delivered::C2d(token));
            }
            sent
        };
        // Its properties do not fit into a topic. It stays locked, and is given up when it has been
        // in the way of as many connections as the queue allows.
        if sent.is_err() {
            tracing::warn!(identity = %self.session.identity(), "c2d message with too long properties");
        }
    }

    /// A packet id that no message on its way has; there are far more than [`WINDOW`].
    fn free_id(&mut self) -> u16 {
        loop {
            self.last_id = self.last_id.checked_add(1).unwrap_or(1);
            if !self.in_flight.contains_key(&self.last_id) {
                return self.last_id;
            }
        }
    }

    /// The peer can have it.
    pub(super) fn delivered(&self, what: Delivered) {
        match what {
            Delivered::C2d(token) => self.session.complete_c2d(token),
            Delivered::Other(receipt) => self.session.note(receipt),
        }
    }
}

fn say(out: &mut Outbox, packet: &ToPeer) -> Result<(), End> {
    out.say(packet)
        .map_err(|TooLong| End::Violation("no answer can carry this"))
}
