//! Flags and pipelines in words.

use super::table::Table;
use crate::{name::id, time};
use chrono::{DateTime, Utc};
use phasegate_api::v1;

/// Everything about one flag.
pub(crate) fn flag(flag: &v1::Flag, now: DateTime<Utc>) -> String {
    let kind = match &flag.spec {
        Some(v1::flag::Spec::FeatureGate(_)) => "feature gate",
        Some(v1::flag::Spec::DynamicConfig(_)) => "dynamic config",
        None => "no spec",
    };
    let mut text = format!("{}  {kind}", flag.name);
    if flag.killed {
        text.push_str(", KILLED");
    }
    text.push_str("\n\n");
    let mut facts = Table::of_facts();
    facts.fact("description", &*flag.description);
    facts.fact("killed", if flag.killed { why(&flag.kill_reason) } else { String::new() });
    facts.fact("pipeline", &*flag.pipeline);
    let labels = flag.labels.iter().map(|(key, value)| format!("{key}={value}"));
    facts.fact("labels", labels.collect::<Vec<_>>().join(" "));
    facts.fact("release", &*flag.active_release);
    facts.fact("changed", updated(flag.update_time.as_ref(), flag.revision, now));
    text.push_str(&facts.render());
    text.push('\n');
    let mut rules = Table::new(&["RULE", "WHO", "ANSWER"]).indented();
    match &flag.spec {
        Some(v1::flag::Spec::FeatureGate(gate)) => {
            for rule in &gate.rules {
                rules.row(rule_row(rule.targeting.as_ref(), rule.value.to_string()));
            }
            rules.row(["", "everyone else", &gate.default_value.to_string()]);
        }
        Some(v1::flag::Spec::DynamicConfig(config)) => {
            for rule in &config.rules {
                rules.row(rule_row(rule.targeting.as_ref(), object(rule.value.as_ref())));
            }
            rules.row(["", "everyone else", &object(config.default_value.as_ref())]);
        }
        None => {}
    }
    text.push_str(&rules.render());
    text
}

fn why(reason: &str) -> String {
    if reason.is_empty() { "yes".to_owned() } else { format!("yes: {reason}") }
}

fn updated(time: Option<&prost_types::Timestamp>, revision: i64, now: DateTime<Utc>) -> String {
    time.map(|time| format!("{}, revision {revision}", time::both(time, now))).unwrap_or_default()
}

fn rule_row(targeting: Option<&v1::TargetingRule>, answer: String) -> [String; 3] {
    let (rule, who) = targeting.map(|rule| (rule.id.clone(), targets(rule))).unwrap_or_default();
    [rule, who, answer]
}

/// Who a rule means.
pub(crate) fn targets(rule: &v1::TargetingRule) -> String {
    let mut parts = Vec::new();
    if !rule.environments.is_empty() {
        parts.push(format!("in {}", rule.environments.join(" or ")));
    }
    for condition in &rule.conditions {
        let name = condition.operator().as_str_name();
        let operator = name.trim_start_matches("CONDITION_OPERATOR_").replace('_', " ");
        let values = condition.values.join(", ");
        parts.push(
            format!("{} {} {values}", condition.attribute, operator.to_lowercase())
                .trim_end()
                .to_owned(),
        );
    }
    if let Some(share) = rule.rollout_basis_points.filter(|share| *share != 10_000) {
        parts.push(percent(share));
    }
    if parts.is_empty() { "everyone".to_owned() } else { parts.join(", ") }
}

pub(crate) fn percent(basis_points: u32) -> String {
    let (whole, rest) = (basis_points / 100, basis_points % 100);
    match rest {
        0 => format!("{whole} %"),
        rest if rest % 10 == 0 => format!("{whole}.{} %", rest / 10),
        rest => format!("{whole}.{rest:02} %"),
    }
}

/// An object as one line of JSON.
pub(crate) fn object(object: Option<&prost_types::Struct>) -> String {
    let fields = object.into_iter().flat_map(|object| &object.fields);
    let fields = fields.map(|(key, value)| (key.clone(), json(value)));
    serde_json::Value::Object(fields.collect()).to_string()
}

/// A value as JSON.
pub(crate) fn json(value: &prost_types::Value) -> serde_json::Value {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => serde_json::Value::Null,
        Some(Kind::BoolValue(value)) => (*value).into(),
        Some(Kind::NumberValue(number)) => match whole(*number) {
            Some(number) => number.into(),
            None => (*number).into(),
        },
        Some(Kind::StringValue(text)) => text.clone().into(),
        Some(Kind::ListValue(list)) => list.values.iter().map(json).collect(),
        Some(Kind::StructValue(object)) => {
            let fields = object.fields.iter().map(|(key, value)| (key.clone(), json(value)));
            serde_json::Value::Object(fields.collect())
        }
    }
}

/// A number without a fraction is written without one, as far as doubles are exact.
fn whole(number: f64) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let is_whole = number.fract() == 0.0 && number.abs() <= EXACT;
    #[expect(clippy::cast_possible_truncation, reason = "it is whole and at most 2^53")]
    is_whole.then_some(number as i64)
}

/// Flags, one a line.
pub(crate) fn flags(flags: &[v1::Flag]) -> String {
    if flags.is_empty() {
        return "no flags\n".to_owned();
    }
    let mut table = Table::new(&["FLAG", "DEFAULT", "RULES", "PIPELINE", "RELEASE", ""]);
    for flag in flags {
        let (default, rules) = match &flag.spec {
            Some(v1::flag::Spec::FeatureGate(gate)) => {
                (gate.default_value.to_string(), gate.rules.len())
            }
            Some(v1::flag::Spec::DynamicConfig(config)) => {
                (shortened(&object(config.default_value.as_ref())), config.rules.len())
            }
            None => (String::new(), 0),
        };
        table.row([
            id(&flag.name),
            &default,
            &rules.to_string(),
            id(&flag.pipeline),
            id(&flag.active_release),
            if flag.killed { "KILLED" } else { "" },
        ]);
    }
    table.render()
}

/// So much of a value fits into a column.
const COLUMN: usize = 40;

fn shortened(text: &str) -> String {
    if text.chars().count() <= COLUMN {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(COLUMN - 1).collect();
    short.push('…');
    short
}

/// Everything about one pipeline.
pub(crate) fn pipeline(pipeline: &v1::Pipeline, now: DateTime<Utc>) -> String {
    let mut text = format!("{}\n\n", pipeline.name);
    let mut facts = Table::of_facts();
    facts.fact("description", &*pipeline.description);
    facts.fact("notice", &*pipeline.trigger_notice);
    facts.fact("exempt", pipeline.exempt_environments.join(", "));
    facts.fact("changed", updated(pipeline.update_time.as_ref(), pipeline.revision, now));
    text.push_str(&facts.render());
    text.push('\n');
    let mut phases =
        Table::new(&["PHASE", "WHO", "BAKE", "APPROVALS", "WINDOWS", "GUARDS"]).indented();
    for phase in &pipeline.phases {
        let who: Vec<_> = phase.rules.iter().map(targets).collect();
        let bake = phase.bake_duration.as_ref().map(|bake| time::span(time::duration(bake)));
        phases.row([
            phase.id.clone(),
            who.join("; or "),
            bake.unwrap_or_else(|| "none".to_owned()),
            phase.approval.as_ref().map(approvals).unwrap_or_default(),
            phase.windows.as_ref().map(windows).unwrap_or_default(),
            phase.guards.iter().map(|guard| &*guard.id).collect::<Vec<_>>().join(", "),
        ]);
    }
    text.push_str(&phases.render());
    text
}

fn approvals(requirement: &v1::ApprovalRequirement) -> String {
    let quotas = requirement
        .quotas
        .iter()
        .map(|quota| format!("{} from {}", quota.min_approvals, quota.group));
    let mut text = requirement.min_approvals.to_string();
    for quota in quotas {
        text.push_str(&format!(", {quota}"));
    }
    text
}

pub(crate) fn windows(windows: &v1::ReleaseWindows) -> String {
    let spans = windows
        .weekly
        .iter()
        .map(|weekly| format!("{} {}-{}", days(&weekly.days), weekly.start, weekly.end));
    let mut parts: Vec<String> = spans.collect();
    match windows.blackouts.len() {
        0 => {}
        1 => parts.push("1 blackout".to_owned()),
        n => parts.push(format!("{n} blackouts")),
    }
    format!("{} ({})", parts.join("; "), windows.time_zone)
}

/// `MON-THU,SAT`: days that follow each other as a span.
fn days(days: &[String]) -> String {
    const WEEK: [&str; 7] = ["MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN"];
    let holds = |day: &&str| days.iter().any(|one| one == day);
    let mut spans: Vec<Vec<&str>> = Vec::new();
    for (n, day) in WEEK.iter().enumerate().filter(|(_, day)| holds(day)) {
        let follows = n > 0 && holds(&WEEK[n - 1]);
        match spans.last_mut().filter(|_| follows) {
            Some(span) => span.push(day),
            None => spans.push(vec![day]),
        }
    }
    let spans = spans.iter().map(|span| match span[..] {
        [first, _, .., last] => format!("{first}-{last}"),
        _ => span.join(","),
    });
    spans.collect::<Vec<_>>().join(",")
}

/// Pipelines, one a line.
pub(crate) fn pipelines(pipelines: &[v1::Pipeline]) -> String {
    if pipelines.is_empty() {
        return "no pipelines\n".to_owned();
    }
    let mut table = Table::new(&["PIPELINE", "PHASES", "DESCRIPTION"]);
    for pipeline in pipelines {
        let phases: Vec<&str> = pipeline.phases.iter().map(|phase| &*phase.id).collect();
        table.row([id(&pipeline.name), &phases.join(" > "), &shortened(&pipeline.description)]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_that_follow_each_other_are_a_span() {
        for (listed, expected) in [
            ("MON TUE WED THU", "MON-THU"),
            ("MON WED", "MON,WED"),
            ("TUE MON", "MON,TUE"),
            ("MON TUE WED FRI SAT SUN", "MON-WED,FRI-SUN"),
        ] {
            let listed: Vec<String> = listed.split(' ').map(str::to_owned).collect();
            assert_eq!(days(&listed), expected);
        }
    }
}
