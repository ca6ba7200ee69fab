//! Triggering a release from the page of its flag: new answers, then the plan, then the release.

use super::{
    Site, change, flag,
    page::{Chrome, Moment, document},
    refused,
    release::{planned_end, timeline},
    viewer::Viewer,
};
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use http::StatusCode;
use maud::{Markup, html};
use phasegate_api::{
    convert,
    v1::{self, release_service_server::ReleaseService as _},
};
use phasegate_document::{self as documents, Document, Resource, json};
use phasegate_engine::{
    command::{Action, Trigger},
    flag::Flag,
    id::ReleaseId,
    pipeline::Pipeline,
    plan::plan,
};
use serde::Deserialize;
use std::sync::Arc;
use tonic::Status;
use tonic_types::StatusExt as _;

/// What the text area is called in messages about its lines.
const ANSWERS: &str = "new answers";

/// What the form sends.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    step: Step,
    request_id: String,
    answers: String,
    description: String,
    pipeline: String,
    conflict_policy: String,
    base_spec_revision: String,
}

/// Which button was pressed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Step {
    /// Back to the form.
    Edit,
    /// Show what would happen.
    #[default]
    Plan,
    /// Do it.
    Trigger,
}

/// Why what was written does not become a release.
#[derive(Debug)]
enum Problem {
    /// The text cannot be read.
    Text(String),
    /// The API says no.
    Refused(Status, Vec<String>),
}

/// The form, filled with what the flag settles on now.
pub(super) async fn form(
    State(site): State<Site>,
    Path(id): Path<String>,
    viewer: Viewer,
) -> Response {
    let shown = Moment::now(&site, viewer).and_then(|moment| {
        let flag = flag::find(&moment, &id)?;
        let fields = Fields {
            answers: settled(flag),
            base_spec_revision: flag.spec_revision.to_string(),
            ..Fields::default()
        };
        Ok(page(&moment, flag, &edit(&moment, flag, &fields, None)))
    });
    match shown {
        Ok(page) => Html(page.into_string()).into_response(),
        Err(refusal) => refused::of_api(&refusal),
    }
}

/// What a flag settles on, as one writes it.
fn settled(flag: &Flag) -> String {
    let change = match convert::flag_to_wire(flag, None).spec {
        Some(v1::flag::Spec::FeatureGate(gate)) => Some(v1::release::Change::FeatureGate(gate)),
        Some(v1::flag::Spec::DynamicConfig(config)) => {
            Some(v1::release::Change::DynamicConfig(config))
        }
        None => None,
    };
    let text = json::yaml(&json::value(&v1::Release { change, ..Default::default() }));
    // What is false or empty is left out by proto3 JSON; here it is what one wants to change.
    if text.trim_end().ends_with("featureGate: {}") {
        "featureGate:\n  defaultValue: false\n".to_owned()
    } else if text.starts_with("featureGate:") && !text.contains("\n  defaultValue:") {
        format!("{}\n  defaultValue: false\n", text.trim_end())
    } else {
        text
    }
}

/// Takes a step.
pub(super) async fn act(
    State(site): State<Site>,
    Path(id): Path<String>,
    viewer: Viewer,
    form: Result<Form<Fields>, axum::extract::rejection::FormRejection>,
) -> Response {
    let fields = match form {
        Ok(Form(fields)) => fields,
        Err(rejection) => {
            let text = rejection.body_text();
            return refused::page(rejection.status(), "Refused", &text).into_response();
        }
    };
    match step(&site, &id, viewer, &fields).await {
        Ok(response) => response,
        Err(refusal) => refused::of_api(&refusal),
    }
}

async fn step(site: &Site, id: &str, viewer: Viewer, fields: &Fields) -> Result<Response, Status> {
    let moment = Moment::now(site, viewer)?;
    let flag = flag::find(&moment, id)?;
    let problem = match fields.step {
        Step::Edit => None,
        Step::Plan => match planned(site, &moment, flag, fields).await {
            Ok(planned) => {
                let body = confirm(&moment, flag, fields, &planned);
                return Ok(Html(page(&moment, flag, &body).into_string()).into_response());
            }
            Err(problem) => Some(problem),
        },
        Step::Trigger => match triggered(site, &moment, flag, fields).await {
            Ok(name) => return Ok(Redirect::to(&format!("/{name}")).into_response()),
            Err(problem) => Some(problem),
        },
    };
    let code = match &problem {
        None => StatusCode::OK,
        Some(Problem::Text(_)) => StatusCode::BAD_REQUEST,
        Some(Problem::Refused(status, _)) => refused::code(status.code()),
    };
    let body = edit(&moment, flag, fields, problem.as_ref());
    Ok((code, Html(page(&moment, flag, &body).into_string())).into_response())
}

/// The request that the fields stand for, with the text that it came from.
fn request(flag: &Flag, fields: &Fields) -> Result<(v1::TriggerReleaseRequest, Document), Problem> {
    let read = documents::parse_release(ANSWERS, &fields.answers);
    let document = read.map_err(|error| Problem::Text(error.to_string()))?;
    let Resource::Release(release) = &document.resource else {
        return Err(Problem::Text("this is no release".to_owned()));
    };
    let mut release = (**release).clone();
    let name = format!("flags/{}", flag.id);
    if !release.flag.is_empty() && release.flag != name {
        return Err(Problem::Text(format!("the release is of {}, this is {name}", release.flag)));
    }
    release.flag = name;
    if !fields.description.trim().is_empty() {
        fields.description.trim().clone_into(&mut release.description);
    }
    if !fields.pipeline.is_empty() {
        release.pipeline = format!("pipelines/{}", fields.pipeline);
    }
    if release.base_spec_revision == 0 {
        release.base_spec_revision = fields.base_spec_revision.parse().unwrap_or_default();
    }
    let conflict_policy = match fields.conflict_policy.as_str() {
        "queue" => v1::ConflictPolicy::Queue,
        "supersede" => v1::ConflictPolicy::Supersede,
        _ => v1::ConflictPolicy::Fail,
    };
    let request = v1::TriggerReleaseRequest {
        release: Some(release),
        request_id: fields.request_id.clone(),
        conflict_policy: conflict_policy.into(),
        ..Default::default()
    };
    Ok((request, document))
}

fn refused_at(document: &Document, status: Status) -> Problem {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad| &*bad.field_violations).unwrap_or_default();
    let lines =
        violations.iter().map(|wrong| document.locate(&wrong.field, &wrong.description)).collect();
    Problem::Refused(status, lines)
}

/// A release that would be accepted.
struct Planned {
    trigger: Trigger,
    warnings: Vec<v1::PlanWarning>,
}

/// Asks whether it would be accepted, and for what it says.
async fn planned(
    site: &Site,
    moment: &Moment,
    flag: &Flag,
    fields: &Fields,
) -> Result<Planned, Problem> {
    let (request, document) = request(flag, fields)?;
    let tried = v1::TriggerReleaseRequest {
        validate_only: true,
        request_id: String::new(),
        ..request.clone()
    };
    let refused = |status| refused_at(&document, status);
    let answer = site.api.trigger_release(moment.viewer.request(tried)).await.map_err(refused)?;
    let warnings = answer.into_inner().warnings;
    // Any id: this one is only looked at.
    let some_id = ReleaseId::parse("planned").map_err(|error| Problem::Text(error.to_string()))?;
    let parsed = convert::trigger_release(request, some_id);
    let parsed = parsed.map_err(|why| refused(crate::grpc::status::rejected(why)))?;
    let Action::TriggerRelease(trigger) = parsed.action else {
        return Err(Problem::Text("this is no release".to_owned()));
    };
    Ok(Planned { trigger, warnings })
}

/// Triggers it; gives its name.
async fn triggered(
    site: &Site,
    moment: &Moment,
    flag: &Flag,
    fields: &Fields,
) -> Result<String, Problem> {
    let (request, document) = request(flag, fields)?;
    let answer = site.api.trigger_release(moment.viewer.request(request)).await;
    let answer = answer.map_err(|status| refused_at(&document, status))?.into_inner();
    Ok(answer.release.unwrap_or_default().name)
}

fn page(moment: &Moment, flag: &Flag, body: &Markup) -> Markup {
    let body = html! {
        section.wide {
            nav.crumbs aria-label="You are here" {
                a href="/flags" { "Flags" } " / " a href={ "/flags/" (flag.id) } { (flag.id) } " / " span { "Trigger a release" }
            }
            (body)
        }
    };
    document(&format!("Trigger {}", flag.id), &Chrome::Full(moment), &body)
}

fn edit(moment: &Moment, flag: &Flag, fields: &Fields, problem: Option<&Problem>) -> Markup {
    let active = moment.state.active_release(&flag.id);
    html! {
        h1 { "Trigger a release of " (flag.id) }
        @match problem {
            None => {}
            Some(Problem::Text(text)) => { div.refusal role="alert" id="problem" { p { strong { "Cannot be read. " } (text) } } }
            Some(Problem::Refused(status, lines)) if lines.is_empty() => { div id="problem" { (refused::words(status)) } }
            Some(Problem::Refused(_, lines)) => {
                div.refusal role="alert" id="problem" { p { strong { "Refused." } } ul { @for line in lines { li { (line) } } } }
            }
        }
        form method="post" action={ "/flags/" (flag.id) "/release" } {
            (carried(fields))
            label for="new-answers" { "New answers, the whole of them (YAML or JSON)" }
            textarea.code id="new-answers" name="answers" rows="16" spellcheck="false" required
                aria-describedby=[problem.map(|_| "problem")] aria-invalid=[problem.map(|_| "true")] { (fields.answers) }
            label for="description" { "Description" span.sub { " (optional, for example a ticket)" } }
            input id="description" name="description" maxlength="1024" value=(fields.description);
            @if flag.pipeline.is_none() {
                label for="pipeline" { "Pipeline" }
                select id="pipeline" name="pipeline" required {
                    @for pipeline in moment.state.pipelines() {
                        option value=(pipeline.id) selected[pipeline.id.as_str() == fields.pipeline] { (pipeline.id) }
                    }
                }
            }
            @if let Some(active) = active {
                p.notice { "This flag has an active release, " a href={ "/releases/" (active.id()) } { (active.id()) } "." }
                (conflict(fields))
            }
            div.buttons {
                a.button href={ "/flags/" (flag.id) } { "Cancel" }
                button.primary name="step" value="plan" { "Show the plan" }
            }
        }
    }
}

fn conflict(fields: &Fields) -> Markup {
    let choices = [
        ("fail", "Refuse this one"),
        ("queue", "Queue this one behind it"),
        ("supersede", "Abort it and all that wait, and start this one"),
    ];
    html! {
        fieldset {
            legend { "What to do about it" }
            @for (value, label) in choices {
                @let is_chosen = fields.conflict_policy == value || (fields.conflict_policy.is_empty() && value == "fail");
                label.check { input type="radio" name="conflict_policy" value=(value) checked[is_chosen]; span { (label) } }
            }
        }
    }
}

/// What goes along unseen.
fn carried(fields: &Fields) -> Markup {
    let request_id = match fields.request_id.as_str() {
        "" => uuid::Uuid::new_v4().to_string(),
        same => same.to_owned(),
    };
    html! {
        input type="hidden" name="request_id" value=(request_id);
        input type="hidden" name="base_spec_revision" value=(fields.base_spec_revision);
    }
}

fn confirm(moment: &Moment, flag: &Flag, fields: &Fields, planned: &Planned) -> Markup {
    let trigger = &planned.trigger;
    let pipeline = trigger.pipeline.as_ref().or(flag.pipeline.as_ref());
    let pipeline: Option<&Arc<Pipeline>> = pipeline.and_then(|id| moment.state.pipeline(id));
    let start = trigger.schedule_time.map_or(moment.now, |at| at.max(moment.now));
    html! {
        h1 { "Trigger a release of " (flag.id) "?" }
        @if let Some(pipeline) = pipeline {
            @if !pipeline.template.trigger_notice.is_empty() {
                p.notice { strong { "Notice: " } (pipeline.template.trigger_notice) }
            }
        }
        @for warning in &planned.warnings {
            p.notice { strong { "Warning: " } (warning.message) }
        }
        h2 { "What it changes" }
        (change::diff(&flag.spec, &trigger.change))
        @if let Some(pipeline) = pipeline {
            @let plan = plan(&pipeline.template, start);
            h2 { "How it goes out" }
            @if !pipeline.template.exempt_environments.is_empty() {
                p { "At once in " strong { (super::words::environments(&pipeline.template.exempt_environments)) } ", which the pipeline does not govern. Then along " a href={ "/pipelines/" (pipeline.id) } { (pipeline.id) } ":" }
            } @else { p { "Along " a href={ "/pipelines/" (pipeline.id) } { (pipeline.id) } ":" } }
            (timeline(&plan, &pipeline.template.phases, planned_end(&plan), moment.now))
        }
        form method="post" action={ "/flags/" (flag.id) "/release" } {
            (carried(fields))
            @for (name, value) in [
                ("answers", &fields.answers), ("description", &fields.description),
                ("pipeline", &fields.pipeline), ("conflict_policy", &fields.conflict_policy),
            ] { input type="hidden" name=(name) value=(value); }
            div.buttons {
                button name="step" value="edit" { "Back" }
                button.primary name="step" value="trigger" { "Trigger" }
            }
        }
    }
}
