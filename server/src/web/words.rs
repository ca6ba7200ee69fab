//! The words of the pages: states, rules, windows, answers, events. Plain text throughout; who puts
//! it on a page escapes it.

use super::time::span_words;
use phasegate_engine::{
    event::{Actor, Bypass, Happened, ReleaseEvent},
    id::EnvironmentId,
    pipeline::{ApprovalRequirement, Guard, OnFail, PassRequirement},
    release::{EndReason, GuardVerdict, PauseCause, PhaseState, Release, ReleaseState},
    targeting::{BasisPoints, Condition, TARGETING_KEY, TargetingRule, Test},
    value::{Object, Value},
    window::{ReleaseWindows, Weekly},
};
use std::collections::BTreeMap;

/// A state of a release: the class that colours it, the sign that stands for it where colour does
/// not, and the word.
pub(super) fn state(state: ReleaseState) -> (&'static str, &'static str, &'static str) {
    match state {
        ReleaseState::Pending => ("pending", "○", "Pending"),
        ReleaseState::AwaitingApproval => ("approval", "?", "Awaiting approval"),
        ReleaseState::AwaitingWindow => ("window", "…", "Awaiting window"),
        ReleaseState::Baking => ("baking", "◐", "Baking"),
        ReleaseState::Paused => ("paused", "‖", "Paused"),
        ReleaseState::Succeeded => ("succeeded", "✓", "Succeeded"),
        ReleaseState::Aborted => ("aborted", "✗", "Aborted"),
        ReleaseState::Failed => ("failed", "✗", "Failed"),
    }
}

/// The same of a phase.
pub(super) fn phase_state(state: PhaseState) -> (&'static str, &'static str, &'static str) {
    match state {
        PhaseState::Pending => ("pending", "○", "To come"),
        PhaseState::AwaitingApproval => ("approval", "?", "Awaiting approval"),
        PhaseState::AwaitingWindow => ("window", "…", "Awaiting window"),
        PhaseState::Baking => ("baking", "◐", "Baking"),
        PhaseState::Succeeded => ("succeeded", "✓", "Done"),
        PhaseState::Skipped => ("skipped", "»", "Skipped"),
        PhaseState::Aborted => ("aborted", "✗", "Aborted here"),
        PhaseState::Failed => ("failed", "✗", "Failed here"),
        PhaseState::Cancelled => ("cancelled", "–", "Never reached"),
    }
}

/// Why a release ended.
pub(super) fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::AllPhasesDone => "all phases are done; everyone has the change",
        EndReason::FullRollout => "rolled out in full; everyone has the change",
        EndReason::AbortRequested => "aborted on request; the flag answers as before",
        EndReason::ApprovalRejected => "a reviewer rejected it; the flag answers as before",
        EndReason::Superseded => "a newer release took its place; this change was taken back",
        EndReason::ApprovalExpired => "approvals did not come in time; the flag answers as before",
        EndReason::GuardFailed => "a guard failed; the flag answers as before",
        EndReason::BaseChanged => "the flag had changed before it could start",
    }
}

/// A share: `10 %`, `0.5 %`, `33.33 %`.
pub(super) fn percent(share: BasisPoints) -> String {
    let (whole, rest) = (share.get() / 100, share.get() % 100);
    match rest {
        0 => format!("{whole} %"),
        rest if rest % 10 == 0 => format!("{whole}.{} %", rest / 10),
        rest => format!("{whole}.{rest:02} %"),
    }
}

fn any_of<T: AsRef<str>>(values: &[T]) -> String {
    values.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" or ")
}

/// What a condition asks: `tier is beta or staff`.
pub(super) fn condition(condition: &Condition) -> String {
    let attribute = &condition.attribute;
    match &condition.test {
        Test::In(values) => format!("{attribute} is {}", any_of(values)),
        Test::NotIn(values) => format!("{attribute} is not {}", any_of(values)),
        Test::StartsWith(values) => format!("{attribute} starts with {}", any_of(values)),
        Test::EndsWith(values) => format!("{attribute} ends with {}", any_of(values)),
        Test::Contains(values) => format!("{attribute} contains {}", any_of(values)),
        Test::Exists => format!("{attribute} is there"),
        Test::NotExists => format!("{attribute} is missing"),
        Test::Less(number) => format!("{attribute} < {}", number.text()),
        Test::GreaterOrEqual(number) => format!("{attribute} ≥ {}", number.text()),
        Test::SemverLess(version) => format!("{attribute} before {version}"),
        Test::SemverGreaterOrEqual(version) => format!("{attribute} {version} or later"),
    }
}

/// Whom a rule without a condition and with the whole share means.
pub(super) const EVERYONE: &str = "everyone";

/// Whom a rule means, its environments left aside: `everyone`, `10 % where tier is beta`.
pub(super) fn who(rule: &TargetingRule) -> String {
    let conditions: Vec<String> = rule.conditions.iter().map(condition).collect();
    let conditions = conditions.join(" and ");
    let share = (rule.share != BasisPoints::ALL).then(|| {
        let share = percent(rule.share);
        if *rule.bucket_by == *TARGETING_KEY {
            share
        } else {
            format!("{share} by {}", rule.bucket_by)
        }
    });
    match (share, conditions.is_empty()) {
        (None, true) => EVERYONE.to_owned(),
        (None, false) => format!("where {conditions}"),
        (Some(share), true) => share,
        (Some(share), false) => format!("{share} where {conditions}"),
    }
}

/// Where a rule applies: `prod-eu, prod-us` or `every environment`.
pub(super) fn environments(environments: &[EnvironmentId]) -> String {
    if environments.is_empty() {
        return "every environment".to_owned();
    }
    environments.iter().map(EnvironmentId::as_str).collect::<Vec<_>>().join(", ")
}

/// Who has the change of an active release, by environment; the key is none for every environment.
pub(super) type Exposure = BTreeMap<Option<EnvironmentId>, Vec<String>>;

/// Who has the change of a release now. Empty if it is not active.
pub(super) fn exposure(release: &Release) -> Exposure {
    let mut exposure = Exposure::new();
    if !release.is_active() {
        return exposure;
    }
    for environment in &release.proposal.pipeline.template.exempt_environments {
        exposure.entry(Some(environment.clone())).or_default().push(EXEMPT.to_owned());
    }
    let applied = release.phases().iter().zip(&release.progress.phases).filter(|(_, p)| p.applied);
    for rule in applied.flat_map(|(phase, _)| &phase.rules) {
        add(&mut exposure, rule);
    }
    exposure
}

/// Who has a change in an environment that no phase governs.
pub(super) const EXEMPT: &str = "everyone, not governed by the pipeline";

/// Adds whom a rule means. Who has everyone needs no more.
fn add(exposure: &mut Exposure, rule: &TargetingRule) {
    let named = rule.environments.iter().cloned().map(Some);
    let places: Vec<_> = if rule.environments.is_empty() { vec![None] } else { named.collect() };
    let who = who(rule);
    for place in places {
        let here = exposure.entry(place).or_default();
        if who == EVERYONE {
            *here = vec![who.clone()];
        } else if !here.contains(&who) && !here.iter().any(|one| one.starts_with(EVERYONE)) {
            here.push(who.clone());
        }
    }
}

/// An exposure in one sentence part: `dev, prod (10 %)`.
pub(super) fn exposure_list(exposure: &Exposure) -> String {
    let places = exposure.iter().map(|(place, who)| {
        let place = place.as_ref().map_or("every environment", EnvironmentId::as_str);
        match who.as_slice() {
            [one] if one == EVERYONE || one == EXEMPT => place.to_owned(),
            some => format!("{place} ({})", some.join("; ")),
        }
    });
    places.collect::<Vec<_>>().join(", ")
}

/// A weekly span: `Mon, Tue 09:00–16:00`.
fn weekly(weekly: &Weekly) -> String {
    let days: Vec<String> = weekly.days.iter().map(ToString::to_string).collect();
    format!("{} {}–{}", days.join(", "), weekly.start, weekly.end)
}

/// When a window is open, its blackouts left aside.
pub(super) fn windows(windows: &ReleaseWindows) -> String {
    if windows.weekly.is_empty() {
        return "any time but its blackouts".to_owned();
    }
    let spans: Vec<String> = windows.weekly.iter().map(weekly).collect();
    format!("{} ({})", spans.join("; "), windows.zone)
}

/// Who has to agree: `2 approvals, 1 of them from sre; by members of sre or leads`.
pub(super) fn requirement(requirement: &ApprovalRequirement) -> String {
    let mut text = approvals(requirement.min_approvals);
    for quota in &requirement.quotas {
        text.push_str(&format!(", {} from {}", quota.min_approvals, quota.group));
    }
    if !requirement.reviewer_groups.is_empty() {
        let groups: Vec<&str> = requirement.reviewer_groups.iter().map(|g| g.as_str()).collect();
        text.push_str(&format!("; only members of {}", any_of(&groups)));
    }
    text
}

/// `1 approval`, `2 approvals`.
pub(super) fn approvals(count: u32) -> String {
    if count == 1 { "1 approval".to_owned() } else { format!("{count} approvals") }
}

/// What a guard is for.
pub(super) fn guard(guard: &Guard) -> String {
    let fails = match guard.on_fail {
        OnFail::Pause => "a FAIL pauses the release",
        OnFail::Fail => "a FAIL ends and reverts the release",
    };
    match guard.pass {
        PassRequirement::Optional => fails.to_owned(),
        PassRequirement::Required { timeout: None } => format!("has to PASS; {fails}"),
        PassRequirement::Required { timeout: Some(timeout) } => {
            format!("has to PASS within {} of the bake; {fails}", span_words(timeout))
        }
    }
}

/// What a guard said last.
pub(super) fn verdict(verdict: Option<GuardVerdict>) -> (&'static str, &'static str) {
    match verdict {
        None => ("none", "nothing reported"),
        Some(GuardVerdict::Pass) => ("pass", "PASS"),
        Some(GuardVerdict::Fail) => ("fail", "FAIL"),
    }
}

/// A value as JSON.
pub(super) fn json(value: &Value) -> serde_json::Value {
    match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Number(number) => whole(*number).map_or_else(|| (*number).into(), Into::into),
        Value::String(text) => (**text).into(),
        Value::List(items) => items.iter().map(json).collect(),
        Value::Object(fields) => object(fields),
    }
}

/// An object as JSON.
pub(super) fn object(fields: &Object) -> serde_json::Value {
    serde_json::Value::Object(fields.iter().map(|(k, v)| (k.to_string(), json(v))).collect())
}

/// A number without a fraction is written without one, as far as doubles are exact.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and at most 2^53")]
    is_whole.then_some(number as i64)
}

/// `on` or `off`, as people call the two answers of a gate.
pub(super) fn on_off(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// An answer on one line.
pub(super) fn answer(value: &Value) -> String {
    match value {
        Value::Bool(value) => on_off(*value).to_owned(),
        Value::Null | Value::Number(_) | Value::String(_) | Value::List(_) | Value::Object(_) => {
            json(value).to_string()
        }
    }
}

/// What happened, without who and why.
pub(super) fn happened(release: &Release, event: &ReleaseEvent) -> String {
    let text = match &event.happened {
        Happened::Triggered => {
            format!("Triggered along {}", release.proposal.pipeline.id)
        }
        Happened::Started { .. } => "Started".to_owned(),
        Happened::PhaseEntered { .. } => "Entered".to_owned(),
        Happened::ApprovalRecorded { groups, .. } if groups.is_empty() => "Approved".to_owned(),
        Happened::ApprovalRecorded { groups, .. } => {
            let groups: Vec<&str> = groups.iter().map(|group| group.as_str()).collect();
            format!("Approved, for {}", groups.join(", "))
        }
        Happened::ApprovalRejected { .. } => "Rejected".to_owned(),
        Happened::WindowOpened { .. } => "Window opened".to_owned(),
        Happened::WindowRescheduled { .. } => "The window opens at another time".to_owned(),
        Happened::WindowOverridden { .. } => "Window overridden".to_owned(),
        Happened::PhaseApplied { .. } => "Live".to_owned(),
        Happened::BakeElapsed { .. } => "Bake is over; a guard holds the phase".to_owned(),
        Happened::BakeAdjusted { remaining, .. } => {
            format!("Bake set to {} left", span_words(*remaining))
        }
        Happened::GuardReported { guard, verdict, timer, .. } => {
            let verdict = self::verdict(Some(*verdict)).1;
            match timer {
                None => format!("Guard {guard}: {verdict}"),
                Some(_) => format!("Guard {guard}: {verdict}, because its time ran out"),
            }
        }
        Happened::PhaseSucceeded { .. } => "Done".to_owned(),
        Happened::PhaseSkipped { .. } => "Skipped".to_owned(),
        Happened::Paused { cause: PauseCause::Requested, .. } => "Paused".to_owned(),
        Happened::Paused { cause: PauseCause::Guard(guard), .. } => {
            format!("Paused by the guard {guard}")
        }
        Happened::Paused { cause: PauseCause::Overdue(late), .. } => {
            format!("Paused: a timer was found {} late", span_words(*late))
        }
        Happened::Unpaused { .. } => "Goes on".to_owned(),
        Happened::Succeeded { reason } => format!("Succeeded: {}", end(*reason)),
        Happened::Aborted { reason } => format!("Aborted: {}", end(*reason)),
        Happened::Failed { reason, .. } => format!("Failed: {}", end(*reason)),
    };
    let bypass = matches!(event.happened, Happened::PhaseSkipped { bypass: Bypass::OnRecord, .. });
    if bypass { format!("{text}, passing over what was missing") } else { text }
}

/// Who did something.
pub(super) fn actor(actor: &Actor) -> &str {
    match actor {
        Actor::Engine => "Phasegate",
        Actor::Principal(principal) => principal.as_str(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(environments: &str, share: u32, conditions: Vec<Condition>) -> TargetingRule {
        TargetingRule {
            id: "r".parse().unwrap(),
            environments: environments.split_whitespace().map(|e| e.parse().unwrap()).collect(),
            conditions,
            share: BasisPoints::new(share).unwrap(),
            bucket_by: TARGETING_KEY.into(),
        }
    }

    fn beta() -> Condition {
        Condition { attribute: "tier".into(), test: Test::In(vec!["beta".into(), "staff".into()]) }
    }

    #[test]
    fn a_rule_says_whom_it_means() {
        assert_eq!(who(&rule("", 10_000, vec![])), "everyone");
        assert_eq!(who(&rule("", 1000, vec![])), "10 %");
        assert_eq!(who(&rule("", 10_000, vec![beta()])), "where tier is beta or staff");
        assert_eq!(who(&rule("", 5, vec![beta()])), "0.05 % where tier is beta or staff");
        let by_tenant = TargetingRule { bucket_by: "tenant".into(), ..rule("", 50, vec![]) };
        assert_eq!(who(&by_tenant), "0.5 % by tenant");
    }

    #[test]
    fn everyone_swallows_what_was_there_and_what_comes_later() {
        let mut exposure = Exposure::new();
        add(&mut exposure, &rule("prod", 1000, vec![]));
        add(&mut exposure, &rule("prod", 10_000, vec![beta()]));
        let text = exposure_list(&exposure);
        assert_eq!(text, "prod (10 %; where tier is beta or staff)");
        add(&mut exposure, &rule("prod", 10_000, vec![]));
        add(&mut exposure, &rule("prod", 1000, vec![]));
        assert_eq!(exposure_list(&exposure), "prod");
    }

    #[test]
    fn whole_numbers_are_written_without_a_fraction() {
        let value = Value::List(vec![Value::Number(1.0), Value::Number(1.5), Value::Null]);
        assert_eq!(answer(&value), "[1,1.5,null]");
        assert_eq!(answer(&Value::Bool(true)), "on");
    }
}
