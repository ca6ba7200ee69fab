//! The model against the tables themselves: `scenarios/tables/` is what the document shows, and what the
//! engine is held against elsewhere. Whoever changes a cell there changes the model too.

use crate::{
    cells::Reached,
    model::{Fired, Model, Outcome},
    stories,
    words::{
        Act, Approval, BASE, Base, Call, End, Etag, Group, Guard, Kind, MINUTE, Ms, Person, Phase,
        Policy, Reason, Spec, State, Step, Template, Trigger, Verb, Verdict, What, Window,
    },
};

const A: &str = include_str!("../scenarios/tables/a-approve-hold-abort.txt");
const B: &str = include_str!("../scenarios/tables/b-skip-window-bake.txt");
const C: &str = include_str!("../scenarios/tables/c-full-rollout.txt");
const D: &str = include_str!("../scenarios/tables/d-guard-signals.txt");
const E: &str = include_str!("../scenarios/tables/e-timers.txt");

const SECOND: Ms = 1000;
/// The phase at which the releases of the tables stand.
const CURRENT: usize = 1;
const EARLIER: usize = 0;

/// A cell: row, column and text. The row of all ends is three.
fn cells(table: &'static str) -> Vec<(&'static str, &'static str, &'static str)> {
    let split = |line: &'static str| line.split('|').map(str::trim).collect::<Vec<_>>();
    let mut lines = table.lines().filter(|line| !line.starts_with(['#', '-'])).map(split);
    let columns = lines.next().expect("a row of names");
    let rows = lines.flat_map(|row| {
        let names = match row[0] {
            "SUCCEEDED, ABORTED, FAILED" => row[0].split(", ").collect(),
            name => vec![name],
        };
        let columns = columns.clone();
        names.into_iter().flat_map(move |name| {
            let texts = columns.clone().into_iter().zip(row.clone()).skip(1);
            texts.map(move |(column, text)| (name, column, text)).collect::<Vec<_>>()
        })
    });
    rows.collect()
}

/// The pipeline of the tables.
fn template(row: &str) -> Template {
    let guard = |must_pass, timeout| Guard { must_pass, timeout, fails: false };
    let phase = |approval, window, guards| Phase {
        everyone: false,
        bake: 10 * SECOND,
        approval,
        window,
        guards,
    };
    let approval = |min, expiry| {
        let (quotas, reviewers) = (Vec::new(), Vec::new());
        Some(Approval { min, quotas, reviewers, allows_self: false, expiry })
    };
    let span = if row.contains("AWAITING_WINDOW") { (720, 780) } else { (0, 1440) };
    let window = Window { weekly: vec![((0..7).collect(), span.0, span.1)], blackouts: Vec::new() };
    let second_guard =
        if row.contains("elapsed") { guard(true, Some(7 * SECOND)) } else { guard(false, None) };
    let mut phases = vec![
        phase(None, None, vec![guard(false, None)]),
        phase(approval(2, Some(60 * MINUTE)), Some(window), vec![second_guard]),
    ];
    if !row.contains("last phase") {
        phases.push(phase(approval(1, None), None, Vec::new()));
    }
    Template { phases, exempts_staging: false }
}

/// Who triggers, and others.
const TIM: Person = Person(0);
const ANN: Person = Person(1);
const BOB: Person = Person(2);
const CID: Person = Person(3);

fn call(model: &mut Model, second: Ms, who: Person, verb: Verb) {
    let call = Call { who, groups: vec![Group(0)], verb };
    model.step(&Step { at: BASE + second * SECOND, what: What::Call(call) });
}

fn act(model: &mut Model, second: Ms, who: Person, act: Act) {
    call(model, second, who, Verb::Steer { release: 1, etag: Etag::None, act });
}

fn walk(model: &mut Model, second: Ms) {
    model.step(&Step { at: BASE + second * SECOND, what: What::Walk });
}

fn trigger(model: &mut Model, release: usize, policy: Policy) {
    let change = Spec::Config { all: 1, staging: None };
    let (flag, pipeline, base, schedule) = (0, None, Base::Unchecked, None);
    let wish = Trigger { release, flag, pipeline, change, base, schedule, policy };
    call(model, 0, TIM, Verb::Trigger(wish));
}

/// A release that stands where the row says, at the thirtieth second.
fn stand(row: &str) -> Model {
    let templates = vec![template(row), template(row)];
    let mut model = stories::scene(templates, &[Some(0)], None, BASE);
    if row.contains("PENDING") {
        trigger(&mut model, 2, Policy::Fail);
        trigger(&mut model, 1, Policy::Queue);
    } else {
        trigger(&mut model, 1, Policy::Fail);
        walk(&mut model, 10);
    }
    let approvals = match row {
        _ if row.contains("1 of 2") => 1,
        _ if row.contains("WINDOW") || row.contains("BAKING") => 2,
        _ => 0,
    };
    for who in [ANN, CID].into_iter().take(approvals) {
        act(&mut model, 11, who, Act::Approve { phase: CURRENT });
    }
    let rollout = Act::Rollout { bypass: true, override_windows: true };
    match row {
        "SUCCEEDED" => act(&mut model, 12, TIM, rollout),
        "ABORTED" => act(&mut model, 12, TIM, Act::Abort),
        "FAILED" => walk(&mut model, 2 * 3600),
        _ if row.contains("elapsed") => walk(&mut model, 22),
        _ => {}
    }
    if row.starts_with("PAUSED") {
        act(&mut model, if row.contains("elapsed") { 23 } else { 13 }, TIM, Act::Pause);
    }
    assert_eq!(model.release(1).row(), row, "the way to this row");
    model
}

fn act_of(column: &str) -> Act {
    let (current, earlier) = (CURRENT, EARLIER);
    let rollout = |bypass, override_windows| Act::Rollout { bypass, override_windows };
    let report = |phase, verdict| Act::Report { phase, guard: 0, verdict };
    match column {
        "ApprovePhase(current) by bob" => Act::Approve { phase: current },
        "ApprovePhase(other phase)" => Act::Approve { phase: earlier },
        "RejectPhase(current)" => Act::Reject { phase: current },
        "PauseRelease" => Act::Pause,
        "UnpauseRelease" => Act::Unpause,
        "AbortRelease" => Act::Abort,
        "SkipPhase(current)" => Act::Skip { phase: current, bypass: false },
        "SkipPhase + bypass_approval" => Act::Skip { phase: current, bypass: true },
        "SkipPhase(other phase)" => Act::Skip { phase: earlier, bypass: true },
        "OverrideWindow(current)" => Act::Override { phase: current },
        "AdjustBake(current, 3 s)" => Act::Bake { phase: current, left: 3 * SECOND },
        "AdjustBake(current, 0 s)" => Act::Bake { phase: current, left: 0 },
        "FullRollout" => rollout(false, false),
        "+ bypass_approval" => rollout(true, false),
        "+ bypass_approval + override_windows" => rollout(true, true),
        "FAIL, current phase" => report(current, Verdict::Fail),
        "PASS, current phase" => report(current, Verdict::Pass),
        "FAIL, earlier phase, applied" => report(earlier, Verdict::Fail),
        "PASS, earlier phase" => report(earlier, Verdict::Pass),
        _ => panic!("the tables have a new column, {column}"),
    }
}

fn kind_of(column: &str) -> Kind {
    match column {
        "bake end" => Kind::Bake,
        "approval expiry" => Kind::Expiry,
        "window opens" => Kind::Window,
        "guard's pass_timeout (on_fail PAUSE)" => Kind::Guard,
        _ => panic!("the table of timers has a new column, {column}"),
    }
}

/// A word of the model as the document writes it.
fn upper(word: &impl std::fmt::Debug) -> String {
    let text = format!("{word:?}");
    let mut upper = String::new();
    for letter in text.chars().take_while(|letter| letter.is_alphabetic()) {
        if letter.is_uppercase() && !upper.is_empty() {
            upper.push('_');
        }
        upper.push(letter.to_ascii_uppercase());
    }
    upper
}

/// Whether what happened is what a cell says.
fn is_said(text: &str, before: &Model, after: &Model) -> bool {
    let (old, new) = (&before.release(1).standing, &after.release(1).standing);
    let outcome = &after.said.outcome;
    if let Some(reason) = text.strip_prefix("✗ ") {
        return outcome.reason().is_some_and(|actual| upper(actual) == reason) && old == new;
    }
    let has_committed = !after.said.commits.is_empty() && *outcome != Outcome::Nothing;
    let by_timer = !after.said.fired.is_empty();
    let missing = new.phase.map(|phase| after.release(1).approvals_missing(phase));
    let left = new.left.or_else(|| new.until.map(|until| until - after.now)).unwrap_or(0);
    let is_state = |word: &str| upper(&new.state) == word;
    let is_same_phase = new.phase == old.phase;
    let is_next = new.phase == old.phase.map(|phase| phase + 1);
    let said = |suffix: &str| text.strip_suffix(suffix).is_some_and(is_state);
    (has_committed || by_timer)
        && (text.split_once(" / ").is_some_and(|(state, end)| {
            is_state(state) && new.end.is_some_and(|actual: End| upper(&actual) == end)
        }) || text.split_once(" (held ").is_some_and(|(state, held)| {
            is_state(state)
                && new.held.is_some_and(|actual: State| format!("{})", upper(&actual)) == held)
        }) || (said(" (recorded)") && new.state == old.state && is_same_phase)
            || (said(" (1 of 2)") && missing == Some(1) && is_same_phase)
            || (said(" of the next phase") && is_next)
            || (said(", 3 s left") && left == 3 * SECOND)
            || (said(", 0 s left") && left == 0)
            || (is_state(text) && is_same_phase))
}

#[test]
fn the_model_says_what_the_tables_of_calls_say() {
    for (row, column, text) in [A, B, C, D].into_iter().flat_map(cells) {
        let before = stand(row);
        let mut after = before.clone();
        act(&mut after, (before.now - BASE) / SECOND, BOB, act_of(column));
        let (standing, said) = (&after.release(1).standing, &after.said);
        assert!(
            is_said(text, &before, &after),
            "{row}, {column}: {text}, not {said:?} {standing:?}"
        );
        assert_eq!(said.cell, Some((row, column)), "the name of the cell");
    }
}

#[test]
fn the_model_says_what_the_table_of_timers_says() {
    for (row, column, text) in cells(E) {
        let before = stand(row);
        let timer = before.release(1).timer(before.now);
        let Some((_, at)) = timer.filter(|(kind, _)| *kind == kind_of(column)) else {
            assert_eq!(text, "-", "{row}, {column}: no such timer");
            continue;
        };
        let mut after = before.clone();
        after.step(&Step { at, what: What::Walk });
        let (standing, said) = (&after.release(1).standing, &after.said);
        assert!(
            is_said(text, &before, &after),
            "{row}, {column}: {text}, not {said:?} {standing:?}"
        );
    }
}

/// What every run of stories has to reach besides the tables that are files: the table of triggers,
const TRIGGERS: [(&str, &str, &str); 16] = [
    ("no active release", "FAIL", "done"),
    ("no active release", "FAIL", "NO_CHANGE"),
    ("no active release", "QUEUE", "done"),
    ("no active release", "QUEUE", "NO_CHANGE"),
    ("no active release", "SUPERSEDE", "done"),
    ("active release", "FAIL", "ACTIVE_RELEASE_EXISTS"),
    ("active release", "QUEUE", "done"),
    ("active release", "SUPERSEDE", "done"),
    ("active release", "SUPERSEDE", "NO_CHANGE"),
    ("active release, ten are PENDING", "FAIL", "ACTIVE_RELEASE_EXISTS"),
    ("active release, ten are PENDING", "QUEUE", "QUEUE_FULL"),
    ("active release, ten are PENDING", "SUPERSEDE", "done"),
    ("schedule_time ahead", "FAIL", "done"),
    ("schedule_time ahead", "QUEUE", "done"),
    ("schedule_time ahead, ten are PENDING", "FAIL", "QUEUE_FULL"),
    ("schedule_time ahead, ten are PENDING", "QUEUE", "QUEUE_FULL"),
];
/// the timers that act late or hold their release,
const TIMERS: [(Kind, &[Fired]); 5] = [
    (Kind::Start, &[Fired::OnTime, Fired::Late, Fired::Held, Fired::Early, Fired::Nothing]),
    (Kind::Expiry, &[Fired::OnTime, Fired::Late, Fired::Early]),
    (Kind::Window, &[Fired::OnTime, Fired::Late, Fired::Held, Fired::Early, Fired::Nothing]),
    (Kind::Bake, &[Fired::OnTime, Fired::Late, Fired::Held, Fired::Early]),
    (Kind::Guard, &[Fired::OnTime, Fired::Late, Fired::Early]),
];
/// all answers,
const ANSWERS: [&str; 27] = [
    "done",
    "nothing",
    "RESOURCE_NOT_FOUND",
    "RESOURCE_EXISTS",
    "RESOURCE_IN_USE",
    "INVALID_FIELD",
    "ETAG_MISMATCH",
    "FLAG_LOCKED",
    "PIPELINE_REQUIRED",
    "ACTIVE_RELEASE_EXISTS",
    "QUEUE_FULL",
    "BASE_CHANGED",
    "NO_CHANGE",
    "RELEASE_OVER",
    "RELEASE_NOT_STARTED",
    "RELEASE_PAUSED",
    "ALREADY_PAUSED",
    "NOT_PAUSED",
    "PHASE_NOT_CURRENT",
    "PHASE_NOT_AWAITING_APPROVAL",
    "PHASE_NOT_AWAITING_WINDOW",
    "PHASE_NOT_BAKING",
    "NOT_AN_APPROVER",
    "SELF_APPROVAL",
    "ALREADY_REVIEWED",
    "APPROVAL_PENDING",
    "WINDOW_CLOSED",
];
/// all ends,
const ENDS: [End; 8] = [
    End::AllPhasesDone,
    End::FullRollout,
    End::AbortRequested,
    End::ApprovalRejected,
    End::Superseded,
    End::ApprovalExpired,
    End::GuardFailed,
    End::BaseChanged,
];
/// and all events.
const EVENTS: [&str; 19] = [
    "TRIGGERED",
    "STARTED",
    "PHASE_ENTERED",
    "APPROVAL_RECORDED",
    "APPROVAL_REJECTED",
    "WINDOW_OPENED",
    "WINDOW_RESCHEDULED",
    "WINDOW_OVERRIDDEN",
    "PHASE_APPLIED",
    "BAKE_ELAPSED",
    "BAKE_ADJUSTED",
    "GUARD_REPORTED",
    "PHASE_SUCCEEDED",
    "PHASE_SKIPPED",
    "PAUSED",
    "UNPAUSED",
    "SUCCEEDED",
    "ABORTED",
    "FAILED",
];

/// How often everything that has to be reached was: of every cell its refusal where it is one, and that
/// it was done where it is none; a timer of every row that has one; and what is listed above. The
/// rarest come first.
pub(crate) fn needed(reached: &Reached) -> Vec<(usize, String)> {
    let mut counts = Vec::new();
    let mut need = |count: Option<&usize>, what: &dyn std::fmt::Debug| {
        counts.push((count.copied().unwrap_or(0), format!("{what:?}")));
    };
    let of_files = [A, B, C, D].into_iter().flat_map(cells);
    let of_files = of_files
        .map(|(row, column, text)| (row, column, text.strip_prefix("✗ ").unwrap_or("done")));
    for cell in of_files.chain(TRIGGERS) {
        let (row, column, answer) = cell;
        need(reached.cells.get(&(row, column, answer.to_owned())), &cell);
    }
    for (row, column, text) in cells(E) {
        need(reached.timers.get(&(row, None, Fired::Dropped)), &(row, "a stale timer"));
        for fired in [Fired::OnTime, Fired::Late, Fired::Early] {
            let timer = (row, Some(kind_of(column)), fired);
            if text != "-" {
                need(reached.timers.get(&timer), &timer);
            }
        }
    }
    for (kind, ways) in TIMERS {
        for way in ways {
            let mut timers = reached.timers.iter();
            let of_kind = timers.find(|((_, k, w), _)| (k, w) == (&Some(kind), way));
            need(of_kind.map(|(_, count)| count), &(kind, way));
        }
    }
    ANSWERS.iter().for_each(|answer| need(reached.answers.get(*answer), answer));
    ENDS.iter().for_each(|end| need(reached.ends.get(end), end));
    EVENTS.iter().for_each(|event| need(reached.events.get(event), event));
    counts.sort();
    counts
}

/// A reason as the document writes it.
pub(crate) fn reason_name(reason: &Reason) -> String {
    upper(reason)
}
