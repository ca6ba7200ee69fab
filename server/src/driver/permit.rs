//! Whether a caller may do what they ask for, asked of the state that it is decided on.

use super::handle::Error;
use phasegate_engine::{State, command::Action, refusal::Resource};
use std::fmt;

/// What a caller may. The writer asks before the engine decides, so nothing can change in between.
pub trait Permit: fmt::Debug + Send + Sync {
    /// Whether an action may be done. About something that is there and that the caller does not see,
    /// the answer is the engine's about something that is not.
    fn check(&self, state: &State, action: &Action) -> Result<(), Error>;

    /// Whether a resource is seen. One that is not there hides nothing.
    fn sees(&self, state: &State, resource: &Resource) -> bool;
}

/// Everything may be done.
#[derive(Clone, Copy, Debug)]
pub struct Anything;

impl Permit for Anything {
    fn check(&self, _state: &State, _action: &Action) -> Result<(), Error> {
        Ok(())
    }

    fn sees(&self, _state: &State, _resource: &Resource) -> bool {
        true
    }
}
