//! Requests of a browser: paths, queries, forms and who sends them.
//!
//! Nothing panics, and no answer is a defect of ours. Looking changes nothing, and neither does what is
//! refused. Whatever was written, a page has one script, its own.

use crate::{
    audit,
    input::{Input, Seed},
    server::{Server, within_runtime},
    world::WORLD,
};
use axum::body::{Body, to_bytes};
use http::{Method, Request, Response, StatusCode, header};
use phasegate_server::{
    delivery::{self, Delivery},
    web::Site,
};
use std::time::Duration;
use tower::ServiceExt as _;

/// Requests of one input.
const REQUESTS_MAX: usize = 8;
/// More than any page of this world has.
const PAGE_BYTES_MAX: usize = 16 << 20;

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut server = WORLD.server();
    let delivery = Delivery::new(server.api.clone(), delivery::Config::default(), Duration::ZERO);
    let site = Site::new(delivery, &[]);
    for _ in 0..REQUESTS_MAX {
        let Some(request) = request(&mut input) else { break };
        check(&mut server, &site, request);
    }
    audit::reload(&server.disk, &server.state());
}

/// The next request: a kind, a path with its query, cookies, a form.
fn request(input: &mut Input<'_>) -> Option<Request<Body>> {
    let kind = input.byte()?;
    let (path, cookie, form) = (input.bytes()?, input.bytes()?, input.bytes()?);
    let path = String::from_utf8_lossy(path).into_owned();
    let method = if kind & 1 == 0 { Method::GET } else { Method::POST };
    let mut request = Request::builder()
        .method(method)
        .uri(if path.starts_with('/') { path } else { format!("/{path}") })
        .header(header::HOST, "localhost")
        .header(header::COOKIE, cookie)
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    if kind & 2 == 0 {
        request = request.header("sec-fetch-site", "same-origin");
    }
    if kind & 4 != 0 {
        request = request.header("x-phasegate-fragment", "1");
    }
    // What is no request at all never gets to a page.
    request.body(Body::from(form.to_vec())).ok()
}

fn check(server: &mut Server, site: &Site, request: Request<Body>) {
    let before = server.state();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let is_ours = request.headers().contains_key("sec-fetch-site");
    let answer = server.ask(site.clone().routes().oneshot(request));
    let Ok(response) = answer;
    let status = response.status();
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {status}");
    let policy = response.headers().get(header::CONTENT_SECURITY_POLICY);
    assert!(policy.is_some(), "{method} {path} has no policy");
    let is_refused = !(status.is_success() || status.is_redirection());
    if method == Method::GET || is_refused || !is_ours {
        assert_eq!(server.state(), before, "{method} {path} changed something: {status}");
    }
    look(server, &path, response);
}

fn look(server: &mut Server, path: &str, response: Response<Body>) {
    let kind = response.headers().get(header::CONTENT_TYPE);
    // A stream goes on for ever; and what is no page has no script.
    if kind.is_none_or(|kind| !kind.as_bytes().starts_with(b"text/html")) {
        return;
    }
    let page = server.ask(to_bytes(response.into_body(), PAGE_BYTES_MAX));
    let page = page.expect("a page of this world is not so large");
    let page = String::from_utf8(page.to_vec()).expect("a page is text");
    let scripts = page.matches("<script").count();
    let expected = usize::from(page.starts_with("<!DOCTYPE html>"));
    assert_eq!(scripts, expected, "{path} has {scripts} scripts");
    assert!(!page.contains("<img src=x"), "{path} took a text for a mark");
}

/// A request to begin with.
fn seed(kind: u8, path: &str, form: &[(&str, &str)]) -> Vec<u8> {
    let cookie = b"phasegate-principal=bob; phasegate-groups=sre";
    let form: Vec<String> = form.iter().map(|(key, value)| format!("{key}={value}")).collect();
    Seed::default()
        .byte(kind)
        .bytes(path.as_bytes())
        .bytes(cookie)
        .bytes(form.join("&").as_bytes())
        .0
}

/// Inputs to begin with: every page, every dialog, every action.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    let server = within_runtime(|| WORLD.server());
    let state = server.state();
    let mut paths: Vec<String> = [
        "/releases",
        "/releases?state=all&text=%3Cimg+src%3Dx%3E&page=2",
        "/releases?state=approval&flag=a&pipeline=b&who=c",
        "/flags",
        "/flags/checkout?environment=prod&context=tier%3Dbeta",
        "/flags/checkout?environment=prod&context=%7B%22a%22%3A1%7D",
        "/flags/checkout/kill",
        "/flags/checkout/release",
        "/pipelines",
        "/pipelines/standard",
        "/caller",
        "/live/releases",
        "/assets/style.css",
        "/",
    ]
    .map(str::to_owned)
    .into();
    paths.extend(state.releases().map(|release| format!("/releases/{}", release.id())));
    let mut seeds: Vec<(String, Vec<u8>)> = Vec::new();
    for (n, path) in paths.iter().enumerate() {
        seeds.push((format!("get-{n:02}"), seed(0, path, &[])));
    }
    let verbs = [
        "approve",
        "reject",
        "pause",
        "unpause",
        "skip",
        "override-window",
        "adjust-bake",
        "full-rollout",
        "abort",
    ];
    for verb in verbs {
        // One input acts on every release, so that some of it is accepted.
        let mut input = Vec::new();
        for release in state.releases().filter(|release| !release.is_over()).take(REQUESTS_MAX / 2)
        {
            let phase = release.current().map(|phase| release.phase(phase).id.to_string());
            let path = format!("/releases/{}/{verb}", release.id());
            let form = [
                ("phase_id", phase.as_deref().unwrap_or("canary")),
                ("reason", "x"),
                ("minutes", "2"),
                ("bypass_approval", "yes"),
                ("override_windows", "yes"),
            ];
            input.extend(seed(4, &path, &[]));
            input.extend(seed(1, &path, &form));
        }
        seeds.push((verb.to_owned(), input));
    }
    let answers = ("answers", "featureGate%3A+%7BdefaultValue%3A+true%7D");
    for step in ["plan", "trigger", "edit"] {
        let form = [("step", step), answers, ("conflict_policy", "queue")];
        seeds.push((format!("release-{step}"), seed(1, "/flags/checkout/release", &form)));
    }
    seeds.push(("kill".into(), seed(1, "/flags/checkout/kill", &[("reason", "x")])));
    seeds.push(("foreign".into(), seed(3, "/flags/checkout/kill", &[("reason", "x")])));
    let named = [("principal", "ann%40example"), ("groups", "sre%2Cweb")];
    seeds.push(("caller".into(), seed(1, "/caller", &named)));
    seeds
}
