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
mod census;
mod control_plane;
mod fleet;
mod instance;
mod invariant;
mod kubeconfig;
mod plant;
mod pods;
mod probe;
mod process;
mod proxy;
mod released;
mod snapshot;
mod store;
mod wait;
mod wire;

mod autoscaler;
mod budget;
mod crash;
mod deaf;
mod downgrade;
mod drift;
mod election;
mod eviction;
mod expiry;
mod field;
mod frozen;
mod fuzz;
mod install;
mod life;
mod limits;
mod measured;
mod outage;
mod ownership;
mod pause;
mod quiescence;
mod reference;
mod restart;
mod retained;
mod rights;
mod rollout;
mod rollouts;
mod scale;
mod second;
mod shutdown;
mod spec;
mod stale;
mod stale_member;
mod storm;
mod upgrade;
