//! Requests and responses, in both directions.

use super::{
    base_type::BaseType,
    entity::{Characteristic, EntityType},
    error::{DecodeError, EncodeError, Fault},
    infotable::InfoTable,
    status::Status,
    strings::Names,
    value::Value,
    wire::{Reader, put_str},
};

/// What is to be done to the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Method {
    /// Read.
    Get,
    /// Write.
    Put,
    /// Call a service, fire an event.
    Post,
    /// Delete.
    Delete,
}

impl Method {
    pub(super) fn code(self) -> u8 {
        match self {
            Self::Get => 1,
            Self::Put => 2,
            Self::Post => 3,
            Self::Delete => 4,
        }
    }

    pub(super) fn from_code(code: u8) -> Option<Self> {
        [Self::Get, Self::Put, Self::Post, Self::Delete]
            .into_iter()
            .find(|one| one.code() == code)
    }
}

/// A request to an entity.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// What is to be done.
    pub method: Method,
    /// Collection of the entity.
    pub entity_type: EntityType,
    /// Name of the entity; for a Thing with an identifier, `*` and the identifier.
    pub entity: String,
    /// Which side of the entity is meant.
    pub characteristic: Characteristic,
    /// Property, service or event; `*` or nothing means all.
    pub target: String,
    /// Headers as name, value, name, value; at most 255 pairs. The C SDK cannot read any.
    pub headers: Names,
    /// Parameters: a table of one row.
    pub params: Option<InfoTable>,
}

impl Request {
    fn on_thing(
        method: Method,
        thing: impl Into<String>,
        characteristic: Characteristic,
        target: impl Into<String>,
        params: Option<InfoTable>,
    ) -> Self {
        Self {
            method,
            entity_type: EntityType::THINGS,
            entity: thing.into(),
            characteristic,
            target: target.into(),
            headers: Names::default(),
            params,
        }
    }

    /// Calls a service of a Thing.
    pub fn call(
        thing: impl Into<String>,
        service: impl Into<String>,
        params: Option<InfoTable>,
    ) -> Self {
        Self::on_thing(
            Method::Post,
            thing,
            Characteristic::SERVICES,
            service,
            params,
        )
    }

    /// Reads a property of a Thing.
    pub fn read(thing: impl Into<String>, property: impl Into<String>) -> Self {
        Self::on_thing(
            Method::Get,
            thing,
            Characteristic::PROPERTIES,
            property,
            None,
        )
    }

    /// Writes a property of a Thing.
    pub fn write(thing: impl Into<String>, property: impl Into<String>, value: Value) -> Self {
        let property = property.into();
        let params = InfoTable::one_row([(property.clone(), value)]);
        Self::on_thing(
            Method::Put,
            thing,
            Characteristic::PROPERTIES,
            property,
            Some(params),
        )
    }

    /// Fires an event of a Thing.
    pub fn event(thing: impl Into<String>, event: impl Into<String>, data: InfoTable) -> Self {
        Self::on_thing(
            Method::Post,
            thing,
            Characteristic::EVENTS,
            event,
            Some(data),
        )
    }

    /// The start of the body, which is repeated in every part but the first.
    pub(super) fn put_address(&self, out: &mut Vec<u8>) {
        out.push(self.entity_type.0);
        put_str(out, &self.entity);
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        self.put_address(out);
        out.push(self.characteristic.0);
        put_str(out, &self.target);
        let pairs = self.headers.len() / 2;
        let count = u8::try_from(pairs).map_err(|_| EncodeError::Count {
            what: "headers",
            count: pairs,
            max: 255,
        })?;
        out.push(count);
        out.extend_from_slice(self.headers.packed());
        put_table(out, self.params.as_ref())
    }

    pub(super) fn read_body(method: Method, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            method,
            entity_type: EntityType(reader.u8("an entity type")?),
            entity: reader.str("an entity's name")?.to_owned(),
            characteristic: Characteristic(reader.u8("a characteristic")?),
            target: reader.str("a target")?.to_owned(),
            headers: {
                let count = usize::from(reader.u8("a count of headers")?);
                Names::read(reader, count * 2, "a header")?
            },
            params: read_table(reader, "the type of the parameters")?,
        })
    }
}

/// An answer to a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    /// How it went.
    pub status: Status,
    /// Why it failed.
    pub reason: Option<String>,
    /// The result.
    pub content: Option<InfoTable>,
}

/// Field of a service's scalar result.
const RESULT: &str = "result";
/// Field in which the C SDK puts the text of a service's error.
const REASON: &str = "reason";

impl Response {
    /// Success without content.
    #[must_use]
    pub fn ok() -> Self {
        Self {
            status: Status::SUCCESS,
            reason: None,
            content: None,
        }
    }

    /// Success with content: the infotable of a service that results in one, or a property read.
    #[must_use]
    pub fn with(content: InfoTable) -> Self {
        Self {
            content: Some(content),
            ..Self::ok()
        }
    }

    /// Success with a scalar result of a service; NOTHING has no content.
    #[must_use]
    pub fn result(value: Value) -> Self {
        match value {
            Value::Nothing => Self::ok(),
            value => Self::with(InfoTable::one_row([(RESULT, value)])),
        }
    }

    /// A failure and its reason.
    pub fn error(status: Status, reason: impl Into<String>) -> Self {
        Self {
            status,
            reason: Some(reason.into()),
            content: None,
        }
    }

    /// Whether it is a failure.
    #[must_use]
    pub fn is_error(&self) -> bool {
        self.status.is_error()
    }

    /// Why it failed, wherever the peer has put the text.
    #[must_use]
    pub fn error_text(&self) -> Option<String> {
        let given = self.reason.clone().filter(|reason| !reason.is_empty());
        given.or_else(|| {
            let value = self
                .content
                .as_ref()
                .filter(|_| self.is_error())?
                .get(0, REASON)?;
            value.as_text().map(str::to_owned)
        })
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match &self.reason {
            None => out.push(0),
            Some(reason) => {
                out.push(1);
                put_str(out, reason);
            }
        }
        put_table(out, self.content.as_ref())
    }

    pub(super) fn read_body(status: Status, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let reason = match reader.flag("the marker of a reason")? {
            true => Some(reader.str("a reason")?.to_owned()),
            false => None,
        };
        Ok(Self {
            status,
            reason,
            content: read_table(reader, "the type of the content")?,
        })
    }
}

fn put_table(out: &mut Vec<u8>, table: Option<&InfoTable>) -> Result<(), EncodeError> {
    match table {
        None => out.push(BaseType::Nothing.code()),
        Some(table) => {
            table.check()?;
            out.push(BaseType::InfoTable.code());
            table.put(out);
        }
    }
    Ok(())
}

fn read_table(
    reader: &mut Reader<'_>,
    what: &'static str,
) -> Result<Option<InfoTable>, DecodeError> {
    let offset = reader.at();
    match reader.u8(what)? {
        0xff => Ok(None),
        0x05 => InfoTable::read(reader).map(Some),
        byte => Err(DecodeError {
            offset,
            fault: Fault::Marker { what, byte },
        }),
    }
}
