//! One attempt, as its caller hears of it: an outcome, and each step with the time that it took.

use super::{
    connect::{self, Resolve, SystemResolver},
    scheduler::{Fault, FaultKind},
};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

/// A step that was done, for people: `phasegate notify test` shows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What was done.
    pub what: String,
    /// How long it took.
    pub took: Duration,
}

/// Notes steps as they are done.
#[derive(Debug)]
pub(super) struct Trace {
    steps: Vec<Step>,
    since: Instant,
}

impl Default for Trace {
    fn default() -> Self {
        Self { steps: Vec::new(), since: Instant::now() }
    }
}

impl Trace {
    /// A step is done.
    pub(super) fn done(&mut self, what: impl Into<String>) {
        let now = Instant::now();
        self.steps.push(Step { what: what.into(), took: now.duration_since(self.since) });
        self.since = now;
    }

    /// What was done.
    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }
}

/// What an attempt takes from outside.
#[derive(Clone, Debug)]
pub struct World {
    /// What names lead to.
    pub resolver: Arc<dyn Resolve>,
    /// Which store it is, for the source of events.
    pub store: Arc<str>,
}

impl World {
    /// With the resolver of the operating system.
    pub fn new(store: impl Into<Arc<str>>) -> Self {
        Self { resolver: Arc::new(SystemResolver), store: store.into() }
    }
}

impl From<connect::Error> for Fault {
    fn from(error: connect::Error) -> Self {
        let kind = match &error {
            connect::Error::Refused(_) | connect::Error::Name => FaultKind::Forbidden,
            connect::Error::Resolve(_)
            | connect::Error::NoAddress
            | connect::Error::Connect(..)
            | connect::Error::Tls(_) => FaultKind::Unreachable,
        };
        Self { kind, text: plain(&error.to_string()) }
    }
}

/// An error is kept with its row and shown, so it is one line and not long.
const ERROR_CHARS_MAX: usize = 300;

/// A text of others as one line that a log or a terminal can show.
pub(super) fn plain(text: &str) -> String {
    let clean = |c: char| if c.is_control() || is_bidi(c) { ' ' } else { c };
    text.chars().take(ERROR_CHARS_MAX).map(clean).collect()
}

/// Marks that make text look other than it is.
pub(super) fn is_bidi(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
