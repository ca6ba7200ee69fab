//! What moves a release: the way from its start to its end, the timers, and the rule that a free flag
//! takes the next in line. Each step is a row of the document's table of events.

use crate::{
    model::{Model, PhaseStanding, Release, Review, Standing},
    words::{
        Act, Call, Cause, End, Event, Group, LONGEST_WAIT, Ms, Person, PhaseState, Spec, State,
        Template, Verdict,
    },
};
use std::sync::Arc;

impl Model {
    /// One atomic write, at the end of which the flag is settled.
    pub(crate) fn commit(
        &mut self,
        who: Option<Person>,
        about: Option<usize>,
        flag: Option<usize>,
        act: impl FnOnce(&mut Self),
    ) {
        self.revision += 1;
        self.time = self.time.max(self.now);
        self.acting = (who, about);
        self.said.commits.push(Vec::new());
        act(self);
        if let Some(flag) = flag {
            self.settle(flag);
        }
        self.timer = None;
    }

    /// While the flag is free, the oldest release that is PENDING, due and not paused starts.
    fn settle(&mut self, flag: usize) {
        while self.active(flag).is_none() {
            let now = self.now;
            let may_start = |id: &usize| {
                let release = self.release(*id);
                release.standing.state == State::Pending
                    && release.schedule.is_none_or(|at| at <= now)
            };
            let Some(next) = self.unfinished(flag).into_iter().find(may_start) else { return };
            self.start(next);
        }
    }

    pub(crate) fn log(&mut self, id: usize, name: &'static str, phase: Option<usize>) {
        let (who, about) = self.acting;
        let actor = who.filter(|_| about == Some(id) || name == "ABORTED");
        let timer = self.timer.take_if(|(of, _)| *of == id);
        let timer = timer.map(|(_, due)| (due, (self.now - due).max(0)));
        let event = Event { release: id, name, phase, actor, timer };
        self.said.commits.last_mut().expect("a commit is being made").push(event);
        let (revision, time) = (self.revision, self.time);
        let standing = self.standing(id);
        (standing.revision, standing.updated) = (revision, time);
    }

    fn phase_standing(&mut self, id: usize, phase: usize) -> &mut PhaseStanding {
        &mut self.standing(id).phases[phase]
    }

    fn start(&mut self, id: usize) {
        let release = self.release(id);
        let settled = self.flags[&release.flag].spec_revision;
        if release.base.is_some_and(|base| base != settled) {
            return self.end(id, End::BaseChanged, PhaseState::Failed);
        }
        self.log(id, "STARTED", None);
        self.standing(id).started = Some(self.time);
        self.enter(id, 0);
    }

    fn enter(&mut self, id: usize, phase: usize) {
        if phase == self.release(id).copy.phases.len() {
            return self.succeed(id, End::AllPhasesDone);
        }
        self.log(id, "PHASE_ENTERED", Some(phase));
        self.standing(id).phase = Some(phase);
        self.phase_standing(id, phase).entered = Some(self.time);
        if self.release(id).approvals_missing(phase) == 0 {
            return self.approved(id, phase);
        }
        let approval = self.release(id).phase(phase).approval.as_ref();
        let until = approval.and_then(|approval| approval.expiry).map(|expiry| self.now + expiry);
        self.wait(id, phase, State::AwaitingApproval, until);
    }

    fn approved(&mut self, id: usize, phase: usize) {
        let release = self.release(id);
        match &release.phase(phase).window {
            Some(window) if !window.is_open(self.now) => {
                let until = window.next_open(self.now);
                self.wait(id, phase, State::AwaitingWindow, until);
            }
            Some(_) | None => self.apply(id, phase),
        }
    }

    pub(crate) fn apply(&mut self, id: usize, phase: usize) {
        self.log(id, "PHASE_APPLIED", Some(phase));
        let time = self.time;
        let standing = self.phase_standing(id, phase);
        (standing.applied, standing.applied_at) = (true, Some(time));
        let bake = self.release(id).phase(phase).bake;
        self.wait(id, phase, State::Baking, Some(self.now + bake));
        if bake == 0 {
            self.bake_end(id, phase);
        }
    }

    pub(crate) fn bake_end(&mut self, id: usize, phase: usize) {
        if self.release(id).owing(phase).is_empty() {
            return self.leave(id, phase);
        }
        self.log(id, "BAKE_ELAPSED", Some(phase));
        let now = self.now;
        let standing = self.standing(id);
        (standing.until, standing.left) = (None, None);
        standing.elapsed = Some(now);
        standing.since = (standing.state == State::Baking).then_some(now);
    }

    fn leave(&mut self, id: usize, phase: usize) {
        self.log(id, "PHASE_SUCCEEDED", Some(phase));
        self.end_phase(id, phase, PhaseState::Succeeded);
        self.enter(id, phase + 1);
    }

    fn end_phase(&mut self, id: usize, phase: usize, state: PhaseState) {
        let time = self.time;
        let standing = self.phase_standing(id, phase);
        (standing.state, standing.ended) = (state, standing.entered.map(|_| time));
    }

    /// The current phase waits for this from now on.
    fn wait(&mut self, id: usize, phase: usize, state: State, until: Option<Ms>) {
        let standing = self.standing(id);
        standing.state = state;
        (standing.held, standing.cause, standing.left) = (None, None, None);
        (standing.until, standing.elapsed, standing.since) = (until, None, None);
        standing.phases[phase].state = match state {
            State::AwaitingApproval => PhaseState::AwaitingApproval,
            State::AwaitingWindow => PhaseState::AwaitingWindow,
            State::Baking => PhaseState::Baking,
            State::Pending | State::Paused | State::Succeeded | State::Aborted | State::Failed => {
                unreachable!("no phase waits in {state:?}")
            }
        };
    }

    fn over(&mut self, id: usize, state: State, end: End) {
        let standing = self.standing(id);
        (standing.state, standing.end, standing.phase) = (state, Some(end), None);
        (standing.held, standing.cause, standing.left) = (None, None, None);
        (standing.until, standing.elapsed, standing.since) = (None, None, None);
    }

    fn succeed(&mut self, id: usize, end: End) {
        self.log(id, "SUCCEEDED", None);
        self.over(id, State::Succeeded, end);
        let Release { flag, change, .. } = *self.release(id);
        let revision = self.revision;
        let flag = self.flags.get_mut(&flag).expect("a flag with a release");
        (flag.spec, flag.spec_revision, flag.revision) = (change, revision, revision);
    }

    /// ABORTED or FAILED: all exposure is taken back.
    pub(crate) fn end(&mut self, id: usize, end: End, current: PhaseState) {
        let (state, name) = match current {
            PhaseState::Aborted => (State::Aborted, "ABORTED"),
            PhaseState::Failed
            | PhaseState::Pending
            | PhaseState::AwaitingApproval
            | PhaseState::AwaitingWindow
            | PhaseState::Baking
            | PhaseState::Succeeded
            | PhaseState::Skipped
            | PhaseState::Cancelled => (State::Failed, "FAILED"),
        };
        self.log(id, name, None);
        if let Some(phase) = self.release(id).standing.phase {
            self.end_phase(id, phase, current);
        }
        for phase in &mut self.standing(id).phases {
            phase.applied = false;
            if phase.state == PhaseState::Pending {
                phase.state = PhaseState::Cancelled;
            }
        }
        self.over(id, state, end);
    }

    pub(crate) fn hold(&mut self, id: usize, cause: Cause) {
        let phase = self.release(id).standing.phase;
        self.log(id, "PAUSED", phase);
        let now = self.now;
        let standing = self.standing(id);
        let keeps_time = matches!(standing.state, State::AwaitingApproval | State::Baking);
        // A clock that was set back leaves no more than the longest wait there can be.
        let left = |until: Ms| (until - now).clamp(0, LONGEST_WAIT);
        standing.left = standing.until.filter(|_| keeps_time).map(left);
        (standing.held, standing.cause) = (Some(standing.state), Some(cause));
        (standing.state, standing.until, standing.since) = (State::Paused, None, None);
    }

    fn unpause(&mut self, id: usize) {
        self.log(id, "UNPAUSED", None);
        let release = self.release(id).clone();
        let Standing { held, left, elapsed, .. } = release.standing;
        let now = self.now;
        if let Some(phase) = release.standing.phase {
            for verdict in &mut self.phase_standing(id, phase).verdicts {
                *verdict = verdict.filter(|verdict| *verdict == Verdict::Pass);
            }
            match held {
                Some(State::AwaitingApproval) if release.approvals_missing(phase) > 0 => {
                    self.wait(id, phase, State::AwaitingApproval, left.map(|left| now + left));
                }
                Some(State::Baking) => {
                    self.wait(id, phase, State::Baking, left.map(|left| now + left));
                    let owes = !self.release(id).owing(phase).is_empty();
                    match elapsed {
                        Some(_) if owes => {
                            let standing = self.standing(id);
                            (standing.elapsed, standing.since) = (elapsed, Some(now));
                        }
                        Some(_) => self.leave(id, phase),
                        None if left == Some(0) => self.bake_end(id, phase),
                        None => {}
                    }
                }
                Some(_) | None => self.approved(id, phase),
            }
        } else {
            let standing = self.standing(id);
            (standing.state, standing.held, standing.cause) = (State::Pending, None, None);
        }
    }

    /// A verdict of a guard, and what it does.
    fn report(&mut self, id: usize, phase: usize, guard: usize, verdict: Verdict) {
        self.log(id, "GUARD_REPORTED", Some(phase));
        self.phase_standing(id, phase).verdicts[guard] = Some(verdict);
        let release = self.release(id);
        let is_over = release.standing.state == State::Baking && release.standing.elapsed.is_some();
        match verdict {
            Verdict::Fail if release.phase(phase).guards[guard].fails => {
                self.end(id, End::GuardFailed, PhaseState::Failed);
            }
            Verdict::Fail if !release.is_paused() => self.hold(id, Cause::Guard(guard)),
            Verdict::Pass if is_over && release.owing(phase).is_empty() => self.leave(id, phase),
            Verdict::Fail | Verdict::Pass => {}
        }
    }

    /// The time of some guards ran out. They fail together, and an end wins over a hold.
    pub(crate) fn time_out(&mut self, id: usize, phase: usize) {
        let release = self.release(id).clone();
        let is_out =
            |guard: &usize| release.guard_limit(phase, *guard).is_some_and(|at| at <= self.now);
        let out: Vec<usize> = release.owing(phase).into_iter().filter(is_out).collect();
        for guard in &out {
            self.timer = release.guard_limit(phase, *guard).map(|at| (id, at));
            self.log(id, "GUARD_REPORTED", Some(phase));
            self.phase_standing(id, phase).verdicts[*guard] = Some(Verdict::Fail);
        }
        if out.iter().any(|guard| release.phase(phase).guards[*guard].fails) {
            self.end(id, End::GuardFailed, PhaseState::Failed);
        } else {
            self.hold(id, Cause::Guard(out[0]));
        }
    }

    /// What an accepted call does.
    pub(crate) fn act(&mut self, call: &Call, id: usize, act: Act) {
        match act {
            Act::Approve { phase } => {
                self.log(id, "APPROVAL_RECORDED", Some(phase));
                self.review(call, id, phase, true);
                let release = self.release(id);
                if !release.is_paused() && release.approvals_missing(phase) == 0 {
                    self.approved(id, phase);
                }
            }
            Act::Reject { phase } => {
                self.log(id, "APPROVAL_REJECTED", Some(phase));
                self.review(call, id, phase, false);
                self.end(id, End::ApprovalRejected, PhaseState::Aborted);
            }
            Act::Pause => self.hold(id, Cause::Requested),
            Act::Unpause => self.unpause(id),
            Act::Skip { phase, .. } => {
                self.log(id, "PHASE_SKIPPED", Some(phase));
                let is_bypass = self.release(id).standing.state == State::AwaitingApproval;
                self.phase_standing(id, phase).bypassed |= is_bypass;
                self.end_phase(id, phase, PhaseState::Skipped);
                self.enter(id, phase + 1);
            }
            Act::Override { phase } => {
                self.log(id, "WINDOW_OVERRIDDEN", Some(phase));
                self.phase_standing(id, phase).bypassed = true;
                self.apply(id, phase);
            }
            Act::Bake { phase, left } => {
                self.log(id, "BAKE_ADJUSTED", Some(phase));
                let now = self.now;
                let standing = self.standing(id);
                if standing.state == State::Paused {
                    (standing.elapsed, standing.left) = (None, Some(left));
                    if left == 0 {
                        self.log(id, "BAKE_ELAPSED", Some(phase));
                        let standing = self.standing(id);
                        (standing.elapsed, standing.left) = (Some(now), None);
                    }
                } else {
                    (standing.elapsed, standing.since) = (None, None);
                    standing.until = Some(now + left);
                    if left == 0 {
                        self.bake_end(id, phase);
                    }
                }
            }
            Act::Abort => self.end(id, End::AbortRequested, PhaseState::Aborted),
            Act::Rollout { .. } => {
                let release = self.release(id).clone();
                let goes_round = |phase: usize| {
                    release.approvals_missing(phase) > 0 || !release.is_open(phase, self.now)
                };
                let bypassed = release.left_to_apply(goes_round);
                let current = release.standing.phase.expect("it has started");
                for phase in current..release.copy.phases.len() {
                    self.log(id, "PHASE_SKIPPED", Some(phase));
                    self.phase_standing(id, phase).bypassed |= bypassed.contains(&phase);
                    self.end_phase(id, phase, PhaseState::Skipped);
                }
                self.succeed(id, End::FullRollout);
            }
            Act::Report { phase, guard, verdict } => self.report(id, phase, guard, verdict),
        }
    }

    fn review(&mut self, call: &Call, id: usize, phase: usize, approves: bool) {
        let approval = self.release(id).phase(phase).approval.as_ref();
        let quotas = approval.map(|approval| approval.quotas.clone()).unwrap_or_default();
        let is_named = |group: &&Group| quotas.iter().any(|(named, _)| named == *group);
        let groups = call.groups.iter().filter(is_named).copied().collect();
        self.phase_standing(id, phase).reviews.push(Review { who: call.who, approves, groups });
    }
}

impl Release {
    #[expect(clippy::too_many_arguments, reason = "the fields of a trigger, in their order")]
    pub(crate) fn new(
        flag: usize,
        pipeline: usize,
        copy: Arc<Template>,
        change: Spec,
        base: Option<u64>,
        schedule: Option<Ms>,
        creator: Person,
        created: u64,
    ) -> Self {
        let phases = copy.phases.iter().map(|phase| PhaseStanding {
            state: PhaseState::Pending,
            applied: false,
            bypassed: false,
            entered: None,
            applied_at: None,
            ended: None,
            reviews: Vec::new(),
            verdicts: vec![None; phase.guards.len()],
        });
        let standing = Standing {
            state: State::Pending,
            held: None,
            cause: None,
            phase: None,
            end: None,
            until: None,
            left: None,
            elapsed: None,
            since: None,
            phases: phases.collect(),
            started: None,
            updated: 0,
            revision: created,
        };
        Self { flag, pipeline, copy, change, base, schedule, creator, created, standing }
    }
}
