//! Who looks, and as whom they act.
//!
//! A server with a policy knows: the gate has put it into the request. One without believes what it is
//! told, which is why it listens on loopback only. A proxy that authenticates says it in the two keys that gRPC calls carry as
//! metadata; without a proxy a viewer names themself, in a form that keeps it in a cookie.

use super::{
    Site,
    page::{Chrome, Moment, document},
    refused,
};
use crate::{
    access::{Grants, Permission, Reach},
    grpc::caller::{self, GROUPS, PRINCIPAL},
};
use axum::{
    Form,
    extract::{FromRequestParts, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use cookie::{Cookie, SameSite, time::Duration};
use http::{HeaderMap, StatusCode, header, request::Parts};
use maud::{Markup, html};
use phasegate_engine::{
    self as engine,
    command::{Action, Caller},
    flag::{Flag, Labels},
};
use serde::Deserialize;
use std::{convert::Infallible, sync::Arc};
use tonic::metadata::{MetadataMap, MetadataValue};

/// Who looks at a page.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    /// As whom the API sees them.
    pub(super) caller: Caller,
    /// How that is known.
    pub(super) known: Known,
    metadata: MetadataMap,
    /// What they may; none if nothing is checked.
    grants: Option<Grants>,
}

/// What a request says of who sends it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sender {
    headers: HeaderMap,
    grants: Option<Grants>,
}

impl std::ops::Deref for Sender {
    type Target = HeaderMap;

    fn deref(&self) -> &HeaderMap {
        &self.headers
    }
}

impl From<HeaderMap> for Sender {
    fn from(headers: HeaderMap) -> Self {
        Self { headers, grants: None }
    }
}

impl<S: Sync> FromRequestParts<S> for Sender {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _to: &S) -> Result<Self, Infallible> {
        let grants = parts.extensions.get::<Grants>().cloned();
        Ok(Self { headers: parts.headers.clone(), grants })
    }
}

/// How a viewer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// By a credential, or by whoever holds one and speaks for them.
    ByCredential,
    /// A proxy says so.
    ByProxy,
    /// They say so.
    ByCookie,
    /// They are not.
    NotAtAll,
}

impl Viewer {
    /// Reads who looks. What makes no sense counts as nobody; the form says what is wrong.
    pub(super) fn of(headers: &Sender) -> Self {
        if let Some(grants) = &headers.grants {
            return Self {
                caller: grants.caller().clone(),
                known: Known::ByCredential,
                metadata: MetadataMap::new(),
                grants: Some(grants.clone()),
            };
        }
        let by_proxy = MetadataMap::from_headers(ours(headers));
        if !by_proxy.is_empty()
            && let Ok(caller) = caller::caller(&by_proxy)
        {
            return Self { caller, known: Known::ByProxy, metadata: by_proxy, grants: None };
        }
        let (principal, groups) = (cookie(headers, PRINCIPAL), cookie(headers, GROUPS));
        if let Some(metadata) = metadata(principal.as_deref(), groups.as_deref())
            && !metadata.is_empty()
            && let Ok(caller) = caller::caller(&metadata)
        {
            return Self { caller, known: Known::ByCookie, metadata, grants: None };
        }
        Self::nobody()
    }

    fn nobody() -> Self {
        let anonymous = phasegate_engine::id::Principal::new(caller::ANONYMOUS);
        let caller = Caller { principal: anonymous, groups: Vec::new() };
        let metadata = MetadataMap::new();
        Self { caller, known: Known::NotAtAll, metadata, grants: None }
    }

    /// A call of the API, by them.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(grants) = &self.grants {
            request.extensions_mut().insert(grants.clone());
        }
        request
    }

    /// Of a state, what they see.
    pub(super) fn seen(&self, site: &Site, state: engine::State) -> engine::State {
        match &self.grants {
            Some(grants) => site.sights.of(grants, state),
            None => state,
        }
    }

    /// What they would need for an action on something that they see, in words; none if they may.
    pub(super) fn lacks(&self, state: &engine::State, action: &Action) -> Option<String> {
        self.grants.as_ref()?.missing(state, action).map(words)
    }

    /// The same for a permission on a flag.
    pub(super) fn lacks_of(&self, flag: &Flag, permission: Permission) -> Option<String> {
        let may = self.grants.as_ref()?.may(permission, Some(&flag.labels));
        (!may).then(|| words(permission))
    }

    /// Their groups, as they are written.
    fn groups(&self) -> String {
        self.caller.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>().join(", ")
    }
}

fn words(missing: Permission) -> String {
    format!("You lack the permission {missing}.")
}

fn ours(headers: &HeaderMap) -> HeaderMap {
    let is_ours = |name: &str| name == PRINCIPAL || name == GROUPS;
    let ours = headers.iter().filter(|(name, _)| is_ours(name.as_str()));
    ours.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values =
        headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|text| Cookie::split_parse_encoded(text.to_owned()));
    let found = cookies.find_map(|cookie| cookie.ok().filter(|cookie| cookie.name() == name))?;
    Some(found.value().to_owned()).filter(|value| !value.is_empty())
}

fn metadata(principal: Option<&str>, groups: Option<&str>) -> Option<MetadataMap> {
    let mut metadata = MetadataMap::new();
    for (key, value) in [(PRINCIPAL, principal), (GROUPS, groups)] {
        if let Some(value) = value {
            metadata.insert(key, MetadataValue::try_from(value.as_bytes()).ok()?);
        }
    }
    Some(metadata)
}

/// What the form is filled with.
#[derive(Debug, Deserialize)]
pub(super) struct Named {
    #[serde(default)]
    principal: String,
    #[serde(default)]
    groups: String,
}

/// The form in which a viewer names themself.
pub(super) async fn form(State(site): State<Site>, headers: Sender) -> Response {
    let viewer = Viewer::of(&headers);
    let named = match viewer.known {
        Known::NotAtAll => Named { principal: String::new(), groups: String::new() },
        Known::ByCookie | Known::ByProxy | Known::ByCredential => {
            Named { principal: viewer.caller.principal.to_string(), groups: viewer.groups() }
        }
    };
    show(&site, &viewer, &named, None, StatusCode::OK)
}

/// Takes the names.
pub(super) async fn act(
    State(site): State<Site>,
    headers: Sender,
    Form(named): Form<Named>,
) -> Response {
    let named =
        Named { principal: named.principal.trim().into(), groups: named.groups.trim().into() };
    let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let (principal, groups) = (some(&named.principal), some(&named.groups));
    let problem = match metadata(principal.as_deref(), groups.as_deref()) {
        None => Some("Names may have printable ASCII only.".to_owned()),
        Some(metadata) => caller::caller(&metadata).err().map(|violations| {
            let texts = violations.into_iter().map(|violation| {
                let what = if violation.field.contains(GROUPS) { "Groups" } else { "The name" };
                format!("{what} {}.", violation.description)
            });
            texts.collect::<Vec<_>>().join(" ")
        }),
    };
    if let Some(problem) = problem {
        let viewer = Viewer::of(&headers);
        return show(&site, &viewer, &named, Some(&problem), StatusCode::BAD_REQUEST);
    }
    let mut response = Redirect::to("/releases").into_response();
    for (name, value) in [(PRINCIPAL, &named.principal), (GROUPS, &named.groups)] {
        // Not `Secure`: this is plain HTTP on loopback, and what it says is believed by no one else.
        let cookie = Cookie::build((name, value.clone()))
            .path("/")
            .http_only(true)
            .same_site(SameSite::Strict)
            .max_age(if value.is_empty() { Duration::ZERO } else { Duration::days(30) });
        if let Ok(value) = cookie.build().encoded().to_string().parse() {
            response.headers_mut().append(header::SET_COOKIE, value);
        }
    }
    response
}

fn show(
    site: &Site,
    viewer: &Viewer,
    named: &Named,
    problem: Option<&str>,
    status: StatusCode,
) -> Response {
    let moment = match Moment::now(site, viewer.clone()) {
        Ok(moment) => moment,
        Err(refusal) => return refused::of_api(&refusal),
    };
    let page = document("Who you are", &Chrome::Full(&moment), &body(viewer, named, problem));
    (status, Html(page.into_string())).into_response()
}

fn body(viewer: &Viewer, named: &Named, problem: Option<&str>) -> Markup {
    html! {
        section.narrow.card {
            h1 { "Who you are" }
            @if let Some(problem) = problem {
                div.refusal role="alert" { p { strong { "Refused. " } (problem) } }
            }
            @if let Some(grants) = &viewer.grants { (may(grants)) }
            @else if viewer.known == Known::ByProxy {
                p { "A proxy signs you in as " strong { (viewer.caller.principal) } ". Sign out there to be somebody else." }
            } @else {
                p {
                    "Phasegate does not sign people in yet. It serves this machine only, believes the name you give, \
                     and writes it into the log of everything you do."
                }
                form method="post" action="/caller" {
                    label for="principal" { "Name" }
                    input id="principal" name="principal" value=(named.principal) maxlength="256"
                        autocomplete="username" placeholder="anonymous";
                    label for="groups" { "Groups, separated by commas" }
                    input id="groups" name="groups" value=(named.groups) placeholder="none"
                        aria-describedby="groups-hint";
                    p.hint id="groups-hint" { "Approvals are counted by them." }
                    div.buttons { button.primary { "Act as this" } }
                }
            }
        }
    }
}

/// Who they are and what they may, so that they see why something is refused.
fn may(grants: &Grants) -> Markup {
    let allowed = grants.allowed();
    let places = |reach: &Reach| match reach {
        Reach::Everywhere => "everywhere".to_owned(),
        Reach::Under(scopes) => {
            let label = |(key, value): (&Arc<str>, &Arc<str>)| format!("{key}={value}");
            let scope = |labels: &Labels| labels.iter().map(label).collect::<Vec<_>>().join(" ");
            scopes.iter().map(scope).collect::<Vec<_>>().join(", or ")
        }
    };
    html! {
        p { "You are " strong { (grants.caller().principal) } "." }
        @if let Some(authenticated) = grants.authenticated() {
            p { "Signed in is " strong { (authenticated) } ", who acts for you." }
        }
        table.list {
            thead { tr { th scope="col" { "Permission" } th scope="col" { "Of flags with" } } }
            tbody { @for (permission, reach) in allowed.permissions() {
                tr { td { (permission) } td { (places(reach)) } }
            } }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&'static str, &str)]) -> (Known, String, String) {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, value.parse().unwrap());
        }
        let viewer = Viewer::of(&headers.into());
        (viewer.known, viewer.caller.principal.to_string(), viewer.groups())
    }

    #[test]
    fn a_proxy_is_believed_before_a_cookie() {
        let cookie =
            ("cookie", "phasegate-principal=bob%40example.com; phasegate-groups=sre%2C%20ops");
        let by_cookie = (Known::ByCookie, "bob@example.com".to_owned(), "sre, ops".to_owned());
        assert_eq!(check(&[cookie]), by_cookie);
        let by_proxy = (Known::ByProxy, "ann".to_owned(), "web".to_owned());
        assert_eq!(check(&[cookie, (PRINCIPAL, "ann"), (GROUPS, "web")]), by_proxy);
    }

    #[test]
    fn what_makes_no_sense_is_nobody() {
        let nobody = (Known::NotAtAll, "anonymous".to_owned(), String::new());
        assert_eq!(check(&[]), nobody);
        assert_eq!(check(&[("cookie", "phasegate-principal=j%C3%BCrgen")]), nobody);
        assert_eq!(check(&[("cookie", "phasegate-principal=%0A")]), nobody);
        assert_eq!(check(&[("cookie", "other=ann")]), nobody);
    }
}
