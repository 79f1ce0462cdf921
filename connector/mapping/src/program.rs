//! The text of a program → a filter, within bounds, or what is wrong with it and where.

use std::thread;

use jaq_core::{
    Compiler,
    compile::Undefined,
    data::JustLut,
    load::{self, Arena, Error, File, Loader},
};
use jaq_json::Val;

use crate::builtin;

/// Longest program, in bytes. A mapping has a line or two for each property; the compiler's time grows with
/// the square of the length (a third of a second for this many bytes of `1,1,1,…`), its depth in
/// proportion.
pub const MAX_PROGRAM: usize = 8 << 10;

/// Stack for a compiler, in bytes: twice what [`MAX_PROGRAM`] bytes of open brackets take.
pub const STACK: usize = 32 << 20;

/// What stands beside the input, in the order in which the values are given.
pub const VARIABLES: [&str; 4] = ["$device", "$module", "$properties", "$enqueued"];

/// Characters of the program that a message about it shows.
const SHOWN: usize = 24;

/// What is wrong with a program. One line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadProgram {
    /// Nothing but spaces.
    #[error("is empty; give a jq program or leave it out")]
    Empty,
    /// More than [`MAX_PROGRAM`] bytes.
    #[error("has {0} bytes; at most {MAX_PROGRAM} are allowed")]
    TooLong(usize),
    /// It does not compile.
    #[error("line {line}, column {column}: {what}")]
    At {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
        /// What is wrong there.
        what: String,
    },
    /// There is no thread for the compiler.
    #[error("cannot be compiled: {0}")]
    System(String),
}

/// Compiles a program on a stack that is large enough, and drops it.
///
/// # Errors
/// [`BadProgram`].
pub fn check(program: &str) -> Result<(), BadProgram> {
    thread::scope(|scope| {
        let compiling = thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, || compile(program).map(drop))
            .map_err(|error| BadProgram::System(error.to_string()))?;
        compiling
            .join()
            .unwrap_or_else(|_| Err(BadProgram::System("the compiler gave up".to_owned())))
    })
}

/// Compiles a program.
pub fn compile(program: &str) -> Result<jaq_core::Filter<JustLut<Val>>, BadProgram> {
    if program.len() > MAX_PROGRAM {
        return Err(BadProgram::TooLong(program.len()));
    }
    if program.trim().is_empty() {
        return Err(BadProgram::Empty);
    }
    let arena = Arena::default();
    let file = File {
        code: program,
        path: (),
    };
    let modules = Loader::new(builtin::definitions())
        .load(&arena, file)
        .map_err(|errors| first(errors, |error| unreadable(program, error)))?;
    // Files are no part of a program, and a variable of one would be missing when it runs.
    load::import(&modules, |_| Err("files cannot be imported".to_owned()))
        .map_err(|errors| first(errors, |error| unreadable(program, error)))?;
    Compiler::default()
        .with_funs(builtin::functions())
        .with_global_vars(VARIABLES)
        .compile(modules)
        .map_err(|errors| {
            first(errors, |undefined| {
                let (name, kind) = undefined.into_iter().next()?;
                let what = match kind {
                    Undefined::Filter(arguments) => {
                        format!("no filter {}/{arguments}", shown(name))
                    }
                    other => format!("no {} {}", other.as_str(), shown(name)),
                };
                Some(at(program, name, what))
            })
        })
}

/// The first error that has a place in the program.
fn first<P, E>(
    errors: Vec<(File<&str, P>, E)>,
    mut told: impl FnMut(E) -> Option<BadProgram>,
) -> BadProgram {
    let mut all = errors.into_iter().filter_map(|(_, error)| told(error));
    all.next()
        .unwrap_or_else(|| BadProgram::System("the compiler does not say why".to_owned()))
}

/// Why a program cannot be read.
fn unreadable(program: &str, error: Error<&str>) -> Option<BadProgram> {
    let expected = |wanted: &str, found: &str| {
        let what = match shown(found).as_str() {
            "" => format!("{wanted} is missing at the end"),
            found => format!("{wanted} is missing before {found:?}"),
        };
        at(program, found, what)
    };
    match error {
        Error::Io(all) => {
            let (found, why) = all.into_iter().next()?;
            Some(at(program, found, format!("{why} ({})", shown(found))))
        }
        Error::Lex(all) => {
            let (wanted, found) = all.into_iter().next()?;
            Some(expected(wanted.as_str(), found))
        }
        Error::Parse(all) => {
            let (wanted, found) = all.into_iter().next()?;
            Some(expected(wanted.as_str(), found))
        }
    }
}

/// Where a part of the program stands.
fn at(program: &str, part: &str, what: String) -> BadProgram {
    let offset = (part.as_ptr() as usize).saturating_sub(program.as_ptr() as usize);
    let before = program.get(..offset).unwrap_or(program);
    let line = before.rsplit('\n').next().unwrap_or_default();
    BadProgram::At {
        line: before.matches('\n').count() + 1,
        column: line.chars().count() + 1,
        what,
    }
}

/// The beginning of a part of the program: its first word or line.
fn shown(part: &str) -> String {
    let line = part.lines().next().unwrap_or_default();
    line.chars()
        .take(SHOWN)
        .filter(|one| !one.is_control())
        .collect()
}
