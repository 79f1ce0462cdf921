//! The vectors in `tests/vectors`: bytes that other implementations have written.

/// Bytes, and what they are.
pub struct Vector {
    pub name: String,
    /// As written.
    pub bytes: Vec<u8>,
    /// As a clean writer writes them.
    pub clean: Vec<u8>,
    /// What they say, or for a quirk the name of the message it stands for.
    pub meaning: String,
}

const MESSAGES: [&str; 3] = [
    include_str!("../vectors/c-sdk.txt"),
    include_str!("../vectors/java-sdk.txt"),
    include_str!("../vectors/built.txt"),
];

/// Whole messages.
pub fn messages() -> Vec<Vector> {
    MESSAGES.into_iter().flat_map(read).collect()
}

/// One of the whole messages.
pub fn message(name: &str) -> Vec<u8> {
    let all = messages();
    let found = all.into_iter().find(|vector| vector.name == name);
    found.unwrap_or_else(|| panic!("no vector {name}")).clean
}

/// Values with their base types.
pub fn values() -> Vec<Vector> {
    read(include_str!("../vectors/java-sdk-values.txt"))
}

/// Messages that are read as another one.
pub fn quirks() -> Vec<Vector> {
    read(include_str!("../vectors/quirks.txt"))
}

/// Messages in parts, by name.
pub fn parts() -> Vec<(String, Vec<Vec<u8>>)> {
    let mut messages: Vec<(String, Vec<Vec<u8>>)> = Vec::new();
    for part in read(include_str!("../vectors/parts.txt")) {
        match messages.last_mut() {
            Some((name, parts)) if *name == part.name => parts.push(part.bytes),
            _ => messages.push((part.name, vec![part.bytes])),
        }
    }
    messages
}

/// Every run of bytes that there is, whatever it is.
pub fn all_bytes() -> Vec<Vec<u8>> {
    let whole = messages().into_iter().chain(quirks());
    let parts = parts().into_iter().flat_map(|(_, parts)| parts);
    let values = values().into_iter().map(|value| result(&value.bytes));
    whole
        .map(|vector| vector.bytes)
        .chain(parts)
        .chain(values)
        .collect()
}

/// A response whose result is this value, given with its base type.
pub fn result(value: &[u8]) -> Vec<u8> {
    let mut bytes = hex("01400000000100000000000000420000");
    bytes.extend(hex("0501"));
    bytes.extend(b"\x06result\x00");
    // The field's base type is the cell's; no aspects, no more fields, one row of one cell.
    bytes.push(value[0]);
    bytes.extend(hex("000000010001"));
    bytes.extend(value);
    bytes.push(0);
    bytes
}

fn read(text: &str) -> Vec<Vector> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let mut columns = line.splitn(3, ' ');
            let name = columns.next().unwrap().to_owned();
            let digits = columns.next().unwrap();
            let clean = digits.split('(').next().unwrap();
            Vector {
                name,
                bytes: hex(&digits.replace(['(', ')'], "")),
                clean: hex(clean),
                meaning: columns.next().unwrap_or_default().to_owned(),
            }
        })
        .collect()
}

pub fn hex(digits: &str) -> Vec<u8> {
    assert!(digits.len().is_multiple_of(2), "{digits}");
    (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[at * 2..at * 2 + 2], 16).unwrap())
        .collect()
}
