//! What every request of a page has to pass, and what every answer carries.
//!
//! A page that a browser can reach is reached by other sites' scripts too. So the host has to be one
//! of ours (a name that an attacker points at loopback is not), and what changes something has to
//! come from our own pages.
//!
//! Where anything is checked, every page but the login is for who is known, by a session or by a credential
//! that the request itself brings, and may see it.

use super::{Site, login, refused, session::Session, viewer::Held};
use crate::access::{
    Asked, Refusal,
    identity::{Authenticator, ClientCertificate},
    table::{self, Length, Rule},
};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use cookie::Cookie;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use std::{net::IpAddr, sync::Arc};
use tonic::transport::server::TcpConnectInfo;

/// The names of headers that `http` has no constant for.
const SEC_FETCH_SITE: &str = "sec-fetch-site";

const ALWAYS: [(HeaderName, &str); 7] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; \
         object-src 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    // Not no-referrer, which would make the Origin of our own forms `null`.
    (header::REFERRER_POLICY, "same-origin"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), microphone=(), geolocation=()"),
];

/// Lets a request in, or says why not.
pub(super) async fn keep(State(site): State<Site>, mut request: Request, next: Next) -> Response {
    let host = host(request.uri(), request.headers());
    let judged = judge(request.method(), host, request.headers(), &site.hosts);
    let mut response = match judged {
        Ok(()) => match admit(&site, &mut request) {
            Ok(()) => next.run(request).await,
            Err(response) => *response,
        },
        Err(why) => refused::page(StatusCode::FORBIDDEN, "Refused", why).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in ALWAYS {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Puts who asks, and what they may, into the extensions of the request, or says what to do.
fn admit(site: &Site, request: &mut Request) -> Result<(), Box<Response>> {
    let path = request.uri().path().to_owned();
    let row = table::route(request.method(), &path);
    let (rule, length) = (row.map(|(_, rule, _)| rule), row.map(|(.., length)| length));
    if rule == Some(Rule::Open) {
        return Ok(());
    }
    let access = site.api.access();
    let (guard, headers) = (site.guard.as_ref(), request.headers());
    let session = guard.and_then(|guard| guard.session(headers));
    let extensions = request.extensions();
    let asked = Asked {
        method: row.map_or(&path, |(row, ..)| row),
        rule,
        headers,
        certificate: extensions.get::<Arc<ClientCertificate>>().map(AsRef::as_ref),
        peer: extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr),
    };
    let admitted = match &session {
        Some(session) => access.admit_known(session.identity.clone(), &asked),
        None => access.admit(&asked),
    };
    let grants = match admitted {
        Ok(Some(grants)) => grants,
        Ok(None) => return Ok(()),
        Err(Refusal::NoCredential) if guard.is_some() => {
            return Err(Box::new(outside(request, &path)));
        }
        Err(refusal) => return Err(Box::new(refused::at_the_gate(&refusal))),
    };
    let lease = match (length, &session) {
        (Some(Length::Short) | None, _) => None,
        (Some(Length::Long), Some(_)) => access.lease_known(rule, &grants),
        (Some(Length::Long), None) => access.lease(&asked, &grants),
    };
    let extensions = request.extensions_mut();
    extensions.insert(grants);
    if let Some(session) = session {
        extensions.insert::<Arc<Session>>(session);
    }
    if let Some(lease) = lease {
        extensions.insert(Held::new(lease));
    }
    Ok(())
}

/// What is answered to who is not known.
fn outside(request: &Request, path: &str) -> Response {
    if path.starts_with("/live/") {
        // A browser that gets an error from a stream knows nothing of it; this says what to do.
        let stream = [(header::CONTENT_TYPE, "text/event-stream")];
        return (stream, "retry: 10000\nevent: login\ndata: {}\n\n").into_response();
    }
    let is_look = request.method() == Method::GET || request.method() == Method::HEAD;
    if !is_look || request.headers().contains_key(super::action::FRAGMENT) {
        let text = "You are not signed in, or not any more.";
        return refused::page(StatusCode::UNAUTHORIZED, "Sign in", text).into_response();
    }
    let address = request.uri().path_and_query().map_or("/", |address| address.as_str());
    // After a link of another site the cookie may be there and was not sent.
    if text(request.headers(), SEC_FETCH_SITE) == Some("cross-site") {
        return login::onwards(address);
    }
    login::lead(address)
}

/// The value of a cookie.
pub(super) fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let values =
        headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let mut cookies = values.flat_map(|text| Cookie::split_parse_encoded(text.to_owned()));
    let found = cookies.find_map(|cookie| cookie.ok().filter(|cookie| cookie.name() == name))?;
    Some(found.value().to_owned()).filter(|value| !value.is_empty())
}

fn judge(
    method: &Method,
    host: Option<&str>,
    headers: &HeaderMap,
    hosts: &Hosts,
) -> Result<(), &'static str> {
    let Some(host) = host else { return Err("The request names no host.") };
    if !hosts.contain(host) {
        return Err("This server does not answer to the name that it was asked by. Open it by a \
                    loopback address, or start it with --page-host NAME.");
    }
    if method == Method::GET || method == Method::HEAD {
        return Ok(());
    }
    let same_origin = match (text(headers, SEC_FETCH_SITE), text(headers, "origin")) {
        (Some(site), _) => site == "same-origin",
        // Older browsers; the scheme is the proxy's business.
        (None, Some(origin)) => origin.split_once("://").is_some_and(|(_, from)| from == host),
        (None, None) => false,
    };
    if same_origin {
        Ok(())
    } else {
        Err("Changes are taken from this server's own pages only. Programs use the API.")
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// The host that a request was sent to, perhaps with a port; HTTP/2 has it in the address.
fn host<'a>(address: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let host = address.authority().map(|authority| authority.as_str());
    host.or_else(|| text(headers, header::HOST.as_str()))
}

/// The name, or the bare address, that a request was sent to.
pub(crate) fn asked_name<'a>(address: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    host(address, headers).map(without_port)
}

fn without_port(host: &str) -> &str {
    match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    }
}

/// The names that a browser may ask by: those of loopback, those that were named, and those that issuers
/// lead back to.
#[derive(Clone, Debug)]
pub(crate) struct Hosts {
    named: Arc<[String]>,
    issuers: Option<Arc<Authenticator>>,
}

impl Hosts {
    pub(super) fn new(named: &[String]) -> Self {
        Self { named: named.into(), issuers: None }
    }

    pub(super) fn with_issuers(self, authenticator: Arc<Authenticator>) -> Self {
        Self { issuers: Some(authenticator), ..self }
    }

    /// Whether a request was sent to one of them.
    pub(crate) fn include(&self, address: &Uri, headers: &HeaderMap) -> bool {
        host(address, headers).is_some_and(|host| self.contain(host))
    }

    fn contain(&self, host: &str) -> bool {
        let name = without_port(host);
        let is_back = |url: &String| {
            let back = url.parse::<Uri>().ok();
            back.is_some_and(|url| url.host().is_some_and(|ours| ours.eq_ignore_ascii_case(name)))
        };
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
            || self.named.iter().any(|ours| ours.eq_ignore_ascii_case(name))
            || self.issuers.iter().any(|issuers| issuers.public_urls().iter().any(is_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: Method, pairs: &[(&'static str, &str)]) -> bool {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        let host = text(&headers, "host");
        judge(&method, host, &headers, &Hosts::new(&["gate.example".to_owned()])).is_ok()
    }

    #[test]
    fn a_host_is_a_loopback_address_or_a_name_of_ours() {
        for good in ["127.0.0.1:7433", "[::1]:7433", "localhost", "LocalHost:1", "gate.example"] {
            assert!(check(Method::GET, &[("host", good)]), "{good}");
        }
        for bad in ["rebound.example:7433", "10.0.0.1", "[::2]:1", "localhost.example", ""] {
            assert!(!check(Method::GET, &[("host", bad)]), "{bad}");
        }
        assert!(!check(Method::GET, &[]));
    }

    #[test]
    fn a_change_has_to_come_from_our_own_pages() {
        let host = ("host", "127.0.0.1:7433");
        for good in [
            ("sec-fetch-site", "same-origin"),
            ("origin", "http://127.0.0.1:7433"),
            ("origin", "https://127.0.0.1:7433"),
        ] {
            assert!(check(Method::POST, &[host, good]), "{good:?}");
        }
        for bad in [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-site", "same-site"),
            ("sec-fetch-site", "none"),
            ("origin", "null"),
            ("origin", "http://127.0.0.1:7434"),
            ("origin", "http://evil.example"),
            ("x-nothing", "at-all"),
        ] {
            assert!(!check(Method::POST, &[host, bad]), "{bad:?}");
        }
        // What the browser says of the site is believed before the origin.
        let both = [host, ("sec-fetch-site", "cross-site"), ("origin", "http://127.0.0.1:7433")];
        assert!(!check(Method::POST, &both));
    }
}
