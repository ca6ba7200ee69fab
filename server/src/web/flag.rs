//! One flag: what it answers where and why, its release, its kill switch.

use super::{
    Site,
    action::FRAGMENT,
    change,
    flags::{answer_to_nobody, depends, environments, kind},
    page::{Chrome, Moment, Page, Place, Region, document},
    refused,
    release::{chip, waits},
    time,
    viewer::Viewer,
    why, words,
};
use crate::{access::Permission, grpc::status};
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use phasegate_api::{
    convert,
    v1::{self, flag_service_server::FlagService as _},
};
use phasegate_document::context;
use phasegate_engine::{
    Among,
    flag::{Flag, KillSwitch},
    id::FlagId,
    refusal::Resource,
    release::Release,
    targeting::{Answer, Context, Explanation, Exposure, Why, explain},
};
use serde::Deserialize;
use std::{slice, sync::Arc};
use tonic::Status;

/// Releases that are over and are shown on the page of their flag.
const PAST_MAX: usize = 10;

/// What the flag is asked, if anything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Question {
    environment: String,
    context: String,
}

/// The flag of that name, as of a moment.
pub(super) fn find<'a>(moment: &'a Moment, id: &str) -> Result<&'a Arc<Flag>, Status> {
    let id: FlagId =
        convert::flag_name("name", &format!("flags/{id}")).map_err(status::rejected)?;
    moment.state.flag(&id).ok_or_else(|| status::not_found(&Resource::Flag(id)))
}

/// Its page as of a moment.
pub(super) fn page(moment: &Moment, id: &str, question: &Question) -> Result<Page, Status> {
    let flag = find(moment, id)?;
    let active = moment.state.active_release(&flag.id).map(|release| &**release);
    Ok(Page {
        title: flag.id.to_string(),
        regions: vec![
            Region::new("head", head(moment, flag)),
            Region::new("answers", answers(moment, flag, active)),
            Region::new("evaluate", evaluation(moment, flag, active, question)),
            Region::new(
                "settled",
                html! { h2 { "What it settles on" } (change::plain(&flag.spec)) },
            ),
            Region::new("releases", releases(moment, flag)),
        ],
    })
}

fn head(moment: &Moment, flag: &Flag) -> Markup {
    let is_killed = flag.kill_switch.is_engaged();
    html! {
        nav.crumbs aria-label="You are here" { a href="/flags" { "Flags" } " / " span { (flag.id) } }
        div.title {
            h1 { (flag.id) " " @if is_killed { span.chip.s-failed { "Killed" } } }
            div.buttons {
                @if let Some(lacks) = moment.viewer.lacks_of(flag, Permission::Trigger) {
                    span.button.off role="link" aria-disabled="true" tabindex="0" title=(lacks) { "Trigger a release" }
                } @else { a.button.primary href={ "/flags/" (flag.id) "/release" } { "Trigger a release" } }
                @if let Some(lacks) = moment.viewer.lacks_of(flag, Permission::KillSwitch) {
                    span.button.off role="link" aria-disabled="true" tabindex="0" title=(lacks) {
                        @if is_killed { "Lift kill switch" } @else { "Kill" }
                    }
                }
                @else if is_killed { a.button href={ "/flags/" (flag.id) "/revive" } id="do-revive" data-dialog { "Lift kill switch" } }
                @else { a.button.danger href={ "/flags/" (flag.id) "/kill" } id="do-kill" data-dialog { "Kill" } }
            }
        }
        @if !flag.description.is_empty() { p.description { (flag.description) } }
        p.meta {
            (kind(flag)) ", "
            @match &flag.pipeline {
                Some(pipeline) => { "released along " a href={ "/pipelines/" (pipeline) } { (pipeline) } }
                None => { "no pipeline attached" }
            }
            ", changed " (time::ago(flag.update_time, moment.now))
        }
        @if let KillSwitch::Engaged { reason } = &flag.kill_switch {
            p.notice.refusal { strong { "Killed. " } "It answers its safe value to everyone, whatever its rules and releases say." @if !reason.is_empty() { " “" (reason) "”" } }
        }
    }
}

fn answers(moment: &Moment, flag: &Flag, active: Option<&Release>) -> Markup {
    let places = environments(moment, flag, active);
    let exposure = active.map(words::exposure).unwrap_or_default();
    html! {
        h2 { "What it answers now" }
        @if places.is_empty() {
            p { code { (answer_to_nobody(moment, flag, active, None)) } " unless a rule says otherwise; nothing names an environment." }
        } @else {
            table.list {
                thead { tr { th scope="col" { "Environment" } th scope="col" { "Of whom nothing is known" } th scope="col" { "Who has the change of the release" } } }
                tbody { @for place in &places {
                    @let here = exposure.get(&Some(place.clone())).into_iter().chain(exposure.get(&None)).flatten();
                    @let here: Vec<&str> = here.map(String::as_str).collect();
                    tr {
                        th scope="row" { (place) }
                        td { code { (answer_to_nobody(moment, flag, active, Some(place))) }
                            @if depends(flag, active, place) { span.sub { " others differ, by rules" } } }
                        td { @match active {
                            None => { span.sub { "no release is active" } }
                            Some(_) if here.is_empty() => { span.sub { "nobody yet" } }
                            Some(_) => { (here.join("; ")) }
                        } }
                    }
                } }
            }
        }
    }
}

fn evaluation(
    moment: &Moment,
    flag: &Flag,
    active: Option<&Release>,
    question: &Question,
) -> Markup {
    let asked = !question.environment.is_empty();
    html! {
        h2 { "Ask it" }
        form.ask method="get" action={ "/flags/" (flag.id) } {
            div.field { label for="environment" { "Environment" }
                input id="environment" name="environment" value=(question.environment) required
                    list="environments" autocomplete="off" spellcheck="false";
                datalist id="environments" { @for place in environments(moment, flag, active) { option value=(place) {} } } }
            div.field.wide { label for="context" { "Context, as key=value lines or JSON" }
                textarea id="context" name="context" rows="3" spellcheck="false" placeholder="targetingKey=user-1\ntier=beta" { (question.context) } }
            div.field.buttons { button { "Ask" } }
        }
        @if asked { @match ask(moment, flag, active, question) {
            Ok(explanation) => {
                div.answer role="status" { (answer_words(flag, active, &explanation.answer)) }
                (why::considered(&explanation))
            }
            Err(refusal) => { div.answer role="status" { (refused::words(&refusal)) } }
        } }
    }
}

fn ask<'a>(
    moment: &Moment,
    flag: &'a Flag,
    active: Option<&'a Release>,
    question: &Question,
) -> Result<Explanation<'a>, Status> {
    let request = v1::EvaluateFlagRequest {
        flag: format!("flags/{}", flag.id),
        environment: question.environment.trim().to_owned(),
        context: Some(context::read(&question.context).map_err(|problem| {
            let field = "context".to_owned();
            status::invalid(vec![convert::Violation { field, description: problem }])
        })?),
    };
    let asked = convert::evaluate_flag(request).map_err(status::rejected)?;
    let context = Context { environment: &asked.environment, attributes: &asked.attributes };
    Ok(explain(flag, active, &context, moment.bucketing))
}

fn answer_words(flag: &Flag, active: Option<&Release>, answer: &Answer) -> Markup {
    html! {
        p { strong { (flag.id) } " answers " code { (words::answer(&answer.value)) } "." }
        p.sub {
            @match &answer.why {
                Why::Disabled => { "Because the flag is killed." }
                Why::Default => { "Because no rule matched." }
                Why::TargetingMatch(rule) => { "Because the rule " strong { (rule) } " matched." }
                Why::Split(rule) => { "Because the rule " strong { (rule) } " matched, inside its share." }
            }
            " "
            @match (&answer.exposed, active) {
                (Some(exposure), Some(release)) => {
                    "The answer is the change of " a href={ "/releases/" (release.id()) } { (release.id()) } ", "
                    @match exposure {
                        Exposure::Exempt => { "because its pipeline does not govern this environment." }
                        Exposure::Phase(phase) => { "by its phase " strong { (phase) } "." }
                    }
                }
                (None, Some(release)) => { "The change of " a href={ "/releases/" (release.id()) } { (release.id()) } " does not reach this context." }
                (_, None) => {}
            }
        }
    }
}

fn releases(moment: &Moment, flag: &Flag) -> Markup {
    let flags = slice::from_ref(&flag.id);
    let newest_first = |among| moment.state.releases_before(among, None);
    let unfinished: Vec<_> = newest_first(Among::UnfinishedOf(flags)).collect();
    // One more than are shown tells that there are more.
    let over = newest_first(Among::OfFlags(flags)).filter(|release| release.is_over());
    let over: Vec<_> = over.take(PAST_MAX + 1).collect();
    html! {
        h2 { "Releases" }
        @if unfinished.is_empty() && over.is_empty() { p { "None yet." } }
        @else {
            table.list {
                thead { tr { th scope="col" { "State" } th scope="col" { "Release" } th scope="col" { "Waits for" } th scope="col" { "Started by" } } }
                tbody { @for release in unfinished.iter().chain(over.iter().take(PAST_MAX)) {
                    tr {
                        td { (chip(release.state())) }
                        td.what { a.name href={ "/releases/" (release.id()) } { (release.id()) }
                            @if !release.proposal.description.is_empty() { span.description { (release.proposal.description) } } }
                        td { (waits(release, moment.now)) }
                        td.who { (release.proposal.creator) span.sub { (time::ago(release.proposal.create_time, moment.now)) } }
                    }
                } }
            }
            @if over.len() > PAST_MAX { p { a href={ "/releases?state=all&flag=" (flag.id) } { "All releases of this flag" } } }
        }
    }
}

/// The two positions of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Switch {
    Kill,
    Revive,
}

/// What the form of the switch sends.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    request_id: String,
    reason: String,
}

/// The dialog that engages the kill switch.
pub(super) async fn kill_dialog(
    State(site): State<Site>,
    Path(id): Path<String>,
    headers: HeaderMap,
    viewer: Viewer,
) -> Response {
    dialog(&site, &id, Switch::Kill, (&headers, viewer), None)
}

/// The dialog that lifts it.
pub(super) async fn revive_dialog(
    State(site): State<Site>,
    Path(id): Path<String>,
    headers: HeaderMap,
    viewer: Viewer,
) -> Response {
    dialog(&site, &id, Switch::Revive, (&headers, viewer), None)
}

/// Engages it.
pub(super) async fn kill(
    State(site): State<Site>,
    Path(id): Path<String>,
    headers: HeaderMap,
    viewer: Viewer,
    Form(fields): Form<Fields>,
) -> Response {
    turn(&site, &id, Switch::Kill, (&headers, viewer), fields).await
}

/// Lifts it.
pub(super) async fn revive(
    State(site): State<Site>,
    Path(id): Path<String>,
    headers: HeaderMap,
    viewer: Viewer,
    Form(fields): Form<Fields>,
) -> Response {
    turn(&site, &id, Switch::Revive, (&headers, viewer), fields).await
}

async fn turn(
    site: &Site,
    id: &str,
    switch: Switch,
    (headers, viewer): (&HeaderMap, Viewer),
    fields: Fields,
) -> Response {
    let request = v1::SetKillSwitchRequest {
        name: format!("flags/{id}"),
        request_id: fields.request_id,
        reason: fields.reason,
        engaged: Some(switch == Switch::Kill),
    };
    match site.api.set_kill_switch(viewer.request(request)).await {
        Ok(_) if headers.contains_key(FRAGMENT) => StatusCode::NO_CONTENT.into_response(),
        Ok(_) => Redirect::to(&format!("/flags/{id}")).into_response(),
        Err(refusal) => dialog(site, id, switch, (headers, viewer), Some(&refusal)),
    }
}

fn dialog(
    site: &Site,
    id: &str,
    switch: Switch,
    (headers, viewer): (&HeaderMap, Viewer),
    refusal: Option<&Status>,
) -> Response {
    let shown = Moment::now(site, viewer).and_then(|moment| {
        let flag = find(&moment, id)?;
        if headers.contains_key(FRAGMENT) {
            return Ok(dialog_content(flag, switch, refusal, Place::Dialog));
        }
        let content = dialog_content(flag, switch, refusal, Place::Page);
        let body = html! { section.narrow.card { (content) } };
        Ok(document("Kill switch", &Chrome::Full(&moment), &body))
    });
    let code = refusal.map_or(StatusCode::OK, |refusal| refused::code(refusal.code()));
    match shown {
        Ok(content) => (code, Html(content.into_string())).into_response(),
        Err(refusal) => refused::of_api(&refusal),
    }
}

fn dialog_content(flag: &Flag, switch: Switch, refusal: Option<&Status>, place: Place) -> Markup {
    let (action, label) = match switch {
        Switch::Kill => ("kill", "Kill"),
        Switch::Revive => ("revive", "Lift kill switch"),
    };
    html! {
        form method="post" action={ "/flags/" (flag.id) "/" (action) } {
            (place.heading(&html! { (label) " " (flag.id) }))
            @if let Some(refusal) = refusal { (refused::words(refusal)) }
            @match switch {
                Switch::Kill => {
                    p { strong { (flag.id) } " answers "
                        @match flag.spec.kind() {
                            phasegate_engine::flag::FlagKind::FeatureGate => { strong { "off" } }
                            phasegate_engine::flag::FlagKind::DynamicConfig => { strong { "its settled default" } }
                        }
                        " to everyone, in every environment, at once, until the switch is lifted." }
                    p { "It moves no release: one that is under way goes on, unseen." }
                }
                Switch::Revive => { p { strong { (flag.id) } " answers again as its rules and its release say." } }
            }
            input type="hidden" name="request_id" value=(uuid::Uuid::new_v4());
            label for="reason" { "Reason" span.sub { " (optional)" } }
            textarea id="reason" name="reason" rows="2" maxlength="1024" autofocus {}
            div.buttons {
                a.button href={ "/flags/" (flag.id) } data-close { "Cancel" }
                button.primary.danger[switch == Switch::Kill] { (label) }
            }
        }
    }
}
