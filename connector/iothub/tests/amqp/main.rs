//! What the crate promises over AMQP, against a hub that the tests play.

#![allow(clippy::unwrap_used)]

mod broker;
mod devicebound;
mod partition;
mod redirect;
mod way;
