//! A jq program, and what it makes of a message's body. Pure: bytes in, bytes out.
//!
//! The interpreter is `jaq`. It has no bound of its own on time, memory or depth, so whoever runs a
//! [`Filter`] does so in a process that may be ended (the connector's `ingress::mapping`). Compiling is
//! bounded by [`MAX_PROGRAM`]: time and depth grow with the text.
//!
//! The input is the body. Beside it there are `$device`, `$module` (null for a device itself),
//! `$properties` (the application properties) and `$enqueued` (when the hub took the message, in
//! milliseconds since 1970).

mod builtin;
mod program;

use std::io;

use jaq_core::{Ctx, Vars, data::JustLut};
use jaq_json::{Val, read, write};

pub use program::{BadProgram, MAX_PROGRAM, STACK, check};

/// Characters of an error of the program that are told: it may hold what a device has sent.
const MAX_TOLD: usize = 300;

/// A compiled program.
pub struct Filter(jaq_core::Filter<JustLut<Val>>);

/// Why a program makes nothing of a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The body, or what is said of the message, is no JSON that jq reads.
    #[error("the body is not read: {0}")]
    Unread(String),
    /// The program's own error; one line.
    #[error("{0}")]
    Program(String),
    /// Too many or too large outputs.
    #[error("it gives more than {0} bytes")]
    TooMuch(usize),
}

impl Filter {
    /// Compiles a program. Needs a stack of [`STACK`] bytes; [`check`] brings its own.
    ///
    /// # Errors
    /// [`BadProgram`], with the line and the column.
    pub fn compile(program: &str) -> Result<Self, BadProgram> {
        program::compile(program).map(Self)
    }

    /// Runs it on a body. `about` is a JSON array: device, module, properties, enqueued. Several outputs
    /// make one array, as the elements of an output that is an array do; no output makes no bytes at all.
    /// The outputs have at most `most` bytes together.
    ///
    /// What comes out need not be JSON: jq knows numbers and keys that JSON does not.
    ///
    /// # Errors
    /// [`Fault`]; the next message is not affected.
    pub fn run(&self, about: &[u8], body: &[u8], most: usize) -> Result<Vec<u8>, Fault> {
        let unread = |error: read::Error| Fault::Unread(error.to_string());
        let input = read::parse_single(body).map_err(unread)?;
        let variables = match read::parse_single(about).map_err(unread)? {
            Val::Arr(all) if all.len() == program::VARIABLES.len() => all,
            other => return Err(Fault::Unread(told(&other))),
        };
        let variables = Vars::new(variables.iter().cloned());
        let context = Ctx::<JustLut<Val>>::new(&self.0.lut, variables);
        let mut outputs = Outputs::new(most);
        for output in self.0.id.run((context, input)) {
            match output {
                Ok(value) => outputs.add(&value).map_err(|_| Fault::TooMuch(most))?,
                Err(exception) => {
                    return Err(Fault::Program(match exception.get_err() {
                        Ok(error) => words(error),
                        Err(_) => "it breaks off".to_owned(),
                    }));
                }
            }
        }
        outputs.end().map_err(|_| Fault::TooMuch(most))
    }
}

/// What has come out so far, as the elements of one array.
struct Outputs {
    bytes: Bounded,
    outputs: usize,
    elements: usize,
    /// The last output was an array.
    array: bool,
}

impl Outputs {
    fn new(most: usize) -> Self {
        Self {
            bytes: Bounded {
                bytes: Vec::new(),
                most,
            },
            outputs: 0,
            elements: 0,
            array: false,
        }
    }

    fn add(&mut self, value: &Val) -> io::Result<()> {
        self.outputs += 1;
        self.array = matches!(value, Val::Arr(_));
        match value {
            Val::Arr(elements) => elements.iter().try_for_each(|one| self.element(one)),
            other => self.element(other),
        }
    }

    fn element(&mut self, value: &Val) -> io::Result<()> {
        let before: &[u8] = if self.elements == 0 { b"[" } else { b"," };
        self.elements += 1;
        io::Write::write_all(&mut self.bytes, before)?;
        write::write(&mut self.bytes, &write::Pp::default(), 0, value)
    }

    fn end(mut self) -> io::Result<Vec<u8>> {
        match (self.outputs, self.elements, self.array) {
            (0, _, _) => {}
            // One output that is no array stands by itself.
            (1, _, false) => {
                self.bytes.bytes.remove(0);
            }
            (_, 0, _) => io::Write::write_all(&mut self.bytes, b"[]")?,
            _ => io::Write::write_all(&mut self.bytes, b"]")?,
        }
        Ok(self.bytes.bytes)
    }
}

/// Takes so many bytes and no more.
struct Bounded {
    bytes: Vec<u8>,
    most: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl std::fmt::Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        // What does not fit is cut, and whoever writes gives up.
        let room = (self.most - self.bytes.len()).min(text.len());
        self.bytes.extend_from_slice(&text.as_bytes()[..room]);
        if room < text.len() {
            return Err(std::fmt::Error);
        }
        Ok(())
    }
}

/// What an error of the program says: a text as it is, and no JSON of it.
fn words(error: jaq_json::Error) -> String {
    match error.into_val() {
        Val::TStr(text) => {
            let beginning = &text[..text.len().min(4 * MAX_TOLD)];
            told(&String::from_utf8_lossy(beginning))
        }
        other => told(&other),
    }
}

/// The beginning of a text that a device may have had a hand in, on one line.
fn told(what: &dyn std::fmt::Display) -> String {
    use std::fmt::Write as _;
    let mut text = Bounded {
        bytes: Vec::new(),
        // A character has at most four bytes.
        most: 4 * MAX_TOLD,
    };
    let whole = write!(text, "{what}").is_ok();
    let text = String::from_utf8_lossy(&text.bytes);
    let plain = |one: char| if one.is_control() { ' ' } else { one };
    let mut shown: String = text.chars().take(MAX_TOLD).map(plain).collect();
    if !whole || text.chars().nth(MAX_TOLD).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests;
