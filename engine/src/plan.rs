//! The timeline that a trigger would have, for `validate_only`.

use crate::{id::PhaseId, pipeline::Template, time::Timestamp};

/// When a phase would come at the earliest: approvals given at once, guards content, the flag free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhasePlan {
    /// The phase.
    pub phase: PhaseId,
    /// When it is applied and when its bake is over; none, here and for all later phases: no window
    /// opens in the next 366 days.
    pub earliest: Option<Earliest>,
}

/// The earliest times of a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Earliest {
    /// When it is applied.
    pub apply: Timestamp,
    /// When its bake is over.
    pub end: Timestamp,
}

/// The plan of a release that starts at `start`. An active release of the flag is not counted.
pub fn plan(template: &Template, start: Timestamp) -> Vec<PhasePlan> {
    let mut from = Some(start);
    template
        .phases
        .iter()
        .map(|phase| {
            let opens = |at| phase.windows.as_ref().map_or(Some(at), |w| w.next_open(at));
            let earliest =
                from.and_then(opens).map(|apply| Earliest { apply, end: apply + phase.bake });
            from = earliest.map(|earliest| earliest.end);
            PhasePlan { phase: phase.id.clone(), earliest }
        })
        .collect()
}
