//! What is promised, each promise one check with its name. `docs/guarantees.md` lists them.
//!
//! The checks are written from the promises, not from the code that keeps them: they look at what was
//! committed, answered and shown, and at the clock of the machine.

use crate::{
    history::{Asked, History},
    world::Overdue,
};
use phasegate_engine::{
    State,
    command::{Action, Expected, Gate},
    deadline::{TimerKind, deadline},
    event::{Actor, Change, Commit, Happened, ReleaseEvent, TimerRecord},
    id::{ReleaseId, Revision},
    pipeline::{LONGEST_WAIT, SelfApproval},
    release::{
        Held, HeldWait, PauseCause, PhaseState, Release, ReleaseState, ReviewVerdict,
        Stage, Wait,
    },
    time::{Span, Timestamp},
};
use phasegate_server::{
    driver::{Done, Error, Handle, Mode},
    store::{Image, Record},
};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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
    a_pause_keeps_what_was_left(step)?;
    a_paused_release_stands_still(step)?;
    a_timer_fires_at_its_time_and_once(step)?;
    no_deadline_is_out_of_reach(step)?;
    every_event_says_who_did_it(step)?;
    a_stale_etag_changes_nothing(step)
}

pub(crate) fn revisions_have_no_gap(step: Step<'_>) -> Verdict {
    let revision = step.record.revision;
    let before = step.before.revision();
    hold!(revisions_have_no_gap, revision == before.next(), "{revision} follows on {before}");
    for change in &step.record.changes {
        let of_release = change.release.progress.revision;
        let fits = change.revision == revision && of_release == revision;
        hold!(revisions_have_no_gap, fits, "{of_release} in {revision}");
    }
    Ok(())
}

pub(crate) fn event_times_never_go_back(step: Step<'_>) -> Verdict {
    let expected = step.wall.max(step.before.time());
    let time = step.record.time;
    hold!(event_times_never_go_back, time == expected, "{time}, the clock says {}", step.wall);
    Ok(())
}

/// `after` was made by applying the events of the record and nothing else.
pub(crate) fn a_state_is_the_fold_of_its_events(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let folded = step.after.release(release.id());
        let same = folded.is_some_and(|folded| **folded == *release);
        hold!(a_state_is_the_fold_of_its_events, same, "{release:?} is stored, not {folded:?}");
        let state = before.map(|before| before.state());
        hold!(a_state_is_the_fold_of_its_events, change.before == state, "{:?}", change.before);
    }
    Ok(())
}

pub(crate) fn what_is_over_stays_over(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let was_over = before.is_some_and(|before| before.is_over());
        hold!(what_is_over_stays_over, !was_over, "{}: {:?}", release.id(), change.events);
    }
    Ok(())
}

pub(crate) fn phases_go_in_order(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        let id = release.id();
        let (was, is) = (before.current(), release.current());
        hold!(phases_go_in_order, is >= was || is.is_none(), "{id} from {was:?} to {is:?}");
        let phases = before.progress.phases.iter().zip(&release.progress.phases).enumerate();
        for (index, (was, is)) in phases {
            if is.state == was.state {
                continue;
            }
            let told = change.events.iter().any(|event| {
                let here = event.phase().is_some_and(|phase| phase.get() == index);
                let by_hand = matches!(event.actor, Actor::Principal(_));
                match is.state {
                    PhaseState::Succeeded => {
                        here && matches!(event.happened, Happened::PhaseSucceeded { .. })
                    }
                    PhaseState::Skipped => {
                        let skipped = matches!(event.happened, Happened::PhaseSkipped { .. });
                        here && by_hand && skipped
                    }
                    PhaseState::Pending => false,
                    PhaseState::AwaitingApproval
                    | PhaseState::AwaitingWindow
                    | PhaseState::Baking => here || release.is_active(),
                    PhaseState::Aborted | PhaseState::Failed | PhaseState::Cancelled => {
                        release.is_over()
                    }
                }
            });
            hold!(phases_go_in_order, told, "{id}: {was:?} became {is:?} by {:?}", change.events);
        }
        if let Some(current) = is {
            let done =
                |state: PhaseState| matches!(state, PhaseState::Succeeded | PhaseState::Skipped);
            let left = &release.progress.phases[..current.get()];
            let in_order = left.iter().all(|phase| done(phase.state));
            hold!(phases_go_in_order, in_order, "{id} is at {current:?} and left {left:?}");
        }
    }
    Ok(())
}

pub(crate) fn exposure_grows_by_applying_and_shrinks_by_ending(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let id = release.id();
        let reverted = matches!(release.state(), ReleaseState::Aborted | ReleaseState::Failed);
        for (index, phase) in release.progress.phases.iter().enumerate() {
            let was_applied = before.is_some_and(|before| before.progress.phases[index].applied);
            let grows = phase.applied && !was_applied;
            let told = change.events.iter().any(|event| {
                matches!(&event.happened, Happened::PhaseApplied { phase, .. } if phase.get() == index)
            });
            hold!(
                exposure_grows_by_applying_and_shrinks_by_ending,
                (!grows || told) && phase.applied != reverted | !phase.applied && (phase.applied || !was_applied || reverted),
                "{id}, phase {index}: applied {was_applied} then {}, {:?}",
                phase.applied,
                change.events
            );
        }
    }
    Ok(())
}

/// Approvals that a phase lacks, counted from the reviews by the words of the contract.
fn missing(release: &Release, phase: usize) -> usize {
    let Some(requirement) = &release.phases()[phase].approval else { return 0 };
    let reviews = &release.progress.phases[phase].reviews;
    let approvals: BTreeMap<_, _> = reviews
        .iter()
        .filter(|review| review.verdict == ReviewVerdict::Approved)
        .map(|review| (&review.principal, &review.groups))
        .collect();
    let mut missing = (requirement.min_approvals as usize).saturating_sub(approvals.len());
    for quota in &requirement.quotas {
        let from = approvals.values().filter(|groups| groups.contains(&quota.group)).count();
        missing = missing.max((quota.min_approvals as usize).saturating_sub(from));
    }
    missing
}

pub(crate) fn a_phase_is_applied_only_with_its_approvals(step: Step<'_>) -> Verdict {
    for (_, release, change) in step.motions() {
        for event in &change.events {
            if let Happened::PhaseApplied { phase, .. } = &event.happened {
                let missing = missing(release, phase.get());
                hold!(
                    a_phase_is_applied_only_with_its_approvals,
                    missing == 0,
                    "{} applied {phase:?}, {missing} approvals short",
                    release.id()
                );
            }
        }
    }
    Ok(())
}

pub(crate) fn an_approval_is_given_by_who_may_and_once(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        for event in &change.events {
            let Happened::ApprovalRecorded { phase, .. } = &event.happened else { continue };
            let index = phase.get();
            let (Some(requirement), Some(asked)) = (&release.phases()[index].approval, step.asked)
            else {
                hold!(an_approval_is_given_by_who_may_and_once, false, "nobody gave {event:?}");
                continue;
            };
            let caller = &asked.submission.call.caller;
            let forbidden =
                requirement.self_approval == SelfApproval::Forbidden;
            let own = release.proposal.creator == caller.principal;
            let earlier = before.is_some_and(|before| {
                let mut reviews = before.progress.phases[index].reviews.iter();
                reviews.any(|review| review.principal == caller.principal)
            });
            let groups = &requirement.reviewer_groups;
            let member =
                groups.is_empty() || groups.iter().any(|group| caller.groups.contains(group));
            hold!(
                an_approval_is_given_by_who_may_and_once,
                !(forbidden && own) && !earlier && member,
                "{event:?} by {caller:?} under {requirement:?}"
            );
        }
    }
    Ok(())
}

pub(crate) fn going_round_an_approval_is_on_record(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        for event in &change.events {
            let Happened::PhaseSkipped { phase, .. } = &event.happened else { continue };
            let index = phase.get();
            let was = &before.progress.phases[index];
            if was.applied || missing(before, index) == 0 {
                continue;
            }
            let asked_for = step.asked.is_some_and(|asked| {
                matches!(
                    &asked.submission.call.action,
                    Action::SkipPhase { approvals: Gate::Bypass, .. }
                        | Action::FullRollout { approvals: Gate::Bypass, .. }
                )
            });
            let on_record = release.progress.phases[index].bypassed;
            hold!(
                going_round_an_approval_is_on_record,
                asked_for && on_record,
                "{} left {phase:?} without approval: {event:?}",
                release.id()
            );
        }
    }
    Ok(())
}

pub(crate) fn a_flag_changes_by_a_success_or_by_hand(step: Step<'_>) -> Verdict {
    for flag in step.after.flags() {
        let Some(was) = step.before.flag(&flag.id) else { continue };
        if Arc::ptr_eq(was, flag) || was.spec == flag.spec {
            continue;
        }
        let by_hand = step.asked.is_some_and(|asked| {
            matches!(&asked.submission.call.action, Action::UpdateFlag { flag: of, .. } if *of == flag.id)
        });
        let by_success = step.motions().any(|(_, release, _)| {
            release.proposal.flag == flag.id
                && release.state() == ReleaseState::Succeeded
                && release.proposal.change == flag.spec
        });
        hold!(
            a_flag_changes_by_a_success_or_by_hand,
            by_hand || by_success,
            "{} became {:?} by {:?}",
            flag.id,
            flag.spec,
            step.commit
        );
    }
    for (_, release, _) in step.motions() {
        let flag = &release.proposal.flag;
        let settles = |(_, other, _): (_, &Release, _)| {
            other.proposal.flag == *flag
                && other.state() == ReleaseState::Succeeded
                && step.after.flag(flag).is_some_and(|flag| flag.spec == other.proposal.change)
        };
        // In one commit several may succeed one after the other, and the last one counts.
        let settled = release.state() != ReleaseState::Succeeded || step.motions().any(settles);
        hold!(a_flag_changes_by_a_success_or_by_hand, settled, "{} is lost", release.id());
    }
    Ok(())
}

pub(crate) fn a_flag_has_one_active_release(step: Step<'_>) -> Verdict {
    for flag in step.after.flags() {
        let unfinished = step.after.unfinished(&flag.id);
        let active: Vec<_> = unfinished.filter(|release| release.is_active()).collect();
        hold!(a_flag_has_one_active_release, active.len() <= 1, "{}: {active:?}", flag.id);
    }
    Ok(())
}

pub(crate) fn a_pause_keeps_what_was_left(step: Step<'_>) -> Verdict {
    let wall = step.wall;
    for (before, release, change) in step.motions() {
        let Some(before) = before else { continue };
        let id = release.id();
        for event in &change.events {
            match (&event.happened, &before.progress.stage) {
                (
                    Happened::Paused { held: Held::Running { phase, wait }, cause },
                    Stage::Running { phase: was_at, wait: was },
                ) if phase == was_at => {
                    let kept = match (was, wait) {
                        (Wait::Bake { ends }, HeldWait::Bake { remaining }) => {
                            *remaining == ends.since(wall).min(LONGEST_WAIT)
                        }
                        (Wait::Approval { expires }, HeldWait::Approval { remaining }) => {
                            *remaining == expires.map(|at| at.since(wall).min(LONGEST_WAIT))
                        }
                        (Wait::Guards { ended, .. }, HeldWait::Guards { ended: kept }) => {
                            ended == kept
                        }
                        (Wait::Bake { ends }, HeldWait::Guards { .. }) => *ends <= wall,
                        (Wait::Window { .. }, HeldWait::Window) => true,
                        _ => false,
                    };
                    let kept = kept || matches!(cause, PauseCause::Guard(_)) && was != &Wait::Window { opens: None };
                    hold!(a_pause_keeps_what_was_left, kept, "{id} at {wall}: {was:?}, {event:?}");
                }
                (
                    Happened::Unpaused { to: Some(Wait::Bake { ends }) },
                    Stage::Paused {
                        held: Held::Running { wait: HeldWait::Bake { remaining }, .. },
                        ..
                    },
                ) => {
                    let kept = *ends == wall + *remaining;
                    hold!(a_pause_keeps_what_was_left, kept, "{id} had {remaining}: {event:?}");
                }
                (
                    Happened::Unpaused { to: Some(Wait::Approval { expires }) },
                    Stage::Paused {
                        held: Held::Running { wait: HeldWait::Approval { remaining }, .. },
                        ..
                    },
                ) => {
                    let kept = *expires == remaining.map(|remaining| wall + remaining);
                    hold!(a_pause_keeps_what_was_left, kept, "{id} had {remaining:?}: {event:?}");
                }
                _ => {}
            }
        }
    }
    Ok(())
}

pub(crate) fn a_paused_release_stands_still(step: Step<'_>) -> Verdict {
    for (before, release, change) in step.motions() {
        let Some(before) = before.filter(|before| before.state() == ReleaseState::Paused) else {
            continue;
        };
        let id = release.id();
        let events = &change.events;
        let unpaused = events.iter().any(|e| matches!(e.happened, Happened::Unpaused { .. }));
        let is_timer = |event: &ReleaseEvent| {
            event.actor == Actor::Engine && timer(&event.happened).is_some()
        };
        let by_timer = !unpaused && events.iter().any(is_timer);
        let by_engine = !unpaused && step.asked.is_none();
        hold!(a_paused_release_stands_still, !by_timer && !by_engine, "{id}: {events:?}");
        if unpaused || release.is_over() {
            continue;
        }
        let still = release.state() == ReleaseState::Paused
            && release.current() == before.current()
            && applied(release) == applied(before);
        hold!(a_paused_release_stands_still, still, "{id}: {events:?}");
        let (Stage::Paused { held: was, .. }, Stage::Paused { held: is, .. }) =
            (&before.progress.stage, &release.progress.stage)
        else {
            continue;
        };
        let adjusted = events.iter().any(|e| matches!(e.happened, Happened::BakeAdjusted { .. }));
        hold!(a_paused_release_stands_still, was == is || adjusted, "{id}: {was:?}, {is:?}");
    }
    Ok(())
}

fn applied(release: &Release) -> Vec<bool> {
    release.progress.phases.iter().map(|phase| phase.applied).collect()
}

/// True if a timer of the release itself led to this; it may also be what another one's led to.
pub(crate) fn fired(change: &Change) -> bool {
    change.events.iter().any(|event| {
        let held = matches!(event.happened, Happened::Paused { cause: PauseCause::Overdue(_), .. });
        held || timer(&event.happened).is_some()
    })
}

/// The timer that led to something.
fn timer(happened: &Happened) -> Option<TimerRecord> {
    match happened {
        Happened::Started { timer }
        | Happened::WindowOpened { timer, .. }
        | Happened::BakeElapsed { timer, .. }
        | Happened::GuardReported { timer, .. }
        | Happened::PhaseSucceeded { timer, .. }
        | Happened::Failed { timer, .. } => *timer,
        Happened::Triggered
        | Happened::PhaseEntered { .. }
        | Happened::ApprovalRecorded { .. }
        | Happened::ApprovalRejected { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::WindowOverridden { .. }
        | Happened::PhaseApplied { .. }
        | Happened::BakeAdjusted { .. }
        | Happened::PhaseSkipped { .. }
        | Happened::Paused { .. }
        | Happened::Unpaused { .. }
        | Happened::Succeeded { .. }
        | Happened::Aborted { .. } => None,
    }
}

pub(crate) fn a_timer_fires_at_its_time_and_once(step: Step<'_>) -> Verdict {
    let wall = step.wall;
    let mut was_due = false;
    for (before, release, change) in step.motions() {
        let armed = before.and_then(|before| deadline(before, wall));
        let looks_daily = before.is_some_and(|before| {
            matches!(before.progress.stage, Stage::Running { wait: Wait::Window { opens: None }, .. })
        });
        was_due |= looks_daily || armed.is_some_and(|timer| timer.at <= wall);
        for event in &change.events {
            let overdue = match &event.happened {
                Happened::Paused { cause: PauseCause::Overdue(late), .. } => Some(*late),
                _ => None,
            };
            let id = release.id();
            if let Some(late) = overdue {
                let fits = armed.is_some_and(|timer| timer.at <= wall && wall.since(timer.at) == late);
                hold!(a_timer_fires_at_its_time_and_once, fits, "{id}: {armed:?}, {event:?}");
            }
            let Some(TimerRecord { scheduled_for, late }) = timer(&event.happened) else { continue };
            let mine = armed.is_some_and(|timer| {
                // Guards whose limits are over together fail together, each with its own.
                timer.at == scheduled_for
                    || timer.kind == TimerKind::Guard && timer.at <= scheduled_for
            });
            let fits = mine && scheduled_for <= wall && wall.since(scheduled_for) == late;
            hold!(
                a_timer_fires_at_its_time_and_once,
                fits,
                "{id} at {wall}: armed {armed:?}, {event:?}"
            );
        }
    }
    let by_engine = step.asked.is_none();
    hold!(
        a_timer_fires_at_its_time_and_once,
        !by_engine || was_due,
        "at {wall} nothing was due: {:?}",
        step.commit
    );
    Ok(())
}

/// A wait is at most ninety days, a window at most a year away.
const FARTHEST: Span = Span::from_secs(400 * 86_400);

/// Of timers that a commit arms. A clock that is set back moves those that are armed away, and a
/// start stands where somebody put it.
pub(crate) fn no_deadline_is_out_of_reach(step: Step<'_>) -> Verdict {
    for (before, release, _) in step.motions() {
        let was = before.and_then(|before| deadline(before, step.wall));
        let armed = deadline(release, step.wall).filter(|timer| Some(*timer) != was);
        if let Some(timer) = armed.filter(|timer| timer.kind != TimerKind::Start) {
            let ahead = timer.at.since(step.wall);
            hold!(no_deadline_is_out_of_reach, ahead <= FARTHEST, "{}: {timer:?}", release.id());
        }
    }
    Ok(())
}

pub(crate) fn every_event_says_who_did_it(step: Step<'_>) -> Verdict {
    for (_, release, change) in step.motions() {
        for (place, event) in change.events.iter().enumerate() {
            let right = match (&event.actor, step.asked) {
                (Actor::Engine, _) => event.request_id.is_none(),
                (Actor::Principal(principal), Some(asked)) => {
                    let call = &asked.submission.call;
                    // A trigger has a description in place of a reason.
                    let triggers = matches!(call.action, Action::TriggerRelease(_));
                    *principal == call.caller.principal
                        && event.request_id == call.request_id
                        && (event.reason == call.reason || triggers)
                }
                (Actor::Principal(_), None) => false,
            };
            let right = right && event.ordinal as usize == place && event.release == *release.id();
            hold!(every_event_says_who_did_it, right, "{event:?}, asked by {:?}", step.asked);
        }
        let about = step.asked.is_some_and(|asked| {
            asked.submission.call.action.release() == Some(release.id())
        });
        let by_hand = change.events.iter().any(|e| e.actor != Actor::Engine);
        hold!(every_event_says_who_did_it, !about || by_hand, "{:?}", change.events);
    }
    Ok(())
}

/// The etag that an action carries.
fn expected(action: &Action) -> Option<Expected> {
    match action {
        Action::UpdateFlag { expected, .. }
        | Action::DeleteFlag { expected, .. }
        | Action::UpdatePipeline { expected, .. }
        | Action::DeletePipeline { expected, .. }
        | Action::ApprovePhase { expected, .. }
        | Action::RejectPhase { expected, .. }
        | Action::UnpauseRelease { expected, .. }
        | Action::SkipPhase { expected, .. }
        | Action::OverrideWindow { expected, .. }
        | Action::AdjustBake { expected, .. }
        | Action::FullRollout { expected, .. } => Some(*expected),
        Action::CreateFlag { .. }
        | Action::SetKillSwitch { .. }
        | Action::CreatePipeline { .. }
        | Action::TriggerRelease(_)
        | Action::PauseRelease { .. }
        | Action::AbortRelease { .. }
        | Action::ReportGuardSignal { .. } => None,
    }
}

pub(crate) fn a_stale_etag_changes_nothing(step: Step<'_>) -> Verdict {
    let Some(asked) = step.asked else { return Ok(()) };
    let mode = asked.submission.mode;
    hold!(a_stale_etag_changes_nothing, mode == Mode::Commit, "a dry run committed: {asked:?}");
    let action = &asked.submission.call.action;
    let now = match action {
        Action::UpdateFlag { flag, .. } | Action::DeleteFlag { flag, .. } => {
            step.before.flag(flag).map(|flag| flag.revision)
        }
        Action::UpdatePipeline { pipeline, .. } | Action::DeletePipeline { pipeline, .. } => {
            step.before.pipeline(pipeline).map(|pipeline| pipeline.revision)
        }
        _ => {
            let release = action.release().and_then(|id| step.before.release(id));
            release.map(|release| release.progress.revision)
        }
    };
    let fresh = match expected(action) {
        None | Some(Expected::Anything) => true,
        Some(Expected::Revision(seen)) => Some(seen) == now,
        Some(Expected::Unknown) => false,
    };
    hold!(a_stale_etag_changes_nothing, fresh, "{action:?} at {now:?}");
    Ok(())
}

/// Counts how long each bake ran, by the clock, whatever the engine says of deadlines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Meters(BTreeMap<String, Meter>);

#[derive(Clone, Debug)]
struct Meter {
    phase: usize,
    required: i64,
    ran: i64,
    since: Option<Timestamp>,
    elapsed: bool,
}

impl Meter {
    fn total(&self, now: Timestamp) -> i64 {
        self.ran + self.since.map_or(0, |since| now.as_millis() - since.as_millis())
    }
}

impl Meters {
    pub(crate) fn a_bake_is_never_cut_short(&mut self, step: Step<'_>) -> Verdict {
        let wall = step.wall;
        for (_, release, change) in step.motions() {
            let id = release.id().to_string();
            for event in &change.events {
                match &event.happened {
                    Happened::PhaseApplied { phase, .. } => {
                        let required = release.phase(*phase).bake.as_millis();
                        let (phase, since) = (phase.get(), Some(wall));
                        let meter = Meter { phase, required, ran: 0, since, elapsed: false };
                        self.0.insert(id.clone(), meter);
                    }
                    Happened::BakeAdjusted { remaining, ends, .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        meter.required = meter.total(wall) + remaining.as_millis();
                        meter.elapsed = false;
                        if ends.is_some() && meter.since.is_none() {
                            meter.since = Some(wall);
                        }
                    }
                    Happened::Paused { .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        // What a clock that was set back adds is not kept beyond the longest wait.
                        let least = meter.required - LONGEST_WAIT.as_millis();
                        meter.ran = meter.total(wall).max(least);
                        meter.since = None;
                    }
                    Happened::Unpaused { to } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        if matches!(to, Some(Wait::Bake { .. })) {
                            meter.since = Some(wall);
                        }
                    }
                    Happened::BakeElapsed { phase, .. } | Happened::PhaseSucceeded { phase, .. } => {
                        let Some(meter) = self.0.get_mut(&id) else { continue };
                        let ran = meter.total(wall);
                        let long_enough = meter.elapsed || ran >= meter.required;
                        hold!(
                            a_bake_is_never_cut_short,
                            meter.phase == phase.get() && long_enough,
                            "{id} left {phase:?} after {ran} ms: {meter:?}"
                        );
                        meter.elapsed = true;
                    }
                    Happened::Triggered
                    | Happened::Started { .. }
                    | Happened::PhaseEntered { .. }
                    | Happened::ApprovalRecorded { .. }
                    | Happened::ApprovalRejected { .. }
                    | Happened::WindowOpened { .. }
                    | Happened::WindowRescheduled { .. }
                    | Happened::WindowOverridden { .. }
                    | Happened::GuardReported { .. }
                    | Happened::PhaseSkipped { .. }
                    | Happened::Succeeded { .. }
                    | Happened::Aborted { .. }
                    | Happened::Failed { .. } => {}
                }
            }
        }
        Ok(())
    }
}

/// Asked in the middle of a commit: readers know of nothing from this revision on.
pub(crate) fn nothing_is_seen_before_it_is_durable(
    readers: &Handle,
    first: Revision,
) -> Verdict {
    let (head, state) = (*readers.head().borrow(), readers.state().revision());
    let unknown = head < first && state < first;
    hold!(
        nothing_is_seen_before_it_is_durable,
        unknown,
        "{first} is being committed, readers see {head} and {state}"
    );
    Ok(())
}

/// What readers see is what was committed, to the last commit.
pub(crate) fn readers_see_what_is_committed(readers: &Handle, history: &History) -> Verdict {
    let (head, state) = (*readers.head().borrow(), readers.state());
    let newest = history.state();
    let same = head == newest.revision() && state == *newest;
    hold!(
        readers_see_what_is_committed,
        same,
        "they see {head}, {}; committed is {}",
        state.revision(),
        newest.revision()
    );
    Ok(())
}

pub(crate) fn reads_never_go_back(before: Revision, now: Revision) -> Verdict {
    hold!(reads_never_go_back, now >= before, "{before}, then {now}");
    Ok(())
}

/// A process has loaded this. `attempted` is what an earlier one tried to commit without an answer.
pub(crate) fn what_was_acknowledged_survives(
    image: &Image,
    history: &History,
    attempted: &[Record],
) -> Verdict {
    let (found, known) = (image.state.revision(), history.state().revision());
    let whole = attempted.last().map_or(known, |last| last.revision.max(known));
    hold!(
        what_was_acknowledged_survives,
        found >= known,
        "the store ends at {found}, {known} was acknowledged"
    );
    hold!(
        what_was_acknowledged_survives,
        found == known || found == whole,
        "the store ends at {found}, between {known} and the end of a batch, {whole}"
    );
    Ok(())
}

/// The same, when what survived is known: nothing but that is there, and all of it.
pub(crate) fn a_restart_changes_nothing(
    image: &Image,
    history: &History,
    kept_from: Timestamp,
) -> Verdict {
    let same = image.state == *history.state();
    hold!(a_restart_changes_nothing, same, "{:?}\nis not\n{:?}", image.state, history.state());
    for (key, record) in &image.requests {
        let known = history.requests_of(key).any(|(_, known)| known == record);
        hold!(a_restart_changes_nothing, known, "{key:?} was never done");
    }
    for (key, record) in history.requests() {
        let newest = history.requests_of(key).last().is_some_and(|(_, newest)| newest == record);
        let remembered = image.requests.iter().any(|(found, _)| found == key);
        hold!(
            a_restart_changes_nothing,
            remembered || !newest || record.time < kept_from,
            "{key:?}, done at {}, is forgotten",
            record.time
        );
    }
    Ok(())
}

/// A step that cannot be taken for the little steps of some seconds that add up, in milliseconds. A
/// minute is the limit.
pub(crate) const SURELY_STEPPED: i64 = 66_000;
/// How long timers are withheld then.
pub(crate) const WITHHELD: Duration = Duration::from_secs(30);

/// After the clock was set ahead by more than a minute no timer fires for half a minute. `origins` are
/// those of the commits of a turn.
pub(crate) fn nothing_fires_right_after_a_step_ahead(
    is_withheld: bool,
    origins: &[Option<usize>],
) -> Verdict {
    let fired = origins.iter().any(Option::is_none);
    hold!(nothing_fires_right_after_a_step_ahead, !(is_withheld && fired), "{origins:?}");
    Ok(())
}

pub(crate) fn events_are_kept_for_their_time(
    oldest: Revision,
    kept_from: Timestamp,
    history: &History,
) -> Verdict {
    let lost = history.changes().find(|c| c.revision < oldest && c.time >= kept_from);
    hold!(events_are_kept_for_their_time, lost.is_none(), "the log begins at {oldest}: {lost:?}");
    Ok(())
}

/// The log of a store, read from its beginning, is the history, and its events alone make the state.
pub(crate) fn the_log_makes_the_state(
    oldest: Revision,
    log: &[Arc<Change>],
    history: &History,
) -> Verdict {
    let known: Vec<&Arc<Change>> =
        history.changes().filter(|change| change.revision >= oldest).collect();
    hold!(
        the_log_makes_the_state,
        known.len() == log.len() && known.iter().zip(log).all(|(known, found)| **known == *found),
        "{} entries from {oldest} on, {} are known",
        log.len(),
        known.len()
    );
    let mut rebuilt = history.state_at(Revision::new(oldest.get().saturating_sub(1))).clone();
    for change in log {
        let mut events = Vec::new();
        if change.before.is_none() {
            let proposal = Arc::clone(&change.release.proposal);
            events.push(phasegate_engine::Event::ReleaseCreated(proposal));
        }
        events.extend(change.events.iter().cloned().map(phasegate_engine::Event::Release));
        let (revision, time) = (change.revision, change.time);
        phasegate_engine::apply(&mut rebuilt, &Commit { revision, time, events });
    }
    for release in history.state().releases() {
        let same = rebuilt.release(release.id()).is_some_and(|rebuilt| rebuilt == release);
        hold!(the_log_makes_the_state, same, "{} is not the fold of its log", release.id());
    }
    Ok(())
}

/// All promises that an answer can break. `head_before` is the head before the turn that answered.
pub(crate) fn check_answer(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
    kept_from: Timestamp,
) -> Verdict {
    an_answer_shows_what_is_durable(answer, history)?;
    a_request_is_done_once(asked, answer, history)?;
    a_refusal_changes_nothing(asked, answer, history, head_before, kept_from)?;
    an_id_stands_for_one_request(asked, answer, history)
}

pub(crate) fn an_answer_shows_what_is_durable(
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let Ok(done) = answer else { return Ok(()) };
    let (shown, head) = (done.state.revision(), history.state().revision());
    // The answer to a dry run shows one commit that never comes.
    hold!(an_answer_shows_what_is_durable, shown <= head.next(), "{shown} of {head}");
    Ok(())
}

pub(crate) fn a_request_is_done_once(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let (Ok(done), Mode::Commit) = (answer, asked.submission.mode) else { return Ok(()) };
    let shown = done.state.revision();
    let head = history.state().revision();
    hold!(a_request_is_done_once, shown <= head, "an answer shows {shown} of {head}");
    let Some(key) = asked.key() else { return Ok(()) };
    let Some((revision, record)) = history.requests_of(&key).last() else {
        hold!(a_request_is_done_once, false, "accepted, and never done: {asked:?}");
        return Ok(());
    };
    hold!(a_request_is_done_once, revision <= shown, "done in {revision}, shown is {shown}");
    let same = record.subject == done.subject;
    hold!(a_request_is_done_once, same, "{:?} is not {:?}", done.subject, record.subject);
    Ok(())
}

/// A key is used again only after it may have been forgotten.
pub(crate) fn no_request_is_repeated(history: &History, kept_from: Timestamp) -> Verdict {
    let Some((key, newest)) = history.newest_request() else { return Ok(()) };
    let earlier = history.requests_of(key).rev().nth(1);
    let repeated = earlier.is_some_and(|(_, earlier)| earlier.time >= kept_from);
    hold!(no_request_is_repeated, !repeated, "{key:?} again: {earlier:?}, {newest:?}");
    Ok(())
}

pub(crate) fn a_refusal_changes_nothing(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
    kept_from: Timestamp,
) -> Verdict {
    match answer {
        Err(Error::Refused(_)) => {}
        Err(Error::Internal(incident)) => {
            hold!(a_refusal_changes_nothing, false, "{asked:?} caused {incident}");
        }
        Ok(_) | Err(Error::RequestIdReused | Error::DiskFull | Error::Stopped) => return Ok(()),
    }
    let Some(key) = asked.key() else {
        let done = history.commits_of(asked.number).next();
        // Without an id the same call may have been done before, and is refused the second time.
        let first = asked.deliveries <= 1;
        hold!(a_refusal_changes_nothing, !first || done.is_none(), "{asked:?}: {done:?}");
        return Ok(());
    };
    let done = history
        .requests_of(&key)
        .find(|(revision, record)| *revision <= head_before && record.time >= kept_from);
    hold!(a_refusal_changes_nothing, done.is_none(), "{answer:?} for {asked:?}, {done:?}");
    Ok(())
}

pub(crate) fn an_id_stands_for_one_request(
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
) -> Verdict {
    let Some(key) = asked.key() else { return Ok(()) };
    let payload = asked.submission.payload;
    let mut done = history.requests_of(&key);
    let right = match answer {
        Ok(_) if asked.submission.mode == Mode::Commit => {
            done.any(|(_, record)| record.payload == payload)
        }
        Err(Error::RequestIdReused) => done.any(|(_, record)| record.payload != payload),
        Ok(_) | Err(_) => true,
    };
    hold!(an_id_stands_for_one_request, right, "{answer:?} for {asked:?}");
    Ok(())
}

/// Timers that were due when the server came back fire in the order of deadlines, then of creation.
pub(crate) fn overdue_timers_fire_in_order(fired: &[(Timestamp, Revision)]) -> Verdict {
    hold!(overdue_timers_fire_in_order, fired.is_sorted(), "{fired:?}");
    Ok(())
}

/// A timer that was due at a start fired in this change. If it was found later than the limit, and
/// exposure could have grown by it, a person has to look first.
pub(crate) fn nothing_grows_by_a_timer_found_too_late(
    due: Overdue,
    wall: Timestamp,
    limit: Span,
    change: &Change,
) -> Verdict {
    let too_late = !limit.is_zero() && due.found.since(due.timer.at) > limit;
    // A clock that was set back since makes nothing late any more.
    if !too_late || wall < due.found || !due.timer.kind.may_grow_exposure() {
        return Ok(());
    }
    let held = change.release.state() == ReleaseState::Paused;
    hold!(nothing_grows_by_a_timer_found_too_late, held, "{due:?} at {wall}: {:?}", change.events);
    Ok(())
}

/// After the last fault, with the clock right and time enough, nothing is due any more.
pub(crate) fn no_timer_is_forgotten(state: &State, wall: Timestamp) -> Verdict {
    for release in state.all_unfinished() {
        let taken = state.active_release(&release.proposal.flag).is_some();
        let timer = deadline(release, wall)
            .filter(|timer| !(taken && timer.kind == TimerKind::Start) && timer.at <= wall);
        hold!(no_timer_is_forgotten, timer.is_none(), "{}: {timer:?} at {wall}", release.id());
    }
    Ok(())
}

pub(crate) fn every_call_is_answered(waiting: usize) -> Verdict {
    hold!(every_call_is_answered, waiting == 0, "{waiting} calls wait for an answer");
    Ok(())
}

pub(crate) fn the_writer_comes_to_rest(turns: usize) -> Verdict {
    hold!(the_writer_comes_to_rest, turns < 5_000, "{turns} turns without a rest");
    Ok(())
}

/// A bit of the disk has changed: the server says so, or what it shows is what was acknowledged as far
/// as the note beside the journal knows.
pub(crate) fn damage_is_noticed(loaded: &State, noted: Revision, history: &History) -> Verdict {
    let revision = loaded.revision();
    hold!(damage_is_noticed, revision >= noted, "it shows {revision}, {noted} was noted");
    if revision <= history.state().revision() {
        let same = loaded == history.state_at(revision);
        hold!(damage_is_noticed, same, "the state at {revision} is another one than it was");
    }
    Ok(())
}

/// A watch was refused, or ended: for a reason that holds.
pub(crate) fn a_watch_that_cannot_go_on_says_why(is_right: bool, what: &str) -> Verdict {
    hold!(a_watch_that_cannot_go_on_says_why, is_right, "{what}");
    Ok(())
}

pub(crate) fn a_watch_begins_with_the_truth(
    about: Option<&ReleaseId>,
    set: &[Arc<Release>],
    revision: Revision,
    history: &History,
) -> Verdict {
    let head = history.state().revision();
    hold!(a_watch_begins_with_the_truth, revision <= head, "as of {revision}, committed is {head}");
    let state = history.state_at(revision);
    let expected: Vec<_> =
        state.releases().filter(|release| about.is_none_or(|id| release.id() == id)).collect();
    let same = expected.iter().copied().eq(set.iter());
    hold!(a_watch_begins_with_the_truth, same, "{set:?} as of {revision}, not {expected:?}");
    Ok(())
}

/// Up to `to` a watch that stood at `from` received these changes.
pub(crate) fn a_watch_has_every_commit_once_and_in_order(
    about: Option<&ReleaseId>,
    from: Option<Revision>,
    to: Revision,
    received: &[&Change],
    history: &History,
) -> Verdict {
    let Some(from) = from else {
        hold!(a_watch_has_every_commit_once_and_in_order, false, "{to} before any beginning");
        return Ok(());
    };
    let head = history.state().revision();
    let grows = from <= to && to <= head;
    hold!(a_watch_has_every_commit_once_and_in_order, grows, "{from}, {to}; committed is {head}");
    let concerns = |change: &&Arc<Change>| about.is_none_or(|id| change.release.id() == id);
    let expected: Vec<&Arc<Change>> = history
        .changes_after(from)
        .take_while(|change| change.revision <= to)
        .filter(concerns)
        .collect();
    let same = expected.iter().map(|change| &***change).eq(received.iter().copied());
    let revisions = |changes: Vec<&Change>| -> Vec<u64> {
        changes.into_iter().map(|change| change.revision.get()).collect()
    };
    hold!(
        a_watch_has_every_commit_once_and_in_order,
        same,
        "from {from} to {to} of {about:?}: {:?}, not {:?}",
        revisions(received.to_vec()),
        revisions(expected.iter().map(|change| &***change).collect())
    );
    Ok(())
}

pub(crate) fn a_watch_ends_well_only_at_the_end(
    about: Option<&ReleaseId>,
    cursor: Option<Revision>,
    history: &History,
) -> Verdict {
    let release = about.and_then(|id| history.state().release(id));
    let at_the_end = release.is_some_and(|release| {
        release.is_over() && cursor.is_some_and(|cursor| cursor >= release.progress.revision)
    });
    hold!(a_watch_ends_well_only_at_the_end, at_the_end, "{about:?} at {cursor:?}");
    Ok(())
}

pub(crate) fn a_watch_catches_up(
    about: Option<&ReleaseId>,
    cursor: Option<Revision>,
    history: &History,
) -> Verdict {
    let last = match about {
        Some(id) => history.state().release(id).map(|release| release.progress.revision),
        None => history.changes().last().map(|change| change.revision),
    };
    let has_all = last.is_none_or(|last| cursor.is_some_and(|cursor| cursor >= last));
    hold!(a_watch_catches_up, has_all, "{about:?} is at {cursor:?}, the last is {last:?}");
    Ok(())
}
