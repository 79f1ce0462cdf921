//! Whatever comes is either a message or an error that says where and why. It never makes the reader
//! panic, and never makes it allocate more than a small multiple of what came.
//!
//! A failure names the promise that it breaks, and the bytes that break it.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    time::Instant,
};

use alwayson::{
    Assembler, Bind, Body, DecodeError, Fault, Header, InfoTable, Limits, Message, Request,
    Response, Value, json::table_to_json, split,
};
use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{generate, meaning, tell, vector};

/// The promises, as a failure names them.
const NO_PANIC: &str = "broken promise: hostile input makes nobody panic";
const BOUNDED: &str =
    "broken promise: at most 4 bytes are allocated for each of the input, and 4 KiB";
const WHERE_AND_WHAT: &str = "broken promise: an error says where and what";
const READABLE: &str = "broken promise: what was read can be read to its end and written again";
const SAME: &str = "broken promise: a frame of a connection is read as a message alone is";

/// What was tried, and how it went.
#[derive(Default)]
struct Tally {
    tried: usize,
    /// Were messages all the same.
    read: usize,
    /// Most that was allocated at a time, in bytes for each byte of input, of inputs of 1 KiB and more.
    worst: f64,
}

impl Tally {
    /// Decodes, alone and as a frame of a connection.
    fn probe(&mut self, bytes: &[u8]) {
        self.tried += 1;
        let decoded = self.measured(bytes, || Message::decode(bytes));
        let pushed = self.measured(bytes, || {
            Assembler::new(Limits::default()).push(Instant::now(), bytes)
        });
        match decoded {
            Ok(message) => {
                guarded(bytes, || walk(&message));
                self.read += 1;
                assert_eq!(pushed, Ok(Some(message)), "{SAME}: {}", show(bytes));
            }
            Err(error) => {
                check(&error, bytes);
                match pushed {
                    // A part of a message, the only one or one of several.
                    Ok(whole) => {
                        assert!(alwayson::is_part(bytes), "{SAME}: {}", show(bytes));
                        if let Some(message) = whole {
                            guarded(bytes, || walk(&message));
                        }
                    }
                    Err(error) => check(&error, bytes),
                }
            }
        }
    }

    fn measured<T>(&mut self, bytes: &[u8], decode: impl FnOnce() -> T) -> T {
        let mut decoded = None;
        let spent = allocation_counter::measure(|| decoded = Some(guarded(bytes, decode)));
        let limit = 4 * bytes.len() + 4096;
        assert!(
            spent.bytes_max <= limit as u64,
            "{BOUNDED}: {} bytes for {}: {}",
            spent.bytes_max,
            bytes.len(),
            show(bytes)
        );
        if bytes.len() >= 1024 {
            self.worst = self.worst.max(spent.bytes_max as f64 / bytes.len() as f64);
        }
        decoded.expect("measure runs what it is given")
    }

    fn tell(&self, what: &str) {
        let Self { tried, read, .. } = self;
        tell(&format!("hostile: {tried} {what}, {read} of them messages"));
    }
}

/// Runs what must not panic.
fn guarded<T>(bytes: &[u8], run: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let told = panic.downcast_ref::<String>().map(String::as_str);
        let told = told.or_else(|| panic.downcast_ref::<&str>().copied());
        let told = told.unwrap_or("a panic without words");
        // A promise that broke inside is named already.
        let promise = if told.contains("broken promise") {
            "in"
        } else {
            NO_PANIC
        };
        panic!("{promise}: {told}: {}", show(bytes))
    })
}

/// The error is about these bytes.
fn check(error: &DecodeError, bytes: &[u8]) {
    assert!(
        error.offset <= bytes.len(),
        "{WHERE_AND_WHAT}: {error} in {} bytes: {}",
        bytes.len(),
        show(bytes)
    );
    let (text, what) = (error.to_string(), error.fault.to_string());
    assert!(
        !what.is_empty() && text.contains(&what) && text.contains(&error.offset.to_string()),
        "{WHERE_AND_WHAT}: {text:?} for {}",
        show(bytes)
    );
}

/// What was read can be read to its end and written again.
fn walk(message: &Message) {
    let clean = message.encode().expect(READABLE);
    let again = Message::decode(&clean);
    assert_eq!(again.as_ref(), Ok(message), "{READABLE}: {}", show(&clean));
    match &message.body {
        Body::Request(request) => {
            let headers = request.headers.iter().count();
            assert_eq!(headers, request.headers.len(), "{READABLE}");
            request.params.iter().for_each(walk_table);
        }
        Body::Response(response) => {
            let _ = response.error_text();
            response.content.iter().for_each(walk_table);
        }
        Body::Auth(claims) | Body::ClearAuth(claims) => {
            let _ = claims.iter().count();
        }
        Body::Bind(bind) | Body::Unbind(bind) => {
            assert_eq!(bind.names.iter().count(), bind.names.len(), "{READABLE}");
        }
        Body::KeepAlive => {}
    }
}

fn walk_table(table: &InfoTable) {
    let fields = table.fields().count();
    assert!(table.rows().all(|row| row.len() == fields), "{READABLE}");
    assert_eq!(table.rows().count(), table.len(), "{READABLE}");
    let json = table_to_json(table);
    let rows = json["rows"].as_array().map(Vec::len);
    assert_eq!(rows, Some(table.len()), "{READABLE}");
}

fn show(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Lengths and counts of one, two and four bytes, as large as they can be.
const MAXIMA: [&[u8]; 8] = [
    &[0x7f],
    &[0x80],
    &[0xff],
    &[0x7f, 0xff],
    &[0xff, 0xff],
    &[0x7f, 0xff, 0xff, 0xff],
    &[0x80, 0xff, 0xff, 0xff],
    &[0xff, 0xff, 0xff, 0xff],
];

#[test]
fn vectors_cut_at_every_byte() {
    let mut tally = Tally::default();
    for bytes in vector::all_bytes() {
        for length in 0..bytes.len() {
            tally.probe(&bytes[..length]);
        }
    }
    tally.tell("vectors cut short");
}

#[test]
fn vectors_with_every_bit_flipped() {
    let mut tally = Tally::default();
    for mut bytes in vector::all_bytes() {
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            tally.probe(&bytes);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
    tally.tell("vectors with a flipped bit");
}

#[test]
fn vectors_with_every_length_at_its_maximum() {
    let mut tally = Tally::default();
    for bytes in vector::all_bytes() {
        for at in 0..bytes.len() {
            for maximum in MAXIMA {
                let mut changed = bytes.clone();
                let end = bytes.len().min(at + maximum.len());
                changed[at..end].copy_from_slice(&maximum[..end - at]);
                tally.probe(&changed);
            }
        }
    }
    tally.tell("vectors with a length at its maximum");
}

#[test]
fn vectors_spliced_in_pairs() {
    let mut rng = StdRng::seed_from_u64(2);
    let mut tally = Tally::default();
    let vectors = vector::all_bytes();
    for first in &vectors {
        for second in &vectors {
            let keep = rng.random_range(0..=first.len());
            let from = rng.random_range(0..=second.len());
            tally.probe(&[&first[..keep], &second[from..]].concat());
        }
    }
    tally.tell("pairs of vectors");
}

/// In two halves, for two cores.
#[test]
fn generated_messages_with_one_fault_first_half() {
    generated_messages_with_one_fault(3);
}

#[test]
fn generated_messages_with_one_fault_second_half() {
    generated_messages_with_one_fault(4);
}

fn generated_messages_with_one_fault(seed: u64) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut tally = Tally::default();
    for bytes in pool(100_000, seed) {
        tally.probe(&broken(&bytes, &mut rng));
    }
    assert_eq!(tally.tried, 100_000);
    assert!(
        (10_000..95_000).contains(&tally.read),
        "{} read: the faults are too small or too large to tell anything",
        tally.read
    );
    tally.tell("generated messages with one fault");
}

/// Bytes of generated messages, the same for the same seed. Making one from nothing costs a hundred times
/// what reading it does, so each takes its parts from two of a thousand, and its ids from nobody.
fn pool(count: usize, seed: u64) -> impl Iterator<Item = Vec<u8>> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    let config = proptest::test_runner::Config::default();
    let algorithm = proptest::test_runner::RngAlgorithm::ChaCha;
    let rng = proptest::test_runner::TestRng::from_seed(algorithm, &key);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let strategy = generate::message();
    let parts: Vec<Message> = (0..1000)
        .map(|_| strategy.new_tree(&mut runner).unwrap().current())
        .collect();
    let mut rng = StdRng::seed_from_u64(seed);
    (0..count).map(move |_| {
        let mut any = || parts[rng.random_range(0..parts.len())].body.clone();
        let body = crossed(any(), any());
        let [request_id, endpoint_id, session_id] = rng.random::<[i32; 3]>();
        let header = Header {
            request_id: request_id.cast_unsigned(),
            endpoint_id,
            session_id,
        };
        Message { header, body }.encode().unwrap()
    })
}

/// One message of two, where they have parts in common.
fn crossed(one: Body, other: Body) -> Body {
    match (one, other) {
        (Body::Request(one), Body::Request(other)) => Body::Request(Request {
            headers: other.headers,
            params: other.params,
            ..one
        }),
        (Body::Request(one), Body::Response(other)) => Body::Request(Request {
            params: other.content,
            ..one
        }),
        (Body::Response(one), Body::Response(other)) => Body::Response(Response {
            content: other.content,
            ..one
        }),
        (Body::Response(one), Body::Request(other)) => Body::Response(Response {
            content: other.params,
            ..one
        }),
        (Body::Bind(one), Body::Unbind(other)) => Body::Bind(Bind {
            names: other.names,
            ..one
        }),
        (one, _) => one,
    }
}

/// The bytes with one fault.
fn broken(bytes: &[u8], rng: &mut StdRng) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let at = rng.random_range(0..bytes.len());
    let end = bytes.len().min(at + rng.random_range(1..=8));
    match rng.random_range(0..7) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => bytes[at] = rng.random(),
        2 => bytes.truncate(at),
        3 => drop(bytes.drain(at..end)),
        4 => {
            let copy = bytes[at..end].to_vec();
            bytes.splice(at..at, copy);
        }
        5 => drop(bytes.splice(at..at, [rng.random(), rng.random()])),
        _ => {
            let maximum = MAXIMA[rng.random_range(0..MAXIMA.len())];
            let end = bytes.len().min(at + maximum.len());
            bytes[at..end].copy_from_slice(&maximum[..end - at]);
        }
    }
    bytes
}

/// The worst for memory: as many things of as few bytes as the form allows.
#[test]
fn many_small_things_do_not_swell() {
    let head = vector::hex("01400000000100000000000000420000");
    let request = vector::hex("01030000000100000000000000420000000000");
    let field = vector::hex("010000ff0000");
    let table = [&field[..], &[0]].concat();
    let repeat = |start: &[u8], one: &[u8], count: usize, end: &[u8]| {
        [start, &one.repeat(count), end].concat()
    };
    let content = [&head[..], &[5]].concat();
    let inputs = [
        // Names of no letters.
        [
            &vector::hex("010a0000000100000000000000420000ffff")[..],
            &[0; 0xffff],
        ]
        .concat(),
        // Empty request headers.
        repeat(
            &request[..18],
            &[0],
            1,
            &[&[255][..], &[0; 510], &[0xff]].concat(),
        ),
        // Fields without names, and as many cells without value.
        repeat(&content, &field, 60_000, &[0, 0]),
        [
            repeat(&content, &field, 20_000, &[0, 1]),
            20_000_u16.to_be_bytes().to_vec(),
            vec![0xff; 20_000],
            vec![0],
        ]
        .concat(),
        // Rows without cells.
        repeat(&[&content[..], &[0]].concat(), &[1, 0, 0], 100_000, &[0]),
        // Rows of one empty table, of one empty text, of one empty run of bytes.
        repeat(
            &[&content[..], &table].concat(),
            &[1, 0, 1, 5, 0, 0],
            50_000,
            &[0],
        ),
        repeat(
            &[&content[..], &table].concat(),
            &[1, 0, 1, 0, 0],
            50_000,
            &[0],
        ),
        repeat(
            &[&content[..], &table].concat(),
            &[1, 0, 1, 0x15, 0, 0, 0, 0],
            50_000,
            &[0],
        ),
        // Aspects without name and value.
        [
            &content[..],
            &[1, 0, 0, 0xff, 0xff, 0xff],
            &[0, 0xff].repeat(0xffff),
            &[0, 0],
        ]
        .concat(),
    ];
    let mut tally = Tally::default();
    for (at, bytes) in inputs.iter().enumerate() {
        tally.probe(bytes);
        assert_eq!(tally.read, at + 1, "{:?}", Message::decode(bytes));
    }
    tell(&format!(
        "hostile: {} messages of many small things, at most {:.1} bytes allocated for each of theirs",
        tally.tried, tally.worst
    ));
}

// ---- parts ----

fn part(id: u32, number: u16, count: u16, piece: &[u8]) -> Vec<u8> {
    let mut bytes = vector::hex("0140");
    bytes.extend(id.to_be_bytes());
    bytes.extend(vector::hex("000000000000004201"));
    for field in [number, count, 100] {
        bytes.extend(field.to_be_bytes());
    }
    bytes.extend(piece);
    bytes
}

/// Parts that never become a message take no more memory than the limit, however little is in them.
#[test]
fn incomplete_messages_are_bounded() {
    let limits = Limits {
        pending: 1 << 20,
        ..Limits::default()
    };
    let now = Instant::now();
    for (what, piece) in [("empty", &[][..]), ("small", b"x"), ("large", &[0; 8000])] {
        for same in [false, true] {
            let mut assembler = Assembler::new(limits);
            let mut refused = 0;
            let spent = allocation_counter::measure(|| {
                for count in 0..30_000_u16 {
                    let (id, number) = if same {
                        (1, count + 1)
                    } else {
                        (count.into(), 1)
                    };
                    let pushed = assembler.push(now, &part(id, number, 32_000, piece));
                    refused += usize::from(pushed.is_err());
                }
            });
            assert!(
                spent.bytes_max <= 2 * limits.pending as u64,
                "{} bytes held for {what} parts of {}",
                spent.bytes_max,
                if same { "one message" } else { "many messages" }
            );
            assert!(refused > 0 || spent.bytes_max < limits.pending as u64);
        }
    }
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let now = Instant::now();
    let limits = Limits {
        message: 1000,
        pending: 10_000,
        ..Limits::default()
    };
    let fault = |parts: &[Vec<u8>]| {
        let mut assembler = Assembler::new(limits);
        let (last, before) = parts.split_last().unwrap();
        for part in before {
            assert_eq!(assembler.push(now, part), Ok(None));
        }
        let error = assembler.push(now, last).unwrap_err();
        check(&error, last);
        error.fault
    };
    for (number, count) in [(0, 1), (2, 1), (1, 0), (1, 32_768)] {
        let error = fault(&[part(1, number, count, b"x")]);
        assert!(matches!(error, Fault::Multipart(_)), "{number} of {count}");
    }
    let twice = fault(&[part(1, 1, 3, b"x"), part(1, 1, 3, b"x")]);
    assert!(matches!(twice, Fault::Multipart(_)));
    let differ = fault(&[part(1, 1, 3, b"x"), part(1, 2, 4, b"x")]);
    assert!(matches!(differ, Fault::Multipart(_)));
    let long = fault(&[part(1, 1, 2, &[0; 600]), part(1, 2, 2, &[0; 600])]);
    assert!(matches!(long, Fault::TooLong(_)));
    let mut several: Vec<_> = (0..8).map(|id| part(id, 1, 2, &[0; 600])).collect();
    several.push(part(9, 1, 2, &[0; 600]));
    assert!(matches!(fault(&several), Fault::TooLong(_)));
}

/// A fault in an assembled message is told from the start of the message, as if it had come whole.
#[test]
fn faults_in_assembled_messages_have_the_offset_of_the_whole() {
    let mut whole = vector::message("PUT_STR128");
    let at = whole.len() - 130;
    // Within the text.
    whole[at + 100] = 0xff;
    let expected = Message::decode(&whole).unwrap_err();
    assert!(expected.offset > 15, "{expected}");
    let mut assembler = Assembler::new(Limits::default());
    let body = &whole[15..];
    let repeated = &body[..9];
    let now = Instant::now();
    let mut header = whole[..15].to_vec();
    header[14] = 1;
    let numbers = |number: u16| [number, 2, 100].map(u16::to_be_bytes).concat();
    let first = [&header[..], &numbers(1), &body[..70]].concat();
    let second = [&header[..], &numbers(2), repeated, &body[70..]].concat();
    assert_eq!(assembler.push(now, &first), Ok(None));
    assert_eq!(assembler.push(now, &second), Err(expected));
}

#[test]
fn an_incomplete_message_is_forgotten_after_its_time() {
    let limits = Limits::default();
    let write = Request::write("Dev-001", "s", Value::string("x".repeat(150)));
    let message = meaning::asks(7, write);
    let parts = split(&message, 100).unwrap();
    let start = Instant::now();
    let mut assembler = Assembler::new(limits);
    assert_eq!(assembler.push(start, &parts[0]), Ok(None));
    // Whatever comes after its time does not complete it.
    let late = start + limits.patience;
    for part in &parts[1..] {
        assert_eq!(assembler.push(late, part), Ok(None));
    }
    assert_eq!(assembler.push(late, &parts[0]), Ok(Some(message)));
}
