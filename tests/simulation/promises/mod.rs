//! What is promised, each promise one check with its name. `docs/guarantees.md` lists them.
//!
//! The checks are written from the promises, not from the code that keeps them: they look at what was
//! committed, answered and shown, and at the clock of the machine.

use crate::history::Asked;
use phasegate_engine::{
    State,
    event::{Change, Commit},
    release::Release,
    time::Timestamp,
};
use phasegate_server::store::Record;
use std::{any::Any, sync::Arc};

/// A promise that was broken, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) promise: &'static str,
    pub(crate) what: String,
}

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.promise, self.what)
    }
}

pub(crate) type Verdict = Result<(), Broken>;

/// Fails the promise whose function this stands in.
macro_rules! hold {
    ($promise:ident, $condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err(Broken { promise: stringify!($promise), what: format!($($what)+) });
        }
    };
}

mod audit;
mod bakes;
mod releases;
mod requests;
mod store;
mod timers;
mod watches;

pub(crate) use audit::*;
pub(crate) use bakes::Meters;
pub(crate) use releases::*;
pub(crate) use requests::*;
pub(crate) use store::*;
pub(crate) use timers::*;
pub(crate) use watches::*;

/// Something did: neither the server nor the simulation may.
pub(crate) fn nothing_panics(panic: &(dyn Any + Send)) -> Broken {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    Broken { promise: "nothing_panics", what: text.unwrap_or("without a word").to_owned() }
}

/// One commit, with what is known about it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) before: &'a State,
    pub(crate) commit: &'a Commit,
    pub(crate) record: &'a Record,
    pub(crate) after: &'a State,
    /// The call that it came from; none: a timer.
    pub(crate) asked: Option<&'a Asked>,
    /// What the clock said when it was decided.
    pub(crate) wall: Timestamp,
}

impl Step<'_> {
    fn motions(&self) -> impl Iterator<Item = (Option<&Arc<Release>>, &Release, &Change)> {
        self.record.changes.iter().map(|change| {
            let release = &*change.release;
            (self.before.release(release.id()), release, &**change)
        })
    }
}

/// All promises that one commit can break.
pub(crate) fn check(step: Step<'_>) -> Verdict {
    revisions_have_no_gap(step)?;
    event_times_never_go_back(step)?;
    a_state_is_the_fold_of_its_events(step)?;
    what_is_over_stays_over(step)?;
    phases_go_in_order(step)?;
    exposure_grows_by_applying_and_shrinks_by_ending(step)?;
    a_phase_is_applied_only_with_its_approvals(step)?;
    an_approval_is_given_by_who_may_and_once(step)?;
    going_round_an_approval_is_on_record(step)?;
    a_flag_changes_by_a_success_or_by_hand(step)?;
    a_flag_has_one_active_release(step)?;
    a_delivered_flag_stays_within_what_was_counted(step)?;
    bakes::a_pause_keeps_what_was_left(step)?;
    bakes::a_paused_release_stands_still(step)?;
    a_timer_fires_at_its_time_and_once(step)?;
    no_deadline_is_out_of_reach(step)?;
    every_event_says_who_did_it(step)?;
    a_stale_etag_changes_nothing(step)
}
