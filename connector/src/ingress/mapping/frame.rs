//! What the connector and a mapping process say to each other. Pure.
//!
//! ```text
//! connector → process   program, then portions: each a block of two blocks for each message
//! process → connector   Ready, then an answer for each message of a portion, or Later for the rest of it
//! block                 length (32 bits, little-endian), bytes
//! answer                kind (a byte), block
//! ```

/// Bytes of a block's length.
pub const LENGTH: usize = 4;
/// Bytes before an answer's own.
pub const HEAD: usize = 1 + LENGTH;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The program is compiled.
    Ready,
    /// What the program gives; empty if that is nothing.
    Made,
    /// Why it gives nothing; text.
    Failed,
    /// The rest of the portion is to be asked again: the answers have become large.
    Later,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Ready, Self::Made, Self::Failed, Self::Later];
}

/// Appends a block.
pub fn put(to: &mut Vec<u8>, bytes: &[u8]) {
    // Bodies and answers are far below 4 GiB.
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    to.extend_from_slice(&length.to_le_bytes());
    to.extend_from_slice(bytes);
}

/// A block of blocks, to which those are put.
pub fn begin() -> Vec<u8> {
    vec![0; LENGTH]
}

/// A begun block has all it will have.
pub fn complete(block: &mut [u8]) {
    if let Some((length, rest)) = block.split_first_chunk_mut::<LENGTH>() {
        *length = u32::try_from(rest.len()).unwrap_or(u32::MAX).to_le_bytes();
    }
}

/// Takes the first block, if there is a whole one.
pub fn take<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, rest) = from.split_first_chunk::<LENGTH>()?;
    let (block, rest) = rest.split_at_checked(length_of(*length))?;
    *from = rest;
    Some(block)
}

/// Length of a block.
pub fn length_of(bytes: [u8; LENGTH]) -> usize {
    u32::from_le_bytes(bytes) as usize
}

/// An answer.
pub fn answer(kind: Kind, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::with_capacity(HEAD + bytes.len());
    answer.push(kind as u8);
    put(&mut answer, bytes);
    answer
}

/// Kind and length of an answer; none if there is no such kind.
pub fn head(bytes: [u8; HEAD]) -> Option<(Kind, usize)> {
    let [kind, length @ ..] = bytes;
    let kind = Kind::ALL.get(usize::from(kind))?;
    Some((*kind, length_of(length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_and_a_part_is_none() {
        let mut bytes = Vec::new();
        put(&mut bytes, b"one");
        put(&mut bytes, b"");
        let mut rest = &bytes[..];
        assert_eq!(take(&mut rest), Some(&b"one"[..]));
        assert_eq!(take(&mut rest), Some(&b""[..]));
        assert_eq!(take(&mut rest), None);
        for end in 0..LENGTH + 3 {
            assert_eq!(take(&mut &bytes[..end]), None, "{end}");
        }
    }

    #[test]
    fn a_block_of_blocks_is_one() {
        let mut outer = begin();
        put(&mut outer, b"one");
        put(&mut outer, b"two");
        complete(&mut outer);
        let mut inner = take(&mut &outer[..]).unwrap();
        assert_eq!(take(&mut inner), Some(&b"one"[..]));
        assert_eq!(take(&mut inner), Some(&b"two"[..]));
        assert_eq!(inner, b"");
    }

    #[test]
    fn an_answer_says_what_it_is() {
        for kind in Kind::ALL {
            let bytes = answer(kind, b"four");
            let (first, rest) = bytes.split_first_chunk().unwrap();
            assert_eq!(head(*first), Some((kind, 4)));
            assert_eq!(rest, b"four");
        }
        assert_eq!(head([9, 0, 0, 0, 0]), None);
    }
}
