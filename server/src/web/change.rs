//! Old answers and new ones, line by line.

use super::{page::Moment, words};
use maud::{Markup, html};
use phasegate_engine::{
    flag::{Rules, Spec},
    release::Release,
    targeting::TargetingRule,
};
use similar::{ChangeTag, TextDiff};

/// What a release changes, in a few words.
pub(super) fn summary(moment: &Moment, release: &Release) -> String {
    let settled = moment.state.flag(&release.proposal.flag).map(|flag| &*flag.spec);
    let change = &*release.proposal.change;
    match (settled, change) {
        (Some(Spec::Gate(old)), Spec::Gate(new)) if old.default != new.default => {
            format!("{} → {}", words::on_off(old.default), words::on_off(new.default))
        }
        (_, Spec::Gate(new)) if new.rules.is_empty() => {
            format!("→ {}", words::on_off(new.default))
        }
        (_, Spec::Gate(_)) => "new rules".to_owned(),
        (_, Spec::Config(_)) => "new values".to_owned(),
    }
}

/// The answers before and after, or only those after if what was before is no longer known.
pub(super) fn region(moment: &Moment, release: &Release) -> Markup {
    let flag = moment.state.flag(&release.proposal.flag).filter(|_| !release.is_over());
    let new = &*release.proposal.change;
    html! {
        @match flag {
            Some(flag) => {
                h2 { "What it changes" }
                p.hint { "What " (flag.id) " settles on: now, and after this release." }
                (diff(&flag.spec, new))
            }
            None => { h2 { "The change" } (plain(new)) }
        }
    }
}

/// Two specs, line by line.
pub(super) fn diff(old: &Spec, new: &Spec) -> Markup {
    let (old, new) = (lines(old), lines(new));
    let diff = TextDiff::from_lines(&old, &new);
    html! {
        pre.diff tabindex="0" {
            @for change in diff.iter_all_changes() {
                @match change.tag() {
                    ChangeTag::Delete => { del { span aria-hidden="true" { "- " } (change.value()) } }
                    ChangeTag::Insert => { ins { span aria-hidden="true" { "+ " } (change.value()) } }
                    ChangeTag::Equal => { span { span aria-hidden="true" { "  " } (change.value()) } }
                }
            }
        }
    }
}

/// One spec.
pub(super) fn plain(spec: &Spec) -> Markup {
    html! { pre.diff tabindex="0" { (lines(spec)) } }
}

/// A spec as lines of text: a line for each rule, and one for everybody else.
fn lines(spec: &Spec) -> String {
    match spec {
        Spec::Gate(rules) => written(rules, |value| words::on_off(*value).to_owned()),
        Spec::Config(rules) => written(rules, |value| {
            let value = words::object(value);
            serde_json::to_string_pretty(&value).unwrap_or_else(|_| value.to_string())
        }),
    }
}

fn written<V>(rules: &Rules<V>, value: impl Fn(&V) -> String) -> String {
    let mut text = String::new();
    for rule in &rules.rules {
        text.push_str(&format!("{} → {}\n", whom(&rule.targeting), value(&rule.value)));
    }
    let everyone = if rules.rules.is_empty() { "everyone" } else { "everyone else" };
    text.push_str(&format!("{everyone} → {}\n", value(&rules.default)));
    text
}

fn whom(rule: &TargetingRule) -> String {
    let who = words::who(rule);
    if rule.environments.is_empty() {
        who
    } else {
        format!("{}: {who}", words::environments(&rule.environments))
    }
}
