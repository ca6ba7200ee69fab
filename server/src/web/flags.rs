//! The list of flags: what each answers where.

use super::{
    page::{Moment, Page, Region},
    release::chip,
    words,
};
use maud::{Markup, html};
use phasegate_engine::{
    flag::{Flag, FlagKind, Spec},
    id::EnvironmentId,
    release::Release,
    targeting::{Context, TargetingRule, evaluate},
    value::Object,
};
use std::{collections::BTreeSet, sync::Arc};

/// Environments that a row of the list shows; the page of the flag shows all.
const ENVIRONMENTS_MAX: usize = 6;
/// Characters of an answer in the list.
const ANSWER_MAX: usize = 40;

/// The list as of a moment.
pub(super) fn page(moment: &Moment) -> Page {
    let content = html! {
        h1 { "Flags" }
        @if moment.state.flags().next().is_none() {
            div.empty {
                p { strong { "No flag yet." } }
                p { "Write one down and apply it:" }
                pre { "phasegate apply -f examples/quick/pipeline.yaml -f examples/quick/flag.yaml" }
            }
        } @else {
            table.list {
                thead { tr {
                    th scope="col" { "Flag" }
                    th scope="col" { "Answers" }
                    th scope="col" { "Pipeline" }
                    th scope="col" { "Release" }
                } }
                tbody { @for flag in moment.state.flags() { (row(moment, flag)) } }
            }
        }
    };
    Page { title: "Flags".to_owned(), regions: vec![Region::new("flags", content)] }
}

fn row(moment: &Moment, flag: &Flag) -> Markup {
    let active = moment.state.active_release(&flag.id).map(|release| &**release);
    let places = environments(moment, flag, active);
    html! {
        tr {
            td.what {
                a.name href={ "/flags/" (flag.id) } { (flag.id) }
                @if flag.kill_switch.is_engaged() { " " span.chip.s-failed { "Killed" } }
                @if !flag.description.is_empty() { span.description { (flag.description) } }
            }
            td.answers {
                @if places.is_empty() {
                    span { (short(&answer_to_nobody(moment, flag, active, None))) }
                }
                @for place in places.iter().take(ENVIRONMENTS_MAX) {
                    span.answer { strong { (place) } ": " (short(&answer_to_nobody(moment, flag, active, Some(place))))
                        @if depends(flag, active, place) { span.sub { " *" } } }
                }
                @if places.len() > ENVIRONMENTS_MAX { span.sub { "and " (places.len() - ENVIRONMENTS_MAX) " more" } }
            }
            td { @match &flag.pipeline {
                Some(pipeline) => { a href={ "/pipelines/" (pipeline) } { (pipeline) } }
                None => { span.sub { "none" } }
            } }
            td { @match active {
                Some(release) => { a href={ "/releases/" (release.id()) } { (chip(release.state())) } }
                None => { span.sub { "none" } }
            } }
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() <= ANSWER_MAX {
        return text.to_owned();
    }
    text.chars().take(ANSWER_MAX - 1).chain(['…']).collect()
}

/// Every environment that anything about a flag names.
pub(super) fn environments(
    moment: &Moment,
    flag: &Flag,
    active: Option<&Release>,
) -> Vec<EnvironmentId> {
    let mut found = BTreeSet::new();
    let mut take = |rule: &TargetingRule| found.extend(rule.environments.iter().cloned());
    rules_of(&flag.spec).into_iter().for_each(&mut take);
    if let Some(release) = active {
        rules_of(&release.proposal.change).into_iter().for_each(&mut take);
    }
    let pipeline = flag.pipeline.as_ref().and_then(|id| moment.state.pipeline(id));
    let pipelines = pipeline.into_iter().chain(active.map(|release| &release.proposal.pipeline));
    let pipelines: Vec<_> = pipelines.map(Arc::clone).collect();
    for pipeline in &pipelines {
        pipeline.template.phases.iter().flat_map(|phase| &phase.rules).for_each(&mut take);
    }
    for pipeline in &pipelines {
        found.extend(pipeline.template.exempt_environments.iter().cloned());
    }
    found.into_iter().collect()
}

fn rules_of(spec: &Spec) -> Vec<&TargetingRule> {
    match spec {
        Spec::Gate(rules) => rules.rules.iter().map(|rule| &rule.targeting).collect(),
        Spec::Config(rules) => rules.rules.iter().map(|rule| &rule.targeting).collect(),
    }
}

/// What somebody gets of whom nothing is known.
pub(super) fn answer_to_nobody(
    moment: &Moment,
    flag: &Flag,
    active: Option<&Release>,
    environment: Option<&EnvironmentId>,
) -> String {
    let attributes = Object::new();
    // One that nothing names, if any does: what holds everywhere holds there.
    let Some(environment) = environment else {
        let default = match &*flag.spec {
            Spec::Gate(rules) => words::on_off(rules.default).to_owned(),
            Spec::Config(rules) => words::object(&rules.default).to_string(),
        };
        return default;
    };
    let context = Context { environment, attributes: &attributes };
    words::answer(&evaluate(flag, active, &context, moment.bucketing).value)
}

/// True if an answer depends on who asks there.
pub(super) fn depends(flag: &Flag, active: Option<&Release>, place: &EnvironmentId) -> bool {
    let is_here =
        |rule: &&TargetingRule| rule.environments.is_empty() || rule.environments.contains(place);
    let has_rules = |spec: &Spec| rules_of(spec).iter().any(is_here);
    if flag.kill_switch.is_engaged() {
        return false;
    }
    let Some(release) = active else { return has_rules(&flag.spec) };
    let is_exempt = release.proposal.pipeline.template.exempt_environments.contains(place);
    let applied = release.phases().iter().zip(&release.progress.phases).filter(|(_, p)| p.applied);
    let reach: Vec<&TargetingRule> =
        applied.flat_map(|(phase, _)| &phase.rules).filter(is_here).collect();
    if is_exempt || reach.iter().any(|rule| words::who(rule) == words::EVERYONE) {
        has_rules(&release.proposal.change)
    } else {
        !reach.is_empty() || has_rules(&flag.spec)
    }
}

/// Which of the two a flag is.
pub(super) fn kind(flag: &Flag) -> &'static str {
    match flag.spec.kind() {
        FlagKind::FeatureGate => "Feature gate",
        FlagKind::DynamicConfig => "Dynamic config",
    }
}
