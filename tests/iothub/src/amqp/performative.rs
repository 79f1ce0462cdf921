//! Performatives: what peers say, and how we say it.

use bytes::{Bytes, BytesMut};
use serde_amqp::Value;

use super::{
    decode::{Fields, Map, described, take_value},
    encode::{self, Items},
    error::{AmqpError, condition},
};

/// Which end of a link the speaker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

impl Role {
    fn from_wire(receiver: bool) -> Self {
        if receiver {
            Self::Receiver
        } else {
            Self::Sender
        }
    }

    fn is_receiver(self) -> bool {
        self == Self::Receiver
    }
}

pub(super) const OPEN: u8 = 0x10;
pub(super) const BEGIN: u8 = 0x11;
pub(super) const ATTACH: u8 = 0x12;
pub(super) const FLOW: u8 = 0x13;
pub(super) const TRANSFER: u8 = 0x14;
pub(super) const DISPOSITION: u8 = 0x15;
pub(super) const DETACH: u8 = 0x16;
pub(super) const END: u8 = 0x17;
pub(super) const CLOSE: u8 = 0x18;
const SOURCE: u8 = 0x28;
const TARGET: u8 = 0x29;

#[derive(Debug)]
pub(super) enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer),
    /// The peer has settled something. Not read: one comes for every event, and few are waited for.
    Disposition(Bytes),
    Detach {
        handle: u32,
        closed: bool,
    },
    End,
    Close,
    /// An empty frame: the peer is alive.
    Heartbeat,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Open {
    pub(super) max_frame_size: u32,
    /// Milliseconds; 0 for none.
    pub(super) idle_timeout: u32,
}

#[derive(Debug)]
pub(super) struct Begin {
    pub(super) next_outgoing_id: u32,
    pub(super) incoming_window: u32,
}

/// A peer's wish for a link.
#[derive(Debug, Clone)]
pub(crate) struct Attach {
    pub(crate) name: String,
    pub(crate) handle: u32,
    /// The peer's role.
    pub(crate) role: Role,
    pub(crate) snd_settle_mode: u8,
    /// Source address and filter.
    pub(crate) source: Option<String>,
    pub(crate) filter: Map,
    pub(crate) target: Option<String>,
    pub(crate) properties: Map,
    pub(super) raw_source: Value,
    pub(super) raw_target: Value,
    pub(super) initial_delivery_count: u32,
}

impl Attach {
    /// The address of our end: where the peer wants to read or write.
    pub(crate) fn address(&self) -> &str {
        let address = match self.role {
            Role::Receiver => &self.source,
            Role::Sender => &self.target,
        };
        address.as_deref().unwrap_or_default()
    }
}

#[derive(Debug)]
pub(super) struct Flow {
    pub(super) next_incoming_id: Option<u32>,
    pub(super) incoming_window: u32,
    pub(super) handle: Option<u32>,
    pub(super) delivery_count: Option<u32>,
    pub(super) link_credit: Option<u32>,
    pub(super) drain: bool,
    pub(super) echo: bool,
}

/// What the peer says of deliveries, from the first to the last of these numbers.
#[derive(Debug)]
pub(super) struct Disposition {
    /// The peer's role in those deliveries.
    pub(super) role: Role,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) settled: bool,
    /// The code of the state, if there is one.
    pub(super) state: Option<u64>,
}

impl Disposition {
    pub(super) fn decode(mut body: Bytes) -> Result<Self, AmqpError> {
        let (_, value) = described(take_value(&mut body)?)?;
        let mut fields = Fields::of(value)?;
        let missing = || AmqpError::new(condition::DECODE_ERROR, "first is missing");
        let first = fields.u32(1).ok_or_else(missing)?;
        Ok(Self {
            role: Role::from_wire(fields.bool(0)),
            first,
            last: fields.u32(2).unwrap_or(first),
            settled: fields.bool(3),
            state: Fields::of_described(fields.take(4)).map(|(code, _)| code),
        })
    }
}

#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) handle: u32,
    pub(super) delivery_id: Option<u32>,
    pub(super) settled: bool,
    pub(super) more: bool,
    pub(super) aborted: bool,
    pub(super) payload: Bytes,
}

impl Performative {
    pub(super) fn decode(mut body: Bytes) -> Result<Self, AmqpError> {
        if body.is_empty() {
            return Ok(Self::Heartbeat);
        }
        if body.first_chunk() == Some(&[0x00, 0x53, DISPOSITION]) {
            return Ok(Self::Disposition(body));
        }
        let whole = body.clone();
        let (code, value) = described(take_value(&mut body)?)?;
        let mut fields = Fields::of(value)?;
        let missing =
            |what: &str| AmqpError::new(condition::DECODE_ERROR, format!("{what} is missing"));
        let handle =
            |index: usize, fields: &Fields| fields.u32(index).ok_or_else(|| missing("handle"));
        Ok(match u8::try_from(code).unwrap_or(0) {
            OPEN => Self::Open(Open {
                max_frame_size: fields.u32(2).unwrap_or(u32::MAX),
                idle_timeout: fields.u32(4).unwrap_or(0),
            }),
            BEGIN => Self::Begin(Begin {
                next_outgoing_id: fields.u32(1).ok_or_else(|| missing("next-outgoing-id"))?,
                incoming_window: fields.u32(2).ok_or_else(|| missing("incoming-window"))?,
            }),
            ATTACH => {
                let handle = handle(1, &fields)?;
                let role = Role::from_wire(fields.bool(2));
                let raw_source = fields.take(5);
                let raw_target = fields.take(6);
                let mut source = Fields::of_described(raw_source.clone())
                    .unwrap_or_default()
                    .1;
                let mut target = Fields::of_described(raw_target.clone())
                    .unwrap_or_default()
                    .1;
                Self::Attach(Box::new(Attach {
                    name: fields.text(0).ok_or_else(|| missing("name"))?,
                    handle,
                    role,
                    snd_settle_mode: u8::try_from(fields.number(3).unwrap_or(2)).unwrap_or(2),
                    source: source.text(0),
                    filter: source.map(7),
                    target: target.text(0),
                    properties: fields.map(13),
                    raw_source,
                    raw_target,
                    initial_delivery_count: fields.u32(9).unwrap_or(0),
                }))
            }
            FLOW => Self::Flow(Flow {
                next_incoming_id: fields.u32(0),
                incoming_window: fields.u32(1).unwrap_or(0),
                handle: fields.u32(4),
                delivery_count: fields.u32(5),
                link_credit: fields.u32(6),
                drain: fields.bool(8),
                echo: fields.bool(9),
            }),
            TRANSFER => Self::Transfer(Transfer {
                handle: handle(0, &fields)?,
                delivery_id: fields.u32(1),
                settled: fields.bool(4),
                more: fields.bool(5),
                aborted: fields.bool(9),
                payload: body,
            }),
            DISPOSITION => Self::Disposition(whole),
            DETACH => Self::Detach {
                handle: handle(0, &fields)?,
                closed: fields.bool(1),
            },
            END => Self::End,
            CLOSE => Self::Close,
            _ => {
                return Err(AmqpError::new(
                    condition::DECODE_ERROR,
                    "unknown performative",
                ));
            }
        })
    }
}

/// Our `open`.
pub(super) fn open(out: &mut BytesMut, container: &str, max_frame_size: u32, idle_timeout: u32) {
    encode::described(out, OPEN, |f| {
        f.string(container).null().uint(max_frame_size);
        // Source: Microsoft Learn, "AMQP 1.0 in Azure Service Bus and Event Hubs protocol guide".
        f.ushort(4999).uint(idle_timeout).nulls(4).map(|_| {});
    });
}

/// Our `begin`, in answer to the peer's on `remote_channel`.
pub(super) fn begin(out: &mut BytesMut, remote_channel: u16, window: u32) {
    encode::described(out, BEGIN, |f| {
        f.ushort(remote_channel).uint(0).uint(window).uint(window);
        f.uint(255).nulls(2).map(|_| {});
    });
}

/// Our `attach`, in answer to the peer's. A refused one has no terminus at our end; `detach` follows.
pub(super) fn attach(
    out: &mut BytesMut,
    request: &Attach,
    snd_settle_mode: u8,
    refused: bool,
    max_message_size: u64,
) {
    encode::described(out, ATTACH, |f| {
        f.string(&request.name).uint(request.handle);
        // Our role is the other one.
        f.bool(!request.role.is_receiver());
        // Receiver settle mode First whatever was asked: with Second, uAMQP waits for a disposition
        // that no service sends.
        f.ubyte(snd_settle_mode).ubyte(0);
        let we_send = request.role.is_receiver();
        if refused && we_send {
            f.null();
        } else {
            terminus(f, SOURCE, &request.raw_source);
        }
        if refused && !we_send {
            f.null();
        } else {
            terminus(f, TARGET, &request.raw_target);
        }
        f.null().bool(false);
        if we_send {
            f.uint(0);
        } else {
            f.null();
        }
        f.ulong(max_message_size).nulls(2).map(|_| {});
    });
}

fn terminus(f: &mut Items<'_>, code: u8, raw: &Value) {
    if *raw == Value::Null {
        f.described(code, |t| {
            t.null();
        });
    } else {
        f.value(raw);
    }
}

/// A link's part of a flow.
pub(super) struct LinkFlow {
    pub(super) handle: u32,
    pub(super) delivery_count: u32,
    pub(super) credit: u32,
    pub(super) drain: bool,
}

/// A session's part of a flow.
pub(super) struct SessionFlow {
    pub(super) next_incoming_id: u32,
    pub(super) incoming_window: u32,
    pub(super) next_outgoing_id: u32,
    pub(super) outgoing_window: u32,
}

pub(super) fn flow(out: &mut BytesMut, session: &SessionFlow, link: Option<&LinkFlow>) {
    encode::described(out, FLOW, |f| {
        f.uint(session.next_incoming_id)
            .uint(session.incoming_window);
        f.uint(session.next_outgoing_id)
            .uint(session.outgoing_window);
        match link {
            Some(link) => {
                f.uint(link.handle)
                    .uint(link.delivery_count)
                    .uint(link.credit);
                f.null().bool(link.drain);
            }
            None => {
                f.nulls(4).bool(false);
            }
        }
        f.bool(false).null();
    });
}

/// A transfer's performative; the payload follows it in the frame.
pub(super) fn transfer(out: &mut BytesMut, handle: u32, delivery: u32, settled: bool, more: bool) {
    encode::described(out, TRANSFER, |f| {
        f.uint(handle)
            .uint(delivery)
            .binary(&delivery.to_be_bytes())
            .uint(0);
        f.bool(settled).bool(more).nulls(2);
        // Batchable: the Python client takes what is not for the end of a batch.
        f.bool(false).bool(false).bool(true);
    });
}

pub(super) fn disposition(
    out: &mut BytesMut,
    role: Role,
    first: u32,
    last: u32,
    state: impl FnOnce(&mut Items<'_>),
) {
    encode::described(out, DISPOSITION, |f| {
        f.bool(role.is_receiver()).uint(first).uint(last).bool(true);
        state(f);
        f.bool(false);
    });
}

pub(super) fn detach(out: &mut BytesMut, handle: u32, closed: bool, error: Option<&AmqpError>) {
    encode::described(out, DETACH, |f| {
        f.uint(handle).bool(closed);
        AmqpError::write_or_null(error, f);
    });
}

pub(super) fn end(out: &mut BytesMut, error: Option<&AmqpError>) {
    encode::described(out, END, |f| AmqpError::write_or_null(error, f));
}

pub(super) fn close(out: &mut BytesMut, error: Option<&AmqpError>) {
    encode::described(out, CLOSE, |f| AmqpError::write_or_null(error, f));
}
