//! `apply(&mut State, &Commit)`: total. A commit that was decided always applies.

use crate::{event::Commit, state::State};

/// Applies a commit to the state that it was decided on.
pub fn apply(_state: &mut State, _commit: &Commit) {}
