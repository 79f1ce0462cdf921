//! What can be wrong with bytes, or with what is to become bytes.

/// Why bytes are no message: where and what.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at byte {offset}: {fault}")]
pub struct DecodeError {
    /// Offset of the fault from the start of the message, in bytes.
    pub offset: usize,
    /// What is wrong there.
    pub fault: Fault,
}

/// What is wrong with a byte or a run of bytes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The message ends too early.
    #[error("{what} needs {needed} bytes, {left} are left")]
    Short {
        /// What was being read.
        what: &'static str,
        /// How many bytes it needs.
        needed: usize,
        /// How many there are.
        left: usize,
    },
    /// The header's version is not 1.
    #[error("protocol version {0} is not 1")]
    Version(u8),
    /// No such method.
    #[error("unknown method code 0x{0:02x}")]
    Method(u8),
    /// No such base type.
    #[error("unknown base type 0x{0:02x}")]
    BaseType(u8),
    /// A byte that must be one of a few.
    #[error("{what} must not be 0x{byte:02x}")]
    Marker {
        /// What was being read.
        what: &'static str,
        /// The byte.
        byte: u8,
    },
    /// A text is not UTF-8.
    #[error("{0} is not UTF-8")]
    Utf8(&'static str),
    /// A row has more or fewer cells than the table has fields.
    #[error("a row has {cells} cells, the table has {fields} fields")]
    Row {
        /// Cells of the row.
        cells: usize,
        /// Fields of the table.
        fields: usize,
    },
    /// Tables within tables, deeper than any platform makes them.
    #[error("infotables are nested deeper than {0}")]
    Depth(usize),
    /// A variant within a variant.
    #[error("a VARIANT holds a VARIANT")]
    NestedVariant,
    /// Parts of a message that do not belong together.
    #[error("{0}")]
    Multipart(&'static str),
    /// The parts together are longer than is accepted.
    #[error("a message of {0} bytes is longer than is accepted")]
    TooLong(usize),
}

/// Why a message has no wire form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// More items than the count field can tell.
    #[error("{what}: {count} items, at most {max} can be sent")]
    Count {
        /// Which list.
        what: &'static str,
        /// How many there are.
        count: usize,
        /// How many the wire can carry.
        max: usize,
    },
    /// Longer than a length field can tell, or than the peer accepts.
    #[error("{what} is {length} bytes long, at most {max} can be sent")]
    Length {
        /// What.
        what: &'static str,
        /// Its length.
        length: usize,
        /// What the wire can carry.
        max: usize,
    },
    /// AUTH and BIND are refused by the platform when they come in parts.
    #[error("{0} of {1} bytes does not fit one frame and must not be sent in parts; send several")]
    Unsplittable(&'static str, usize),
}
