//! The list of flags: what each answers where.

use super::{
    page::{Moment, Page, Region},
    paging::Shown,
    release::chip,
    releases::{contains, page_number},
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
use serde::Deserialize;
use std::{collections::BTreeSet, sync::Arc};

/// Environments that a row of the list shows; the page of the flag shows all.
const ENVIRONMENTS_MAX: usize = 6;
/// Characters of an answer in the list.
const ANSWER_MAX: usize = 40;

/// Which flags, and which page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    text: String,
    #[serde(deserialize_with = "page_number")]
    page: usize,
}

impl Query {
    fn matches(&self, flag: &Flag) -> bool {
        let part = self.text.to_lowercase();
        let pipeline = flag.pipeline.as_ref().map_or("", |pipeline| pipeline.as_str());
        [flag.id.as_str(), &flag.description, pipeline].iter().any(|text| contains(text, &part))
    }

    /// The address of the list with this filter and another page.
    fn href(&self, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair("text", &self.text).append_pair("page", &page.to_string());
        format!("/flags?{}", query.finish())
    }
}

/// The list as of a moment.
pub(super) fn page(moment: &Moment, query: &Query) -> Page {
    let found: Vec<&Arc<Flag>> = moment.state.flags().filter(|flag| query.matches(flag)).collect();
    let shown = Shown::of(&found, query.page);
    let filter = html! {
        h1 { "Flags" }
        form.filters method="get" action="/flags" role="search" {
            div.field {
                label for="text" { "Name, description or pipeline" }
                input id="text" name="text" value=(query.text) type="search" autocomplete="off" spellcheck="false";
            }
            div.field.buttons {
                button { "Filter" }
                @if !query.text.is_empty() { a.button href="/flags" { "Clear" } }
            }
        }
    };
    let list = html! {
        @if moment.state.flags().next().is_none() {
            div.empty {
                p { strong { "No flag yet." } }
                p { "Write one down and apply it:" }
                pre { "phasegate apply -f examples/quick/pipeline.yaml -f examples/quick/flag.yaml" }
            }
        } @else if shown.items.is_empty() {
            div.empty { p { strong { "No flag matches." } } p { a href="/flags" { "Clear the filter" } } }
        } @else {
            table.list {
                thead { tr {
                    th scope="col" { "Flag" }
                    th scope="col" { "Answers" }
                    th scope="col" { "Pipeline" }
                    th scope="col" { "Release" }
                } }
                tbody { @for flag in shown.items { (row(moment, flag)) } }
            }
            p.hint { "What somebody gets of whom nothing is known. * By rules, others get something else." }
            (shown.nav("Previous", "Next", |page| query.href(page)))
        }
    };
    let regions = vec![
        Region::new("filters", filter),
        Region::new("flags", list),
        Region::new("applications", applications(moment)),
    ];
    Page { title: "Flags".to_owned(), regions }
}

/// The applications that follow flags and evaluate by themselves. They acknowledge nothing, so this is
/// what they were sent.
fn applications(moment: &Moment) -> Markup {
    html! {
        h2 { "Applications" }
        @if moment.applications.is_empty() {
            p.hint { "None follows flags by itself. Others may ask for each answer; that is not counted." }
        } @else {
            table.list {
                thead { tr {
                    th scope="col" { "Environment" }
                    th scope="col" { "Streams" }
                    th scope="col" { "Newest flags" }
                    th scope="col" { "Sent to" }
                } }
                tbody { @for following in &moment.applications { tr {
                    td.what { strong { (following.environment) } }
                    td { (following.streams) }
                    td { "revision " (following.newest) " (" (following.bytes) " bytes)" }
                    td {
                        @if following.up_to_date == following.streams { "all" } @else {
                            (following.up_to_date) ", others have revision " (following.oldest) " or later"
                        }
                    }
                } } }
            }
            p.hint { "Sent is not yet used: providers take some seconds." }
        }
        p.hint { "Shares of traffic are bucketed by generation " strong { (moment.bucketing.as_str()) } "." }
    }
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
                        @if depends(flag, active, place) { span.sub { " *" } } } " "
                }
                @if places.len() > ENVIRONMENTS_MAX { span.sub { "and " (places.len() - ENVIRONMENTS_MAX) " more" } }
            }
            td.along { @match &flag.pipeline {
                Some(pipeline) => { a href={ "/pipelines/" (pipeline) } { (pipeline) } }
                None => { span.sub { "none" } }
            } }
            td.state { @match active {
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
