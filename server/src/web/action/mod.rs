//! Actions on a release: the menu, the dialog that says what will happen, and the call.

mod dialog;
mod offer;

use super::{
    Site,
    page::{Chrome, Moment, Place, document},
    refused, release,
    viewer::Viewer,
};
use crate::grpc::Api;
use axum::{
    Form,
    extract::{Path, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use http::{HeaderMap, StatusCode};
use maud::{Markup, html};
use offer::{Offer, offer};
use phasegate_api::v1::{self, release_service_server::ReleaseService as _};
use phasegate_engine::release::{Release, ReleaseState};
use serde::Deserialize;
use tonic::Status;

/// Set by the script, which wants the inside of a dialog and no page around it.
pub(super) const FRAGMENT: &str = "x-phasegate-fragment";

/// What can be done to a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Approve,
    Reject,
    Pause,
    Unpause,
    Skip,
    OverrideWindow,
    AdjustBake,
    FullRollout,
    Abort,
}

impl Verb {
    /// In the order of the menu: going on, standing still, ends.
    const ALL: [Self; 9] = [
        Self::Approve,
        Self::Reject,
        Self::Pause,
        Self::Unpause,
        Self::Skip,
        Self::OverrideWindow,
        Self::AdjustBake,
        Self::FullRollout,
        Self::Abort,
    ];

    fn slug(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::Reject => "reject",
            Self::Pause => "pause",
            Self::Unpause => "unpause",
            Self::Skip => "skip",
            Self::OverrideWindow => "override-window",
            Self::AdjustBake => "adjust-bake",
            Self::FullRollout => "full-rollout",
            Self::Abort => "abort",
        }
    }

    fn of_slug(slug: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.slug() == slug)
    }

    fn label(self) -> &'static str {
        match self {
            Self::Approve => "Approve",
            Self::Reject => "Reject",
            Self::Pause => "Pause",
            Self::Unpause => "Unpause",
            Self::Skip => "Skip",
            Self::OverrideWindow => "Override window",
            Self::AdjustBake => "Adjust bake",
            Self::FullRollout => "Full roll out",
            Self::Abort => "Abort",
        }
    }

    /// Ends a release for good.
    fn is_final(self) -> bool {
        matches!(self, Self::Reject | Self::FullRollout | Self::Abort)
    }
}

/// The menu of all actions. What is not possible now says why.
pub(super) fn menu(moment: &Moment, release: &Release) -> Markup {
    html! {
        details.menu id="menu" {
            summary id="actions" aria-label="Actions" title="Actions" { "⋯" }
            ul {
                @for verb in Verb::ALL {
                    li {
                        @match offer(moment, release, verb) {
                            Ok(_) => {
                                a.danger[verb.is_final() && verb != Verb::FullRollout] id={ "do-" (verb.slug()) }
                                    href=(href(release, verb)) data-dialog { (verb.label()) }
                            }
                            Err(why) => {
                                span.off role="link" aria-disabled="true" tabindex="0" id={ "do-" (verb.slug()) } {
                                    (verb.label()) span.sub.block { (why) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The one action that most people come for, if there is one: it need not be looked for in the menu.
pub(super) fn shortcut(moment: &Moment, release: &Release) -> Markup {
    let verbs: &[Verb] = match release.state() {
        ReleaseState::AwaitingApproval => &[Verb::Approve, Verb::Reject],
        ReleaseState::Paused => &[Verb::Unpause],
        ReleaseState::Baking => &[Verb::Pause],
        ReleaseState::Pending
        | ReleaseState::AwaitingWindow
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => &[],
    };
    let possible = |verb: &&Verb| offer(moment, release, **verb).is_ok();
    html! {
        div.buttons {
            @for verb in verbs.iter().filter(possible) {
                a.button.primary[matches!(verb, Verb::Approve | Verb::Unpause)] id={ "now-" (verb.slug()) } href=(href(release, *verb)) data-dialog { (verb.label()) }
            }
        }
    }
}

fn href(release: &Release, verb: Verb) -> String {
    format!("/releases/{}/{}", release.id(), verb.slug())
}

/// Fields of the forms of all actions; each uses some.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fields {
    request_id: String,
    phase_id: String,
    etag: String,
    reason: String,
    bypass_approval: Option<String>,
    override_windows: Option<String>,
    hours: String,
    minutes: String,
    seconds: String,
}

/// An action that was refused, or not yet asked for.
#[derive(Debug)]
struct Attempt<'a> {
    fields: &'a Fields,
    refused: Option<&'a Status>,
}

/// The dialog of an action.
pub(super) async fn dialog(
    State(site): State<Site>,
    Path((id, slug)): Path<(String, String)>,
    headers: HeaderMap,
    viewer: Viewer,
) -> Response {
    let Some(verb) = Verb::of_slug(&slug) else {
        return refused::no_such_page().await.into_response();
    };
    let attempt = Attempt { fields: &Fields::default(), refused: None };
    answer(&site, &id, verb, (&headers, viewer), &attempt)
}

/// Shows the dialog: its inside for the script, else as a page of its own.
fn answer(
    site: &Site,
    id: &str,
    verb: Verb,
    (headers, viewer): (&HeaderMap, Viewer),
    attempt: &Attempt<'_>,
) -> Response {
    let code = attempt.refused.map_or(StatusCode::OK, |refused| refused::code(refused.code()));
    let shown = Moment::now(site, viewer).and_then(|moment| {
        let release = release::find(&moment, id)?;
        let content = |place| dialog::content(&moment, release, verb, attempt, place);
        if headers.contains_key(FRAGMENT) {
            return Ok(content(Place::Dialog));
        }
        let body = html! { section.narrow.card { (content(Place::Page)) } };
        let title = format!("{} {}", verb.label(), release.proposal.flag);
        Ok(document(&title, &Chrome::Full(&moment), &body))
    });
    match shown {
        Ok(content) => (code, Html(content.into_string())).into_response(),
        Err(refusal) => refused::of_api(&refusal),
    }
}

/// Does it, and leads back to the release; or says in the dialog why not.
pub(super) async fn act(
    State(site): State<Site>,
    Path((id, slug)): Path<(String, String)>,
    headers: HeaderMap,
    viewer: Viewer,
    form: Result<Form<Fields>, axum::extract::rejection::FormRejection>,
) -> Response {
    let Some(verb) = Verb::of_slug(&slug) else {
        return refused::no_such_page().await.into_response();
    };
    let fields = match form {
        Ok(Form(fields)) => fields,
        Err(rejection) => {
            return refused::page(rejection.status(), "Refused", &rejection.body_text())
                .into_response();
        }
    };
    match call(&site.api, &viewer, &id, verb, fields.clone()).await {
        Ok(()) if headers.contains_key(FRAGMENT) => StatusCode::NO_CONTENT.into_response(),
        Ok(()) => Redirect::to(&format!("/releases/{id}")).into_response(),
        Err(refused) => {
            let attempt = Attempt { fields: &fields, refused: Some(&refused) };
            answer(&site, &id, verb, (&headers, viewer), &attempt)
        }
    }
}

/// The call of the API that an action is.
async fn call(
    api: &Api,
    viewer: &Viewer,
    id: &str,
    verb: Verb,
    fields: Fields,
) -> Result<(), Status> {
    let name = format!("releases/{id}");
    let remaining = remaining(&fields)?;
    let Fields { request_id, phase_id, etag, reason, .. } = fields;
    let bypass_approval = fields.bypass_approval.is_some();
    let override_windows = fields.override_windows.is_some();
    match verb {
        Verb::Approve => {
            let request =
                v1::ApprovePhaseRequest { name, request_id, etag: String::new(), reason, phase_id };
            api.approve_phase(viewer.request(request)).await.map(|_| ())
        }
        Verb::Reject => {
            let request =
                v1::RejectPhaseRequest { name, request_id, etag: String::new(), reason, phase_id };
            api.reject_phase(viewer.request(request)).await.map(|_| ())
        }
        Verb::Pause => {
            let request = v1::PauseReleaseRequest { name, request_id, reason };
            api.pause_release(viewer.request(request)).await.map(|_| ())
        }
        Verb::Unpause => {
            let request = v1::UnpauseReleaseRequest { name, request_id, etag, reason };
            api.unpause_release(viewer.request(request)).await.map(|_| ())
        }
        Verb::Skip => {
            let request = v1::SkipPhaseRequest {
                name,
                request_id,
                etag: String::new(),
                reason,
                phase_id,
                bypass_approval,
            };
            api.skip_phase(viewer.request(request)).await.map(|_| ())
        }
        Verb::OverrideWindow => {
            let request = v1::OverrideWindowRequest {
                name,
                request_id,
                etag: String::new(),
                reason,
                phase_id,
            };
            api.override_window(viewer.request(request)).await.map(|_| ())
        }
        Verb::AdjustBake => {
            let request = v1::AdjustBakeRequest {
                name,
                request_id,
                etag: String::new(),
                reason,
                phase_id,
                remaining: Some(remaining),
            };
            api.adjust_bake(viewer.request(request)).await.map(|_| ())
        }
        Verb::FullRollout => {
            let request = v1::FullRolloutRequest {
                name,
                request_id,
                etag,
                reason,
                bypass_approval,
                override_windows,
            };
            api.full_rollout(viewer.request(request)).await.map(|_| ())
        }
        Verb::Abort => {
            let request = v1::AbortReleaseRequest { name, request_id, reason };
            api.abort_release(viewer.request(request)).await.map(|_| ())
        }
    }
}

/// The time of the three fields.
fn remaining(fields: &Fields) -> Result<prost_types::Duration, Status> {
    let number = |name: &str, text: &str| {
        if text.is_empty() {
            return Ok(0_i64);
        }
        let read = text.trim().parse::<u32>().map(i64::from);
        read.map_err(|_| {
            crate::grpc::status::invalid(vec![phasegate_api::convert::Violation {
                field: name.to_owned(),
                description: "must be a whole number".to_owned(),
            }])
        })
    };
    let hours = number("hours", &fields.hours)?;
    let minutes = number("minutes", &fields.minutes)?;
    let seconds = number("seconds", &fields.seconds)?;
    Ok(prost_types::Duration { seconds: hours * 3600 + minutes * 60 + seconds, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_is_found_by_its_slug() {
        for verb in Verb::ALL {
            assert_eq!(Verb::of_slug(verb.slug()), Some(verb));
        }
        assert_eq!(Verb::of_slug("explode"), None);
    }

    #[test]
    fn what_is_left_of_a_bake_is_read_from_three_fields() {
        let check = |hours: &str, minutes: &str, seconds: &str| {
            let (hours, minutes, seconds) = (hours.into(), minutes.into(), seconds.into());
            remaining(&Fields { hours, minutes, seconds, ..Fields::default() }).map(|d| d.seconds)
        };
        assert_eq!(check("1", "2", "3").unwrap(), 3723);
        assert_eq!(check("", "90", "").unwrap(), 5400);
        assert_eq!(check("", "", "").unwrap(), 0);
        for bad in [("-1", "", ""), ("", "1.5", ""), ("", "", "x")] {
            assert!(check(bad.0, bad.1, bad.2).is_err(), "{bad:?}");
        }
    }
}
