//! Frames and protocol headers.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use super::error::{AmqpError, condition};

/// `AMQP`, protocol id, version 1.0.0.
pub(super) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// The SASL layer's.
pub(super) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

/// Frame header: size, data offset, type, channel.
pub(super) const HEADER_SIZE: usize = 8;

/// What layer a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FrameKind {
    Amqp = 0,
    Sasl = 1,
}

/// A frame's body and where it goes.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) kind: FrameKind,
    pub(super) channel: u16,
    pub(super) body: Bytes,
}

/// Takes a protocol header if it has arrived.
pub(super) fn take_header(input: &mut BytesMut) -> Option<[u8; 8]> {
    if input.len() < 8 {
        return None;
    }
    let mut header = [0; 8];
    input.copy_to_slice(&mut header);
    Some(header)
}

/// Takes a frame if all of it has arrived.
pub(super) fn take_frame(input: &mut BytesMut, max: u32) -> Result<Option<Frame>, AmqpError> {
    let broken = |text: &str| AmqpError::new(condition::FRAMING_ERROR, text);
    let Some(size) = input
        .first_chunk::<4>()
        .map(|size| u32::from_be_bytes(*size))
    else {
        return Ok(None);
    };
    if size > max {
        return Err(broken("frame is larger than max-frame-size"));
    }
    let size = size as usize;
    if size < HEADER_SIZE {
        return Err(broken("frame is smaller than its header"));
    }
    if input.len() < size {
        input.reserve(size - input.len());
        return Ok(None);
    }
    let mut frame = input.split_to(size).freeze();
    let body_at = usize::from(frame[4]) * 4;
    let kind = match frame[5] {
        0 => FrameKind::Amqp,
        1 => FrameKind::Sasl,
        _ => return Err(broken("unknown frame type")),
    };
    let channel = u16::from_be_bytes([frame[6], frame[7]]);
    if body_at < HEADER_SIZE || body_at > size {
        return Err(broken("bad data offset"));
    }
    frame.advance(body_at);
    Ok(Some(Frame {
        kind,
        channel,
        body: frame,
    }))
}

/// Writes a frame whose body `fill` writes.
pub(super) fn write_frame(
    out: &mut BytesMut,
    kind: FrameKind,
    channel: u16,
    fill: impl FnOnce(&mut BytesMut),
) {
    let start = out.len();
    out.put_u32(0);
    out.put_slice(&[2, kind as u8]);
    out.put_u16(channel);
    fill(out);
    let size = u32::try_from(out.len() - start).unwrap_or(u32::MAX);
    out[start..start + 4].copy_from_slice(&size.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_arrive_whole_or_not_at_all() {
        let mut wire = BytesMut::new();
        write_frame(&mut wire, FrameKind::Amqp, 3, |body| {
            body.put_slice(b"body");
        });
        let whole = wire.clone().freeze();
        for cut in 0..whole.len() {
            let mut part = BytesMut::from(&whole[..cut]);
            assert!(take_frame(&mut part, 512).unwrap().is_none());
            assert_eq!(part.len(), cut);
        }
        let frame = take_frame(&mut wire, 512).unwrap().unwrap();
        assert_eq!((frame.channel, &frame.body[..]), (3, &b"body"[..]));
        assert!(wire.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for (bytes, max) in [
            (&[0, 0, 0, 7, 2, 0, 0, 0][..], 512),
            (&[0, 0, 9, 0, 2, 0, 0, 0][..], 512),
            (&[0, 0, 0, 8, 1, 0, 0, 0][..], 512),
            (&[0, 0, 0, 8, 3, 0, 0, 0][..], 512),
            (&[0, 0, 0, 8, 2, 7, 0, 0][..], 512),
        ] {
            assert!(
                take_frame(&mut BytesMut::from(bytes), max).is_err(),
                "{bytes:?}"
            );
        }
    }
}
