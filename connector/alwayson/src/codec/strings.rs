//! Lists of strings, kept in the wire's own form: one allocation, however many there are.

use std::fmt;

use super::{
    error::DecodeError,
    wire::{Reader, put_str},
};

/// A list of names.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Names {
    count: usize,
    packed: Box<[u8]>,
}

impl Names {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The names in order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let mut reader = Reader::new(&self.packed);
        (0..self.count).map_while(move |_| reader.str("a name").ok())
    }

    pub(super) fn packed(&self) -> &[u8] {
        &self.packed
    }

    pub(super) fn read(
        reader: &mut Reader<'_>,
        count: usize,
        what: &'static str,
    ) -> Result<Self, DecodeError> {
        let start = reader.at();
        let mut canonical = 0;
        let mut ahead = reader.clone();
        for _ in 0..count {
            let text = ahead.str(what)?;
            canonical += text.len() + if text.len() > 127 { 4 } else { 1 };
        }
        let packed = if ahead.at() - start == canonical {
            ahead.since(start).into()
        } else {
            // Somebody has written a short string with a long length.
            let mut packed = Vec::with_capacity(canonical);
            for _ in 0..count {
                put_str(&mut packed, reader.str(what)?);
            }
            packed.into()
        };
        *reader = ahead;
        Ok(Self { count, packed })
    }
}

impl<'a> FromIterator<&'a str> for Names {
    fn from_iter<T: IntoIterator<Item = &'a str>>(names: T) -> Self {
        let (mut count, mut packed) = (0, Vec::new());
        for name in names {
            put_str(&mut packed, name);
            count += 1;
        }
        Self {
            count,
            packed: packed.into(),
        }
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}
