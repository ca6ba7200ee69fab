//! The words of a story, made into commands. The grammar stands in `main.rs`.

use phasegate_engine::{
    command::{
        Action, Call, Caller, ConflictPolicy, Expected, FlagChange, Gate, PipelineChange, SwitchTo,
        Trigger,
    },
    flag::{Labels, Rule, Rules, Spec},
    id::{
        EnvironmentId, Group, GuardId, PhaseId, Principal, ReleaseId, RequestId, Revision, RuleId,
    },
    pipeline::{
        ApprovalRequirement, Guard, OnFail, PassRequirement, Phase, Quota, SelfApproval, Template,
    },
    release::GuardVerdict,
    targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
    time::{Span, Timestamp},
    value::{Object, Value},
    window::{Blackout, ReleaseWindows, TimeOfDay, Weekly},
};
use std::{collections::BTreeMap, sync::Arc};

use crate::world::BASE;

/// One line of a story.
#[derive(Debug)]
pub(crate) enum Line {
    /// A call. Without a time: whenever the story is.
    Call(Option<Timestamp>, Call),
    /// Time goes by.
    Clock(Timestamp),
    /// Everything due fires at once.
    Wake { at: Timestamp, limit: Option<Span> },
    /// One timer, of this generation or as it is armed.
    Fire { at: Timestamp, release: ReleaseId, generation: Option<u64> },
    /// Everything about a release.
    Show(ReleaseId),
    /// The plan of a trigger.
    Plan { at: Timestamp, pipeline: phasegate_engine::id::PipelineId, schedule: Option<Timestamp> },
}

/// The words that are left of a line.
struct Words<'a> {
    left: Vec<&'a str>,
    line: &'a str,
}

impl<'a> Words<'a> {
    fn new(line: &'a str) -> Self {
        Self { left: line.split_whitespace().collect(), line }
    }

    fn next(&mut self) -> &'a str {
        assert!(!self.left.is_empty(), "the line ends too early: {}", self.line);
        self.left.remove(0)
    }

    /// Takes a word if it is the next.
    fn takes(&mut self, word: &str) -> bool {
        let found = self.left.first() == Some(&word);
        if found {
            self.left.remove(0);
        }
        found
    }

    /// Takes a word wherever it is.
    fn has(&mut self, word: &str) -> bool {
        let place = self.left.iter().position(|known| *known == word);
        if let Some(place) = place {
            self.left.remove(place);
        }
        place.is_some()
    }

    /// Takes a word and the one after it, wherever they are.
    fn option(&mut self, word: &str) -> Option<&'a str> {
        let place = self.left.iter().position(|known| *known == word)?;
        self.left.remove(place);
        assert!(place < self.left.len(), "{word} wants a word: {}", self.line);
        Some(self.left.remove(place))
    }

    /// Takes two words that stand together, wherever they are.
    fn pair(&mut self, first: &str, second: &str) -> bool {
        let place = self.left.windows(2).position(|two| two == [first, second]);
        if let Some(place) = place {
            self.left.drain(place..place + 2);
        }
        place.is_some()
    }

    fn end(self) {
        assert!(self.left.is_empty(), "{:?} is not understood: {}", self.left, self.line);
    }
}

/// `1d2h3m4s5ms`.
pub(crate) fn span(text: &str) -> Option<Span> {
    let mut rest = text;
    let mut millis = 0;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let number: i64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit());
        let unit = &rest[digits..unit_end.map_or(rest.len(), |end| digits + end)];
        millis += number
            * match unit {
                "d" => 86_400_000,
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1000,
                "ms" => 1,
                _ => return None,
            };
        rest = &rest[digits + unit.len()..];
    }
    (!text.is_empty()).then(|| Span::from_millis(millis))
}

fn time(text: &str) -> Option<Timestamp> {
    span(text).map(|span| BASE + span)
}

fn must_time(text: &str) -> Timestamp {
    time(text).unwrap_or_else(|| panic!("no time: {text}"))
}

fn must_span(text: &str) -> Span {
    span(text).unwrap_or_else(|| panic!("no span: {text}"))
}

/// Reads a line and the indented ones below it.
pub(crate) fn line(line: &str, below: &[&str]) -> Line {
    let (line, reason) = match line.split_once(" because ") {
        Some((line, reason)) => (line, reason),
        None => (line, ""),
    };
    // Groups stand in brackets behind the caller.
    let (line, groups) = match (line.find('('), line.find(')')) {
        (Some(from), Some(to)) => {
            let groups = line[from + 1..to].split_whitespace().map(Group::new).collect();
            (format!("{}{}", &line[..from], &line[to + 1..]), groups)
        }
        _ => (line.to_owned(), Vec::new()),
    };
    let mut words = Words::new(&line);
    let at = time(words.left[0]);
    if at.is_some() {
        words.next();
    }
    let now = || at.unwrap_or_else(|| panic!("no time: {line}"));
    let read = match words.left[0] {
        "clock" => {
            words.next();
            Line::Clock(now())
        }
        "wake" => {
            words.next();
            let limit = words.pair("holding", "over").then(|| must_span(words.next()));
            Line::Wake { at: now(), limit }
        }
        "fire" => {
            words.next();
            let release = id(words.next());
            let generation = words.option("generation").map(|text| text.parse().unwrap());
            Line::Fire { at: now(), release, generation }
        }
        "show" => {
            words.next();
            Line::Show(id(words.next()))
        }
        "plan" => {
            words.next();
            let pipeline = id(words.next());
            let schedule = words.option("at").map(must_time);
            Line::Plan { at: now(), pipeline, schedule }
        }
        _ => {
            let principal = match words.left[0] {
                "pipeline" | "flag" | "config" => "admin",
                _ => words.next(),
            };
            let caller = Caller { principal: Principal::new(principal), groups };
            let request_id = words.option("request").map(RequestId::new);
            let action = action(&mut words, below, reason);
            // Of a trigger the text is the description.
            let is_trigger = matches!(action, Action::TriggerRelease(_));
            let reason = Arc::from(if is_trigger { "" } else { reason });
            Line::Call(at, Call { caller, request_id, reason, action })
        }
    };
    words.end();
    read
}

fn id<T: std::str::FromStr>(text: &str) -> T
where
    T::Err: std::fmt::Debug,
{
    text.parse().unwrap_or_else(|error| panic!("{text}: {error:?}"))
}

fn action(words: &mut Words<'_>, below: &[&str], reason: &str) -> Action {
    let expected = match words.option("etag") {
        None => Expected::Anything,
        Some("unknown") => Expected::Unknown,
        Some(text) => Expected::Revision(Revision::new(text.parse().unwrap())),
    };
    let gate = |bypass: bool| if bypass { Gate::Bypass } else { Gate::Respect };
    match words.next() {
        "pipeline" => Action::CreatePipeline {
            pipeline: id(words.next()),
            template: Arc::new(template(below)),
        },
        "flag" => create_flag(words, "off"),
        "config" => create_flag(words, "old"),
        "edit" => {
            let pipeline = id(words.next());
            let template = template(below);
            let change = PipelineChange {
                phases: (!template.phases.is_empty()).then_some(template.phases),
                exempt_environments: (!template.exempt_environments.is_empty())
                    .then_some(template.exempt_environments),
                description: (!reason.is_empty()).then(|| Arc::from(reason)),
                trigger_notice: None,
            };
            Action::UpdatePipeline { pipeline, expected, change }
        }
        "delete" => match words.next() {
            "flag" => Action::DeleteFlag { flag: id(words.next()), expected },
            "pipeline" => Action::DeletePipeline { pipeline: id(words.next()), expected },
            other => panic!("delete what? {other}"),
        },
        "update" => {
            let flag = id(words.next());
            let change = FlagChange {
                spec: words.option("to").map(|text| Arc::new(spec(text))),
                pipeline: match words.option("along") {
                    None => None,
                    Some("nothing") => Some(None),
                    Some(pipeline) => Some(Some(id(pipeline))),
                },
                description: (!reason.is_empty()).then(|| Arc::from(reason)),
                labels: words.option("labelled").map(labels),
            };
            Action::UpdateFlag { flag, expected, change }
        }
        "kill" => Action::SetKillSwitch { flag: id(words.next()), switch: SwitchTo::Engaged },
        "revive" => Action::SetKillSwitch { flag: id(words.next()), switch: SwitchTo::Lifted },
        "trigger" => trigger(words, reason),
        "approve" => {
            Action::ApprovePhase { release: id(words.next()), expected, phase: id(words.next()) }
        }
        "reject" => {
            Action::RejectPhase { release: id(words.next()), expected, phase: id(words.next()) }
        }
        "pause" => Action::PauseRelease { release: id(words.next()) },
        "unpause" => Action::UnpauseRelease { release: id(words.next()), expected },
        "skip" => {
            let approvals = gate(words.pair("bypassing", "approval"));
            let (release, phase) = (id(words.next()), id(words.next()));
            Action::SkipPhase { release, expected, phase, approvals }
        }
        "override" => {
            Action::OverrideWindow { release: id(words.next()), expected, phase: id(words.next()) }
        }
        "bake" => {
            let (release, phase) = (id(words.next()), id(words.next()));
            Action::AdjustBake { release, expected, phase, remaining: must_span(words.next()) }
        }
        "abort" => Action::AbortRelease { release: id(words.next()) },
        "rollout" => {
            let approvals = gate(words.pair("bypassing", "approval"));
            let windows = gate(words.pair("overriding", "windows"));
            Action::FullRollout { release: id(words.next()), expected, approvals, windows }
        }
        "report" => Action::ReportGuardSignal {
            release: id(words.next()),
            phase: id(words.next()),
            guard: id(words.next()),
            verdict: match words.next() {
                "PASS" => GuardVerdict::Pass,
                "FAIL" => GuardVerdict::Fail,
                other => panic!("no verdict: {other}"),
            },
        },
        other => panic!("no call: {other}"),
    }
}

/// `team=web,tier=2`, or `nothing`.
fn labels(text: &str) -> Labels {
    let label = |pair: &str| {
        let (key, value) = pair.split_once('=').expect("a label is key=value");
        (Arc::from(key), Arc::from(value))
    };
    text.split(',').filter(|text| *text != "nothing").map(label).collect()
}

fn create_flag(words: &mut Words<'_>, default: &str) -> Action {
    let flag = id(words.next());
    let pipeline = words.option("along").map(id);
    let settled = if words.left.is_empty() { default } else { words.next() };
    Action::CreateFlag {
        flag,
        description: Arc::from(""),
        spec: Arc::new(spec(settled)),
        pipeline,
        labels: Labels::new(),
    }
}

fn trigger(words: &mut Words<'_>, description: &str) -> Action {
    let release: ReleaseId = id(words.next());
    let flag = id(words.option("of").expect("a trigger says of which flag"));
    let change = spec(words.option("to").unwrap_or("on"));
    let conflict_policy = match () {
        () if words.has("queue") => ConflictPolicy::Queue,
        () if words.has("supersede") => ConflictPolicy::Supersede,
        () => ConflictPolicy::Fail,
    };
    Action::TriggerRelease(Trigger {
        id: release,
        flag,
        pipeline: words.option("along").map(id),
        change: Arc::new(change),
        base: words.option("base").map(|text| Revision::new(text.parse().unwrap())),
        labels: BTreeMap::new(),
        description: Arc::from(description),
        schedule_time: words.option("at").map(must_time),
        conflict_policy,
    })
}

/// `on`, `off`, `on-in:staging,dev` (off elsewhere), and for configs any other word.
fn spec(text: &str) -> Spec {
    if let Some(environments) = text.strip_prefix("on-in:") {
        let rule = Rule { targeting: rule("some", environments.split(',')), value: true };
        return Spec::Gate(Rules { rules: vec![rule], default: false });
    }
    match text {
        "on" => Spec::Gate(Rules { rules: Vec::new(), default: true }),
        "off" => Spec::Gate(Rules { rules: Vec::new(), default: false }),
        word => {
            let value = (Arc::from("is"), Value::String(Arc::from(word)));
            Spec::Config(Rules { rules: Vec::new(), default: Object::from([value]) })
        }
    }
}

fn rule<'a>(name: &str, environments: impl Iterator<Item = &'a str>) -> TargetingRule {
    let environments = environments.map(id::<EnvironmentId>).collect();
    TargetingRule {
        id: id::<RuleId>(name),
        environments,
        conditions: Vec::new(),
        share: BasisPoints::ALL,
        bucket_by: Arc::from(TARGETING_KEY),
    }
}

/// The indented lines below a pipeline. Those that are indented further continue the one before.
pub(crate) fn template(below: &[&str]) -> Template {
    let mut lines: Vec<String> = Vec::new();
    for line in below {
        if line.starts_with("    ") {
            lines.last_mut().expect("something to continue").push_str(line);
        } else {
            lines.push((*line).to_owned());
        }
    }
    let mut template = Template {
        description: Arc::from(""),
        phases: Vec::new(),
        exempt_environments: Vec::new(),
        trigger_notice: Arc::from(""),
    };
    for line in lines {
        let (kind, rest) = line.trim().split_once(' ').expect("a word and what it is");
        match kind {
            "exempt" => template.exempt_environments = rest.split_whitespace().map(id).collect(),
            "phase" => template.phases.push(phase(rest)),
            other => panic!("no part of a pipeline: {other}"),
        }
    }
    template
}

fn phase(text: &str) -> Phase {
    let (name, clauses) = text.split_once(':').unwrap_or((text, ""));
    let mut phase = Phase {
        id: id::<PhaseId>(name.trim()),
        rules: vec![rule("all", std::iter::once(name.trim()))],
        bake: Span::ZERO,
        approval: None,
        windows: None,
        guards: Vec::new(),
    };
    for clause in clauses.split(';').map(str::trim).filter(|clause| !clause.is_empty()) {
        let mut words = Words::new(clause);
        match words.next() {
            "bake" => phase.bake = must_span(words.next()),
            "window" => weekly(&mut phase, &mut words),
            "blackout" => blackout(&mut phase, words.next()),
            "guard" => phase.guards.push(guard(&mut words)),
            count => phase.approval = Some(approval(count, &mut words)),
        }
        words.end();
    }
    phase
}

fn windows(phase: &mut Phase) -> &mut ReleaseWindows {
    phase.windows.get_or_insert_with(|| ReleaseWindows {
        zone: chrono_tz::UTC,
        weekly: Vec::new(),
        blackouts: Vec::new(),
    })
}

/// `MON-FRI 09:00-17:00 UTC`.
fn weekly(phase: &mut Phase, words: &mut Words<'_>) {
    let (days, times, zone) = (words.next(), words.next(), words.next());
    let windows = windows(phase);
    windows.zone = id(zone);
    windows.weekly.push(weekly_span(days, times));
}

pub(crate) fn weekly_span(days: &str, times: &str) -> Weekly {
    let (first, last) = days.split_once('-').unwrap_or((days, days));
    let (first, last): (chrono::Weekday, chrono::Weekday) = (id(first), id(last));
    let mut days = vec![first];
    while days.last() != Some(&last) {
        days.push(days[days.len() - 1].succ());
    }
    let (start, end) = times.split_once('-').expect("from-to");
    let time = |text| TimeOfDay::parse(text).unwrap_or_else(|| panic!("no time of day: {text}"));
    Weekly { days, start: time(start), end: time(end) }
}

/// `1d..2d`.
fn blackout(phase: &mut Phase, text: &str) {
    let (start, end) = text.split_once("..").expect("from..to");
    let (start, end) = (must_time(start), must_time(end));
    windows(phase).blackouts.push(Blackout { start, end, note: Arc::from("") });
}

/// `errors [fails] [must pass [within 7s]]`.
fn guard(words: &mut Words<'_>) -> Guard {
    let name: GuardId = id(words.next());
    let on_fail = if words.takes("fails") { OnFail::Fail } else { OnFail::Pause };
    let pass = if words.pair("must", "pass") {
        PassRequirement::Required { timeout: words.option("within").map(must_span) }
    } else {
        PassRequirement::Optional
    };
    Guard { id: name, pass, on_fail }
}

/// `2 approvals [expire 1h] [quota oncall 1] [self allowed] [by oncall dev]`.
fn approval(count: &str, words: &mut Words<'_>) -> ApprovalRequirement {
    assert!(words.takes("approvals") || words.takes("approval"), "{}", words.line);
    let mut requirement = ApprovalRequirement {
        min_approvals: count.parse().unwrap(),
        quotas: Vec::new(),
        reviewer_groups: Vec::new(),
        self_approval: SelfApproval::Forbidden,
        expiry: words.option("expire").map(must_span),
    };
    while words.takes("quota") {
        let group = Group::new(words.next());
        let min_approvals = words.next().parse().unwrap();
        requirement.quotas.push(Quota { group, min_approvals });
    }
    if words.pair("self", "allowed") {
        requirement.self_approval = SelfApproval::Allowed;
    }
    if words.takes("by") {
        requirement.reviewer_groups = words.left.drain(..).map(Group::new).collect();
    }
    requirement
}
