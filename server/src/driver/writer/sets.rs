//! Room in the sets of flags that applications are sent: what would not fit is refused when it is
//! asked for, not found out when it is to be delivered.
//!
//! Counted is what all flags together may come to as flagd JSON in any environment, with every
//! phase of their unfinished releases applied: an upper bound, so that nothing that was let in ever
//! grows out of it by itself. What makes it smaller is never refused, above all no abort and no kill
//! switch.

use phasegate_engine::{
    State,
    event::{Commit, Event},
    flagd,
    id::FlagId,
};
use std::{collections::BTreeSet, sync::Arc};

/// The bytes of all flags, kept up to date.
#[derive(Debug)]
pub(super) struct Sets {
    /// How many there may be; none: nothing is counted.
    max: Option<usize>,
    bytes: usize,
}

/// False if a flag surely takes as many bytes in both states: most commits move a release, and what a flag
/// may come to does not depend on how far its releases are. Counting is a fifth of what the writer does
/// for such a commit otherwise.
fn counts_differently(before: &State, after: &State, id: &FlagId) -> bool {
    let (Some(was), Some(is)) = (before.flag(id), after.flag(id)) else { return true };
    if !Arc::ptr_eq(was, is) {
        return true;
    }
    let mut releases = (before.unfinished(id), after.unfinished(id));
    loop {
        match (releases.0.next(), releases.1.next()) {
            (None, None) => return false,
            (Some(was), Some(is)) if Arc::ptr_eq(&was.proposal, &is.proposal) => {}
            _ => return true,
        }
    }
}

/// What a call would bring the sets to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge {
    pub(super) bytes: usize,
    pub(super) max: usize,
}

impl Sets {
    pub(super) fn load(state: &State, max: Option<usize>) -> Self {
        let bytes = match max {
            Some(_) => state.flags().map(|flag| flagd::flag_bytes_max(state, &flag.id)).sum(),
            None => 0,
        };
        Self { max, bytes }
    }

    /// Refuses a change of a flag that makes the sets larger than they may be.
    pub(super) fn check(
        &self,
        before: &State,
        after: &State,
        flag: &FlagId,
    ) -> Result<(), TooLarge> {
        let Some(max) = self.max else { return Ok(()) };
        if !counts_differently(before, after, flag) {
            return Ok(());
        }
        let (old, new) = (flagd::flag_bytes_max(before, flag), flagd::flag_bytes_max(after, flag));
        let bytes = self.bytes.saturating_sub(old) + new;
        if new > old && bytes > max { Err(TooLarge { bytes, max }) } else { Ok(()) }
    }

    /// To be told of every commit.
    pub(super) fn note(&mut self, before: &State, after: &State, commit: &Commit) {
        if self.max.is_none() {
            return;
        }
        let touched = commit.events.iter().filter_map(|event| match event {
            Event::FlagStored(flag) => Some(&flag.id),
            Event::FlagDeleted(flag) => Some(flag),
            Event::ReleaseCreated(proposal) => Some(&proposal.flag),
            Event::Release(event) => Some(&after.release(&event.release)?.proposal.flag),
            Event::PipelineStored(_) | Event::PipelineDeleted(_) => None,
        });
        for flag in touched.collect::<BTreeSet<_>>() {
            if !counts_differently(before, after, flag) {
                continue;
            }
            let old = flagd::flag_bytes_max(before, flag);
            self.bytes = self.bytes.saturating_sub(old) + flagd::flag_bytes_max(after, flag);
        }
    }
}
