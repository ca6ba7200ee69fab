//! The words of the model: what a release, a pipeline and a call are, in plain types of its own.
//! Times are milliseconds, names are numbers. Nothing here or in the other files of the model knows
//! the engine's types.

use std::{fmt, sync::Arc};

/// An instant in milliseconds since the epoch, or a length of time.
pub(crate) type Ms = i64;

pub(crate) const MINUTE: Ms = 60_000;
pub(crate) const DAY: Ms = 1440 * MINUTE;
/// The longest bake, expiry and limit of a guard.
pub(crate) const LONGEST_WAIT: Ms = 90 * DAY;
/// Monday, 2026-03-02T00:00:00Z: stories begin here.
pub(crate) const BASE: Ms = 1_772_409_600_000;
/// How far ahead an opening of a window is looked for.
pub(crate) const HORIZON: Ms = 366 * DAY;
/// So many releases of a flag may wait for their start.
pub(crate) const PENDING_MAX: usize = 10;

/// Where a release stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    Pending,
    AwaitingApproval,
    AwaitingWindow,
    Baking,
    Paused,
    Succeeded,
    Aborted,
    Failed,
}

/// Where a phase stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PhaseState {
    Pending,
    AwaitingApproval,
    AwaitingWindow,
    Baking,
    Succeeded,
    Skipped,
    Aborted,
    Failed,
    Cancelled,
}

/// How a release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    AllPhasesDone,
    FullRollout,
    AbortRequested,
    ApprovalRejected,
    Superseded,
    ApprovalExpired,
    GuardFailed,
    BaseChanged,
}

/// What a timer is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Start,
    Expiry,
    Window,
    Bake,
    Guard,
}

/// Why a release is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    Requested,
    Guard(usize),
    Overdue(Ms),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Pass,
    Fail,
}

/// A person, one of four.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Person(pub(crate) usize);

/// A group, one of three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group(pub(crate) usize);

/// Why a call is refused.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    ResourceNotFound,
    ResourceExists,
    ResourceInUse,
    InvalidField,
    EtagMismatch,
    FlagLocked,
    PipelineRequired,
    ActiveReleaseExists,
    QueueFull,
    BaseChanged,
    NoChange,
    ReleaseOver,
    ReleaseNotStarted,
    ReleasePaused,
    AlreadyPaused,
    NotPaused,
    PhaseNotCurrent,
    PhaseNotAwaitingApproval,
    PhaseNotAwaitingWindow,
    PhaseNotBaking,
    NotAnApprover,
    SelfApproval,
    AlreadyReviewed,
    ApprovalPending(Vec<usize>),
    WindowClosed(Vec<usize>),
}

/// A spec. Equal numbers are equal answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Spec {
    /// Every flag of the stories is a config: a number for all, perhaps another for staging.
    Config { all: u8, staging: Option<u8> },
    /// A spec of the other kind.
    Gate,
}

/// A pipeline as it is written.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) phases: Vec<Phase>,
    /// It does not govern staging.
    pub(crate) exempts_staging: bool,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Phase {
    /// It covers everyone, and not only the environment of its own number.
    pub(crate) everyone: bool,
    pub(crate) bake: Ms,
    pub(crate) approval: Option<Approval>,
    pub(crate) window: Option<Window>,
    pub(crate) guards: Vec<Guard>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Approval {
    pub(crate) min: usize,
    /// So many of them from each of these groups.
    pub(crate) quotas: Vec<(Group, usize)>,
    /// Only they may review; none: anyone.
    pub(crate) reviewers: Vec<Group>,
    pub(crate) allows_self: bool,
    pub(crate) expiry: Option<Ms>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Guard {
    pub(crate) must_pass: bool,
    /// Time to pass after the bake.
    pub(crate) timeout: Option<Ms>,
    /// A FAIL ends the release instead of holding it.
    pub(crate) fails: bool,
}

/// Times of the week in UTC at which a phase may be applied, and times at which it may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    /// Days from Monday, first minute, and the minute after the last; not after the first: of the
    /// next day. No span at all: always.
    pub(crate) weekly: Vec<(Vec<u8>, Ms, Ms)>,
    /// From, and until.
    pub(crate) blackouts: Vec<(Ms, Ms)>,
}

/// What somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) who: Person,
    pub(crate) groups: Vec<Group>,
    pub(crate) verb: Verb,
}

/// The etag of a call about a release, of what the caller saw before any timer of this step fired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Etag {
    None,
    Fresh,
    Stale,
    Foreign,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Trigger(Trigger),
    Steer { release: usize, etag: Etag, act: Act },
    Flag { flag: usize, act: FlagAct },
    Pipeline { pipeline: usize, act: PipelineAct },
}

/// What is asked of a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Approve { phase: usize },
    Reject { phase: usize },
    Pause,
    Unpause,
    Skip { phase: usize, bypass: bool },
    Override { phase: usize },
    Bake { phase: usize, left: Ms },
    Abort,
    Rollout { bypass: bool, override_windows: bool },
    Report { phase: usize, guard: usize, verdict: Verdict },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FlagAct {
    Create { pipeline: Option<usize> },
    Kill(bool),
    Edit(Spec),
    Attach { pipeline: Option<usize> },
    Delete,
}

/// Templates are those of the story, by number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PipelineAct {
    Create { template: usize },
    Edit { template: usize },
    Delete,
}

impl Act {
    /// The phase that it names.
    pub(crate) fn phase(self) -> Option<usize> {
        match self {
            Self::Approve { phase }
            | Self::Reject { phase }
            | Self::Skip { phase, .. }
            | Self::Override { phase }
            | Self::Bake { phase, .. }
            | Self::Report { phase, .. } => Some(phase),
            Self::Pause | Self::Unpause | Self::Abort | Self::Rollout { .. } => None,
        }
    }

    /// Whether it carries an etag: no stale view stops who pauses, aborts or reports.
    pub(crate) fn has_etag(self) -> bool {
        !matches!(self, Self::Pause | Self::Abort | Self::Report { .. })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trigger {
    pub(crate) release: usize,
    pub(crate) flag: usize,
    pub(crate) pipeline: Option<usize>,
    pub(crate) change: Spec,
    pub(crate) base: Base,
    pub(crate) schedule: Option<Ms>,
    pub(crate) policy: Policy,
}

/// The spec revision that a change was made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    Unchecked,
    Settled,
    Old,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    Fail,
    Queue,
    Supersede,
}

/// One step of a story: it is now this time, and this happens.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) at: Ms,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// A call, after the timers of its flag that are due.
    Call(Call),
    /// A timer of a release, `age` generations old; minus one is of a generation that never was.
    Fire { release: usize, age: i64 },
    /// All timers that are due.
    Wake,
    /// The clock went here from where it was, and every timer fired at its time.
    Walk,
}

/// One entry of the log. Times and texts stand in the release.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) release: usize,
    pub(crate) name: &'static str,
    pub(crate) phase: Option<usize>,
    /// None: the engine.
    pub(crate) actor: Option<Person>,
    /// Of what a timer did: when it was to do it, and how late it was.
    pub(crate) timer: Option<(Ms, Ms)>,
}

/// Times as people read them: from Monday midnight.
pub(crate) struct Clock(pub(crate) Ms);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, ms) = if self.0 < BASE { ("-", BASE - self.0) } else { ("", self.0 - BASE) };
        let (days, ms) = (ms / DAY, ms % DAY);
        let (hours, minutes) = (ms / (60 * MINUTE), ms / MINUTE % 60);
        write!(f, "{sign}{days}d{hours:02}:{minutes:02}:{:02}.{:03}", ms / 1000 % 60, ms % 1000)
    }
}

/// One line for each step, so that the shortest story that fails can be read.
impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} ", Clock(self.at))?;
        match &self.what {
            What::Call(call) => {
                let groups: Vec<_> = call.groups.iter().map(|group| group.0).collect();
                write!(f, "person {} of groups {groups:?}: {:?}", call.who.0, call.verb)
            }
            What::Fire { release, age } => write!(f, "fire r{release}, {age} generations old"),
            What::Wake => write!(f, "wake"),
            What::Walk => write!(f, "walk"),
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { release, name, phase, actor, timer } = self;
        write!(f, "r{release} {name}")?;
        if let Some(phase) = phase {
            write!(f, " p{phase}")?;
        }
        match actor {
            Some(person) => write!(f, " by person {}", person.0)?,
            None => write!(f, " by the engine")?,
        }
        let Some((due, late)) = timer else { return Ok(()) };
        write!(f, ", due {:?}, {late} ms late", Clock(*due))
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { phases, exempts_staging } = self;
        write!(f, "exempts staging: {exempts_staging}, {} phases", phases.len())?;
        phases.iter().enumerate().try_for_each(|(index, phase)| write!(f, "; p{index} {phase:?}"))
    }
}

impl fmt::Debug for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bake {} ms", self.bake)?;
        if self.everyone {
            write!(f, ", everyone")?;
        }
        if let Some(Approval { min, quotas, reviewers, allows_self, expiry }) = &self.approval {
            let quotas: Vec<_> = quotas.iter().map(|(group, min)| (group.0, *min)).collect();
            let reviewers: Vec<_> = reviewers.iter().map(|group| group.0).collect();
            write!(f, ", {min} approvals, quotas {quotas:?}, reviewers {reviewers:?}")?;
            write!(f, ", self {allows_self}, expiry {expiry:?}")?;
        }
        if let Some(Window { weekly, blackouts }) = &self.window {
            let blackouts: Vec<_> = blackouts.iter().map(|(a, b)| (Clock(*a), Clock(*b))).collect();
            write!(f, ", window {weekly:?} but {blackouts:?}")?;
        }
        self.guards.iter().try_for_each(|Guard { must_pass, timeout, fails }| {
            write!(f, ", guard must pass {must_pass} within {timeout:?}, fails {fails}")
        })
    }
}

/// Templates are shared by all that copied them.
pub(crate) type Templates = Arc<[Arc<Template>]>;
