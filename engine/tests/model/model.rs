//! What there is, in the model, and what can be asked of it.

use crate::words::{
    Cause, DAY, End, Event, Group, Kind, Ms, Person, Phase, PhaseState, Reason, Spec, State,
    Template, Templates, Verdict,
};
use std::{collections::BTreeMap, fmt, sync::Arc};

/// All flags, pipelines and releases, by number.
#[derive(Clone)]
pub(crate) struct Model {
    /// What the clock shows.
    pub(crate) now: Ms,
    /// Of the last commit.
    pub(crate) revision: u64,
    pub(crate) time: Ms,
    pub(crate) flags: BTreeMap<usize, Flag>,
    pub(crate) pipelines: BTreeMap<usize, Pipeline>,
    pub(crate) releases: BTreeMap<usize, Release>,
    /// What pipelines are made of in this story.
    pub(crate) templates: Templates,
    /// Timers that are found later than this hold their releases; none: never.
    pub(crate) limit: Option<Ms>,
    /// What the last step led to.
    pub(crate) said: Said,
    /// Who acts in the commit that is being made, and on which release.
    pub(crate) acting: (Option<Person>, Option<usize>),
    /// The timer that led to the next event of a release, and when it was due.
    pub(crate) timer: Option<(usize, Ms)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Flag {
    pub(crate) spec: Spec,
    pub(crate) spec_revision: u64,
    pub(crate) revision: u64,
    /// None: its kill switch was never moved. The text that was given with it is always the same.
    pub(crate) killed: Option<bool>,
    pub(crate) pipeline: Option<usize>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Pipeline {
    pub(crate) template: Arc<Template>,
    pub(crate) revision: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Release {
    pub(crate) flag: usize,
    pub(crate) pipeline: usize,
    /// The pipeline as it was when the release was triggered.
    pub(crate) copy: Arc<Template>,
    pub(crate) change: Spec,
    pub(crate) base: Option<u64>,
    pub(crate) schedule: Option<Ms>,
    pub(crate) creator: Person,
    /// The commit that made it; the older one has the smaller number.
    pub(crate) created: u64,
    pub(crate) standing: Standing,
}

/// What changes of a release.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    /// While PAUSED, what it goes back to.
    pub(crate) held: Option<State>,
    pub(crate) cause: Option<Cause>,
    pub(crate) phase: Option<usize>,
    pub(crate) end: Option<End>,
    /// When what it waits for is due: the expiry, the opening, the end of the bake.
    pub(crate) until: Option<Ms>,
    /// While PAUSED, how much of that was left.
    pub(crate) left: Option<Ms>,
    /// BAKING, and the bake was over at this time.
    pub(crate) elapsed: Option<Ms>,
    /// Since when the guards' time runs.
    pub(crate) since: Option<Ms>,
    pub(crate) phases: Vec<PhaseStanding>,
    pub(crate) started: Option<Ms>,
    pub(crate) updated: Ms,
    pub(crate) revision: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PhaseStanding {
    pub(crate) state: PhaseState,
    pub(crate) applied: bool,
    pub(crate) bypassed: bool,
    pub(crate) entered: Option<Ms>,
    pub(crate) applied_at: Option<Ms>,
    pub(crate) ended: Option<Ms>,
    pub(crate) reviews: Vec<Review>,
    pub(crate) verdicts: Vec<Option<Verdict>>,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Review {
    pub(crate) who: Person,
    pub(crate) approves: bool,
    /// Those of their groups that a quota names.
    pub(crate) groups: Vec<Group>,
}

/// What a step led to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Said {
    /// The events of each commit.
    pub(crate) commits: Vec<Vec<Event>>,
    /// The timers that fired, and how.
    pub(crate) fired: Vec<(&'static str, Option<Kind>, Fired)>,
    /// The cell of the tables that the call stood for, or the timer that was dropped.
    pub(crate) cell: Option<(&'static str, &'static str)>,
    pub(crate) outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Fired {
    OnTime,
    Late,
    Held,
    /// It looked at a window, and nothing had changed; or at a flag that is taken.
    Nothing,
    /// It was not due.
    Early,
    /// Its generation was another one.
    Dropped,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    #[default]
    Nothing,
    Committed,
    Refused(Reason),
}

impl Outcome {
    /// The reason, if it is a refusal.
    pub(crate) fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Refused(reason) => Some(reason),
            Self::Nothing | Self::Committed => None,
        }
    }
}

impl Model {
    pub(crate) fn release(&self, id: usize) -> &Release {
        &self.releases[&id]
    }

    pub(crate) fn standing(&mut self, id: usize) -> &mut Standing {
        &mut self.releases.get_mut(&id).expect("a release of the model").standing
    }

    /// Releases of a flag that are not over, oldest first.
    pub(crate) fn unfinished(&self, flag: usize) -> Vec<usize> {
        let of_flag =
            self.releases.iter().filter(|(_, r)| r.flag == flag && r.standing.end.is_none());
        let mut ids: Vec<usize> = of_flag.map(|(id, _)| *id).collect();
        ids.sort_by_key(|id| self.release(*id).created);
        ids
    }

    pub(crate) fn active(&self, flag: usize) -> Option<usize> {
        self.unfinished(flag).into_iter().find(|id| self.release(*id).standing.phase.is_some())
    }

    /// Releases of a flag that wait for their start, held or not.
    pub(crate) fn waiting(&self, flag: usize) -> usize {
        let waits = |id: &usize| self.release(*id).standing.phase.is_none();
        self.unfinished(flag).into_iter().filter(waits).count()
    }

    /// What a flag answers in an environment: "staging", one of a phase, or any other.
    pub(crate) fn answer(&self, flag: usize, environment: Environment) -> u8 {
        let known = &self.flags[&flag];
        let of = |spec: Spec| match spec {
            Spec::Config { staging: Some(number), .. } if environment == Environment::Staging => {
                number
            }
            Spec::Config { all, .. } => all,
            Spec::Gate => unreachable!("no flag of the stories is a gate"),
        };
        if known.killed == Some(true) {
            let Spec::Config { all, .. } = known.spec else { unreachable!("as above") };
            return all;
        }
        let exposed = self.active(flag).map(|id| self.release(id)).filter(|release| {
            let mut phases = release.copy.phases.iter().zip(&release.standing.phases).enumerate();
            (release.copy.exempts_staging && environment == Environment::Staging)
                || phases.any(|(index, (phase, standing))| {
                    standing.applied && (phase.everyone || environment == Environment::Phase(index))
                })
        });
        of(exposed.map_or(known.spec, |release| release.change))
    }
}

/// Where a flag is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Environment {
    Staging,
    Phase(usize),
    Other,
}

impl Release {
    /// The phase of a number that it has.
    pub(crate) fn phase(&self, phase: usize) -> &Phase {
        &self.copy.phases[phase]
    }

    /// Its state, or the one that it is held from.
    pub(crate) fn underneath(&self) -> State {
        self.standing.held.unwrap_or(self.standing.state)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.standing.state == State::Paused
    }

    pub(crate) fn is_last(&self, phase: usize) -> bool {
        phase + 1 == self.copy.phases.len()
    }

    /// The larger of what is missing in all and of what any quota misses.
    pub(crate) fn approvals_missing(&self, phase: usize) -> usize {
        let Some(approval) = &self.phase(phase).approval else { return 0 };
        let approvals =
            || self.standing.phases[phase].reviews.iter().filter(|review| review.approves);
        let of_group =
            |group: &Group| approvals().filter(|review| review.groups.contains(group)).count();
        let quotas = approval.quotas.iter().map(|(group, min)| min.saturating_sub(of_group(group)));
        quotas.fold(approval.min.saturating_sub(approvals().count()), usize::max)
    }

    pub(crate) fn is_open(&self, phase: usize, at: Ms) -> bool {
        self.phase(phase).window.as_ref().is_none_or(|window| window.is_open(at))
    }

    /// The guards of a phase whose last verdict is not the PASS that they owe.
    pub(crate) fn owing(&self, phase: usize) -> Vec<usize> {
        let verdicts = &self.standing.phases[phase].verdicts;
        let guards = self.phase(phase).guards.iter().zip(verdicts).enumerate();
        let owes = guards
            .filter(|(_, (guard, verdict))| guard.must_pass && **verdict != Some(Verdict::Pass));
        owes.map(|(index, _)| index).collect()
    }

    /// When the time of a guard runs out.
    pub(crate) fn guard_limit(&self, phase: usize, guard: usize) -> Option<Ms> {
        Some(self.standing.since? + self.phase(phase).guards[guard].timeout?)
    }

    /// The timer of a release, the first column of the table of timers.
    pub(crate) fn timer(&self, now: Ms) -> Option<(Kind, Ms)> {
        let Standing { state, until, elapsed, phase, .. } = self.standing;
        let (kind, at) = match state {
            State::Pending => (Kind::Start, self.schedule),
            State::AwaitingApproval => (Kind::Expiry, until),
            State::AwaitingWindow => {
                (Kind::Window, Some(until.unwrap_or_else(|| self.next_look(now))))
            }
            State::Baking if elapsed.is_none() => (Kind::Bake, until),
            State::Baking => {
                let phase = phase.expect("it bakes");
                let limits = self
                    .owing(phase)
                    .into_iter()
                    .filter_map(|guard| self.guard_limit(phase, guard));
                (Kind::Guard, limits.min())
            }
            State::Paused | State::Succeeded | State::Aborted | State::Failed => return None,
        };
        Some((kind, at?))
    }

    /// Without an opening in sight it is looked at once a day, counted from when the phase was entered.
    fn next_look(&self, now: Ms) -> Ms {
        let entered = self.standing.phase.and_then(|phase| self.standing.phases[phase].entered);
        let entered = entered.expect("it waits for a window");
        entered + ((now - entered).max(0) / DAY + 1) * DAY
    }

    /// No opening in sight.
    pub(crate) fn is_out_of_sight(&self) -> bool {
        self.standing.state == State::AwaitingWindow && self.standing.until.is_none()
    }
}

/// What a call or a timer is about is told to those who read a failure; the rest is long.
impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "late timers hold after {:?} ms", self.limit)?;
        for (id, pipeline) in &self.pipelines {
            writeln!(f, "w{id}: {:?}", pipeline.template)?;
        }
        for (number, template) in self.templates.iter().enumerate() {
            writeln!(f, "template {number}: {template:?}")?;
        }
        self.flags.iter().try_for_each(|(id, flag)| writeln!(f, "f{id}: {flag:?}"))
    }
}
