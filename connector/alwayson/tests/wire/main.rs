//! The promises of the wire, the codec's and the connection's, each in a module named after it.
//!
//! Every allocation of this binary is counted, thread by thread, by `allocation-counter`.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used
)]

mod answers;
mod generate;
mod hostile;
mod meaning;
mod round_trip;
mod vector;
mod vectors;

/// Tells a count even when the test passes, which `println!` would not.
fn tell(line: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").unwrap();
}
