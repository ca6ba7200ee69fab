//! Who may ask for what, and when: the tables A to D and F, call by call. Reasons stand in the order
//! in which the document gives them.

use crate::{
    model::{Flag, Model, Outcome, Pipeline, Release},
    words::{
        Act, Base, Call, End, Etag, FlagAct, PENDING_MAX, Person, PhaseState, PipelineAct, Policy,
        Reason, Spec, State, Trigger, Verb,
    },
};
use std::sync::Arc;

/// The revision that a caller has seen.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Seen {
    Anything,
    Revision(u64),
    Unknown,
}

/// The first reason of a list whose condition holds.
fn first(checks: &[(bool, Reason)]) -> Result<(), Reason> {
    match checks.iter().find(|(refused, _)| *refused) {
        Some((_, reason)) => Err(reason.clone()),
        None => Ok(()),
    }
}

impl Model {
    /// What a caller saw when they wrote their call, before the timers of its step.
    pub(crate) fn seen(&self, call: &Call) -> Seen {
        match call.verb {
            Verb::Steer { release, etag, .. } => {
                let revision = self.releases.get(&release).map_or(0, |r| r.standing.revision);
                match etag {
                    Etag::None => Seen::Anything,
                    Etag::Fresh => Seen::Revision(revision),
                    Etag::Stale => Seen::Revision(revision.saturating_sub(1)),
                    Etag::Foreign => Seen::Unknown,
                }
            }
            Verb::Trigger(Trigger { flag, base, .. }) => {
                let revision = self.flags.get(&flag).map_or(0, |flag| flag.spec_revision);
                match base {
                    Base::Unchecked => Seen::Anything,
                    Base::Settled => Seen::Revision(revision),
                    Base::Old => Seen::Revision(revision.saturating_sub(1)),
                }
            }
            Verb::Flag { .. } | Verb::Pipeline { .. } => Seen::Anything,
        }
    }

    /// Judges a call, and does what it asks for.
    pub(crate) fn call(&mut self, call: &Call, seen: Seen) -> Outcome {
        let done = match &call.verb {
            Verb::Steer { release, act, .. } => self.steer(call, *release, *act, seen),
            Verb::Trigger(trigger) => self.trigger(call.who, trigger, seen),
            Verb::Flag { flag, act } => self.flag_act(call.who, *flag, *act),
            Verb::Pipeline { pipeline, act } => self.pipeline_act(call.who, *pipeline, *act),
        };
        match done {
            Ok(outcome) => outcome,
            Err(reason) => Outcome::Refused(reason),
        }
    }

    fn steer(&mut self, call: &Call, id: usize, act: Act, seen: Seen) -> Result<Outcome, Reason> {
        let Some(release) = self.releases.get(&id) else { return Err(Reason::ResourceNotFound) };
        if act.phase().is_some_and(|phase| phase >= release.copy.phases.len()) {
            return Err(Reason::ResourceNotFound);
        }
        if let Act::Report { phase, guard, .. } = act
            && guard >= release.phase(phase).guards.len()
        {
            return Err(Reason::ResourceNotFound);
        }
        let is_stale = match seen {
            Seen::Anything => false,
            Seen::Revision(revision) => revision != release.standing.revision,
            Seen::Unknown => true,
        };
        first(&[(act.has_etag() && is_stale, Reason::EtagMismatch)])?;
        release.refuses(call, act, self.now)?;
        let flag = release.flag;
        self.commit(Some(call.who), Some(id), Some(flag), |model| model.act(call, id, act));
        Ok(Outcome::Committed)
    }

    fn trigger(&mut self, who: Person, trigger: &Trigger, seen: Seen) -> Result<Outcome, Reason> {
        let Trigger { release: id, flag: flag_id, pipeline, change, schedule, policy, .. } =
            trigger.clone();
        let Some(flag) = self.flags.get(&flag_id) else { return Err(Reason::ResourceNotFound) };
        let base = match seen {
            Seen::Revision(revision) => Some(revision),
            Seen::Anything | Seen::Unknown => None,
        };
        let is_taken = self.active(flag_id).is_some();
        let is_ahead = schedule.is_some_and(|at| at > self.now);
        let waits = is_ahead || (is_taken && policy == Policy::Queue);
        first(&[
            (
                pipeline.is_some_and(|named| !self.pipelines.contains_key(&named)),
                Reason::ResourceNotFound,
            ),
            (change == Spec::Gate, Reason::InvalidField),
            (self.releases.contains_key(&id), Reason::ResourceExists),
            (
                flag.pipeline.is_some() && pipeline.is_some() && pipeline != flag.pipeline,
                Reason::PipelineRequired,
            ),
            (flag.pipeline.is_none() && pipeline.is_none(), Reason::PipelineRequired),
            (base.is_some_and(|base| base != flag.spec_revision), Reason::BaseChanged),
            (is_taken && !waits && policy == Policy::Fail, Reason::ActiveReleaseExists),
            (waits && self.waiting(flag_id) >= PENDING_MAX, Reason::QueueFull),
            (!waits && change == flag.spec, Reason::NoChange),
        ])?;
        let pipeline = flag.pipeline.or(pipeline).expect("checked above");
        let copy = Arc::clone(&self.pipelines[&pipeline].template);
        self.commit(Some(who), Some(id), Some(flag_id), |model| {
            if policy == Policy::Supersede {
                for other in model.unfinished(flag_id) {
                    model.end(other, End::Superseded, PhaseState::Aborted);
                }
            }
            let created = model.revision;
            let release =
                Release::new(flag_id, pipeline, copy, change, base, schedule, who, created);
            model.releases.insert(id, release);
            model.log(id, "TRIGGERED", None);
        });
        Ok(Outcome::Committed)
    }

    fn flag_act(&mut self, who: Person, id: usize, act: FlagAct) -> Result<Outcome, Reason> {
        let is_known =
            |pipeline: Option<usize>| pipeline.is_none_or(|p| self.pipelines.contains_key(&p));
        if let FlagAct::Create { pipeline } = act {
            first(&[
                (!is_known(pipeline), Reason::ResourceNotFound),
                (self.flags.contains_key(&id), Reason::ResourceExists),
            ])?;
            self.commit(Some(who), None, Some(id), |model| {
                let (spec, revision) = (Spec::Config { all: 0, staging: None }, model.revision);
                let flag = Flag { spec, spec_revision: revision, revision, killed: None, pipeline };
                model.flags.insert(id, flag);
            });
            return Ok(Outcome::Committed);
        }
        let Some(flag) = self.flags.get(&id) else { return Err(Reason::ResourceNotFound) };
        let mut edited = flag.clone();
        match act {
            FlagAct::Create { .. } => unreachable!("done above"),
            FlagAct::Kill(on) => edited.killed = Some(on),
            FlagAct::Attach { pipeline } => {
                first(&[(!is_known(pipeline), Reason::ResourceNotFound)])?;
                edited.pipeline = pipeline;
            }
            FlagAct::Edit(spec) => {
                let differs = flag.spec != spec;
                let template = flag.pipeline.map(|pipeline| &self.pipelines[&pipeline].template);
                let is_governed = template.is_some_and(|template| {
                    !template.exempts_staging || differs_outside_staging(flag.spec, spec)
                });
                first(&[
                    (spec == Spec::Gate, Reason::InvalidField),
                    (differs && self.active(id).is_some(), Reason::FlagLocked),
                    (differs && is_governed, Reason::PipelineRequired),
                ])?;
                edited.spec = spec;
            }
            FlagAct::Delete => {
                first(&[(!self.unfinished(id).is_empty(), Reason::ResourceInUse)])?;
                self.commit(Some(who), None, Some(id), |model| {
                    model.flags.remove(&id);
                });
                return Ok(Outcome::Committed);
            }
        }
        if edited == *flag {
            return Ok(Outcome::Nothing);
        }
        self.commit(Some(who), None, Some(id), |model| {
            edited.revision = model.revision;
            if edited.spec != model.flags[&id].spec {
                edited.spec_revision = model.revision;
            }
            model.flags.insert(id, edited);
        });
        Ok(Outcome::Committed)
    }

    fn pipeline_act(
        &mut self,
        who: Person,
        id: usize,
        act: PipelineAct,
    ) -> Result<Outcome, Reason> {
        let known = self.pipelines.get(&id);
        let is_attached = self.flags.values().any(|flag| flag.pipeline == Some(id));
        let is_used = self.releases.values().any(|r| r.pipeline == id && r.standing.end.is_none());
        let is_creation = matches!(act, PipelineAct::Create { .. });
        first(&[
            (!is_creation && known.is_none(), Reason::ResourceNotFound),
            (is_creation && known.is_some(), Reason::ResourceExists),
            (act == PipelineAct::Delete && (is_attached || is_used), Reason::ResourceInUse),
        ])?;
        let template = match act {
            PipelineAct::Create { template } | PipelineAct::Edit { template } => {
                Some(Arc::clone(&self.templates[template]))
            }
            PipelineAct::Delete => None,
        };
        if template.is_some() && template.as_ref() == known.map(|pipeline| &pipeline.template) {
            return Ok(Outcome::Nothing);
        }
        self.commit(Some(who), None, None, |model| {
            let revision = model.revision;
            match template {
                Some(template) => model.pipelines.insert(id, Pipeline { template, revision }),
                None => model.pipelines.remove(&id),
            };
        });
        Ok(Outcome::Committed)
    }
}

/// Without an environment of its own in staging, a rule of staging is all that can differ there.
fn differs_outside_staging(one: Spec, other: Spec) -> bool {
    match (one, other) {
        (Spec::Config { all: one, .. }, Spec::Config { all: other, .. }) => one != other,
        (Spec::Config { .. } | Spec::Gate, Spec::Gate) | (Spec::Gate, Spec::Config { .. }) => true,
    }
}

impl Release {
    /// Why the release does not do what is asked of it, if it does not.
    fn refuses(&self, call: &Call, act: Act, now: i64) -> Result<(), Reason> {
        use Reason::*;
        let standing = &self.standing;
        let (is_over, is_paused) = (standing.end.is_some(), self.is_paused());
        let waits_for = |state: State| self.underneath() == state;
        let over = (is_over, ReleaseOver);
        let not_started = (standing.phase.is_none(), ReleaseNotStarted);
        let not_current = |phase: usize| (standing.phase != Some(phase), PhaseNotCurrent);
        let paused = (is_paused, ReleasePaused);
        match act {
            Act::Approve { phase } | Act::Reject { phase } => {
                let approval = self.phase(phase).approval.as_ref();
                let is_reviewer = approval.is_none_or(|approval| {
                    let reviewers = &approval.reviewers;
                    reviewers.is_empty()
                        || call.groups.iter().any(|group| reviewers.contains(group))
                });
                let may_approve_own = approval.is_some_and(|approval| approval.allows_self);
                let mut reviews = standing.phases[phase].reviews.iter();
                let has_approved = reviews.any(|review| review.who == call.who);
                let approves = matches!(act, Act::Approve { .. });
                first(&[
                    over,
                    not_started,
                    not_current(phase),
                    (!waits_for(State::AwaitingApproval), PhaseNotAwaitingApproval),
                    (!is_reviewer, NotAnApprover),
                    (approves && self.creator == call.who && !may_approve_own, SelfApproval),
                    (approves && has_approved, AlreadyReviewed),
                ])
            }
            Act::Pause => first(&[over, (is_paused, AlreadyPaused)]),
            Act::Unpause => first(&[over, (!is_paused, NotPaused)]),
            Act::Skip { phase, bypass } => {
                let is_unapproved = waits_for(State::AwaitingApproval) && !bypass;
                let is_applied = standing.phases[phase].applied;
                let is_entry = self.is_last(phase) && !is_applied && !self.is_open(phase, now);
                first(&[
                    over,
                    not_started,
                    not_current(phase),
                    paused,
                    (is_unapproved, ApprovalPending(vec![phase])),
                    (is_entry, WindowClosed(vec![phase])),
                ])
            }
            Act::Override { phase } => {
                let no_window = (!waits_for(State::AwaitingWindow), PhaseNotAwaitingWindow);
                first(&[over, not_started, not_current(phase), paused, no_window])
            }
            Act::Bake { phase, .. } => {
                let no_bake = (!waits_for(State::Baking), PhaseNotBaking);
                first(&[over, not_started, not_current(phase), no_bake])
            }
            Act::Abort => first(&[over]),
            Act::Rollout { bypass, override_windows } => {
                first(&[over, not_started, paused])?;
                let unapproved = self.left_to_apply(|phase| self.approvals_missing(phase) > 0);
                let closed = self.left_to_apply(|phase| !self.is_open(phase, now));
                first(&[
                    (!bypass && !unapproved.is_empty(), ApprovalPending(unapproved)),
                    (!override_windows && !closed.is_empty(), WindowClosed(closed)),
                ])
            }
            Act::Report { phase, verdict, .. } => {
                let is_late_bad_news = verdict == crate::words::Verdict::Fail
                    && standing.phase.is_some_and(|current| phase < current)
                    && standing.phases[phase].applied;
                let (is_other, _) = not_current(phase);
                first(&[
                    over,
                    not_started,
                    (is_other && !is_late_bad_news, PhaseNotCurrent),
                    (!is_other && !waits_for(State::Baking), PhaseNotBaking),
                ])
            }
        }
    }

    /// The phases from the current one on that are not applied yet and of which something holds.
    pub(crate) fn left_to_apply(&self, holds: impl Fn(usize) -> bool) -> Vec<usize> {
        let from = self.standing.phase.unwrap_or(0);
        let left =
            (from..self.copy.phases.len()).filter(|phase| !self.standing.phases[*phase].applied);
        left.filter(|phase| holds(*phase)).collect()
    }
}
