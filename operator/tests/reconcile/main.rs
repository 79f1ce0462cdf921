//! The operator against a real API server and the real controllers, with faults between them.
//!
//! Each test is named after its id in docs/operator-tests.md. All share one server, each has a namespace
//! of its own, so they run side by side: `cargo test -p operator --test reconcile -- --test-threads 16`.

// Clippy lets tests panic, but not the functions that tests share.
#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used)]
// With --nocapture each test tells its figures.
#![allow(clippy::print_stdout)]

mod authority;
mod call;
mod control_plane;
mod instance;
mod invariant;
mod plant;
mod pods;
mod proxy;
mod snapshot;
mod wait;
mod wire;

mod crash;
mod deaf;
mod drift;
mod election;
mod field;
mod fuzz;
mod install;
mod life;
mod measured;
mod outage;
mod ownership;
mod pause;
mod quiescence;
mod reference;
mod restart;
mod retained;
mod rights;
mod rollouts;
mod scale;
mod second;
mod spec;
mod stale;
mod stale_member;
mod storm;
