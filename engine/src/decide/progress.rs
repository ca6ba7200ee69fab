//! The moves of a release: start, enter a phase, apply it, end its bake, finish; and the flag's
//! settling, which gives the next release its turn.

use super::draft::Draft;
use crate::{
    deadline::owing,
    event::{Event, Happened, TimerRecord},
    flag::Flag,
    id::{FlagId, ReleaseId},
    pipeline::LONGEST_WAIT,
    release::{EndReason, Held, HeldWait, PauseCause, PhaseIndex, Release, Stage, Wait},
    time::Timestamp,
};
use std::sync::Arc;

/// Whether a phase may be applied at once.
pub(super) enum Window {
    Open,
    Closed { opens: Option<Timestamp> },
}

/// Whether a phase is done with its bake.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AfterBake {
    Done,
    Stays,
}

/// The window of a phase at `now`.
pub(super) fn window(release: &Release, phase: PhaseIndex, now: Timestamp) -> Window {
    match &release.phase(phase).windows {
        Some(windows) if !windows.is_open(now) => Window::Closed { opens: windows.next_open(now) },
        Some(_) | None => Window::Open,
    }
}

/// What a running release becomes when it is held now. None if it is paused or over.
///
/// A clock that was set back by years makes a deadline that is years away. What is kept of it is not
/// more than the longest wait there can be, or it would outlast the mending of the clock.
pub(super) fn hold_now(release: &Release, now: Timestamp) -> Option<Held> {
    let left = |at: Timestamp| at.since(now).min(LONGEST_WAIT);
    match &release.progress.stage {
        Stage::Pending => Some(Held::Pending),
        Stage::Running { phase, wait } => {
            let wait = match wait {
                Wait::Approval { expires } => HeldWait::Approval { remaining: expires.map(left) },
                Wait::Window { .. } => HeldWait::Window,
                Wait::Bake { ends } => HeldWait::Bake { remaining: left(*ends) },
                Wait::Guards { ended, .. } => HeldWait::Guards { ended: *ended },
            };
            Some(Held::Running { phase: *phase, wait })
        }
        Stage::Paused { .. } | Stage::Over { .. } => None,
    }
}

impl Draft {
    /// While the flag is free, starts the oldest release that is due and not paused. One whose base
    /// has changed in the meantime fails instead.
    pub(super) fn settle(&mut self, flag: &FlagId) {
        while let Some(next) = self.next_to_start(flag) {
            let id = next.id();
            let settled = self.state().flag(flag).map(|flag| flag.spec_revision);
            let timer = self.take_timer(id);
            if next.proposal.base.is_some_and(|base| Some(base) != settled) {
                self.emit(id, Happened::Failed { reason: EndReason::BaseChanged, timer });
            } else {
                self.emit(id, Happened::Started { timer });
                self.enter(id, PhaseIndex::FIRST);
            }
        }
    }

    fn next_to_start(&self, flag: &FlagId) -> Option<Arc<Release>> {
        if self.state().active_release(flag).is_some() {
            return None;
        }
        let waits = |release: &&Arc<Release>| {
            matches!(release.progress.stage, Stage::Pending) && release.is_due(self.now())
        };
        self.state().unfinished(flag).find(waits).map(Arc::clone)
    }

    /// Makes a phase the current one. Phases with nothing to wait for chain.
    pub(super) fn enter(&mut self, id: &ReleaseId, first: PhaseIndex) {
        let mut phase = first;
        loop {
            let release = self.release(id);
            if phase.get() >= release.phases().len() {
                self.succeed(id, EndReason::AllPhasesDone);
                return;
            }
            let wait = self.first_wait(&release, phase);
            self.emit(id, Happened::PhaseEntered { phase, wait });
            if wait.is_some() || self.apply_and_bake(id, phase) == AfterBake::Stays {
                return;
            }
            phase = phase.next();
        }
    }

    /// What a phase has to wait for before it is applied: approval, then window.
    fn first_wait(&self, release: &Release, phase: PhaseIndex) -> Option<Wait> {
        if release.approvals_missing(phase) > 0 {
            let approval = release.phase(phase).approval.as_ref();
            let expiry = approval.and_then(|requirement| requirement.expiry);
            return Some(Wait::Approval { expires: expiry.map(|expiry| self.now() + expiry) });
        }
        self.window_wait(release, phase)
    }

    /// What a phase with its approvals has to wait for.
    pub(super) fn window_wait(&self, release: &Release, phase: PhaseIndex) -> Option<Wait> {
        match window(release, phase, self.now()) {
            Window::Open => None,
            Window::Closed { opens } => Some(Wait::Window { opens }),
        }
    }

    /// Applies the current phase, and goes on if its bake takes no time.
    pub(super) fn apply_phase(&mut self, id: &ReleaseId, phase: PhaseIndex) {
        if self.apply_and_bake(id, phase) == AfterBake::Done {
            self.enter(id, phase.next());
        }
    }

    fn apply_and_bake(&mut self, id: &ReleaseId, phase: PhaseIndex) -> AfterBake {
        let bake = self.release(id).phase(phase).bake;
        self.emit(id, Happened::PhaseApplied { phase, bake_ends: self.now() + bake });
        if bake.is_zero() { self.bake_over(id, phase, None) } else { AfterBake::Stays }
    }

    /// The bake of the current phase is over: on to the next, unless a guard owes a PASS.
    pub(super) fn end_bake(
        &mut self,
        id: &ReleaseId,
        phase: PhaseIndex,
        timer: Option<TimerRecord>,
    ) {
        if self.bake_over(id, phase, timer) == AfterBake::Done {
            self.enter(id, phase.next());
        }
    }

    fn bake_over(
        &mut self,
        id: &ReleaseId,
        phase: PhaseIndex,
        timer: Option<TimerRecord>,
    ) -> AfterBake {
        if owing(&self.release(id), phase).next().is_some() {
            self.emit(id, Happened::BakeElapsed { phase, ended: self.now(), timer });
            AfterBake::Stays
        } else {
            self.emit(id, Happened::PhaseSucceeded { phase, timer });
            AfterBake::Done
        }
    }

    /// The change becomes the settled spec of the flag.
    pub(super) fn succeed(&mut self, id: &ReleaseId, reason: EndReason) {
        self.emit(id, Happened::Succeeded { reason });
        let release = self.release(id);
        // A flag cannot be deleted while a release of it is not over, so it is there.
        if let Some(flag) = self.state().flag(&release.proposal.flag) {
            let settled = Flag {
                spec: Arc::clone(&release.proposal.change),
                spec_revision: self.revision(),
                ..Flag::clone(flag)
            };
            self.store_flag(settled);
        }
    }

    /// Stores a flag as of this commit.
    pub(super) fn store_flag(&mut self, flag: Flag) {
        let flag = Flag { revision: self.revision(), update_time: self.time(), ..flag };
        self.record(Event::FlagStored(Arc::new(flag)));
    }

    /// Holds a release that runs; leaves one that is held already.
    pub(super) fn hold(&mut self, id: &ReleaseId, cause: PauseCause) {
        if let Some(held) = hold_now(&self.release(id), self.now()) {
            self.emit(id, Happened::Paused { held, cause });
        }
    }
}
