//! Logging in and out: with a token, or at an issuer.
//!
//! | cookie | holds | same site |
//! |---|---|---|
//! | `__Host-phasegate` | the session | Strict: no other site's link or form carries it |
//! | `__Host-phasegate-login` | a login under way, ten minutes | Lax: the issuer leads back with it |
//!
//! Over plain HTTP, which is loopback only, they are `phasegate` and `phasegate-login`, since browsers
//! keep the prefix for TLS (RFC 6265bis, section 4.1.3).
//!
//! The issuer leads back to `/login/callback` from another site, so a cookie with SameSite=Strict that is
//! set there would not come with a redirect that follows. The answer is a page that goes on by itself.

use super::{
    Site, door,
    page::{Chrome, document},
    refused,
    session::{Evidence, Login, now},
};
use crate::access::identity::{
    Authenticate as _, Authenticator, Credentials, Unauthenticated, login::LoginError,
};
use axum::{
    Form,
    extract::{Query, State},
    response::{Html, IntoResponse as _, Redirect, Response},
};
use cookie::{Cookie, SameSite};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;
use std::time::{Duration, SystemTime};

/// How long a login may take; see `session`.
const LOGIN_SECS: i64 = 600;
/// Where everybody begins.
const HOME: &str = "/releases";

/// What browsers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Jar {
    /// Over TLS.
    Host,
    /// In plain text on loopback.
    Plain,
}

impl Jar {
    fn name(self, what: &'static str) -> String {
        match self {
            Self::Host => format!("__Host-{what}"),
            Self::Plain => what.to_owned(),
        }
    }

    pub(super) fn session(self, headers: &HeaderMap) -> Option<String> {
        door::cookie(headers, &self.name("phasegate"))
    }

    fn login(self, headers: &HeaderMap) -> Option<String> {
        door::cookie(headers, &self.name("phasegate-login"))
    }

    fn build(
        self,
        what: &'static str,
        value: String,
        same_site: SameSite,
        seconds: i64,
    ) -> HeaderValue {
        let cookie = Cookie::build((self.name(what), value))
            .path("/")
            .http_only(true)
            .secure(self == Self::Host)
            .same_site(same_site)
            .max_age(cookie::time::Duration::seconds(seconds))
            .build();
        // Names and values are ASCII of ours; an empty value is a cookie that is gone.
        cookie.to_string().parse().unwrap_or(HeaderValue::from_static(""))
    }

    fn put_session(self, id: String, until: SystemTime) -> HeaderValue {
        let left = until.duration_since(now()).unwrap_or(Duration::ZERO).as_secs();
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        self.build("phasegate", id, SameSite::Strict, left)
    }

    fn drop_session(self) -> HeaderValue {
        self.build("phasegate", String::new(), SameSite::Strict, 0)
    }

    fn put_login(self, id: String) -> HeaderValue {
        self.build("phasegate-login", id, SameSite::Lax, LOGIN_SECS)
    }

    fn drop_login(self) -> HeaderValue {
        self.build("phasegate-login", String::new(), SameSite::Lax, 0)
    }
}

/// Where to go when it is done: a page of ours, or the first one.
fn ours(next: &str) -> &str {
    let is_path = next.starts_with('/')
        && !next.starts_with("//")
        && !next.starts_with("/login")
        && next.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'\\');
    if is_path { next } else { HOME }
}

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    #[serde(default)]
    next: String,
    #[serde(default)]
    issuer: String,
}

/// The way to the form, for who is not logged in.
pub(super) fn lead(next: &str) -> Response {
    let query =
        form_urlencoded::Serializer::new(String::new()).append_pair("next", ours(next)).finish();
    Redirect::to(&format!("/login?{query}")).into_response()
}

/// A page that goes on by itself. Unlike after a redirect, that is a step of our own site's, so cookies
/// with SameSite=Strict come along.
pub(super) fn onwards(next: &str) -> Response {
    let next = ours(next);
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="refresh" content={ "0;url=" (next) };
                title { "Phasegate" }
            }
            body { p { a href=(next) { "Go on" } } }
        }
    };
    Html(page.into_string()).into_response()
}

/// The form.
pub(super) async fn form(State(site): State<Site>, Query(asked): Query<Asked>) -> Response {
    let Some(guard) = &site.guard else { return Redirect::to(HOME).into_response() };
    show(&guard.authenticator, &asked.next, None, StatusCode::OK)
}

#[derive(Deserialize)]
pub(super) struct Typed {
    #[serde(default)]
    token: String,
    #[serde(default)]
    next: String,
}

/// Takes a token.
pub(super) async fn act(State(site): State<Site>, Form(typed): Form<Typed>) -> Response {
    let Some(guard) = &site.guard else { return Redirect::to(HOME).into_response() };
    let Ok(mut header) = HeaderValue::from_str(&format!("Bearer {}", typed.token.trim())) else {
        return show(&guard.authenticator, &typed.next, Some(NOT_VALID), StatusCode::UNAUTHORIZED);
    };
    header.set_sensitive(true);
    let headers: HeaderMap = [(header::AUTHORIZATION, header.clone())].into_iter().collect();
    let generation = *guard.authenticator.generation().borrow();
    let credentials = Credentials { headers: &headers, certificate: None };
    let identity = match guard.authenticator.authenticate(&credentials) {
        Ok(Some(identity)) => identity,
        refused => {
            let why = refused.err().unwrap_or(Unauthenticated::UnknownToken);
            tracing::debug!(error = %why, "a login with a token is refused");
            let code = StatusCode::UNAUTHORIZED;
            return show(&guard.authenticator, &typed.next, Some(NOT_VALID), code);
        }
    };
    match guard.sessions.begin(identity, Evidence::Token(header), generation) {
        Ok((id, until)) => {
            let cookie = guard.jar().put_session(id, until);
            ([(header::SET_COOKIE, cookie)], Redirect::to(ours(&typed.next))).into_response()
        }
        Err(error) => failed(&error),
    }
}

const NOT_VALID: &str = "The token is not valid.";

fn show(
    authenticator: &Authenticator,
    next: &str,
    problem: Option<&str>,
    code: StatusCode,
) -> Response {
    let body = body(&authenticator.logins(), ours(next), problem);
    let page = document("Sign in", &Chrome::Bare, &body);
    (code, Html(page.into_string())).into_response()
}

fn body(issuers: &[String], next: &str, problem: Option<&str>) -> Markup {
    html! {
        section.narrow.card {
            h1 { "Sign in" }
            @if let Some(problem) = problem {
                div.refusal role="alert" { p { strong { "Refused. " } (problem) } }
            }
            @for issuer in issuers {
                @let query = form_urlencoded::Serializer::new(String::new())
                    .append_pair("issuer", issuer).append_pair("next", next).finish();
                div.buttons { a.button.primary href={ "/login/start?" (query) } { "Sign in with " (issuer) } }
            }
            form method="post" action="/login" {
                input type="hidden" name="next" value=(next);
                label for="token" { "Token" }
                input id="token" name="token" type="password" required autocomplete="current-password"
                    maxlength="16384" aria-describedby="token-hint";
                p.hint id="token-hint" { "A static token, or one of an issuer that this server knows." }
                div.buttons { button.primary { "Sign in with a token" } }
            }
        }
    }
}

/// Begins a login at an issuer.
pub(super) async fn start(State(site): State<Site>, Query(asked): Query<Asked>) -> Response {
    let Some(guard) = &site.guard else { return Redirect::to(HOME).into_response() };
    let begun = match guard.authenticator.begin_login(&asked.issuer) {
        Ok(begun) => begun,
        Err(error) => return failed(&error),
    };
    let location = begun.location.clone();
    match guard.sessions.keep(begun, ours(&asked.next).to_owned()) {
        Ok(id) => {
            let cookie = guard.jar().put_login(id);
            ([(header::SET_COOKIE, cookie)], Redirect::to(&location)).into_response()
        }
        Err(error) => failed(&error),
    }
}

/// With what an issuer leads back (OpenID Connect Core 1.0, section 3.1.2.5, and RFC 9207).
#[derive(Deserialize)]
pub(super) struct Brought {
    code: Option<String>,
    state: Option<String>,
    error: Option<String>,
    iss: Option<String>,
}

/// Ends a login at an issuer.
pub(super) async fn callback(
    State(site): State<Site>,
    headers: HeaderMap,
    Query(brought): Query<Brought>,
) -> Response {
    let Some(guard) = &site.guard else { return Redirect::to(HOME).into_response() };
    let jar = guard.jar();
    let login = jar.login(&headers).and_then(|id| guard.sessions.take(&id));
    let mut response = match login {
        Some(login) => end(guard, login, brought).await,
        None => refuse("This login was not begun in this browser, or too long ago."),
    };
    response.headers_mut().append(header::SET_COOKIE, jar.drop_login());
    response
}

async fn end(guard: &super::Guard, login: Login, brought: Brought) -> Response {
    let Login { begun, next, .. } = login;
    // The number was tied to this browser by the cookie, and is good for one try: there is nothing to
    // learn from the time that a comparison takes.
    if brought.state.as_deref() != Some(begun.state.as_str()) {
        return refuse("The answer of the issuer is not that to this login.");
    }
    // Else one issuer could answer for another.
    if brought.iss.as_ref().is_some_and(|iss| *iss != begun.issuer_id) {
        return refuse("The answer is another issuer's.");
    }
    let code = match (brought.code, brought.error) {
        (Some(code), None) => code,
        (_, Some(_)) => return refuse("The issuer does not sign you in."),
        (None, None) => return refuse("The issuer's answer has no code."),
    };
    let generation = *guard.authenticator.generation().borrow();
    let identity = match guard.authenticator.finish_login(&begun, &code).await {
        Ok(identity) => identity,
        Err(error) => return failed(&error),
    };
    match guard.sessions.begin(identity, Evidence::Issuer(begun.issuer), generation) {
        Ok((id, until)) => {
            let mut response = onwards(&next);
            response.headers_mut().append(header::SET_COOKIE, guard.jar().put_session(id, until));
            response
        }
        Err(error) => failed(&error),
    }
}

fn refuse(text: &str) -> Response {
    let body = html! {
        section.notice.refusal role="alert" {
            h1 { "Not signed in" }
            p { (text) }
            p { a href="/login" { "Sign in" } }
        }
    };
    let page = document("Not signed in", &Chrome::Bare, &body);
    (StatusCode::FORBIDDEN, Html(page.into_string())).into_response()
}

/// A login that came to nothing for a reason that is for the log.
fn failed(error: &LoginError) -> Response {
    tracing::info!(%error, "a login came to nothing");
    match error {
        LoginError::UnknownIssuer => refuse("There is no sign-in with this issuer."),
        LoginError::NotReached => refuse("The issuer cannot be reached. Try again later."),
        LoginError::NoPkce => refuse("The issuer does not offer PKCE with S256."),
        LoginError::Exchange(_) | LoginError::Token(_) => {
            refuse("What the issuer says is not believed. The server's log says why.")
        }
        LoginError::NoRandomness => {
            refused::page(StatusCode::SERVICE_UNAVAILABLE, "Not available", "Try again later.")
                .into_response()
        }
    }
}

/// Ends the session.
pub(super) async fn logout(State(site): State<Site>, headers: HeaderMap) -> Response {
    let Some(guard) = &site.guard else { return Redirect::to(HOME).into_response() };
    let jar = guard.jar();
    if let Some(id) = jar.session(&headers) {
        guard.sessions.end(&id);
    }
    ([(header::SET_COOKIE, jar.drop_session())], Redirect::to("/login")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_leads_to_a_page_of_ours_only() {
        for good in ["/releases", "/flags/a?environment=prod", "/"] {
            assert_eq!(ours(good), good);
        }
        for bad in [
            "",
            "//evil.example",
            "https://evil.example",
            "/\\evil.example",
            "/a\nb",
            "/a b",
            "releases",
            "/login",
            "/login/start?issuer=x",
            "javascript:x",
        ] {
            assert_eq!(ours(bad), HOME, "{bad:?}");
        }
    }

    #[test]
    fn cookies_are_for_this_host_and_no_script() {
        let text = |value: HeaderValue| value.to_str().unwrap().to_owned();
        let later = now() + Duration::from_secs(100);
        let session = text(Jar::Host.put_session("x".to_owned(), later));
        assert!(session.starts_with("__Host-phasegate=x; "), "{session}");
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/", "Max-Age="] {
            assert!(session.contains(part), "{session}");
        }
        assert!(!session.contains("Domain"), "{session}");
        let login = text(Jar::Host.put_login("x".to_owned()));
        assert!(login.starts_with("__Host-phasegate-login=x; ") && login.contains("SameSite=Lax"));
        let plain = text(Jar::Plain.put_session("x".to_owned(), later));
        assert!(plain.starts_with("phasegate=x; ") && !plain.contains("Secure"), "{plain}");
        assert!(text(Jar::Host.drop_session()).contains("Max-Age=0"));
    }
}
