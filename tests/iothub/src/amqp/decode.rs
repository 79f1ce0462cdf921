//! Reads AMQP values.

use bytes::Bytes;
use serde_amqp::{
    Value,
    described::Described,
    descriptor::Descriptor,
    lazy::LazyValue,
    primitives::{OrderedMap, Symbol},
    read::SliceReader,
};

use super::error::{AmqpError, condition};

/// Splits the first value off `bytes` and reads it.
pub(super) fn take_value(bytes: &mut Bytes) -> Result<Value, AmqpError> {
    let broken = |_| AmqpError::new(condition::DECODE_ERROR, "not an AMQP value");
    let raw = LazyValue::from_reader(&mut SliceReader::new(bytes)).map_err(broken)?;
    let value = serde_amqp::from_slice(raw.as_slice()).map_err(broken)?;
    let _ = bytes.split_to(raw.as_slice().len().min(bytes.len()));
    Ok(value)
}

/// The code of a described value and what it describes.
pub(super) fn described(value: Value) -> Result<(u64, Value), AmqpError> {
    match value {
        Value::Described(described) => match *described {
            Described {
                descriptor: Descriptor::Code(code),
                value,
            } => Ok((code, value)),
            Described { .. } => Err(AmqpError::new(
                condition::DECODE_ERROR,
                "descriptors by name are not understood",
            )),
        },
        _ => Err(AmqpError::new(
            condition::DECODE_ERROR,
            "a described type was expected",
        )),
    }
}

/// The fields of a composite type. What is missing at the end counts as null.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fields(Vec<Value>);

/// Keys and values of a map whose keys are symbols or strings.
pub(crate) type Map = OrderedMap<Value, Value>;

impl Fields {
    /// The fields of a list.
    pub(super) fn of(value: Value) -> Result<Self, AmqpError> {
        match value {
            Value::List(fields) => Ok(Self(fields)),
            _ => Err(AmqpError::new(
                condition::DECODE_ERROR,
                "a list was expected",
            )),
        }
    }

    /// The fields of a described list, or none.
    pub(super) fn of_described(value: Value) -> Option<(u64, Self)> {
        let (code, value) = described(value).ok()?;
        Some((code, Self::of(value).ok()?))
    }

    pub(crate) fn take(&mut self, index: usize) -> Value {
        self.0.get_mut(index).map_or(Value::Null, std::mem::take)
    }

    pub(crate) fn text(&mut self, index: usize) -> Option<String> {
        text(&self.take(index))
    }

    pub(crate) fn number(&self, index: usize) -> Option<u64> {
        self.0.get(index).and_then(number)
    }

    pub(crate) fn signed(&self, index: usize) -> Option<i64> {
        self.0.get(index).and_then(signed)
    }

    pub(crate) fn u32(&self, index: usize) -> Option<u32> {
        self.number(index)
            .and_then(|number| u32::try_from(number).ok())
    }

    pub(crate) fn bool(&self, index: usize) -> bool {
        matches!(self.0.get(index), Some(Value::Bool(true)))
    }

    pub(crate) fn map(&mut self, index: usize) -> Map {
        match self.take(index) {
            Value::Map(map) => map,
            _ => Map::new(),
        }
    }
}

/// A string, a symbol, or bytes that are one.
pub(crate) fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) | Value::Symbol(Symbol(text)) => Some(text.clone()),
        Value::Binary(bytes) => String::from_utf8(bytes.to_vec()).ok(),
        Value::Uuid(uuid) => Some(uuid_text(&uuid.clone().into_inner())),
        other => number(other).map(|number| number.to_string()),
    }
}

/// A number of any unsigned type, or of a signed one that is not negative.
pub(crate) fn number(value: &Value) -> Option<u64> {
    match *value {
        Value::Ubyte(n) => Some(n.into()),
        Value::Ushort(n) => Some(n.into()),
        Value::Uint(n) => Some(n.into()),
        Value::Ulong(n) => Some(n),
        _ => signed(value).and_then(|n| u64::try_from(n).ok()),
    }
}

/// A number of any signed type, or of an unsigned one that fits.
pub(crate) fn signed(value: &Value) -> Option<i64> {
    match value {
        Value::Byte(n) => Some((*n).into()),
        Value::Short(n) => Some((*n).into()),
        Value::Int(n) => Some((*n).into()),
        Value::Long(n) => Some(*n),
        Value::Timestamp(at) => Some(at.milliseconds()),
        Value::Ubyte(_) | Value::Ushort(_) | Value::Uint(_) | Value::Ulong(_) => {
            number(value).and_then(|n| i64::try_from(n).ok())
        }
        _ => None,
    }
}

/// What `map` has under `key`, be that a symbol or a string.
pub(crate) fn lookup<'m>(map: &'m Map, key: &str) -> Option<&'m Value> {
    map.iter().find_map(|(name, value)| match name {
        Value::Symbol(Symbol(name)) | Value::String(name) if name == key => Some(value),
        Value::Binary(name) if name.as_slice() == key.as_bytes() => Some(value),
        _ => None,
    })
}

fn uuid_text(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "{}-{}-{}-{}-{}",
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..]
    )
}
