//! `decide(&State, &Command, now)`: what happens, or why not.

use crate::{command::Command, event::Commit, refusal::Refusal, state::State, time::Timestamp};

/// How many releases of a flag may be PENDING.
pub const PENDING_MAX: usize = 10;

/// Decides a command at `now`. `None`: it is accepted and nothing changes.
pub fn decide(
    _state: &State,
    _command: &Command,
    _now: Timestamp,
) -> Result<Option<Commit>, Refusal> {
    Ok(None)
}
