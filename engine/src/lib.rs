//! The pure core of Phasegate.
//!
//! Three functions carry the whole state machine:
//!
//! ```text
//! decide(&State, &Command, now) -> Result<Option<Commit>, Refusal>   what happens, or why not
//! apply(&mut State, &Commit)                                         total: a commit always applies
//! deadline(&Release, now)       -> Option<Timer>                     when the release must be looked at
//! ```
//!
//! The invariant between them: a [`State`] is the fold of its commits, nothing else. Replaying the
//! same commits gives the same state, bit for bit.
//!
//! What is deliberately absent: I/O, a clock, randomness, async, threads, and maps whose order
//! depends on the run. Time enters as an argument, ids enter with the command. The shells around
//! this crate do the rest.
//!
//! Cloning a [`State`] is cheap (its maps are persistent), so a shell may keep one for the writer
//! and publish another for readers.

#![warn(missing_docs)]
#![warn(clippy::unwrap_used)]

pub mod apply;
pub mod command;
pub mod deadline;
pub mod decide;
pub mod environment;
pub mod event;
pub mod flag;
pub mod flagd;
pub mod id;
pub mod pipeline;
pub mod plan;
pub mod refusal;
pub mod release;
pub mod state;
mod stored;
pub mod targeting;
pub mod time;
pub mod value;
pub mod wheel;
pub mod window;

pub use apply::apply;
pub use command::Command;
pub use deadline::{Timer, TimerKind, deadline};
pub use decide::decide;
pub use event::{Commit, Event};
pub use refusal::Refusal;
pub use state::{Among, Half, State};
