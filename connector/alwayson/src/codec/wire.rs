//! Integers, strings and byte runs: big-endian, strings with one length byte up to 127 bytes, else four
//! with bit 31 set.

use super::error::{DecodeError, Fault};

/// Longest string with a one-byte length.
const SHORT: usize = 127;
const LONG_FLAG: u32 = 1 << 31;

/// Reads a message from its start to its end.
#[derive(Debug, Clone)]
pub(super) struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub(super) fn fail<T>(&self, fault: Fault) -> Result<T, DecodeError> {
        Err(DecodeError {
            offset: self.at,
            fault,
        })
    }

    /// What lies between an earlier place and this one.
    pub(super) fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub(super) fn rest(&mut self) -> &'a [u8] {
        let rest = &self.bytes[self.at..];
        self.at = self.bytes.len();
        rest
    }

    pub(super) fn bytes(
        &mut self,
        needed: usize,
        what: &'static str,
    ) -> Result<&'a [u8], DecodeError> {
        match self.bytes[self.at..].get(..needed) {
            Some(bytes) => {
                self.at += needed;
                Ok(bytes)
            }
            None => self.fail(Fault::Short {
                what,
                needed,
                left: self.left(),
            }),
        }
    }

    pub(super) fn array<const N: usize>(
        &mut self,
        what: &'static str,
    ) -> Result<[u8; N], DecodeError> {
        let mut array = [0; N];
        array.copy_from_slice(self.bytes(N, what)?);
        Ok(array)
    }

    pub(super) fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.array::<1>(what)?[0])
    }

    pub(super) fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        self.array(what).map(u16::from_be_bytes)
    }

    pub(super) fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        self.array(what).map(u32::from_be_bytes)
    }

    pub(super) fn i32(&mut self, what: &'static str) -> Result<i32, DecodeError> {
        self.array(what).map(i32::from_be_bytes)
    }

    /// A byte that is 0 or 1.
    pub(super) fn flag(&mut self, what: &'static str) -> Result<bool, DecodeError> {
        match self.u8(what)? {
            0 => Ok(false),
            1 => Ok(true),
            byte => {
                self.at -= 1;
                self.fail(Fault::Marker { what, byte })
            }
        }
    }

    pub(super) fn str(&mut self, what: &'static str) -> Result<&'a str, DecodeError> {
        let first = self.u8(what)?;
        let length = if usize::from(first) <= SHORT {
            usize::from(first)
        } else {
            self.at -= 1;
            to_usize(self.u32(what)? & !LONG_FLAG)
        };
        let start = self.at;
        std::str::from_utf8(self.bytes(length, what)?).or(Err(DecodeError {
            offset: start,
            fault: Fault::Utf8(what),
        }))
    }

    /// A run of bytes with a four-byte length. Some peers set bit 31 as for strings: it is ignored.
    pub(super) fn blob(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let length = to_usize(self.u32(what)? & !LONG_FLAG);
        self.bytes(length, what)
    }
}

/// Lengths on the wire have at most 31 bits.
fn to_usize(length: u32) -> usize {
    usize::try_from(length).unwrap_or(usize::MAX)
}

/// Writes a string. Lengths of 2 GiB and more have no wire form; nothing that long gets here, since
/// every message is bounded by [`super::Limits`].
pub(super) fn put_str(out: &mut Vec<u8>, text: &str) {
    match u8::try_from(text.len()) {
        Ok(length) if usize::from(length) <= SHORT => out.push(length),
        _ => out.extend(length(text.len(), LONG_FLAG)),
    }
    out.extend_from_slice(text.as_bytes());
}

/// Writes a run of bytes.
pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(length(bytes.len(), 0));
    out.extend_from_slice(bytes);
}

fn length(length: usize, flag: u32) -> [u8; 4] {
    (u32::try_from(length).unwrap_or(LONG_FLAG - 1) | flag).to_be_bytes()
}
