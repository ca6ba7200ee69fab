//! What happens in a simulation, as plain data: a run is a seed's parameters and a list of these. A
//! list can be printed, cut down, and run again; nothing in it depends on what the run comes to.

use crate::disk::Fault;
use chrono::Weekday;
use phasegate_engine::{
    command::{ConflictPolicy, Gate},
    flag::{Rules, Spec},
    id::Group,
    pipeline::{
        ApprovalRequirement, Guard, OnFail, PassRequirement, Phase, Quota, SelfApproval, Template,
    },
    release::GuardVerdict,
    targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
    time::Span,
    value::{Object, Value},
    window::{ReleaseWindows, TimeOfDay, Weekly},
};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

pub(crate) const PEOPLE: [&str; 4] = ["ann", "bob", "cid", "dee"];
pub(crate) const GROUPS: [&str; 2] = ["dev", "oncall"];
pub(crate) const FLAGS: [&str; 3] = ["checkout", "search", "cart"];
pub(crate) const PIPELINES: [&str; 2] = ["web", "apps"];
const PHASES: [&str; 4] = ["canary", "tenth", "half", "all"];
const GUARDS: [&str; 2] = ["errors", "latency"];

/// One thing that happens.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Operation {
    /// A client looks at what the server shows; its later requests are made from that.
    Look {
        client: usize,
    },
    /// A client makes a request and hands it to the network.
    Ask {
        client: usize,
        call: usize,
        request: Request,
        identity: Identity,
        mode: Dry,
    },
    /// A client hands an earlier request to the network again, as it was or with another content.
    AskAgain {
        call: usize,
        content: Content,
    },
    /// The network delivers one of the messages on the way.
    Deliver {
        nth: usize,
        answer: Answer,
    },
    /// The network loses one.
    Lose {
        nth: usize,
    },
    /// The writer takes what waits, and does it.
    Turn,
    /// The server runs undisturbed for so many milliseconds.
    Run {
        millis: u64,
    },
    /// The machine sleeps.
    Suspend {
        millis: u64,
    },
    /// The process stands still, and time goes by.
    Freeze {
        millis: u64,
    },
    /// Somebody sets the clock.
    Step {
        millis: i64,
    },
    /// The next barrier takes so long.
    SlowBarrier {
        millis: u64,
    },
    /// One of the next calls of the disk fails.
    Fault {
        after: u32,
        fault: Fault,
    },
    /// The process is killed.
    Kill,
    /// The machine loses power.
    PowerCut {
        survivors: u64,
    },
    /// The process is told to stop, and does.
    Stop,
    /// A process is started.
    Start,
    /// The disk is full, or has room again.
    Fill,
    Free,
    /// One bit of the disk changes while no process runs. Nothing follows: the server must say so.
    FlipBit {
        place: u64,
    },
    /// A watcher connects, anew or from where it was.
    Connect {
        watcher: usize,
        release: usize,
        from: From,
    },
    /// It reads so many items.
    Read {
        watcher: usize,
        items: u32,
    },
    /// It leaves.
    Leave {
        watcher: usize,
    },
    /// All watches are to end.
    Drain,
}

/// Whether a call has an id of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    Named,
    Nameless,
}

/// Whether a call is to do anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dry {
    ForReal,
    ValidateOnly,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    Same,
    /// What is asked is another request now, with this number.
    Other(usize),
}

/// Whether the answer to a message comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Heard,
    Lost,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum From {
    Start,
    WhereItWas,
    /// After a revision that the store never had.
    TheFuture,
    /// As of another store.
    AnotherStore,
}

/// What a client asks for. It is made into an action from what the client last saw, which may be
/// old. Releases go by the number that their trigger gave them.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Request {
    CreateFlag {
        flag: usize,
        pipeline: Option<usize>,
    },
    UpdateFlag {
        flag: usize,
        number: u8,
        etag: Etag,
    },
    DeleteFlag {
        flag: usize,
        etag: Etag,
    },
    Kill {
        flag: usize,
    },
    Revive {
        flag: usize,
    },
    UpdatePipeline {
        pipeline: usize,
        shape: u64,
        etag: Etag,
    },
    Trigger {
        name: usize,
        flag: usize,
        number: u8,
        schedule: Option<i64>,
        policy: ConflictPolicy,
        base: Base,
    },
    Approve {
        release: usize,
        phase: Place,
        etag: Etag,
    },
    Reject {
        release: usize,
        phase: Place,
        etag: Etag,
    },
    Pause {
        release: usize,
    },
    Unpause {
        release: usize,
        etag: Etag,
    },
    Skip {
        release: usize,
        phase: Place,
        etag: Etag,
        approvals: Gate,
    },
    OverrideWindow {
        release: usize,
        phase: Place,
        etag: Etag,
    },
    AdjustBake {
        release: usize,
        phase: Place,
        etag: Etag,
        remaining: u32,
    },
    Abort {
        release: usize,
    },
    FullRollout {
        release: usize,
        etag: Etag,
        approvals: Gate,
        windows: Gate,
    },
    Report {
        release: usize,
        phase: Place,
        guard: usize,
        verdict: GuardVerdict,
    },
}

/// Which phase a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The one that the client saw as the current one.
    Current,
    Other(usize),
}

/// What a request says about the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Etag {
    None,
    /// As the client saw it.
    Seen,
    /// One older than that.
    Old,
    /// No etag that this server ever made.
    Foreign,
}

/// Which base a trigger names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    None,
    Seen,
    Old,
}

/// How fast the world of a run moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Bakes of seconds, and the server looks at the clock every second as it does in life.
    Seconds,
    /// Bakes of hours and days; the server is woken at deadlines only, or a year would take an hour.
    Days,
}

impl Pace {
    /// A length of time that is usual at this pace: for bakes, expiries and limits.
    fn span(self, random: &mut ChaCha8Rng) -> Span {
        let seconds = match self {
            Self::Seconds => random.random_range(1..60),
            Self::Days => random.random_range(60..20 * 86_400),
        };
        Span::from_secs(seconds)
    }

    /// A stretch in which a server runs, in milliseconds.
    pub(crate) fn run(self, random: &mut ChaCha8Rng) -> u64 {
        match self {
            Self::Seconds => random.random_range(1..45_000),
            Self::Days => random.random_range(1..10 * 86_400_000),
        }
    }
}

/// A spec without rules; equal numbers are equal specs.
pub(crate) fn spec(number: u8) -> Arc<Spec> {
    let value = (Arc::from("n"), Value::Number(f64::from(number)));
    Arc::new(Spec::Config(Rules { rules: Vec::new(), default: Object::from([value]) }))
}

/// A pipeline drawn from a seed.
pub(crate) fn template(shape: u64, pace: Pace) -> Arc<Template> {
    let mut random = ChaCha8Rng::seed_from_u64(shape);
    let count = random.random_range(1..=PHASES.len());
    let phases = PHASES[..count].iter().map(|name| phase(name, pace, &mut random)).collect();
    Arc::new(Template {
        description: Arc::from(""),
        phases,
        exempt_environments: Vec::new(),
        trigger_notice: Arc::from(""),
    })
}

fn phase(name: &str, pace: Pace, random: &mut ChaCha8Rng) -> Phase {
    let share = if random.random_bool(0.5) { 10_000 } else { 1_000 };
    let bake = if random.random_bool(0.1) { Span::ZERO } else { pace.span(random) };
    let approval = random.random_bool(0.4).then(|| approval(pace, random));
    let windows = random.random_bool(0.25).then(|| windows(pace, random));
    let guards = GUARDS.iter().filter(|_| random.random_bool(0.25)).collect::<Vec<_>>();
    let guards = guards.into_iter().map(|name| guard(name, pace, random)).collect();
    Phase {
        id: name.parse().expect("it is an id"),
        rules: vec![TargetingRule {
            id: "some".parse().expect("it is an id"),
            environments: Vec::new(),
            conditions: Vec::new(),
            share: BasisPoints::new(share).expect("it is a share"),
            bucket_by: Arc::from(TARGETING_KEY),
        }],
        bake,
        approval,
        windows,
        guards,
    }
}

fn approval(pace: Pace, random: &mut ChaCha8Rng) -> ApprovalRequirement {
    let group = |random: &mut ChaCha8Rng| Group::new(GROUPS[random.random_range(0..GROUPS.len())]);
    let quota = Quota { group: group(random), min_approvals: 1 };
    ApprovalRequirement {
        min_approvals: random.random_range(1..=2),
        quotas: if random.random_bool(0.3) { vec![quota] } else { Vec::new() },
        reviewer_groups: if random.random_bool(0.2) { vec![group(random)] } else { Vec::new() },
        self_approval: if random.random_bool(0.5) {
            SelfApproval::Allowed
        } else {
            SelfApproval::Forbidden
        },
        expiry: random.random_bool(0.3).then(|| pace.span(random)),
    }
}

fn windows(pace: Pace, random: &mut ChaCha8Rng) -> ReleaseWindows {
    use Weekday::{Fri, Mon, Sat, Sun, Thu, Tue, Wed};
    let days = match pace {
        // Simulations at this pace last minutes, and begin on a Friday at six in the evening.
        Pace::Seconds => vec![Mon, Tue, Wed, Thu, Fri, Sat, Sun],
        Pace::Days => vec![Mon, Tue, Thu],
    };
    let start = match pace {
        Pace::Seconds => 18 * 60 + random.random_range(0..4),
        Pace::Days => random.random_range(0..1440),
    };
    let end = (start + random.random_range(1..120)) % 1440;
    let time = |minutes: u32| {
        let text = format!("{:02}:{:02}", minutes / 60, minutes % 60);
        TimeOfDay::parse(&text).expect("it is a time of day")
    };
    let weekly = vec![Weekly { days, start: time(start), end: time(end) }];
    ReleaseWindows { zone: chrono_tz::UTC, weekly, blackouts: Vec::new() }
}

fn guard(name: &str, pace: Pace, random: &mut ChaCha8Rng) -> Guard {
    let timeout = random.random_bool(0.6).then(|| pace.span(random));
    Guard {
        id: name.parse().expect("it is an id"),
        pass: if random.random_bool(0.5) {
            PassRequirement::Required { timeout }
        } else {
            PassRequirement::Optional
        },
        on_fail: if random.random_bool(0.7) { OnFail::Pause } else { OnFail::Fail },
    }
}

/// The name of a guard that a phase may have.
pub(crate) fn guard_name(index: usize) -> &'static str {
    GUARDS[index % GUARDS.len()]
}
