//! The client against a server that does what a script says, over real sockets.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod calls;
mod script;
mod watches;
