//! Messages that do not fit one frame come in parts.
//!
//! Each part has the message's header with the flag set, then its number (from 1), the count of parts
//! and the configured chunk size. In a request, every part but the first repeats the entity's type and
//! name.

use std::{
    collections::{BTreeMap, HashMap},
    time::{Duration, Instant},
};

use super::{
    error::{DecodeError, EncodeError, Fault},
    message::{Body, Header, Message, RawHeader},
    wire::Reader,
};

/// The longest WebSocket message that a platform accepts, and so the size of a part.
pub const CHUNK: usize = 8192;
/// Header of a part: that of the message and three numbers of two bytes.
const PART_HEADER: usize = RawHeader::LEN + 6;
/// The Java SDK reads the numbers as signed.
const MAX_PARTS: usize = i16::MAX as usize;

/// What keeping a part takes besides its bytes: a little more than the maps that hold it. Else parts
/// without bytes would cost nothing, and could be as many as somebody likes.
const PART_COST: usize = 64;
/// The same for a message of which there is a part.
const MESSAGE_COST: usize = 512;

/// What an [`Assembler`] is ready to hold.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Longest message, in bytes. The C SDK's own default is 1 MiB.
    pub message: usize,
    /// Bytes of incomplete messages altogether, with what it takes to keep them.
    pub pending: usize,
    /// An incomplete message is forgotten after this: the C SDK waits 50 s, the Java SDK 60 s.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message: 1 << 20,
            pending: 4 << 20,
            patience: Duration::from_secs(60),
        }
    }
}

/// The frames of a message: one if it fits `chunk` bytes, else its parts in order.
///
/// # Errors
/// [`EncodeError`] if it has no wire form, needs more parts than can be counted, or is a login or bind,
/// which the platform refuses in parts.
pub fn split(message: &Message, chunk: usize) -> Result<Vec<Vec<u8>>, EncodeError> {
    let whole = message.encode()?;
    if whole.len() <= chunk {
        return Ok(vec![whole]);
    }
    let mut repeated = Vec::new();
    match &message.body {
        Body::Request(request) => request.put_address(&mut repeated),
        Body::Response(_) => {}
        other => return Err(EncodeError::Unsplittable(other.kind(), whole.len())),
    }
    let body = &whole[RawHeader::LEN..];
    let room = chunk.saturating_sub(PART_HEADER + repeated.len());
    let parts = body
        .len()
        .checked_div(room)
        .map_or(usize::MAX, |full| full + 1);
    let size = u16::try_from(chunk).map_err(|_| EncodeError::Length {
        what: "a part",
        length: chunk,
        max: u16::MAX.into(),
    })?;
    if parts > MAX_PARTS {
        return Err(EncodeError::Length {
            what: "a message in parts",
            length: whole.len(),
            max: room.saturating_mul(MAX_PARTS),
        });
    }
    let pieces = body.chunks(room);
    let count = u16::try_from(pieces.len()).unwrap_or(u16::MAX);
    let frames = (1..).zip(pieces).map(|(number, piece)| {
        let mut out = Vec::with_capacity(chunk);
        message.raw(true).put(&mut out);
        for field in [number, count, size] {
            out.extend(u16::to_be_bytes(field));
        }
        if number > 1 {
            out.extend_from_slice(&repeated);
        }
        out.extend_from_slice(piece);
        out
    });
    Ok(frames.collect())
}

/// Whether these bytes are a part of a message.
#[must_use]
pub fn is_part(bytes: &[u8]) -> bool {
    bytes
        .get(RawHeader::LEN - 1)
        .is_some_and(|flags| *flags != 0)
}

/// Puts parts together again, in whatever order they come.
#[derive(Debug)]
pub struct Assembler {
    limits: Limits,
    pending: HashMap<(u8, Header), Pending>,
    held: usize,
}

#[derive(Debug)]
struct Pending {
    since: Instant,
    count: u16,
    bytes: usize,
    /// Bytes and what it takes to keep them.
    cost: usize,
    parts: BTreeMap<u16, Box<[u8]>>,
}

impl Assembler {
    /// Holds nothing yet.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            pending: HashMap::new(),
            held: 0,
        }
    }

    /// Takes in a frame: a whole message is returned at once, the last missing part completes its.
    ///
    /// # Errors
    /// [`DecodeError`]; the other pending messages are kept.
    pub fn push(&mut self, now: Instant, bytes: &[u8]) -> Result<Option<Message>, DecodeError> {
        if !is_part(bytes) {
            return Message::decode(bytes).map(Some);
        }
        self.forget(now);
        let mut reader = Reader::new(bytes);
        let raw = RawHeader::read(&mut reader)?;
        let number = reader.u16("the number of a part")?;
        let count = reader.u16("the count of parts")?;
        reader.u16("the size of parts")?;
        if number == 0 || number > count || usize::from(count) > MAX_PARTS {
            return reader.fail(Fault::Multipart(
                "the number of a part is not within its count",
            ));
        }
        if number > 1 && raw.repeats_address() {
            reader.u8("an entity type")?;
            reader.str("an entity's name")?;
        }
        let piece = reader.rest();
        let key = (raw.code, raw.header);
        let mut cost = piece.len() + PART_COST;
        let pending = self.pending.entry(key).or_insert_with(|| {
            cost += MESSAGE_COST;
            Pending {
                since: now,
                count,
                bytes: 0,
                cost: 0,
                parts: BTreeMap::new(),
            }
        });
        let total = pending.bytes + piece.len();
        let fault = if pending.count != count {
            Some(Fault::Multipart(
                "parts of one message differ in their count",
            ))
        } else if pending.parts.contains_key(&number) {
            Some(Fault::Multipart("a part came twice"))
        } else if total > self.limits.message || self.held + cost > self.limits.pending {
            Some(Fault::TooLong(total))
        } else {
            None
        };
        if let Some(fault) = fault {
            self.drop_pending(&key);
            return reader.fail(fault);
        }
        pending.parts.insert(number, piece.into());
        pending.bytes = total;
        pending.cost += cost;
        self.held += cost;
        if pending.parts.len() < usize::from(count) {
            return Ok(None);
        }
        // As if it had come whole, so that the offset of a fault is that in the message.
        let mut whole = Vec::with_capacity(RawHeader::LEN + total);
        RawHeader { part: false, ..raw }.put(&mut whole);
        if let Some(done) = self.drop_pending(&key) {
            for piece in done.parts.values() {
                whole.extend_from_slice(piece);
            }
        }
        Message::decode(&whole).map(Some)
    }

    fn drop_pending(&mut self, key: &(u8, Header)) -> Option<Pending> {
        let dropped = self.pending.remove(key)?;
        self.held -= dropped.cost;
        Some(dropped)
    }

    fn forget(&mut self, now: Instant) {
        let patience = self.limits.patience;
        let held = &mut self.held;
        self.pending.retain(|_, pending| {
            let keep = now.saturating_duration_since(pending.since) < patience;
            if !keep {
                *held -= pending.cost;
            }
            keep
        });
    }
}
