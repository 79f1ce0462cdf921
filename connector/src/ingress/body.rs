//! Body of a message → JSON: inflated, as text of its charset, within bounds. Pure.
//!
//! IoT Hub's property *content encoding* is meant for a charset (`utf-8`, `utf-16`, `utf-32`; Microsoft
//! Learn, "IoT Hub message routing query syntax"), while HTTP's is a compression (RFC 9110 §8.4).
//! Devices use it for either, so both are understood.

use std::{borrow::Cow, io::Read};

use encoding_rs::{Encoding, UTF_8};
use flate2::read::{DeflateDecoder, MultiGzDecoder, ZlibDecoder};
use serde::de::DeserializeOwned;

/// Largest body after inflating. A message has at most 256 KiB on the wire (Microsoft Learn, "IoT Hub
/// quotas and throttling"), and JSON shrinks to a quarter or less.
const MAX_INFLATED: usize = 1 << 20;
/// Compressions of one body; nobody means more than one.
const MAX_CODINGS: usize = 2;
/// Deepest nesting. Telemetry has three or four levels; the parser's own bound is 128.
const MAX_DEPTH: usize = 64;
/// Most values in one body. 256 KiB of ordinary telemetry hold some 25,000; a parsed value takes up to
/// fifty times its text, so without this bound a megabyte of `0,0,0…` would take 70 MB.
const MAX_VALUES: usize = 50_000;
/// What a parsed value takes beside its text, about: key, cell and their share of the map.
const VALUE_BYTES: usize = 100;

/// A body that has been read.
#[derive(Debug, PartialEq)]
pub struct Body<T> {
    /// What it says.
    pub json: T,
    /// What that takes in memory, in bytes, about.
    pub bytes: usize,
}

/// Why a body can never be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadBody {
    /// A content encoding that is neither a compression nor a charset that is known.
    #[error("the content encoding {0:?} is not known; gzip, deflate and charsets are")]
    Encoding(String),
    /// The content type names a charset that is not known.
    #[error("the charset {0:?} is not known")]
    Charset(String),
    /// Compressed over and over.
    #[error("the body is compressed more than {MAX_CODINGS} times")]
    Codings,
    /// The compressed data is damaged, or not compressed.
    #[error("the body is no {0} data: {1}")]
    NotCompressed(&'static str, String),
    /// A compressed body that grows beyond all measure.
    #[error("the body has more than {MAX_INFLATED} bytes when it is inflated")]
    TooLarge,
    /// Bytes that are no text in the charset.
    #[error("the body is no text in {0}")]
    NotText(&'static str),
    /// The body is no JSON.
    #[error("the body is no JSON: {0}")]
    NotJson(String),
    /// Brackets within brackets.
    #[error("the body is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More values than any device means.
    #[error("the body has more than {MAX_VALUES} values")]
    TooMany,
}

/// Reads a body by what the device says of it.
///
/// # Errors
/// [`BadBody`] if it can never be read.
pub fn read<T: DeserializeOwned>(
    body: &[u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Body<T>, BadBody> {
    parse(&text(body, content_type, content_encoding)?)
}

/// The text of a body.
///
/// # Errors
/// [`BadBody`] if it can never be one.
pub fn text<'a>(
    body: &'a [u8],
    content_type: Option<&str>,
    content_encoding: Option<&str>,
) -> Result<Cow<'a, str>, BadBody> {
    let Encodings {
        compressions,
        charset: by_encoding,
    } = encodings(content_encoding.unwrap_or_default())?;
    let charset = charset(content_type.unwrap_or_default())?.or(by_encoding);
    let mut plain = Cow::Borrowed(body);
    // The last one named was applied last.
    for compression in compressions.iter().rev() {
        plain = Cow::Owned(inflate(*compression, &plain)?);
    }
    // A byte order mark says more than a label.
    let charset = charset.unwrap_or(UTF_8);
    let (text, used, damaged) = match plain {
        Cow::Borrowed(plain) => charset.decode(plain),
        Cow::Owned(plain) => {
            let (text, used, damaged) = charset.decode(&plain);
            (Cow::Owned(text.into_owned()), used, damaged)
        }
    };
    if damaged {
        return Err(BadBody::NotText(used.name()));
    }
    Ok(text)
}

/// Reads the text of a body.
///
/// # Errors
/// [`BadBody`] if it can never be read.
pub fn parse<T: DeserializeOwned>(text: &str) -> Result<Body<T>, BadBody> {
    let values = survey(text.as_bytes())?;
    let json = serde_json::from_str(text).map_err(|error| BadBody::NotJson(error.to_string()))?;
    Ok(Body {
        json,
        bytes: text.len() + values * VALUE_BYTES,
    })
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Gzip,
    Deflate,
}

struct Encodings {
    compressions: Vec<Compression>,
    charset: Option<&'static Encoding>,
}

fn encodings(header: &str) -> Result<Encodings, BadBody> {
    let mut found = Encodings {
        compressions: Vec::new(),
        charset: None,
    };
    for name in header.split(',').map(str::trim) {
        match name.to_ascii_lowercase().as_str() {
            "" | "identity" => {}
            "gzip" | "x-gzip" => found.compressions.push(Compression::Gzip),
            "deflate" => found.compressions.push(Compression::Deflate),
            label => match Encoding::for_label_no_replacement(label.as_bytes()) {
                Some(charset) => found.charset = Some(charset),
                None => return Err(BadBody::Encoding(shown(name))),
            },
        }
        if found.compressions.len() > MAX_CODINGS {
            return Err(BadBody::Codings);
        }
    }
    Ok(found)
}

/// Parameter `charset` of a content type.
fn charset(content_type: &str) -> Result<Option<&'static Encoding>, BadBody> {
    let named = content_type.split(';').skip(1).find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim()
            .eq_ignore_ascii_case("charset")
            .then(|| value.trim().trim_matches('"'))
    });
    let Some(label) = named else {
        return Ok(None);
    };
    match Encoding::for_label_no_replacement(label.as_bytes()) {
        Some(charset) => Ok(Some(charset)),
        None => Err(BadBody::Charset(shown(label))),
    }
}

/// A device's own words, cut: they go into reports.
fn shown(label: &str) -> String {
    label.chars().take(40).collect()
}

fn inflate(compression: Compression, bytes: &[u8]) -> Result<Vec<u8>, BadBody> {
    match compression {
        Compression::Gzip => bounded("gzip", MultiGzDecoder::new(bytes)),
        // "deflate" means zlib (RFC 9110 §8.4.1.2); some send it without zlib's two bytes.
        Compression::Deflate if is_zlib(bytes) => bounded("deflate", ZlibDecoder::new(bytes)),
        Compression::Deflate => bounded("deflate", DeflateDecoder::new(bytes)),
    }
}

/// Zlib's header (RFC 1950): method 8, and a check that makes it a multiple of 31.
fn is_zlib(bytes: &[u8]) -> bool {
    match bytes {
        [method, flags, ..] => {
            method & 0x0f == 8 && u16::from_be_bytes([*method, *flags]).is_multiple_of(31)
        }
        _ => false,
    }
}

fn bounded(name: &'static str, reader: impl Read) -> Result<Vec<u8>, BadBody> {
    let mut inflated = Vec::new();
    reader
        .take(MAX_INFLATED as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|error| BadBody::NotCompressed(name, error.to_string()))?;
    if inflated.len() > MAX_INFLATED {
        return Err(BadBody::TooLarge);
    }
    Ok(inflated)
}

/// Looks at the brackets and commas outside of texts, before anything is allocated for them: how many
/// values there are at most.
fn survey(text: &[u8]) -> Result<usize, BadBody> {
    let (mut depth, mut values) = (0_usize, 1_usize);
    let (mut quoted, mut escaped) = (false, false);
    for byte in text {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (true, _) => {}
            (false, b'[' | b'{') => {
                depth += 1;
                values += 1;
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            (false, b',') => values += 1,
            (false, _) => {}
        }
        if depth > MAX_DEPTH {
            return Err(BadBody::TooDeep);
        }
        if values > MAX_VALUES {
            return Err(BadBody::TooMany);
        }
    }
    Ok(values)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{
        Compression as Level,
        write::{DeflateEncoder, GzEncoder, ZlibEncoder},
    };
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Level::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(bytes).collect()
    }

    #[test]
    fn compressed_bodies_are_inflated() {
        let plain = br#"{"t":1}"#;
        let mut zlib = ZlibEncoder::new(Vec::new(), Level::default());
        zlib.write_all(plain).unwrap();
        let mut raw = DeflateEncoder::new(Vec::new(), Level::default());
        raw.write_all(plain).unwrap();
        let cases = [
            (plain.to_vec(), ""),
            (plain.to_vec(), "identity"),
            (gzip(plain), "gzip"),
            (gzip(plain), "X-GZIP, utf-8"),
            (gzip(&gzip(plain)), "gzip, gzip"),
            (zlib.finish().unwrap(), "deflate"),
            (raw.finish().unwrap(), "deflate"),
        ];
        for (body, encoding) in cases {
            let read = read::<Json>(&body, None, Some(encoding)).unwrap();
            assert_eq!(read.json, json!({ "t": 1 }), "{encoding}");
        }
    }

    #[test]
    fn charsets_and_byte_order_marks_are_understood() {
        let text = "{\"name\":\"tüxt €\"}";
        let json_of = |name: &str| json!({ "name": name });
        let marked = [b"\xef\xbb\xbf".as_slice(), text.as_bytes()].concat();
        let marked16 = utf16(&format!("\u{feff}{text}"), u16::to_be_bytes);
        type Case = (
            Vec<u8>,
            Option<&'static str>,
            Option<&'static str>,
            &'static str,
        );
        let cases: [Case; 9] = [
            (text.into(), None, None, "tüxt €"),
            (
                text.into(),
                Some("application/json"),
                Some("utf-8"),
                "tüxt €",
            ),
            (marked.clone(), None, None, "tüxt €"),
            (
                marked,
                Some("application/json; charset=iso-8859-1"),
                None,
                "tüxt €",
            ),
            (marked16, None, None, "tüxt €"),
            (
                utf16(text, u16::to_le_bytes),
                None,
                Some("utf-16"),
                "tüxt €",
            ),
            (
                utf16(text, u16::to_be_bytes),
                Some("application/json;Charset=\"UTF-16BE\""),
                None,
                "tüxt €",
            ),
            (
                b"{\"name\":\"t\xfcxt\"}".to_vec(),
                Some("application/json; charset=iso-8859-1"),
                None,
                "tüxt",
            ),
            (
                gzip(b"{\"name\":\"t\xfcxt\"}"),
                Some("application/json; charset=ISO-8859-1"),
                Some("gzip"),
                "tüxt",
            ),
        ];
        for (body, content_type, encoding, name) in cases {
            let read = read::<Json>(&body, content_type, encoding);
            let read = read.map(|body| body.json);
            assert_eq!(read, Ok(json_of(name)), "{content_type:?} {encoding:?}");
        }
    }

    #[test]
    fn poison_is_refused_with_a_reason() {
        let bomb = gzip(&vec![b' '; MAX_INFLATED + 1]);
        let nested_bomb = gzip(&bomb);
        let deep = "[".repeat(200_000);
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        let cases: [(&[u8], Option<&str>, &str); 12] = [
            (b"", None, "no JSON"),
            (b"\xff\xfe\xff", None, "no text in UTF-16LE"),
            (b"{\"a\":\"\xff\"}", None, "no text in UTF-8"),
            (b"{\"a\":", None, "no JSON"),
            (b"{} {}", None, "no JSON"),
            (b"{\"a\":1}", Some("gzip"), "no gzip data"),
            (&gzip(b"{\"a\":1}")[..12], Some("gzip"), "no gzip data"),
            (&bomb, Some("gzip"), "when it is inflated"),
            (&nested_bomb, Some("gzip,gzip"), "when it is inflated"),
            (b"{}", Some("br"), "\"br\" is not known"),
            (deep.as_bytes(), None, "nested deeper"),
            (many.as_bytes(), None, "more than 50000 values"),
        ];
        for (body, encoding, expected) in cases {
            let error = read::<Json>(body, None, encoding).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?}, expected {expected:?}");
        }
        let coded = read::<Json>(b"{}", None, Some("gzip,gzip,gzip"));
        assert_eq!(coded, Err(BadBody::Codings));
        let utf32 = read::<Json>(b"{}", Some("application/json; charset=utf-32"), None);
        assert_eq!(utf32, Err(BadBody::Charset("utf-32".into())));
    }

    #[test]
    fn brackets_and_commas_within_texts_do_not_count() {
        let text = json!({ "a": "[".repeat(1000), "b": "\"[{,".repeat(1000) }).to_string();
        assert_eq!(survey(text.as_bytes()), Ok(3));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(
            body in proptest::collection::vec(any::<u8>(), 0..300),
            encoding in proptest::option::of("[a-z0-9,-]{0,12}|gzip|deflate|utf-16"),
            content_type in proptest::option::of(".{0,20}|text/plain; charset=[a-z0-9-]{0,9}"),
        ) {
            let _ = read::<Json>(&body, content_type.as_deref(), encoding.as_deref());
        }

        #[test]
        fn damaged_gzip_is_refused_or_read(at in 0_usize..40, byte in any::<u8>()) {
            let mut body = gzip(br#"{"temperature":21.5,"name":"pump"}"#);
            let at = at % body.len();
            body[at] = byte;
            let _ = read::<Json>(&body, None, Some("gzip"));
        }
    }
}
