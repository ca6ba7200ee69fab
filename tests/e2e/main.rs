//! What a user sees, over real sockets, with a clock that is moved by hand.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod actions;
mod conflicts;
mod flags;
mod input;
mod refusals;
mod restart;
mod surface;
mod watch;
mod world;
