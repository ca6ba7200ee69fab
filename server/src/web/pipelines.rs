//! Pipelines, drawn. They are edited as documents, with the CLI.

use super::{
    page::{Moment, Page, Region},
    release::phase_rules,
    time, words,
};
use crate::grpc::status;
use maud::{Markup, html};
use phasegate_engine::{
    id::PipelineId,
    pipeline::{Phase, Pipeline, SelfApproval},
    refusal::Resource,
    time::Span,
};
use std::collections::BTreeMap;
use tonic::Status;

/// The list as of a moment.
pub(super) fn list(moment: &Moment) -> Page {
    let mut attached: BTreeMap<&PipelineId, usize> = BTreeMap::new();
    for pipeline in moment.state.flags().filter_map(|flag| flag.pipeline.as_ref()) {
        *attached.entry(pipeline).or_default() += 1;
    }
    let content = html! {
        h1 { "Pipelines" }
        @if moment.state.pipelines().next().is_none() {
            div.empty {
                p { strong { "No pipeline yet." } }
                p { "Write one down and apply it:" }
                pre { "phasegate apply -f examples/quick/pipeline.yaml" }
            }
        } @else {
            table.list {
                thead { tr { th scope="col" { "Pipeline" } th scope="col" { "Phases" } th scope="col" { "Takes at least" } th scope="col" { "Flags" } } }
                tbody { @for pipeline in moment.state.pipelines() { (row(pipeline, attached.get(&pipeline.id).copied().unwrap_or_default())) } }
            }
        }
    };
    Page { title: "Pipelines".to_owned(), regions: vec![Region::new("pipelines", content)] }
}

fn row(pipeline: &Pipeline, flags: usize) -> Markup {
    let phases = &pipeline.template.phases;
    html! {
        tr {
            td.what {
                a.name href={ "/pipelines/" (pipeline.id) } { (pipeline.id) }
                @if !pipeline.template.description.is_empty() { span.description { (pipeline.template.description) } }
            }
            td { (phases.iter().map(|phase| phase.id.as_str()).collect::<Vec<_>>().join(" → ")) }
            td { (time::span_words(bakes(phases))) }
            td { (flags) }
        }
    }
}

fn bakes(phases: &[Phase]) -> Span {
    Span::from_millis(phases.iter().map(|phase| phase.bake.as_millis()).sum())
}

/// One pipeline as of a moment.
pub(super) fn page(moment: &Moment, id: &str) -> Result<Page, Status> {
    let name = format!("pipelines/{id}");
    let id = phasegate_api::convert::pipeline_name("name", &name).map_err(status::rejected)?;
    let found = moment.state.pipeline(&id);
    let pipeline = found.ok_or_else(|| status::not_found(&Resource::Pipeline(id.clone())))?;
    let template = &pipeline.template;
    let flags: Vec<_> =
        moment.state.flags().filter(|flag| flag.pipeline.as_ref() == Some(&id)).collect();
    let content = html! {
        nav.crumbs aria-label="You are here" { a href="/pipelines" { "Pipelines" } " / " span { (id) } }
        h1 { (id) }
        @if !template.description.is_empty() { p.description { (template.description) } }
        @if !template.trigger_notice.is_empty() { p.notice { strong { "Before a trigger: " } (template.trigger_notice) } }
        p.meta { "Changed " (time::at(pipeline.update_time)) ", revision " (pipeline.revision) "; releases under way keep the copy they took." }
        h2 { "Phases" }
        ol.phases { @for (index, phase) in template.phases.iter().enumerate() { (card(index, phase)) } }
        @if !template.exempt_environments.is_empty() {
            p { "Not governed: " strong { (words::environments(&template.exempt_environments)) }
                ". There a change holds from the moment its release starts." }
        }
        h2 { "Flags along it" }
        @if flags.is_empty() { p { "None." } }
        @else { ul.names { @for flag in flags { li { a href={ "/flags/" (flag.id) } { (flag.id) } } } } }
        p.hint { "To change it: " code { "phasegate get pipelines/" (id) " -o yaml" } ", edit, " code { "phasegate apply -f FILE" } "." }
    };
    Ok(Page { title: id.to_string(), regions: vec![Region::new("pipeline", content)] })
}

fn card(index: usize, phase: &Phase) -> Markup {
    html! {
        li.phase.template {
            h3 { span.number { (index + 1) } " " (phase.id) }
            (phase_rules(phase))
            dl.facts {
                div { dt { "Bake" } dd { (time::span_words(phase.bake)) } }
                @if let Some(approval) = &phase.approval {
                    div { dt { "Approval" } dd { (words::requirement(approval))
                        @if approval.self_approval == SelfApproval::Forbidden { span.sub.block { "not by who started it" } }
                        @if let Some(expiry) = approval.expiry { span.sub.block { "within " (time::span_words(expiry)) } } } }
                }
                @if let Some(windows) = &phase.windows {
                    div { dt { "Window" } dd { (words::windows(windows))
                        @for blackout in &windows.blackouts {
                            span.sub.block { "closed " (time::at(blackout.start)) " to " (time::at(blackout.end))
                                @if !blackout.note.is_empty() { ": " (blackout.note) } }
                        } } }
                }
                @for guard in &phase.guards { div { dt { "Guard " (guard.id) } dd { (words::guard(guard)) } } }
            }
        }
    }
}
