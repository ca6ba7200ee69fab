//! What a run came through. A simulation that never gets into the interesting states proves nothing,
//! so the states are listed, counted, and asserted over many seeds.

use std::collections::BTreeMap;

/// Everything that has to be reached.
pub(crate) const ALL: [&str; 66] = [
    "a timer fired in the batch of a call about its flag",
    "a pause came in the millisecond of the deadline",
    "a pause came after the deadline and before the firing",
    "an approval came in the millisecond of the expiry",
    "an abort met a release that had just ended",
    "two people approved in one batch",
    "several commits in one batch",
    "power was cut at a write",
    "power was cut before a barrier",
    "power was cut before a barrier with several commits in the batch",
    "power was cut after a barrier, before an answer",
    "power was cut at a note",
    "power was cut while a process started",
    "a write was kept",
    "a write was dropped",
    "a write was torn",
    "a commit survived of which nobody was told",
    "a commit was lost of which nobody was told",
    "an unanswered commit was asked for again after the restart",
    "EIO ended a process",
    "ENOSPC ended a process",
    "a process was killed",
    "a process stopped in order",
    "a bit flipped and was noticed",
    "a full disk refused a call",
    "a full disk held a timer back",
    "a barrier took so long that timers became due",
    "the clock stepped back over an armed deadline",
    "the clock stepped ahead over an armed deadline",
    "the clock was behind the last commit",
    "timers were withheld after a step",
    "the machine slept over a deadline",
    "the process stood still over a deadline",
    "timers were overdue at a start",
    "overdue timers had to wait for their turn",
    "a release was held because its timer was too late",
    "a repeated request was answered without being done",
    "a repeated request was answered after a restart",
    "an id was refused for another request",
    "a request was done again after its time of keeping",
    "a stale etag was refused",
    "a dry run was answered",
    "an answer was lost",
    "a message was lost",
    "messages overtook each other",
    "a queued release started",
    "a release was superseded",
    "a scheduled release started",
    "a release succeeded by its last phase",
    "a release succeeded by a full rollout",
    "a release failed for want of approvals",
    "a release failed by a guard",
    "a release failed because its base changed",
    "a guard held a release",
    "a window opened",
    "an approval was gone round",
    "a bake was adjusted while paused",
    "events were removed",
    "the log was read from the store",
    "a watch went on after a restart",
    "a watch was too old to go on",
    "a watch of another store was refused",
    "a watch from the future was refused",
    "a watch was too slow",
    "a watch ended with its release",
    "a watch was told that nothing happened",
];

/// How often what was reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reached(BTreeMap<&'static str, u64>);

impl Reached {
    pub(crate) fn mark(&mut self, what: &'static str) {
        debug_assert!(ALL.contains(&what), "{what} is not in the list");
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for (what, count) in &other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    /// How often each was reached, in the order of the list.
    pub(crate) fn counts(&self) -> impl Iterator<Item = (&'static str, u64)> {
        ALL.iter().map(|what| (*what, self.0.get(what).copied().unwrap_or_default()))
    }
}
