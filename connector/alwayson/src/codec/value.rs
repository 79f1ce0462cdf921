//! Values, and their form on the wire.

use super::{
    base_type::BaseType,
    error::{DecodeError, Fault},
    infotable::InfoTable,
    wire::{Reader, put_blob, put_str},
};

/// Tables within tables within tables: deeper than this is an attack, not a model.
pub(super) const MAX_DEPTH: usize = 16;

/// A place on Earth. On the wire the longitude comes first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Location {
    /// Degrees east.
    pub longitude: f64,
    /// Degrees north.
    pub latitude: f64,
    /// Metres above sea level.
    pub elevation: f64,
}

/// A value of any base type.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// No value.
    Nothing,
    /// NUMBER.
    Number(f64),
    /// BOOLEAN.
    Boolean(bool),
    /// DATETIME: milliseconds since 1970 UTC.
    DateTime(i64),
    /// TIMESPAN.
    TimeSpan {
        /// Milliseconds since 1970 UTC; −1 for none.
        start: i64,
        /// Milliseconds since 1970 UTC; −1 for none.
        end: i64,
        /// Length as the platform writes it, such as `00:00:00:00:01:00`.
        period: String,
    },
    /// INFOTABLE.
    InfoTable(InfoTable),
    /// LOCATION.
    Location(Location),
    /// IMAGE.
    Image(Vec<u8>),
    /// BLOB.
    Blob(Vec<u8>),
    /// VARIANT: a value of any other base type.
    Variant(Box<Value>),
    /// INTEGER.
    Integer(i32),
    /// LONG.
    Long(i64),
    /// VEC2.
    Vec2([f64; 2]),
    /// VEC3.
    Vec3([f64; 3]),
    /// VEC4.
    Vec4([f64; 4]),
    /// THINGCODE.
    ThingCode {
        /// Domain of the code.
        domain: i32,
        /// Number within the domain.
        instance: i64,
    },
    /// A base type whose values are texts: [`BaseType::is_text`].
    Text(BaseType, String),
}

impl Value {
    /// A STRING.
    pub fn string(text: impl Into<String>) -> Self {
        Self::Text(BaseType::String, text.into())
    }

    /// A JSON, as text.
    pub fn json(text: impl Into<String>) -> Self {
        Self::Text(BaseType::Json, text.into())
    }

    /// Its base type.
    #[must_use]
    pub fn base_type(&self) -> BaseType {
        match self {
            Self::Nothing => BaseType::Nothing,
            Self::Number(_) => BaseType::Number,
            Self::Boolean(_) => BaseType::Boolean,
            Self::DateTime(_) => BaseType::DateTime,
            Self::TimeSpan { .. } => BaseType::TimeSpan,
            Self::InfoTable(_) => BaseType::InfoTable,
            Self::Location(_) => BaseType::Location,
            Self::Image(_) => BaseType::Image,
            Self::Blob(_) => BaseType::Blob,
            Self::Variant(_) => BaseType::Variant,
            Self::Integer(_) => BaseType::Integer,
            Self::Long(_) => BaseType::Long,
            Self::Vec2(_) => BaseType::Vec2,
            Self::Vec3(_) => BaseType::Vec3,
            Self::Vec4(_) => BaseType::Vec4,
            Self::ThingCode { .. } => BaseType::ThingCode,
            Self::Text(base_type, _) => *base_type,
        }
    }

    /// The text of a value whose base type has texts.
    #[must_use]
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(_, text) => Some(text),
            _ => None,
        }
    }

    /// Writes base type and value.
    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.push(self.base_type().code());
        self.put_bare(out);
    }

    fn put_bare(&self, out: &mut Vec<u8>) {
        match self {
            Self::Nothing => {}
            Self::Number(number) => out.extend(number.to_be_bytes()),
            Self::Boolean(flag) => out.push(u8::from(*flag)),
            Self::DateTime(number) | Self::Long(number) => out.extend(number.to_be_bytes()),
            Self::TimeSpan { start, end, period } => {
                out.extend(start.to_be_bytes());
                out.extend(end.to_be_bytes());
                put_str(out, period);
            }
            Self::InfoTable(table) => table.put(out),
            Self::Location(Location {
                longitude,
                latitude,
                elevation,
            }) => {
                put_doubles(out, &[*longitude, *latitude, *elevation]);
            }
            Self::Image(bytes) | Self::Blob(bytes) => put_blob(out, bytes),
            Self::Variant(inner) => inner.put(out),
            Self::Integer(number) => out.extend(number.to_be_bytes()),
            Self::Vec2(parts) => put_doubles(out, parts),
            Self::Vec3(parts) => put_doubles(out, parts),
            Self::Vec4(parts) => put_doubles(out, parts),
            Self::ThingCode { domain, instance } => {
                out.extend(domain.to_be_bytes());
                out.extend(instance.to_be_bytes());
            }
            Self::Text(_, text) => put_str(out, text),
        }
    }

    /// Reads base type and value.
    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let base_type = read_type(reader)?;
        Self::read_bare(base_type, reader)
    }

    fn read_bare(base_type: BaseType, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let what = base_type.name();
        Ok(match base_type {
            BaseType::Nothing => Self::Nothing,
            BaseType::Number => Self::Number(read_doubles::<1>(reader, what)?[0]),
            BaseType::Boolean => Self::Boolean(reader.u8(what)? != 0),
            BaseType::DateTime => Self::DateTime(i64::from_be_bytes(reader.array(what)?)),
            BaseType::TimeSpan => Self::TimeSpan {
                start: i64::from_be_bytes(reader.array(what)?),
                end: i64::from_be_bytes(reader.array(what)?),
                period: reader.str(what)?.to_owned(),
            },
            BaseType::InfoTable => Self::InfoTable(InfoTable::read(reader)?),
            BaseType::Location => {
                let [longitude, latitude, elevation] = read_doubles(reader, what)?;
                Self::Location(Location {
                    longitude,
                    latitude,
                    elevation,
                })
            }
            BaseType::Image => Self::Image(reader.blob(what)?.to_vec()),
            BaseType::Blob => Self::Blob(reader.blob(what)?.to_vec()),
            BaseType::Variant => Self::Variant(Box::new(Self::read(reader)?)),
            BaseType::Integer => Self::Integer(reader.i32(what)?),
            BaseType::Long => Self::Long(i64::from_be_bytes(reader.array(what)?)),
            BaseType::Vec2 => Self::Vec2(read_doubles(reader, what)?),
            BaseType::Vec3 => Self::Vec3(read_doubles(reader, what)?),
            BaseType::Vec4 => Self::Vec4(read_doubles(reader, what)?),
            BaseType::ThingCode => Self::ThingCode {
                domain: reader.i32(what)?,
                instance: i64::from_be_bytes(reader.array(what)?),
            },
            text => Self::Text(text, reader.str(what)?.to_owned()),
        })
    }
}

/// Checks a typed value and copies it in its clean form: strings with their shortest length, runs of
/// bytes without the stray bit. Allocates nothing but what `out` grows by.
pub(super) fn copy(
    reader: &mut Reader<'_>,
    out: &mut Vec<u8>,
    depth: usize,
) -> Result<(), DecodeError> {
    let base_type = read_type(reader)?;
    let what = base_type.name();
    out.push(base_type.code());
    let fixed = match base_type {
        BaseType::Nothing => 0,
        BaseType::Boolean => {
            out.push(u8::from(reader.u8(what)? != 0));
            0
        }
        BaseType::Number | BaseType::DateTime | BaseType::Long => 8,
        BaseType::Integer => 4,
        BaseType::Location | BaseType::Vec3 => 24,
        BaseType::Vec2 => 16,
        BaseType::Vec4 => 32,
        BaseType::ThingCode => 12,
        BaseType::TimeSpan => {
            out.extend_from_slice(reader.bytes(16, what)?);
            put_str(out, reader.str(what)?);
            0
        }
        BaseType::Image | BaseType::Blob => {
            put_blob(out, reader.blob(what)?);
            0
        }
        BaseType::InfoTable => {
            InfoTable::copy(reader, out, depth + 1)?;
            0
        }
        BaseType::Variant => {
            if reader.clone().u8(what)? == BaseType::Variant.code() {
                return reader.fail(Fault::NestedVariant);
            }
            copy(reader, out, depth)?;
            0
        }
        _ => {
            put_str(out, reader.str(what)?);
            0
        }
    };
    out.extend_from_slice(reader.bytes(fixed, what)?);
    Ok(())
}

pub(super) fn read_type(reader: &mut Reader<'_>) -> Result<BaseType, DecodeError> {
    let offset = reader.at();
    let code = reader.u8("a base type")?;
    BaseType::from_code(code).ok_or(DecodeError {
        offset,
        fault: Fault::BaseType(code),
    })
}

fn put_doubles(out: &mut Vec<u8>, parts: &[f64]) {
    for part in parts {
        out.extend(part.to_be_bytes());
    }
}

fn read_doubles<const N: usize>(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<[f64; N], DecodeError> {
    let mut parts = [0.0; N];
    for part in &mut parts {
        *part = f64::from_be_bytes(reader.array(what)?);
    }
    Ok(parts)
}
