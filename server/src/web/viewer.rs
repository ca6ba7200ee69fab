//! Who looks, and as whom they act.
//!
//! With an authentication file it is who the door has let in. Without one the server believes what
//! callers say, which is why it listens on loopback only. A proxy that authenticates says it in the two
//! keys that gRPC calls carry as metadata; without a proxy a viewer names themself, in a form that keeps
//! it in a cookie.

use super::{
    Site,
    door::cookie,
    page::{Chrome, Moment, document},
    refused,
    session::{Session, now},
};
use crate::{
    access::{Grants, Lease, Permission, Reach},
    grpc::caller::{self, GROUPS, PRINCIPAL},
    telemetry::TraceContext,
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
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration as Span,
};
use tonic::metadata::{MetadataMap, MetadataValue};

/// Who looks at a page.
#[derive(Clone, Debug)]
pub(super) struct Viewer {
    /// As whom the API sees them.
    pub(super) caller: Caller,
    /// How that is known.
    pub(super) known: Known,
    metadata: MetadataMap,
    /// The trace that their request belongs to.
    trace: Option<TraceContext>,
    /// What they may; none if nothing is checked.
    grants: Option<Grants>,
    session: Option<Arc<Session>>,
    /// The right to go on with a stream. Whoever watches over it takes it.
    lease: Option<Held>,
}

/// A lease that waits for whoever watches over it.
#[derive(Clone, Debug)]
pub(super) struct Held(Arc<Mutex<Option<Lease>>>);

impl Held {
    pub(super) fn new(lease: Lease) -> Self {
        Self(Arc::new(Mutex::new(Some(lease))))
    }

    fn take(&self) -> Option<Lease> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
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
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let by_proxy = MetadataMap::from_headers(ours(headers));
        if !by_proxy.is_empty()
            && let Ok(caller) = caller::caller(&by_proxy)
        {
            return Self::believed(caller, Known::ByProxy, by_proxy);
        }
        let (principal, groups) = (cookie(headers, PRINCIPAL), cookie(headers, GROUPS));
        if let Some(metadata) = metadata(principal.as_deref(), groups.as_deref())
            && !metadata.is_empty()
            && let Ok(caller) = caller::caller(&metadata)
        {
            return Self::believed(caller, Known::ByCookie, metadata);
        }
        Self::nobody()
    }

    fn believed(caller: Caller, known: Known, metadata: MetadataMap) -> Self {
        Self { caller, known, metadata, trace: None, grants: None, session: None, lease: None }
    }

    /// Ends when they are no longer who they are, or may no longer look: with the session, with the
    /// credential, or with the role. To be called once.
    pub(super) async fn over(&self) {
        let lease = self.lease.as_ref().and_then(Held::take);
        let session = self.session.as_deref();
        let signed_out = async {
            match session {
                Some(session) => session.over.cancelled().await,
                None => std::future::pending().await,
            }
        };
        // Wall time may be stepped: it is looked at again before it is believed.
        let expired = async {
            let Some(session) = session else { return std::future::pending().await };
            while let Ok(left) = session.until.duration_since(now()) {
                if left.is_zero() {
                    return;
                }
                tokio::time::sleep(left.min(Span::from_secs(60))).await;
            }
        };
        let refused = async {
            match lease {
                Some(lease) => drop(lease.over().await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = signed_out => {}
            () = expired => {}
            () = refused => {}
        }
    }

    fn nobody() -> Self {
        let anonymous = phasegate_engine::id::Principal::new(caller::ANONYMOUS);
        let caller = Caller { principal: anonymous, groups: Vec::new() };
        Self::believed(caller, Known::NotAtAll, MetadataMap::new())
    }

    /// A call of the API, by them.
    pub(super) fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        *request.metadata_mut() = self.metadata.clone();
        if let Some(grants) = &self.grants {
            request.extensions_mut().insert(grants.clone());
        }
        if let Some(trace) = &self.trace {
            request.extensions_mut().insert(trace.clone());
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
        written(&self.caller)
    }
}

fn written(caller: &Caller) -> String {
    caller.groups.iter().map(|group| group.as_str()).collect::<Vec<_>>().join(", ")
}

impl<S: Sync> FromRequestParts<S> for Viewer {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let trace = parts.extensions.get::<TraceContext>().cloned();
        let Some(grants) = parts.extensions.get::<Grants>().cloned() else {
            return Ok(Self { trace, ..Self::of(&parts.headers) });
        };
        let session = parts.extensions.get::<Arc<Session>>().cloned();
        let lease = parts.extensions.get::<Held>().cloned();
        let caller = grants.caller().clone();
        let known = Self::believed(caller, Known::ByCredential, MetadataMap::new());
        Ok(Self { trace, grants: Some(grants), session, lease, ..known })
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
pub(super) async fn form(State(site): State<Site>, viewer: Viewer) -> Response {
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
    viewer: Viewer,
    Form(named): Form<Named>,
) -> Response {
    // Who has signed in does not choose who they are.
    if viewer.known == Known::ByCredential {
        return Redirect::to("/caller").into_response();
    }
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
            @if let Some(grants) = &viewer.grants {
                (may(grants))
                @if viewer.session.is_some() {
                    form method="post" action="/logout" { div.buttons { button.primary { "Sign out" } } }
                }
            } @else if viewer.known == Known::ByProxy {
                p { "A proxy signs you in as " strong { (viewer.caller.principal) } ". Sign out there to be somebody else." }
            } @else {
                p {
                    "This server has no authentication file. It serves this machine only, believes the name you give, \
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
        p { "You are " strong { (grants.caller().principal) }
            @if let Some(name) = &grants.identity().name { " (" (name) ")" } "." }
        p { "Groups: "
            @if grants.caller().groups.is_empty() { "none" } @else { (written(grants.caller())) } "." }
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
        let viewer = Viewer::of(&headers);
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
