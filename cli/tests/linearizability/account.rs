//! What is told about histories: figures of those that have a legal order, and of one that has none
//! how far it can be ordered and what then fits nowhere.

use crate::{
    checker::{Operation, Outcome, Specification as _, Stuck},
    operation::{Answer, Ask, Brief, Call},
    specification::{Legal, OneRelease, Standing},
};
use std::{collections::BTreeMap, fmt, fmt::Write as _, time::Duration};

type History = [Operation<Call, Answer>];

/// How much of a long order is told.
const TOLD_MAX: usize = 12;

/// An order that was found.
pub(crate) struct Found {
    pub(crate) specification: OneRelease,
    pub(crate) initial: Standing,
    pub(crate) order: Vec<usize>,
    pub(crate) steps: u64,
    pub(crate) time: Duration,
}

/// What happened in all rounds.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    histories: usize,
    operations: usize,
    kills: usize,
    unknown: usize,
    /// Unknown ones that have a place in the order that was found.
    unknown_with_effect: usize,
    /// Accepted without doing anything, because they were done before.
    replays: usize,
    /// What was answered how often.
    answers: BTreeMap<String, usize>,
    steps: u64,
    most_steps: u64,
    time: Duration,
    longest: Duration,
}

impl Figures {
    pub(crate) fn add(&mut self, history: &History, kills: usize, found: &Found) {
        let Found { specification, initial, order, steps, time } = found;
        self.histories += 1;
        self.operations += history.len();
        self.kills += kills;
        self.steps += steps;
        self.most_steps = self.most_steps.max(*steps);
        self.time += *time;
        self.longest = self.longest.max(*time);
        for operation in history {
            let answer = match &operation.outcome {
                Outcome::Answered(Answer::Release(_)) => "OK".to_owned(),
                Outcome::Answered(Answer::Log(_)) => "OK, log".to_owned(),
                Outcome::Answered(Answer::Valid(_)) => "OK, valid".to_owned(),
                Outcome::Answered(Answer::Refused(no)) => no.reason.clone(),
                Outcome::Unknown => {
                    self.unknown += 1;
                    continue;
                }
            };
            *self.answers.entry(answer).or_default() += 1;
        }
        let mut state = initial.clone();
        for &place in order {
            let operation = &history[place];
            let after = step(specification, &state, operation).expect("it was found to be legal");
            match &operation.outcome {
                Outcome::Unknown => self.unknown_with_effect += 1,
                Outcome::Answered(Answer::Release(_)) if after.is_still(&state) => {
                    self.replays += usize::from(matches!(operation.call.ask, Ask::Act(_)));
                }
                Outcome::Answered(_) => {}
            }
            state = after;
        }
    }

    /// A test that never came to what it is about has shown nothing.
    pub(crate) fn assert_everything_happened(&self) {
        assert!(self.unknown > 0 && self.unknown_with_effect > 0, "kills hit calls: {self}");
        assert!(self.replays > 0, "requests were repeated: {self}");
        for reason in ["ETAG_MISMATCH", "REQUEST_ID_REUSED", "ALREADY_PAUSED", "RELEASE_OVER"] {
            assert!(self.answers.contains_key(reason), "{reason} was answered: {self}");
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { histories, operations, kills, unknown, unknown_with_effect, .. } = self;
        let Self { replays, steps, most_steps, time, longest, .. } = self;
        writeln!(
            f,
            "{histories} histories, all with a legal order: {operations} operations, {kills} kills, \
             {unknown} unknown outcomes ({unknown_with_effect} with an effect), {replays} replays"
        )?;
        writeln!(
            f,
            "searches: {steps} steps, at most {most_steps}; {time:.1?} in all, at most {longest:.1?}"
        )?;
        let answers: Vec<String> =
            self.answers.iter().map(|(answer, count)| format!("{answer} {count}")).collect();
        write!(f, "answers: {}", answers.join(", "))
    }
}

fn step(
    specification: &OneRelease,
    state: &Standing,
    operation: &Operation<Call, Answer>,
) -> Option<Standing> {
    match &operation.outcome {
        Outcome::Answered(answer) => specification.answered(state, &operation.call, answer),
        Outcome::Unknown => specification.unanswered(state, &operation.call),
    }
}

/// The revision of the whole store never goes back from one read to a later one, and is never behind
/// that of the release.
pub(crate) fn store_revisions(history: &History) -> Result<(), String> {
    let mut reads: Vec<(u64, i64)> = Vec::new();
    for operation in history {
        let Outcome::Answered(Answer::Release(seen)) = &operation.outcome else { continue };
        let Some(head) = seen.head else { continue };
        let earlier = reads.iter().filter(|(ended, _)| *ended < operation.began);
        let least = earlier.map(|(_, head)| *head).max().unwrap_or(0).max(seen.revision);
        if head < least {
            let told = Told(operation);
            return Err(format!(
                "the store was at r{least} already, and then at r{head}:\n  {told}"
            ));
        }
        reads.push((operation.ended, head));
    }
    Ok(())
}

/// How far a history could be ordered, and what then fits nowhere.
pub(crate) fn stuck(
    history: &History,
    stuck: &Stuck,
    specification: &OneRelease,
    initial: Standing,
) -> String {
    let mut text = String::new();
    let Stuck { order, open } = stuck;
    let known = history.iter().filter(|o| matches!(o.outcome, Outcome::Answered(_))).count();
    let left_out = order.len().saturating_sub(TOLD_MAX);
    let _ = writeln!(
        text,
        "the longest legal order has {} of {} operations ({known} of them answered); it ends with",
        order.len(),
        history.len(),
    );
    let mut state = initial;
    for (index, &place) in order.iter().enumerate() {
        let operation = &history[place];
        if index >= left_out {
            let _ = writeln!(text, "  {}", Told(operation));
        }
        state = step(specification, &state, operation).expect("it was found to be legal");
    }
    let known = |state: &Standing| {
        state.revision().map_or_else(String::new, |revision| format!("r{revision} "))
    };
    let _ = writeln!(text, "then the release is\n  {}{}", known(&state), Brief(state.shown()));
    let _ =
        writeln!(text, "this was under way and cannot come next; the first has no place at all:");
    for &place in open {
        let operation = &history[place];
        let (after, legal) = specification.judge(&state, &operation.call);
        let legal = match legal {
            Legal::Release(release) => Brief(&release).to_string(),
            Legal::Log(log) => format!("{} events", log.length),
            Legal::Valid(release) => format!("valid: {}", Brief(&release)),
            Legal::Refused(no) => Answer::Refused(no).to_string(),
        };
        let known = known(&after);
        let _ = writeln!(text, "  {}\n      here it would be {known}{legal}", Told(operation));
    }
    if let Some(last) = open.first().and_then(|place| last_answered_before(history, *place)) {
        let _ = writeln!(text, "before the first began, this had been answered:\n  {}", Told(last));
    }
    text
}

/// Of what had ended before an operation began, what told the largest revision: if that is larger
/// than what the operation tells, something was lost.
fn last_answered_before(history: &History, place: usize) -> Option<&Operation<Call, Answer>> {
    let ended = history.iter().filter(|operation| operation.ended < history[place].began);
    ended.filter(|operation| revision(operation).is_some()).max_by_key(|o| revision(o))
}

/// The revision of the release that was answered.
fn revision(operation: &Operation<Call, Answer>) -> Option<i64> {
    match &operation.outcome {
        Outcome::Answered(Answer::Release(seen)) => Some(seen.revision),
        Outcome::Answered(Answer::Refused(no)) => no.revision,
        Outcome::Answered(Answer::Log(_) | Answer::Valid(_)) | Outcome::Unknown => None,
    }
}

/// The whole history in lines.
pub(crate) fn told(history: &History) -> String {
    history.iter().fold(String::new(), |mut text, operation| {
        let _ = writeln!(text, "{}", Told(operation));
        text
    })
}

/// An operation in a line.
struct Told<'a>(&'a Operation<Call, Answer>);

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Operation { call, began, ended, outcome } = self.0;
        write!(f, "[{began}, {ended}] {call} -> ")?;
        match outcome {
            Outcome::Answered(answer) => answer.fmt(f),
            Outcome::Unknown => f.write_str("no answer"),
        }
    }
}
