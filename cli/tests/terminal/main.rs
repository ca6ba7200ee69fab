//! The program on a terminal: every view as a person sees it, on a pty of a fixed size, against a
//! real server whose clock is moved by hand.
//!
//! A test awaits what it wants to see and compares the whole screen with what is written here.

#![allow(clippy::unwrap_used, reason = "these are tests")]

#[path = "../process/mod.rs"]
mod process;

mod stage;
mod terminal;

mod apply;
mod context;
mod eval;
mod shell;
mod top;
mod watch;
