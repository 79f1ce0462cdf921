//! What the crate promises, against the stand-in hub on real sockets.

#![allow(clippy::unwrap_used)]

mod feedback;
mod hub;
mod jobs;
mod queries;
mod refusals;
mod registry;
mod twins;
