//! Infotables: rows of values under fields.
//!
//! A table is kept in the wire's own form. A field or a cell is decoded when it is asked for, so a table
//! takes no more memory than its message, whatever its cells are.

use std::{fmt, sync::Arc};

use super::{
    base_type::BaseType,
    error::{DecodeError, EncodeError, Fault},
    value::{MAX_DEPTH, Value, copy},
    wire::{Reader, put_str},
};

const MORE: u8 = 1;
const END: u8 = 0;

/// A field of an infotable.
#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// Its name.
    pub name: String,
    /// What it means, for people.
    pub description: String,
    /// The base type its cells are meant to have; each cell still carries its own.
    pub base_type: BaseType,
    /// Aspects such as `isPrimaryKey`, in order.
    pub aspects: Vec<(String, Value)>,
}

impl Field {
    /// A field without description and aspects.
    pub fn new(name: impl Into<String>, base_type: BaseType) -> Self {
        Self {
            name: name.into(),
            description: String::new(),
            base_type,
            aspects: Vec::new(),
        }
    }
}

/// A row that does not have a cell for each field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a row of {cells} cells for a table of {fields} fields")]
pub struct RowMismatch {
    cells: usize,
    fields: usize,
}

/// A table of values. The name of its data shape is not transmitted. Cheap to clone: clones share the
/// packed form until one of them grows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct InfoTable {
    /// Each field with its leading marker.
    head: Arc<Vec<u8>>,
    /// Each row with its leading marker.
    body: Arc<Vec<u8>>,
    fields: usize,
    rows: usize,
}

/// Writes the cells of a row, one after the other.
#[derive(Debug)]
pub struct Cells<'a> {
    body: &'a mut Vec<u8>,
    cells: usize,
}

impl Cells<'_> {
    /// A cell of this value.
    pub fn value(&mut self, value: &Value) {
        value.put(self.body);
        self.cells += 1;
    }

    /// A VARIANT of this value.
    pub fn variant(&mut self, value: &Value) {
        self.body.push(BaseType::Variant.code());
        self.value(value);
    }

    /// A STRING.
    pub fn string(&mut self, text: &str) {
        self.body.push(BaseType::String.code());
        put_str(self.body, text);
        self.cells += 1;
    }
}

impl InfoTable {
    /// A table without rows.
    pub fn new(fields: impl IntoIterator<Item = Field>) -> Self {
        let (mut head, mut count_of_fields) = (Vec::new(), 0);
        for field in fields {
            head.push(MORE);
            put_str(&mut head, &field.name);
            put_str(&mut head, &field.description);
            head.push(field.base_type.code());
            // More aspects than a count can tell are cut; no platform has dozens.
            let count = u16::try_from(field.aspects.len()).unwrap_or(u16::MAX);
            head.extend(count.to_be_bytes());
            for (name, value) in field.aspects.iter().take(usize::from(count)) {
                put_str(&mut head, name);
                value.put(&mut head);
            }
            count_of_fields += 1;
        }
        Self {
            head: Arc::new(head),
            fields: count_of_fields,
            ..Self::default()
        }
    }

    /// A table of one row: how parameters and results travel.
    pub fn one_row<N: Into<String>>(cells: impl IntoIterator<Item = (N, Value)>) -> Self {
        let (fields, row): (Vec<Field>, Vec<Value>) = cells
            .into_iter()
            .map(|(name, value)| (Field::new(name, value.base_type()), value))
            .unzip();
        let mut table = Self::new(fields);
        table.append(&row);
        table
    }

    /// Adds a row.
    ///
    /// # Errors
    /// If it has not one cell for each field.
    pub fn push(&mut self, row: &[Value]) -> Result<(), RowMismatch> {
        if row.len() != self.fields {
            return Err(RowMismatch {
                cells: row.len(),
                fields: self.fields,
            });
        }
        self.append(row);
        Ok(())
    }

    fn append(&mut self, row: &[Value]) {
        let body = Arc::make_mut(&mut self.body);
        body.push(MORE);
        // Bounded in `check`, which every encoding goes through.
        body.extend(u16::try_from(row.len()).unwrap_or(u16::MAX).to_be_bytes());
        for cell in row {
            cell.put(body);
        }
        self.rows += 1;
    }

    /// Adds a row of cells that are written as they are, without a [`Value`] of their own.
    ///
    /// # Errors
    /// If it has not one cell for each field; the table is then as it was.
    pub fn push_cells(&mut self, row: impl FnOnce(&mut Cells<'_>)) -> Result<(), RowMismatch> {
        let body = Arc::make_mut(&mut self.body);
        let start = body.len();
        body.push(MORE);
        body.extend(u16::try_from(self.fields).unwrap_or(u16::MAX).to_be_bytes());
        let mut written = Cells { body, cells: 0 };
        row(&mut written);
        let cells = written.cells;
        if cells != self.fields {
            body.truncate(start);
            return Err(RowMismatch {
                cells,
                fields: self.fields,
            });
        }
        self.rows += 1;
        Ok(())
    }

    /// How many rows there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.rows
    }

    /// No row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = Field> {
        let mut reader = Reader::new(&self.head);
        (0..self.fields).map_while(move |_| read_field(&mut reader).ok())
    }

    /// The rows in order, each with a cell for each field.
    pub fn rows(&self) -> impl Iterator<Item = Vec<Value>> {
        let mut reader = Reader::new(&self.body);
        (0..self.rows).map_while(move |_| read_row(&mut reader).ok())
    }

    /// Which cell of a row stands under this field.
    #[must_use]
    pub fn column(&self, field: &str) -> Option<usize> {
        self.fields().position(|one| one.name == field)
    }

    /// A cell of a row.
    #[must_use]
    pub fn get(&self, row: usize, field: &str) -> Option<Value> {
        let column = self.column(field)?;
        self.rows().nth(row)?.into_iter().nth(column)
    }

    /// Counts fit the wire.
    pub(super) fn check(&self) -> Result<(), EncodeError> {
        let max = usize::from(u16::MAX);
        if self.fields > max {
            return Err(EncodeError::Count {
                what: "fields",
                count: self.fields,
                max,
            });
        }
        Ok(())
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        out.push(END);
        out.extend_from_slice(&self.body);
        out.push(END);
    }

    /// Length of its form on the wire, in bytes.
    #[must_use]
    pub fn wire_len(&self) -> usize {
        self.head.len() + self.body.len() + 2
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut packed = Vec::with_capacity(reader.left());
        let (head, fields, rows) = Self::copy(reader, &mut packed, 0)?;
        packed.pop();
        let body: Vec<u8> = packed.split_off(head);
        packed.pop();
        packed.shrink_to_fit();
        Ok(Self {
            head: Arc::new(packed),
            body: Arc::new(body),
            fields,
            rows,
        })
    }

    /// Checks a table and copies it in its clean form. Tells where the rows begin in what was copied,
    /// and how many fields and rows there are.
    pub(super) fn copy(
        reader: &mut Reader<'_>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(usize, usize, usize), DecodeError> {
        if depth > MAX_DEPTH {
            return reader.fail(Fault::Depth(MAX_DEPTH));
        }
        let start = out.len();
        let (mut fields, mut rows) = (0, 0);
        while reader.flag("the marker of a field")? {
            out.push(MORE);
            put_str(out, reader.str("a field's name")?);
            put_str(out, reader.str("a field's description")?);
            out.push(super::value::read_type(reader)?.code());
            let aspects = reader.u16("a count of aspects")?;
            out.extend(aspects.to_be_bytes());
            for _ in 0..aspects {
                put_str(out, reader.str("an aspect's name")?);
                copy(reader, out, depth)?;
            }
            fields += 1;
        }
        out.push(END);
        let head = out.len() - start;
        while reader.flag("the marker of a row")? {
            out.push(MORE);
            let cells = reader.u16("a count of cells")?;
            if usize::from(cells) != fields {
                return reader.fail(Fault::Row {
                    cells: cells.into(),
                    fields,
                });
            }
            out.extend(cells.to_be_bytes());
            for _ in 0..cells {
                copy(reader, out, depth)?;
            }
            rows += 1;
        }
        out.push(END);
        Ok((head, fields, rows))
    }
}

fn read_field(reader: &mut Reader<'_>) -> Result<Field, DecodeError> {
    reader.u8("the marker of a field")?;
    let name = reader.str("a field's name")?.to_owned();
    let description = reader.str("a field's description")?.to_owned();
    let base_type = super::value::read_type(reader)?;
    let count = reader.u16("a count of aspects")?;
    let aspects = (0..count)
        .map(|_| {
            Ok((
                reader.str("an aspect's name")?.to_owned(),
                Value::read(reader)?,
            ))
        })
        .collect::<Result<_, DecodeError>>()?;
    Ok(Field {
        name,
        description,
        base_type,
        aspects,
    })
}

fn read_row(reader: &mut Reader<'_>) -> Result<Vec<Value>, DecodeError> {
    reader.u8("the marker of a row")?;
    let cells = reader.u16("a count of cells")?;
    (0..cells).map(|_| Value::read(reader)).collect()
}

impl fmt::Debug for InfoTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InfoTable")
            .field("fields", &self.fields().collect::<Vec<_>>())
            .field("rows", &self.rows().collect::<Vec<_>>())
            .finish()
    }
}
