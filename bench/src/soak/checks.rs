//! What has to hold of a history: of what callers were told, what watches saw, and what the log says at
//! the end. Nothing here asks a server.

use super::pipelines::Waits;
use phasegate_api::v1::{ReleaseEventType as Kind, ReleaseState as State};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt,
};

/// How many findings are told in words.
const TOLD_MAX: usize = 20;

/// What does not hold.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    told: Vec<String>,
    total: usize,
}

impl Findings {
    pub(crate) fn add(&mut self, finding: String) {
        self.total += 1;
        if self.told.len() < TOLD_MAX {
            self.told.push(finding);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl fmt::Display for Findings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} findings", self.total)?;
        self.told.iter().try_for_each(|finding| writeln!(f, "  {finding}"))
    }
}

/// One entry of the log, as far as it is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) revision: i64,
    /// Number of the release: they are all ours.
    pub(crate) release: u32,
    pub(crate) ordinal: u32,
    pub(crate) kind: Kind,
    /// Milliseconds since 1970, as all times here.
    pub(crate) time: i64,
    pub(crate) phase: Box<str>,
    /// After the commit.
    pub(crate) state: State,
    /// Empty if the engine did it.
    pub(crate) request: Box<str>,
    /// Of what a timer did.
    pub(crate) scheduled_for: Option<i64>,
    /// Of an adjusted bake, in milliseconds.
    pub(crate) bake_remaining: Option<i64>,
    /// Of the whole event, also of what is not here.
    pub(crate) digest: u64,
}

/// What one commit did to one release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) revision: i64,
    pub(crate) release: u32,
    /// Of its events, in order.
    pub(crate) digest: u64,
}

/// What came of a call that a caller made under a request id until it was answered.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) request: Box<str>,
    /// A name: `releases/s-1` or `flags/f-1`.
    pub(crate) resource: Box<str>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The resource, after the commit: its revision. None of what was deleted.
    Accepted(Option<i64>),
    Refused,
}

/// One entry of the audit chain about a call.
#[derive(Clone, Debug)]
pub(crate) struct Audited {
    pub(crate) request: Box<str>,
    pub(crate) resource: Box<str>,
    /// None: refused.
    pub(crate) accepted: Option<i64>,
}

/// The changes of a log, in its order.
pub(crate) fn changes(log: &[Event]) -> Vec<Change> {
    let commits = log.chunk_by(|a, b| (a.revision, a.release) == (b.revision, b.release));
    commits
        .map(|events| Change {
            revision: events[0].revision,
            release: events[0].release,
            digest: digest(events.iter().map(|event| event.digest)),
        })
        .collect()
}

/// One digest of the digests of events.
pub(crate) fn digest(events: impl Iterator<Item = u64>) -> u64 {
    use std::hash::{DefaultHasher, Hash as _, Hasher as _};
    let mut hasher = DefaultHasher::new();
    events.for_each(|event| event.hash(&mut hasher));
    hasher.finish()
}

/// The log is in order, and numbers and times run on.
pub(crate) fn order(log: &[Event], findings: &mut Findings) {
    for pair in log.windows(2) {
        let [a, b] = pair else { continue };
        if a.revision == b.revision && a.release == b.release {
            if b.ordinal != a.ordinal + 1 || a.state != b.state || a.time != b.time {
                findings.add(format!("one commit disagrees with itself: {a:?}, {b:?}"));
            }
        } else if b.revision < a.revision || b.ordinal != 0 || b.time < a.time {
            findings.add(format!("the log is not in order: {a:?}, {b:?}"));
        }
    }
}

/// What was acknowledged is in the log and in the audit chain, once, as it was answered; and nothing is
/// there that was refused, or that nobody asked for.
pub(crate) fn acknowledged(
    done: &[Done],
    log: &[Event],
    audit: &[Audited],
    findings: &mut Findings,
) {
    let mut commits: HashMap<&str, BTreeMap<i64, BTreeSet<u32>>> = HashMap::new();
    for event in log.iter().filter(|event| !event.request.is_empty()) {
        let of_request = commits.entry(&event.request).or_default();
        of_request.entry(event.revision).or_default().insert(event.release);
    }
    let mut entries: HashMap<&str, Vec<&Audited>> = HashMap::new();
    for entry in audit.iter().filter(|entry| entry.accepted.is_some()) {
        entries.entry(&entry.request).or_default().push(entry);
    }
    for act in done {
        let commits = commits.remove(&*act.request).unwrap_or_default();
        let entries = entries.remove(&*act.request).unwrap_or_default();
        let Answer::Accepted(answered) = act.answer else {
            if !commits.is_empty() || !entries.is_empty() {
                findings.add(format!("refused, and done: {act:?}: {commits:?}, {entries:?}"));
            }
            continue;
        };
        let [entry] = entries[..] else {
            findings.add(format!("{} entries of the audit: {act:?}", entries.len()));
            continue;
        };
        let revision = entry.accepted.unwrap_or_default();
        let is_as_answered = match answered {
            // A repetition is answered as of now.
            Some(answered) if act.attempts > 1 => revision <= answered,
            Some(answered) => revision == answered,
            None => revision > 0,
        };
        if !is_as_answered || entry.resource != act.resource {
            findings.add(format!("not on record as it was answered: {act:?}: {entry:?}"));
        }
        let Some(number) = number(&act.resource) else { continue };
        match commits.iter().next() {
            Some((at, releases))
                if commits.len() == 1 && *at == revision && releases.contains(&number) => {}
            _ => findings.add(format!("not once in the log: {act:?}: {commits:?}, {entry:?}")),
        }
    }
    commits.keys().for_each(|id| findings.add(format!("in the log, and asked by nobody: {id}")));
    entries.keys().for_each(|id| findings.add(format!("on record, and asked by nobody: {id}")));
}

/// The number of a release, by its name.
pub(crate) fn number(release: &str) -> Option<u32> {
    release.strip_prefix("releases/s-")?.parse().ok()
}

/// A watch saw what concerns it, in order, each once.
pub(crate) fn watched(
    watch: &str,
    seen: &[Change],
    expected: impl Iterator<Item = Change>,
    findings: &mut Findings,
) {
    let mut seen = seen.iter();
    for expected in expected {
        match seen.next() {
            Some(change) if *change == expected => {}
            other => {
                // What follows differs too, and says nothing more.
                let place = expected.revision;
                findings.add(format!(
                    "{watch}: at r{place} the log has {expected:?}, the watch {other:?}"
                ));
                return;
            }
        }
    }
    if let Some(more) = seen.next() {
        findings.add(format!("{watch}: saw {more:?}, which is not in the log, or came again"));
    }
}

/// A flag has one active release at most.
pub(crate) fn one_active(log: &[Event], flags: &HashMap<u32, Box<str>>, findings: &mut Findings) {
    let mut active: HashMap<&str, u32> = HashMap::new();
    let mut started: BTreeSet<u32> = BTreeSet::new();
    for commit in log.chunk_by(|a, b| a.revision == b.revision) {
        // What ends makes room for what starts in the same commit, in whatever order they are listed.
        let (ended, going): (Vec<&Event>, _) = commit.iter().partition(|e| is_final(e.state));
        for event in ended {
            if started.remove(&event.release)
                && let Some(flag) = flags.get(&event.release)
            {
                active.remove(&**flag);
            }
        }
        for event in going.into_iter().filter(|event| event.kind == Kind::Started) {
            let Some(flag) = flags.get(&event.release) else {
                findings.add(format!("a release that is not listed: {event:?}"));
                continue;
            };
            started.insert(event.release);
            if let Some(other) = active.insert(flag, event.release) {
                findings.add(format!("{flag} has two active releases, s-{other} and {event:?}"));
            }
        }
    }
}

/// What releases look like when their events have been gone through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) state: State,
    pub(crate) revision: i64,
    pub(crate) events: usize,
    /// When its timer is due.
    pub(crate) due: Option<i64>,
}

/// Goes through the events of each release: nothing moves while it is held or after its end, and timers
/// fire when they are due, counted from the events before.
pub(crate) fn lives(
    log: &[Event],
    waits: &Waits,
    findings: &mut Findings,
) -> BTreeMap<u32, Standing> {
    let mut lives: BTreeMap<u32, Life> = BTreeMap::new();
    for event in log {
        let life = lives.entry(event.release).or_insert_with(|| Life::new(event));
        if let Err(what) = life.take(event, waits) {
            findings.add(format!("{what}: {event:?}, when it stood as {life:?}"));
        }
    }
    lives.into_iter().map(|(release, life)| (release, life.standing())).collect()
}

/// Releases whose timer was due before a time and that have not moved.
pub(crate) fn overdue(standings: &BTreeMap<u32, Standing>, at: i64, findings: &mut Findings) {
    for (release, standing) in standings {
        if standing.due.is_some_and(|due| due < at) {
            findings.add(format!("s-{release} should have moved before {at}: {standing:?}"));
        }
    }
}

pub(crate) fn is_final(state: State) -> bool {
    matches!(state, State::Succeeded | State::Aborted | State::Failed)
}

/// One release, event by event.
#[derive(Debug)]
struct Life {
    standing: Standing,
    is_held: bool,
    timer: Timer,
}

/// The one timer that a release may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Timer {
    None,
    /// A bake or an expiry: it goes on after a hold with what it had left.
    Runs {
        until: i64,
    },
    Stands {
        left: i64,
    },
    /// The time of a guard begins anew after a hold.
    Guard {
        since: i64,
        limit: i64,
    },
    GuardStands {
        limit: i64,
    },
}

impl Life {
    fn new(event: &Event) -> Self {
        let Event { state, revision, .. } = *event;
        let standing = Standing { state, revision, events: 0, due: None };
        Self { standing, is_held: false, timer: Timer::None }
    }

    fn due(&self) -> Option<i64> {
        match self.timer {
            Timer::Runs { until } => Some(until),
            Timer::Guard { since, limit } => Some(since + limit),
            Timer::None | Timer::Stands { .. } | Timer::GuardStands { .. } => None,
        }
    }

    fn standing(&self) -> Standing {
        Standing { due: self.due(), ..self.standing }
    }

    fn take(&mut self, event: &Event, waits: &Waits) -> Result<(), &'static str> {
        let is_first = self.standing.events == 0;
        // The state of an event is that after its commit, and so is what came before in the same commit.
        let was_over = is_final(self.standing.state) && event.revision != self.standing.revision;
        let due = self.due();
        let Event { state, revision, .. } = *event;
        self.standing = Standing { state, revision, events: self.standing.events + 1, due: None };
        if is_first != (event.kind == Kind::Triggered) {
            return Err("not triggered first, and once");
        }
        if was_over {
            return Err("something happened after the end");
        }
        if let Some(scheduled) = event.scheduled_for {
            if event.time < scheduled {
                return Err("a timer fired before its time");
            }
            if due != Some(scheduled) {
                return Err("a timer fired that was not due then");
            }
        }
        self.moves(event, waits)
    }

    fn moves(&mut self, event: &Event, waits: &Waits) -> Result<(), &'static str> {
        let time = event.time;
        let start = |span: i64, is_held: bool| match is_held {
            false => Timer::Runs { until: time + span },
            true => Timer::Stands { left: span },
        };
        match event.kind {
            Kind::Started
            | Kind::PhaseEntered
            | Kind::PhaseApplied
            | Kind::PhaseSucceeded
            | Kind::PhaseSkipped
            | Kind::WindowOpened
            | Kind::WindowOverridden
            | Kind::Succeeded
                if self.is_held =>
            {
                return Err("it moved while it was held");
            }
            Kind::PhaseEntered => {
                self.timer = waits.expiry(&event.phase).map_or(Timer::None, |it| start(it, false));
            }
            Kind::PhaseApplied => {
                let Some(bake) = waits.bake(&event.phase) else { return Err("no such phase") };
                self.timer = start(bake, false);
            }
            Kind::BakeElapsed => {
                self.timer = match (waits.pass_timeout(&event.phase), self.is_held) {
                    (None, _) => Timer::None,
                    (Some(limit), false) => Timer::Guard { since: time, limit },
                    (Some(limit), true) => Timer::GuardStands { limit },
                };
            }
            Kind::BakeAdjusted => {
                let Some(left) = event.bake_remaining else { return Err("adjusted to nothing") };
                self.timer = start(left, self.is_held);
            }
            Kind::Paused if self.is_held => return Err("held twice"),
            Kind::Paused => {
                self.is_held = true;
                self.timer = match self.timer {
                    Timer::Runs { until } => Timer::Stands { left: (until - time).max(0) },
                    Timer::Guard { limit, .. } => Timer::GuardStands { limit },
                    other @ (Timer::None | Timer::Stands { .. } | Timer::GuardStands { .. }) => {
                        other
                    }
                };
            }
            Kind::Unpaused if !self.is_held => return Err("released without a hold"),
            Kind::Unpaused => {
                self.is_held = false;
                self.timer = match self.timer {
                    Timer::Stands { left } => Timer::Runs { until: time + left },
                    Timer::GuardStands { limit } => Timer::Guard { since: time, limit },
                    other @ (Timer::None | Timer::Runs { .. } | Timer::Guard { .. }) => other,
                };
            }
            Kind::PhaseSucceeded
            | Kind::PhaseSkipped
            | Kind::Succeeded
            | Kind::Aborted
            | Kind::Failed => self.timer = Timer::None,
            Kind::Unspecified
            | Kind::Triggered
            | Kind::Started
            | Kind::ApprovalRecorded
            | Kind::ApprovalRejected
            | Kind::WindowOpened
            | Kind::WindowOverridden
            | Kind::WindowRescheduled
            | Kind::GuardReported => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
