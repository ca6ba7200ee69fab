//! Tells a story: reads its commands, and writes what came of them.

use crate::{
    script::{self, Line},
    world::{BASE, Outcome, Step, World},
};
use phasegate_engine::{
    Event, Refusal, State, deadline,
    event::{Actor, Bypass, Happened, ReleaseEvent, TimerRecord},
    flag::{Flag, Spec},
    id::{EnvironmentId, Group},
    plan::plan,
    refusal::ReleaseRefusal,
    release::{
        GuardVerdict, Held, HeldWait, PauseCause, Release, ReleaseState, ReviewVerdict, Stage, Wait,
    },
    targeting::{Bucketing, Context, exposure},
    time::{Span, Timestamp},
    value::{Object, Value},
};
use std::{collections::BTreeSet, fmt::Write, path::Path};

/// The story as it goes.
pub(crate) fn tell(path: &Path, story: &str) -> String {
    let mut told = String::new();
    let mut before_first_chapter: Vec<&str> = Vec::new();
    let mut in_chapter = false;
    let mut stage = Telling::default();
    for block in story.split("\n\n").map(|block| block.trim_matches('\n')) {
        if block.is_empty() {
            continue;
        }
        let (commands, has_answer) = match block.split_once("\n----") {
            Some((commands, _)) => (commands, true),
            None => (block, false),
        };
        if commands.lines().any(|line| line.starts_with("== ")) {
            in_chapter = true;
            stage = Telling::default();
            for scene in &before_first_chapter {
                stage.perform(path, scene);
            }
        } else if !in_chapter {
            before_first_chapter.push(commands);
        }
        let answer = stage.perform(path, commands);
        told += commands;
        if has_answer {
            let answer = if answer.is_empty() { "(nothing)\n" } else { &answer };
            told += "\n----\n";
            told += answer.trim_end();
        } else {
            let refused = answer.contains("refused: ");
            assert!(!refused, "{}: the scene is not set:\n{commands}\n{answer}", path.display());
        }
        told += "\n\n";
    }
    told.truncate(told.trim_end().len());
    told + "\n"
}

/// The first lines that differ, with what stands around them.
pub(crate) fn difference(path: &Path, expected: &str, actual: &str) -> String {
    let same = expected.lines().zip(actual.lines()).take_while(|(e, a)| e == a).count();
    let part = |text: &str| {
        let lines = text.lines().skip(same.saturating_sub(6)).take(24);
        lines.fold(String::new(), |part, line| part + "    " + line + "\n")
    };
    let (expected, actual) = (part(expected), part(actual));
    let line = same + 1;
    format!("{}:{line}: expected\n{expected}\n  but it goes\n{actual}\n", path.display())
}

#[derive(Debug)]
struct Telling {
    world: World,
    now: Timestamp,
}

impl Default for Telling {
    fn default() -> Self {
        Self { world: World::default(), now: BASE }
    }
}

impl Telling {
    /// Does what a block says and tells what came of it.
    fn perform(&mut self, path: &Path, commands: &str) -> String {
        let spoken = |line: &&str| {
            let line = line.trim_start();
            !line.is_empty() && !line.starts_with('#') && !line.starts_with("== ")
        };
        let mut lines = commands.lines().filter(spoken).peekable();
        let mut told = String::new();
        while let Some(line) = lines.next() {
            assert!(!line.starts_with(' '), "{}: belongs to nothing: {line}", path.display());
            let mut below = Vec::new();
            while let Some(indented) = lines.next_if(|line| line.starts_with(' ')) {
                below.push(indented);
            }
            told += &self.line(script::line(line, &below));
        }
        told
    }

    fn line(&mut self, line: Line) -> String {
        match line {
            Line::Call(at, call) => {
                self.now = at.unwrap_or(self.now);
                let (due, outcome) = self.world.call(call, self.now);
                let due: String = due.iter().map(step_told).collect();
                due + &outcome_told(&outcome)
            }
            Line::Clock(to) => {
                let steps = self.world.turn_clock(self.now, to);
                self.now = to;
                steps.iter().map(step_told).collect()
            }
            Line::Wake { at, limit } => {
                self.now = at;
                self.world.wake(at, limit).iter().map(step_told).collect()
            }
            Line::Fire { at, release, generation } => {
                self.now = at;
                outcome_told(&match generation {
                    None => self.world.fire(&release, at),
                    Some(generation) => self.world.fire_stale(&release, generation, at),
                })
            }
            Line::Show(release) => {
                let release = self.world.state.release(&release).expect("it is in the story");
                shown(release)
            }
            Line::Plan { at, pipeline, schedule } => {
                self.now = at;
                let pipeline = self.world.state.pipeline(&pipeline).expect("it is in the story");
                let start = schedule.map_or(at, |schedule| schedule.max(at));
                let plan = plan(&pipeline.template, start);
                plan.into_iter().fold(String::new(), |told, phase| {
                    told + &match phase.earliest {
                        Some(earliest) => {
                            format!(
                                "{} {} to {}\n",
                                phase.phase,
                                ago(earliest.apply),
                                ago(earliest.end)
                            )
                        }
                        None => format!("{} never\n", phase.phase),
                    }
                })
            }
        }
    }
}

/// A time as the story counts it.
fn ago(at: Timestamp) -> String {
    length(at.since(BASE))
}

fn length(span: Span) -> String {
    let mut left = span.as_millis();
    let mut text = String::new();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)]
    {
        if left >= size {
            write!(text, "{}{unit}", left / size).unwrap();
            left %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

fn outcome_told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused(refusal) => format!("refused: {} - {refusal}\n", code(refusal)),
        Outcome::Nothing => "(nothing)\n".to_owned(),
        Outcome::Committed(step) => step_told(step),
    }
}

fn step_told(step: &Step) -> String {
    let time = ago(step.commit.time);
    let mut told = String::new();
    let mut touched = BTreeSet::new();
    for event in &step.commit.events {
        let line = match event {
            Event::FlagStored(flag) => {
                let before = step.before.flag(&flag.id).map(|flag| &**flag);
                format!("flag {} {}", flag.id, flag_told(before, flag))
            }
            Event::FlagDeleted(flag) => format!("flag {flag} deleted"),
            Event::PipelineStored(pipeline) => format!("pipeline {} stored", pipeline.id),
            Event::PipelineDeleted(pipeline) => format!("pipeline {pipeline} deleted"),
            Event::ReleaseCreated(_) => continue,
            Event::Release(event) => {
                touched.insert((
                    step.after.release(&event.release).unwrap().proposal.created,
                    &event.release,
                ));
                event_told(&step.after, event)
            }
        };
        writeln!(told, "{time} {line}").unwrap();
    }
    for (_, release) in touched {
        let release = step.after.release(release).unwrap();
        writeln!(told, "=> {}", release_told(&step.after, release, step.commit.time)).unwrap();
    }
    told
}

fn flag_told(before: Option<&Flag>, flag: &Flag) -> String {
    let mut told = match before {
        Some(before) if before.spec_revision == flag.spec_revision => "stored".to_owned(),
        Some(_) | None => format!("settled {}", spec_told(&flag.spec)),
    };
    write!(told, " (revision {}, spec {})", flag.revision, flag.spec_revision).unwrap();
    if let Some(pipeline) = &flag.pipeline {
        write!(told, " along {pipeline}").unwrap();
    }
    for (key, value) in &flag.labels {
        write!(told, " {key}={value}").unwrap();
    }
    if flag.kill_switch.is_engaged() {
        told += " killed";
    }
    told
}

fn spec_told(spec: &Spec) -> String {
    match spec {
        Spec::Gate(rules) => {
            let default = if rules.default { "on" } else { "off" };
            rules.rules.iter().fold(default.to_owned(), |told, rule| {
                format!("{told}, {} in {}", rule.value, commas(&rule.targeting.environments))
            })
        }
        Spec::Config(rules) => match rules.default.get("is") {
            Some(Value::String(word)) => word.to_string(),
            other => format!("{other:?}"),
        },
    }
}

fn commas<T: std::fmt::Display>(things: impl IntoIterator<Item = T>) -> String {
    things.into_iter().map(|thing| thing.to_string()).collect::<Vec<_>>().join(", ")
}

fn event_told(state: &State, event: &ReleaseEvent) -> String {
    let release = state.release(&event.release).unwrap();
    let mut told = format!("{} {}", event.release, event_type(&event.happened));
    if let Some(phase) = event.phase() {
        write!(told, " {}", release.phase(phase).id).unwrap();
    }
    told += &details(&event.happened);
    match &event.actor {
        Actor::Engine => told += ", engine",
        Actor::Principal(principal) => write!(told, ", {principal}").unwrap(),
    }
    if let Some(request) = &event.request_id {
        write!(told, " ({request})").unwrap();
    }
    if !event.reason.is_empty() {
        write!(told, ": {}", event.reason).unwrap();
    }
    told
}

fn event_type(happened: &Happened) -> &'static str {
    match happened {
        Happened::Triggered => "TRIGGERED",
        Happened::Started { .. } => "STARTED",
        Happened::PhaseEntered { .. } => "PHASE_ENTERED",
        Happened::ApprovalRecorded { .. } => "APPROVAL_RECORDED",
        Happened::ApprovalRejected { .. } => "APPROVAL_REJECTED",
        Happened::WindowOpened { .. } => "WINDOW_OPENED",
        Happened::WindowRescheduled { .. } => "WINDOW_RESCHEDULED",
        Happened::WindowOverridden { .. } => "WINDOW_OVERRIDDEN",
        Happened::PhaseApplied { .. } => "PHASE_APPLIED",
        Happened::BakeElapsed { .. } => "BAKE_ELAPSED",
        Happened::BakeAdjusted { .. } => "BAKE_ADJUSTED",
        Happened::GuardReported { .. } => "GUARD_REPORTED",
        Happened::PhaseSucceeded { .. } => "PHASE_SUCCEEDED",
        Happened::PhaseSkipped { .. } => "PHASE_SKIPPED",
        Happened::Paused { .. } => "PAUSED",
        Happened::Unpaused { .. } => "UNPAUSED",
        Happened::Succeeded { .. } => "SUCCEEDED",
        Happened::Aborted { .. } => "ABORTED",
        Happened::Failed { .. } => "FAILED",
    }
}

fn details(happened: &Happened) -> String {
    match happened {
        Happened::Started { timer }
        | Happened::WindowOpened { timer, .. }
        | Happened::BakeElapsed { timer, .. }
        | Happened::PhaseSucceeded { timer, .. } => timer_told(timer.as_ref()),
        Happened::ApprovalRecorded { groups, .. } | Happened::ApprovalRejected { groups, .. } => {
            groups_told(groups)
        }
        Happened::BakeAdjusted { remaining, .. } => format!(" to {}", length(*remaining)),
        Happened::GuardReported { guard, verdict, timer, .. } => {
            format!(" {guard} {}{}", verdict_told(*verdict), timer_told(timer.as_ref()))
        }
        Happened::PhaseSkipped { bypass: Bypass::OnRecord, .. } => " (bypass)".to_owned(),
        Happened::WindowOverridden { .. } => " (bypass)".to_owned(),
        Happened::Paused { cause, .. } => cause_told(cause),
        Happened::Succeeded { reason } | Happened::Aborted { reason } => {
            format!(" / {}", upper(reason))
        }
        Happened::Failed { reason, timer } => {
            format!(" / {}{}", upper(reason), timer_told(timer.as_ref()))
        }
        Happened::Triggered
        | Happened::PhaseEntered { .. }
        | Happened::WindowRescheduled { .. }
        | Happened::PhaseApplied { .. }
        | Happened::PhaseSkipped { bypass: Bypass::None, .. }
        | Happened::Unpaused { .. } => String::new(),
    }
}

fn timer_told(timer: Option<&TimerRecord>) -> String {
    match timer {
        None => String::new(),
        Some(timer) if timer.late.is_zero() => " on time".to_owned(),
        Some(TimerRecord { scheduled_for, late }) => {
            format!(" due {}, {} late", ago(*scheduled_for), length(*late))
        }
    }
}

fn groups_told(groups: &[Group]) -> String {
    if groups.is_empty() { String::new() } else { format!(" from {}", commas(groups)) }
}

fn verdict_told(verdict: GuardVerdict) -> &'static str {
    match verdict {
        GuardVerdict::Pass => "PASS",
        GuardVerdict::Fail => "FAIL",
    }
}

fn cause_told(cause: &PauseCause) -> String {
    match cause {
        PauseCause::Requested => String::new(),
        PauseCause::Guard(guard) => format!(" by guard {guard}"),
        PauseCause::Overdue(late) => format!(" overdue by {}", length(*late)),
    }
}

/// The name of a variant as the API writes it.
pub(crate) fn upper(variant: &impl std::fmt::Debug) -> String {
    let mut text = String::new();
    for letter in format!("{variant:?}").chars() {
        if letter.is_uppercase() && !text.is_empty() {
            text.push('_');
        }
        text.push(letter.to_ascii_uppercase());
    }
    text
}

fn release_told(state: &State, release: &Release, now: Timestamp) -> String {
    let mut told = format!("{} {} |", release.id(), standing_told(release));
    for (phase, progress) in release.phases().iter().zip(&release.progress.phases) {
        let applied = if progress.applied { "+" } else { "" };
        let bypassed = if progress.bypassed { "!" } else { "" };
        write!(told, " {} {}{applied}{bypassed},", phase.id, upper(&progress.state)).unwrap();
    }
    told.pop();
    write!(told, " | {} | ", exposed_told(state, release)).unwrap();
    match deadline(release, now) {
        None => told += "no timer",
        Some(timer) => {
            let generation = release.progress.timer_generation;
            write!(told, "timer {generation}: {:?} at {}", timer.kind, ago(timer.at)).unwrap();
        }
    }
    told
}

fn standing_told(release: &Release) -> String {
    let state = upper(&release.state());
    match &release.progress.stage {
        Stage::Pending => match release.proposal.schedule_time {
            Some(at) => format!("{state} not before {}", ago(at)),
            None => state,
        },
        Stage::Running { phase, wait } => {
            let at = &release.phase(*phase).id;
            let wait = match wait {
                Wait::Approval { expires } => {
                    let missing = release.approvals_missing(*phase);
                    let until = expires.map(|at| format!(" until {}", ago(at)));
                    format!("{missing} missing{}", until.unwrap_or_default())
                }
                Wait::Window { opens: Some(at) } => format!("opens {}", ago(*at)),
                Wait::Window { opens: None } => "no opening in sight".to_owned(),
                Wait::Bake { ends } => format!("until {}", ago(*ends)),
                Wait::Guards { ended, since } if ended == since => {
                    format!("over since {}, a guard owes a PASS", ago(*ended))
                }
                Wait::Guards { ended, since } => {
                    format!("over since {}, a guard owes a PASS since {}", ago(*ended), ago(*since))
                }
            };
            format!("{state} {at}, {wait}")
        }
        Stage::Paused { held: Held::Pending, .. } => format!("{state} held PENDING"),
        Stage::Paused { held: Held::Running { phase, wait }, .. } => {
            let at = &release.phase(*phase).id;
            let held = upper(&release.held_state().unwrap());
            let left = match wait {
                HeldWait::Approval { remaining } => {
                    let missing = release.approvals_missing(*phase);
                    let left = remaining.map(|left| format!(", {} left", length(left)));
                    format!(", {missing} missing{}", left.unwrap_or_default())
                }
                HeldWait::Window => String::new(),
                HeldWait::Bake { remaining } => format!(", {} left", length(*remaining)),
                HeldWait::Guards { ended } => format!(", over since {}", ago(*ended)),
            };
            format!("{state} {at}, held {held}{left}")
        }
        Stage::Over { reason, .. } => format!("{state} / {}", upper(reason)),
    }
}

/// Environments that see the change because of this release.
fn exposed_told(state: &State, release: &Release) -> String {
    if release.state() == ReleaseState::Succeeded {
        let flag = state.flag(&release.proposal.flag);
        let settled = flag.is_some_and(|flag| flag.spec == release.proposal.change);
        return if settled { "everyone" } else { "nobody" }.to_owned();
    }
    let template = &release.proposal.pipeline.template;
    let phases =
        template.phases.iter().map(|phase| EnvironmentId::parse(phase.id.as_str()).unwrap());
    let environments = template.exempt_environments.iter().cloned().chain(phases);
    let nobody = Object::new();
    let exposed = environments.filter(|environment| {
        let context = Context { environment, attributes: &nobody };
        exposure(release, &context, Bucketing::V3).is_some()
    });
    let exposed = commas(exposed);
    if exposed.is_empty() { "nobody".to_owned() } else { exposed }
}

fn shown(release: &Release) -> String {
    let progress = &release.progress;
    let or_never = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), ago);
    let mut told = format!(
        "{} revision {} created {} started {} updated {}\n",
        release.id(),
        progress.revision,
        ago(release.proposal.create_time),
        or_never(progress.start_time),
        ago(progress.update_time),
    );
    if let Stage::Paused { by, .. } = &progress.stage {
        let actor = match &by.actor {
            Actor::Engine => "engine",
            Actor::Principal(principal) => principal.as_str(),
        };
        let phase = by.phase.map_or("-", |phase| release.phase(phase).id.as_str());
        let (time, cause) = (ago(by.time), cause_told(&by.cause));
        let (revision, ordinal, reason) = (by.revision, by.ordinal, &by.reason);
        writeln!(
            told,
            "  paused {time} by {actor} at {phase}{cause} (event {revision}-{ordinal}): {reason}"
        )
        .unwrap();
    }
    if let Stage::Over { reason, time } = &progress.stage {
        writeln!(told, "  ended {} {}", ago(*time), upper(reason)).unwrap();
    }
    for (phase, progress) in release.phases().iter().zip(&progress.phases) {
        writeln!(
            told,
            "  {} entered {} applied {} ended {}",
            phase.id,
            or_never(progress.enter_time),
            or_never(progress.apply_time),
            or_never(progress.end_time),
        )
        .unwrap();
        for review in &progress.reviews {
            let verdict = match review.verdict {
                ReviewVerdict::Approved => "approved",
                ReviewVerdict::Rejected => "rejected",
            };
            writeln!(
                told,
                "    {} {verdict} {}{} (event {}-{}), then {}: {}",
                review.principal,
                ago(review.time),
                groups_told(&review.groups),
                review.revision,
                review.ordinal,
                upper(&review.state_after),
                review.reason,
            )
            .unwrap();
        }
        for (guard, status) in phase.guards.iter().zip(&progress.guards) {
            let verdict = status.verdict.map_or("-", verdict_told);
            let (time, message) = (or_never(status.report_time), &status.message);
            writeln!(told, "    {} {verdict} {time}: {message}", guard.id).unwrap();
        }
    }
    told.lines().fold(String::new(), |told, line| told + line.trim_end() + "\n")
}

/// The reason of a refusal, as clients see it.
pub(crate) fn code(refusal: &Refusal) -> String {
    match refusal {
        Refusal::NotFound(_) => "RESOURCE_NOT_FOUND".to_owned(),
        Refusal::Exists(_) => "RESOURCE_EXISTS".to_owned(),
        Refusal::InvalidField { .. } => "INVALID_FIELD".to_owned(),
        Refusal::StaleEtag { .. } => "ETAG_MISMATCH".to_owned(),
        Refusal::InUse { .. } => "RESOURCE_IN_USE".to_owned(),
        Refusal::FlagLocked { .. } => "FLAG_LOCKED".to_owned(),
        Refusal::PipelineRequired { .. } => "PIPELINE_REQUIRED".to_owned(),
        Refusal::ActiveReleaseExists { .. } => "ACTIVE_RELEASE_EXISTS".to_owned(),
        Refusal::QueueFull { .. } => "QUEUE_FULL".to_owned(),
        Refusal::BaseChanged { .. } => "BASE_CHANGED".to_owned(),
        Refusal::NoChange { .. } => "NO_CHANGE".to_owned(),
        Refusal::Release { why, .. } => match why {
            ReleaseRefusal::NoSuchPart(_) => "RESOURCE_NOT_FOUND",
            ReleaseRefusal::StaleEtag => "ETAG_MISMATCH",
            ReleaseRefusal::Over => "RELEASE_OVER",
            ReleaseRefusal::NotStarted => "RELEASE_NOT_STARTED",
            ReleaseRefusal::Paused => "RELEASE_PAUSED",
            ReleaseRefusal::AlreadyPaused => "ALREADY_PAUSED",
            ReleaseRefusal::NotPaused => "NOT_PAUSED",
            ReleaseRefusal::PhaseNotCurrent(_) => "PHASE_NOT_CURRENT",
            ReleaseRefusal::PhaseNotAwaitingApproval(_) => "PHASE_NOT_AWAITING_APPROVAL",
            ReleaseRefusal::PhaseNotAwaitingWindow(_) => "PHASE_NOT_AWAITING_WINDOW",
            ReleaseRefusal::PhaseNotBaking(_) => "PHASE_NOT_BAKING",
            ReleaseRefusal::NotAnApprover(_) => "NOT_AN_APPROVER",
            ReleaseRefusal::SelfApproval => "SELF_APPROVAL",
            ReleaseRefusal::AlreadyReviewed(_) => "ALREADY_REVIEWED",
            ReleaseRefusal::ApprovalPending(_) => "APPROVAL_PENDING",
            ReleaseRefusal::WindowClosed(_) => "WINDOW_CLOSED",
        }
        .to_owned(),
    }
}
