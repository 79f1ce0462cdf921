//! Writes AMQP values straight into a buffer.

use bytes::{BufMut as _, BytesMut};
use serde_amqp::Value;

const LIST32: u8 = 0xd0;
const MAP32: u8 = 0xd1;

/// The elements of a list, or the keys and values of a map, while they are written.
pub(crate) struct Items<'b> {
    buf: &'b mut BytesMut,
    count: u32,
}

/// Writes `00 53 code` and a list.
pub(crate) fn described(buf: &mut BytesMut, code: u8, fill: impl FnOnce(&mut Items<'_>)) {
    descriptor(buf, code);
    compound(buf, LIST32, fill);
}

/// Writes `00 53 code` and a map.
pub(crate) fn described_map(buf: &mut BytesMut, code: u8, fill: impl FnOnce(&mut Items<'_>)) {
    descriptor(buf, code);
    compound(buf, MAP32, fill);
}

/// Writes `00 53 code`; the value follows.
pub(crate) fn descriptor(buf: &mut BytesMut, code: u8) {
    buf.put_slice(&[0x00, 0x53, code]);
}

/// Writes a binary value.
pub(crate) fn binary(buf: &mut BytesMut, bytes: &[u8]) {
    variable(buf, 0xa0, bytes);
}

/// Writes a map.
pub(super) fn map(buf: &mut BytesMut, fill: impl FnOnce(&mut Items<'_>)) {
    compound(buf, MAP32, fill);
}

/// Writes a null.
pub(super) fn null(buf: &mut BytesMut) {
    buf.put_u8(0x40);
}

fn compound(buf: &mut BytesMut, code: u8, fill: impl FnOnce(&mut Items<'_>)) {
    buf.put_u8(code);
    let start = buf.len();
    buf.put_u64(0);
    let mut items = Items { buf, count: 0 };
    fill(&mut items);
    let count = items.count;
    // The size counts from behind itself, so the count's four bytes are in it.
    let size = u32::try_from(buf.len() - start - 4).unwrap_or(u32::MAX);
    buf[start..start + 4].copy_from_slice(&size.to_be_bytes());
    buf[start + 4..start + 8].copy_from_slice(&count.to_be_bytes());
}

/// `short` is the constructor of the form with a one-byte length; that with four bytes is 0x10 more.
fn variable(buf: &mut BytesMut, short: u8, bytes: &[u8]) {
    if let Ok(length) = u8::try_from(bytes.len()) {
        buf.put_slice(&[short, length]);
    } else {
        buf.put_u8(short + 0x10);
        buf.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }
    buf.put_slice(bytes);
}

impl Items<'_> {
    fn one(&mut self) -> &mut BytesMut {
        self.count += 1;
        self.buf
    }

    pub(crate) fn null(&mut self) -> &mut Self {
        self.one().put_u8(0x40);
        self
    }

    pub(crate) fn nulls(&mut self, count: usize) -> &mut Self {
        for _ in 0..count {
            self.null();
        }
        self
    }

    pub(crate) fn bool(&mut self, value: bool) -> &mut Self {
        self.one().put_u8(if value { 0x41 } else { 0x42 });
        self
    }

    pub(crate) fn ubyte(&mut self, value: u8) -> &mut Self {
        self.one().put_slice(&[0x50, value]);
        self
    }

    pub(crate) fn ushort(&mut self, value: u16) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0x60);
        buf.put_u16(value);
        self
    }

    pub(crate) fn uint(&mut self, value: u32) -> &mut Self {
        let buf = self.one();
        match u8::try_from(value) {
            Ok(0) => buf.put_u8(0x43),
            Ok(small) => buf.put_slice(&[0x52, small]),
            Err(_) => {
                buf.put_u8(0x70);
                buf.put_u32(value);
            }
        }
        self
    }

    pub(crate) fn int(&mut self, value: i32) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0x71);
        buf.put_i32(value);
        self
    }

    pub(crate) fn ulong(&mut self, value: u64) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0x80);
        buf.put_u64(value);
        self
    }

    pub(crate) fn long(&mut self, value: i64) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0x81);
        buf.put_i64(value);
        self
    }

    /// Unix milliseconds.
    pub(crate) fn timestamp(&mut self, value: i64) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0x83);
        buf.put_i64(value);
        self
    }

    pub(crate) fn string(&mut self, value: &str) -> &mut Self {
        variable(self.one(), 0xa1, value.as_bytes());
        self
    }

    pub(crate) fn symbol(&mut self, value: &str) -> &mut Self {
        variable(self.one(), 0xa3, value.as_bytes());
        self
    }

    pub(crate) fn binary(&mut self, value: &[u8]) -> &mut Self {
        variable(self.one(), 0xa0, value);
        self
    }

    /// An array of strings.
    pub(crate) fn strings(&mut self, values: &[String]) -> &mut Self {
        self.array(0xb1, values.iter().map(String::as_str))
    }

    /// An array of symbols.
    pub(crate) fn symbols(&mut self, values: &[&str]) -> &mut Self {
        self.array(0xb3, values.iter().copied())
    }

    fn array<'v>(&mut self, element: u8, values: impl Iterator<Item = &'v str>) -> &mut Self {
        let buf = self.one();
        buf.put_u8(0xf0);
        let start = buf.len();
        buf.put_u64(0);
        buf.put_u8(element);
        let mut count: u32 = 0;
        for value in values {
            count += 1;
            buf.put_u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
            buf.put_slice(value.as_bytes());
        }
        let size = u32::try_from(buf.len() - start - 4).unwrap_or(u32::MAX);
        buf[start..start + 4].copy_from_slice(&size.to_be_bytes());
        buf[start + 4..start + 8].copy_from_slice(&count.to_be_bytes());
        self
    }

    pub(crate) fn map(&mut self, fill: impl FnOnce(&mut Items<'_>)) -> &mut Self {
        compound(self.one(), MAP32, fill);
        self
    }

    pub(crate) fn described(&mut self, code: u8, fill: impl FnOnce(&mut Items<'_>)) -> &mut Self {
        described(self.one(), code, fill);
        self
    }

    /// A value that came from a peer and goes back to it.
    pub(crate) fn value(&mut self, value: &Value) -> &mut Self {
        match serde_amqp::to_vec(value) {
            Ok(bytes) => self.one().put_slice(&bytes),
            Err(_) => self.one().put_u8(0x40),
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(buf: &BytesMut) -> Value {
        serde_amqp::from_slice(buf).unwrap()
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut buf = BytesMut::new();
        described(&mut buf, 0x14, |list| {
            list.uint(0)
                .uint(200)
                .uint(70_000)
                .null()
                .bool(true)
                .ubyte(3)
                .ushort(9);
            list.int(-5)
                .ulong(7)
                .long(-7)
                .timestamp(1234)
                .string("é")
                .symbol("s");
            list.binary(&[1; 300]).strings(&["0".into(), "1".into()]);
            list.map(|map| {
                map.symbol("k").string("v");
            });
            list.described(0x28, |source| {
                source.string("a");
            });
        });
        let Value::Described(outer) = read(&buf) else {
            panic!("not described")
        };
        let Value::List(items) = &outer.value else {
            panic!("not a list")
        };
        assert_eq!(items.len(), 17);
        assert_eq!(items[2], Value::Uint(70_000));
        assert_eq!(items[7], Value::Int(-5));
        assert_eq!(items[11], Value::String("é".into()));
        assert!(matches!(&items[13], Value::Binary(bytes) if bytes.len() == 300));
        assert!(matches!(&items[14], Value::Array(array) if array.len() == 2));
        assert!(matches!(&items[15], Value::Map(map) if map.len() == 1));
        assert!(matches!(&items[16], Value::Described(_)));
    }
}
