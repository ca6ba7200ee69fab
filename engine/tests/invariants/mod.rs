//! The invariants of the state machine, each held against one commit. They are written from what a
//! user is promised, and use as little of the engine's own reasoning as can be: exposure is asked of
//! the evaluation, windows of the clock, approvals are counted here.

use phasegate_engine::{
    Command, Event, State,
    command::Action,
    deadline::{TimerKind, deadline},
    event::{Actor, Commit, Happened, ReleaseEvent},
    flag::{Flag, Spec},
    id::{EnvironmentId, ReleaseId},
    pipeline::PassRequirement,
    release::{
        EndReason, GuardVerdict, PhaseIndex, PhaseState, Release, ReleaseState, ReviewVerdict,
        Stage, Wait,
    },
    targeting::{Bucketing, Context, evaluate},
    time::Timestamp,
    value::{Object, Value},
};
use std::{collections::BTreeSet, sync::Arc};

/// Panics with the promise that a commit breaks.
pub(crate) fn check(
    before: &State,
    command: &Command,
    commit: &Commit,
    after: &State,
    now: Timestamp,
) {
    check_commit(before, commit, after);
    check_actors(command, commit);
    let touched: BTreeSet<&ReleaseId> = release_events(commit).map(|e| &e.release).collect();
    for release in before.releases() {
        let id = release.id();
        let same = after.release(id).is_some_and(|later| Arc::ptr_eq(release, later));
        assert!(touched.contains(id) || same, "{id} changed without an event");
        assert!(!touched.contains(id) || !release.is_over(), "1: {id} was over and moved");
    }
    for id in touched {
        let release = after.release(id).expect("releases are never removed");
        let events: Vec<_> = release_events(commit).filter(|e| e.release == *id).collect();
        check_events(release, &events);
        check_standing(after, release, now);
        check_timer(before.release(id), release, commit, now);
        check_end(release);
        if let Some(earlier) = before.release(id) {
            check_motion(earlier, release, &events, now);
        } else {
            check_motion(&newborn(release), release, &events, now);
        }
    }
    for flag in after.flags() {
        check_flag(after, flag, now);
    }
    check_settling(commit, after);
    check_starts(before, commit, after, now);
}

pub(crate) fn release_events(commit: &Commit) -> impl Iterator<Item = &ReleaseEvent> {
    commit.events.iter().filter_map(|event| match event {
        Event::Release(event) => Some(event),
        Event::FlagStored(_)
        | Event::FlagDeleted(_)
        | Event::PipelineStored(_)
        | Event::PipelineDeleted(_)
        | Event::ReleaseCreated(_) => None,
    })
}

/// A release as it was before its first event.
fn newborn(release: &Release) -> Release {
    let mut newborn = release.clone();
    newborn.progress.stage = Stage::Pending;
    for phase in &mut newborn.progress.phases {
        phase.state = PhaseState::Pending;
        phase.applied = false;
        phase.reviews.clear();
    }
    newborn
}

fn check_commit(before: &State, commit: &Commit, after: &State) {
    assert!(!commit.events.is_empty(), "13: a commit writes something");
    assert_eq!(commit.revision, before.revision().next(), "revisions have no gaps");
    assert!(commit.time >= before.time(), "time never runs backwards along revisions");
    assert_eq!((after.revision(), after.time()), (commit.revision, commit.time));
}

/// A caller's commit names the caller in all events of the release it called about, and of those
/// that it supersedes; all others are the engine's.
fn check_actors(command: &Command, commit: &Commit) {
    let (caller, about) = match command {
        Command::Call(call) => {
            let about = if let Action::TriggerRelease(trigger) = &call.action {
                Some(&trigger.id)
            } else {
                call.action.release()
            };
            (Some(call.caller.principal.clone()), about)
        }
        Command::Fire(_) => (None, None),
    };
    for event in release_events(commit) {
        let superseded =
            matches!(event.happened, Happened::Aborted { reason: EndReason::Superseded });
        let by_caller = about == Some(&event.release) || superseded;
        let expected = match (&caller, by_caller) {
            (Some(caller), true) => Actor::Principal(caller.clone()),
            (Some(_), false) | (None, _) => Actor::Engine,
        };
        assert_eq!(event.actor, expected, "actor of {event:?}");
        assert!(event.actor != Actor::Engine || event.request_id.is_none(), "{event:?}");
    }
}

fn is_end(event: &ReleaseEvent) -> bool {
    matches!(
        event.happened,
        Happened::Succeeded { .. } | Happened::Aborted { .. } | Happened::Failed { .. }
    )
}

fn check_events(release: &Release, events: &[&ReleaseEvent]) {
    for (place, event) in events.iter().enumerate() {
        assert_eq!(event.ordinal as usize, place, "ordinals count from 0: {events:?}");
    }
    let ends = events.iter().filter(|event| is_end(event)).count();
    assert_eq!(ends, usize::from(release.is_over()), "13: one end, {events:?}");
    let last_is_end = events.last().is_some_and(|event| is_end(event));
    assert_eq!(last_is_end, release.is_over(), "13: the end is the last event, {events:?}");
}

/// Approvals of a phase that are still missing, by the words of the contract.
fn missing(release: &Release, phase: usize) -> usize {
    let Some(requirement) = &release.phases()[phase].approval else { return 0 };
    let approvals: Vec<_> = release.progress.phases[phase]
        .reviews
        .iter()
        .filter(|review| review.verdict == ReviewVerdict::Approved)
        .collect();
    let mut missing = (requirement.min_approvals as usize).saturating_sub(approvals.len());
    for quota in &requirement.quotas {
        let from = approvals.iter().filter(|review| review.groups.contains(&quota.group)).count();
        missing = missing.max((quota.min_approvals as usize).saturating_sub(from));
    }
    missing
}

/// Required guards of a phase whose last verdict is not PASS.
fn owing(release: &Release, phase: usize) -> usize {
    let guards = release.phases()[phase].guards.iter();
    let verdicts = &release.progress.phases[phase].guards;
    guards
        .zip(verdicts)
        .filter(|(guard, progress)| {
            matches!(guard.pass, PassRequirement::Required { .. })
                && progress.verdict != Some(GuardVerdict::Pass)
        })
        .count()
}

fn is_open(release: &Release, phase: usize, at: Timestamp) -> bool {
    release.phases()[phase].windows.as_ref().is_none_or(|windows| windows.is_open(at))
}

fn check_standing(state: &State, release: &Release, now: Timestamp) {
    let id = release.id();
    let progress = &release.progress;
    if let Some(current) = release.current() {
        let current = current.get();
        for (index, phase) in progress.phases.iter().enumerate() {
            if index < current {
                let done = matches!(phase.state, PhaseState::Succeeded | PhaseState::Skipped);
                assert!(done, "6: {id} left phase {index} {:?}", phase.state);
                assert!(
                    phase.enter_time.is_some() && phase.end_time.is_some(),
                    "times of {phase:?}"
                );
            }
            if index > current {
                assert_eq!(phase.state, PhaseState::Pending, "6: {id} is not at phase {index}");
                assert!(!phase.applied, "6: {id} applied phase {index} ahead of its turn");
            }
            assert_eq!(phase.apply_time.is_some(), phase.applied, "{phase:?}");
            if index == current {
                assert!(phase.enter_time.is_some() && phase.end_time.is_none(), "{phase:?}");
            }
        }
        let state = release.held_state().unwrap_or_else(|| release.state());
        let (phase_state, applied) = match state {
            ReleaseState::AwaitingApproval => (PhaseState::AwaitingApproval, false),
            ReleaseState::AwaitingWindow => (PhaseState::AwaitingWindow, false),
            ReleaseState::Baking => (PhaseState::Baking, true),
            ReleaseState::Pending
            | ReleaseState::Paused
            | ReleaseState::Succeeded
            | ReleaseState::Aborted
            | ReleaseState::Failed => panic!("6: {id} is {state:?} at a phase"),
        };
        assert_eq!(progress.phases[current].state, phase_state, "6: {id}");
        assert_eq!(progress.phases[current].applied, applied, "6: {id}");
        assert!(progress.start_time.is_some(), "{id} is active, so it started");
    }
    if let Stage::Running { phase, wait } = &progress.stage {
        let phase = phase.get();
        match wait {
            Wait::Approval { .. } => {
                assert!(missing(release, phase) > 0, "8: {id} waits for nothing")
            }
            Wait::Window { .. } => {
                assert!(!is_open(release, phase, now), "8: {id} waits at an open window");
                assert_eq!(missing(release, phase), 0, "5: {id} passed its approvals");
            }
            Wait::Bake { ends } => assert!(*ends > now, "8: {id} bakes on"),
            Wait::Guards { .. } => assert!(owing(release, phase) > 0, "8: {id} waits for no guard"),
        }
        let failed = progress.phases[phase].guards.iter();
        let failed = failed.filter(|guard| guard.verdict == Some(GuardVerdict::Fail)).count();
        assert_eq!(failed, 0, "9: {id} runs on after a FAIL");
    }
    if matches!(progress.stage, Stage::Pending) && release.is_due(now) {
        let active = state.active_release(&release.proposal.flag);
        assert!(active.is_some(), "8: {id} is due and the flag is free");
    }
}

fn check_timer(before: Option<&Arc<Release>>, release: &Release, commit: &Commit, now: Timestamp) {
    let id = release.id();
    let timer = deadline(release, now);
    let expected = match &release.progress.stage {
        Stage::Pending => release.proposal.schedule_time.map(|at| (TimerKind::Start, Some(at))),
        Stage::Running { phase, wait } => match wait {
            Wait::Approval { expires } => expires.map(|at| (TimerKind::Expiry, Some(at))),
            Wait::Window { opens } => Some((TimerKind::Window, *opens)),
            Wait::Bake { ends } => Some((TimerKind::Bake, Some(*ends))),
            Wait::Guards { since, .. } => {
                let guards = release.phase(*phase).guards.iter();
                let verdicts = &release.progress.phases[phase.get()].guards;
                let limits =
                    guards.zip(verdicts).filter_map(|(guard, progress)| match guard.pass {
                        PassRequirement::Required { timeout }
                            if progress.verdict != Some(GuardVerdict::Pass) =>
                        {
                            timeout
                        }
                        PassRequirement::Required { .. } | PassRequirement::Optional => None,
                    });
                limits.min().map(|limit| (TimerKind::Guard, Some(*since + limit)))
            }
        },
        Stage::Paused { .. } | Stage::Over { .. } => None,
    };
    assert_eq!(timer.map(|t| t.kind), expected.map(|(kind, _)| kind), "timer of {id}");
    if let (Some(timer), Some((kind, Some(at)))) = (timer, expected) {
        assert_eq!(timer.at, at, "timer of {id}");
        let start_waits_its_turn = kind == TimerKind::Start;
        assert!(timer.at > now || start_waits_its_turn, "the timer of {id} is in the past");
    }
    if let Some(timer) = timer.filter(|timer| timer.kind == TimerKind::Window) {
        assert!(timer.at > now, "the window of {id} is looked at later");
    }
    assert_eq!(release.progress.revision, commit.revision);
    assert_eq!(release.progress.update_time, commit.time);
    if let Some(before) = before {
        let (earlier, later) =
            (before.progress.timer_generation, release.progress.timer_generation);
        assert!(later >= earlier, "generations of {id} grow");
        let was = deadline(before, now);
        let daily = |timer: &phasegate_engine::Timer| timer.kind == TimerKind::Window;
        if was != timer && !was.as_ref().is_some_and(daily) {
            assert!(later > earlier, "the timer of {id} was armed anew, {was:?} {timer:?}");
        }
    }
}

/// What one commit may do to one release.
fn check_motion(before: &Release, after: &Release, events: &[&ReleaseEvent], now: Timestamp) {
    let id = after.id();
    if let (Some(was), Some(is)) = (before.current(), after.current()) {
        assert!(is >= was, "6: {id} went back from {was:?} to {is:?}");
    }
    let reverted = matches!(after.state(), ReleaseState::Aborted | ReleaseState::Failed);
    let unpaused = events.iter().any(|e| matches!(e.happened, Happened::Unpaused { .. }));
    let was_paused = before.state() == ReleaseState::Paused;
    assert!(!was_paused || unpaused || after.state() == ReleaseState::Paused || reverted, "{id}");
    for (index, (was, is)) in before.progress.phases.iter().zip(&after.progress.phases).enumerate()
    {
        let phase = PhaseIndex::new(index);
        assert!(is.applied || !was.applied || reverted, "2: {id} shrank in phase {index}");
        assert!(!is.applied || !reverted, "2: {id} kept phase {index} applied");
        let applied_now = events.iter().any(
            |e| matches!(&e.happened, Happened::PhaseApplied { phase: applied, .. } if *applied == phase),
        );
        if applied_now {
            let still = after.state() == ReleaseState::Paused;
            assert!((!was_paused || unpaused) && !still, "3: {id} grew while PAUSED");
            assert_eq!(missing(after, index), 0, "5: {id} applied phase {index} without approvals");
            let overridden = events.iter().any(
                |e| matches!(&e.happened, Happened::WindowOverridden { phase: o } if *o == phase),
            );
            assert!(overridden || is_open(after, index, now), "5: {id} applied outside its window");
            assert!(!overridden || is.bypassed, "5: {id} went round a window without a trace");
        }
        assert_eq!(
            is.applied && !was.applied && !reverted,
            applied_now && !reverted,
            "{id}: {events:?}"
        );
        if is.state == PhaseState::Succeeded && was.state != PhaseState::Succeeded {
            assert_eq!(owing(after, index), 0, "7: {id} passed a guard of phase {index}");
            assert!(is.apply_time.is_some(), "{id} succeeded in a phase it never applied");
        }
        assert!(!was.bypassed || is.bypassed, "{id} forgot a bypass");
        assert!(is.reviews.starts_with(&was.reviews), "{id} forgot a review");
        for review in &is.reviews[was.reviews.len()..] {
            assert_eq!(review.state_after, after.state(), "a review tells the state after it");
        }
    }
}

/// Table G of the reference: phases at the end.
fn check_end(release: &Release) {
    let Some(reason) = release.end_reason() else { return };
    let id = release.id();
    let phases = &release.progress.phases;
    let states: Vec<PhaseState> = phases.iter().map(|phase| phase.state).collect();
    let done = |state: &PhaseState| matches!(state, PhaseState::Succeeded | PhaseState::Skipped);
    match reason.state() {
        ReleaseState::Succeeded => {
            assert!(states.iter().all(done), "{id} ended with {states:?}");
            for (index, phase) in phases.iter().enumerate() {
                let bypassed = phase.bypassed || missing(release, index) == 0;
                assert!(bypassed, "5: {id} went round the approval of phase {index}");
            }
        }
        ReleaseState::Aborted | ReleaseState::Failed => {
            let is_aborted = reason.state() == ReleaseState::Aborted;
            let last = if is_aborted { PhaseState::Aborted } else { PhaseState::Failed };
            let earlier = states.iter().take_while(|state| done(state)).count();
            let (current, later) = match &states[earlier..] {
                // It ended while PENDING: there is no current phase.
                [PhaseState::Cancelled, ..] if earlier == 0 => (last, &states[..]),
                [current, later @ ..] => (*current, later),
                [] => panic!("{id} ended with {states:?}"),
            };
            assert_eq!(current, last, "{id} ended with {states:?}");
            let cancelled = later.iter().all(|state| *state == PhaseState::Cancelled);
            assert!(cancelled, "{id} ended with {states:?}");
        }
        ReleaseState::Pending
        | ReleaseState::AwaitingApproval
        | ReleaseState::AwaitingWindow
        | ReleaseState::Baking
        | ReleaseState::Paused => panic!("{id} ended and is not over"),
    }
    assert_eq!(deadline(release, Timestamp::EPOCH), None, "1: {id} is over and has a timer");
}

fn default_of(spec: &Spec) -> Value {
    match spec {
        Spec::Gate(rules) => Value::Bool(rules.default),
        Spec::Config(rules) => Value::Object(rules.default.clone()),
    }
}

/// Whom a flag answers what. Only specs without rules are asked, so their default is the answer.
fn check_flag(state: &State, flag: &Flag, now: Timestamp) {
    let active: Vec<_> = state.unfinished(&flag.id).filter(|release| release.is_active()).collect();
    assert!(active.len() <= 1, "12: {} has {} active releases", flag.id, active.len());
    let plain = |spec: &Spec| match spec {
        Spec::Gate(rules) => rules.rules.is_empty(),
        Spec::Config(rules) => rules.rules.is_empty(),
    };
    let waits = |release: &&Arc<Release>| {
        matches!(release.progress.stage, Stage::Pending) && release.proposal.schedule_time.is_none()
    };
    if active.is_empty() {
        assert_eq!(state.unfinished(&flag.id).find(waits), None, "8: {} is free at {now}", flag.id);
    }
    let Some(active) = active.first() else { return };
    if !plain(&flag.spec) || !plain(&active.proposal.change) || flag.kill_switch.is_engaged() {
        return;
    }
    let template = &active.proposal.pipeline.template;
    let nobody = Object::new();
    for environment in &template.exempt_environments {
        let context = Context { environment, attributes: &nobody };
        let answer = evaluate(flag, Some(active), &context, Bucketing::V3);
        let change = default_of(&active.proposal.change);
        assert_eq!(answer.value, change, "4: {environment} sees what it is exempt for");
    }
    let elsewhere = EnvironmentId::parse("nowhere-in-particular").expect("it is an id");
    let concerns_all = |index: usize| {
        template.phases[index].rules.iter().any(|rule| {
            rule.environments.is_empty()
                && rule.conditions.is_empty()
                && rule.share == phasegate_engine::targeting::BasisPoints::ALL
        })
    };
    let covered = (0..template.phases.len())
        .any(|index| active.progress.phases[index].applied && concerns_all(index));
    let partial = (0..template.phases.len())
        .any(|index| active.progress.phases[index].applied && !concerns_all(index));
    let context = Context { environment: &elsewhere, attributes: &nobody };
    let answer = evaluate(flag, Some(active), &context, Bucketing::V3);
    if covered {
        assert_eq!(answer.value, default_of(&active.proposal.change), "{} is exposed", flag.id);
    } else if !partial {
        assert_eq!(answer.value, default_of(&flag.spec), "{} is not exposed", flag.id);
    }
}

/// A release that succeeds makes its change the settled spec, before anything else happens.
fn check_settling(commit: &Commit, after: &State) {
    let mut events = commit.events.iter().peekable();
    while let Some(event) = events.next() {
        let Event::Release(event) = event else { continue };
        let Happened::Succeeded { .. } = event.happened else { continue };
        let release = after.release(&event.release).expect("releases are never removed");
        let Some(Event::FlagStored(flag)) = events.peek() else {
            panic!("2: {} succeeds and settles nothing", event.release)
        };
        assert_eq!(flag.id, release.proposal.flag);
        assert_eq!(flag.spec, release.proposal.change, "2: the change is given to all");
        assert_eq!(flag.spec_revision, commit.revision, "the settled spec is new");
    }
}

/// PENDING releases start first in, first out, and on the base that they were made from.
fn check_starts(before: &State, commit: &Commit, after: &State, now: Timestamp) {
    let mut stored: Vec<Arc<Flag>> = before.flags().map(Arc::clone).collect();
    for event in &commit.events {
        match event {
            Event::FlagStored(flag) => {
                stored.retain(|known| known.id != flag.id);
                stored.push(Arc::clone(flag));
            }
            Event::Release(ReleaseEvent {
                release, happened: Happened::Started { .. }, ..
            }) => {
                let started = after.release(release).expect("releases are never removed");
                let flag = stored.iter().find(|flag| flag.id == started.proposal.flag);
                let flag = flag.expect("a flag with a release is there");
                let base = started.proposal.base.unwrap_or(flag.spec_revision);
                assert_eq!(base, flag.spec_revision, "12: {release} starts on an old base");
                for other in after.unfinished(&flag.id) {
                    let waits = matches!(other.progress.stage, Stage::Pending) && other.is_due(now);
                    let older = other.proposal.created < started.proposal.created;
                    assert!(!(waits && older), "12: {release} overtakes {}", other.id());
                }
            }
            Event::Release(_)
            | Event::FlagDeleted(_)
            | Event::PipelineStored(_)
            | Event::PipelineDeleted(_)
            | Event::ReleaseCreated(_) => {}
        }
    }
}
