//! Requests of applications over OFREP: paths, selectors, origins and contexts.
//!
//! Nothing panics, nothing is a defect of ours, nothing changes. What is answered is JSON in the words
//! of the protocol, and a page of a foreign origin learns nothing.

use crate::{
    input::{Input, Seed},
    server::{Server, within_runtime},
    world::WORLD,
};
use axum::{
    Router,
    body::{Body, to_bytes},
};
use http::{Method, Request, Response, StatusCode, header};
use phasegate_server::delivery::{self, Delivery};
use std::time::Duration;
use tower::ServiceExt as _;

/// Requests of one input.
const REQUESTS_MAX: usize = 8;
/// More than the answers of all flags of this world have.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// The one origin that may ask.
const ORIGIN: &str = "https://app.example.com";

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut server = WORLD.server();
    let config = delivery::Config { origins: vec![ORIGIN.to_owned()], ..Default::default() };
    let routes = Delivery::new(server.api.clone(), config, Duration::ZERO).http();
    for _ in 0..REQUESTS_MAX {
        let Some(request) = request(&mut input) else { break };
        check(&mut server, &routes, request);
    }
}

/// The next request: a kind, a path, a selector, an origin, a body.
fn request(input: &mut Input<'_>) -> Option<Request<Body>> {
    let kind = input.byte()?;
    let (path, selector, origin, body) =
        (input.bytes()?, input.bytes()?, input.bytes()?, input.bytes()?);
    let path = String::from_utf8_lossy(path).into_owned();
    let method = match kind % 4 {
        0 => Method::GET,
        1 => Method::OPTIONS,
        _ => Method::POST,
    };
    let mut request = Request::builder()
        .method(method)
        .uri(if path.starts_with('/') { path } else { format!("/{path}") })
        .header(header::CONTENT_TYPE, "application/json");
    if !selector.is_empty() {
        request = request.header("flagd-selector", selector);
    }
    if !origin.is_empty() {
        request = request.header(header::ORIGIN, origin);
    }
    // What is no request at all never gets here.
    request.body(Body::from(body.to_vec())).ok()
}

fn check(server: &mut Server, routes: &Router, request: Request<Body>) {
    let before = server.state();
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let origin = request.headers().get(header::ORIGIN).cloned();
    let Ok(response) = server.ask(routes.clone().oneshot(request));
    let status = response.status();
    assert!(status != StatusCode::INTERNAL_SERVER_ERROR, "{method} {path}: {status}");
    assert_eq!(server.state(), before, "{method} {path} changed something");
    let allowed = response.headers().get(header::ACCESS_CONTROL_ALLOW_ORIGIN);
    assert!(allowed.is_none_or(|allowed| allowed == ORIGIN), "{path} allows {allowed:?}");
    if origin.is_some_and(|origin| origin != ORIGIN) {
        assert_eq!(status, StatusCode::FORBIDDEN, "{method} {path} of a foreign page");
    }
    look(server, &path, response);
}

fn look(server: &mut Server, path: &str, response: Response<Body>) {
    let status = response.status();
    let kind = response.headers().get(header::CONTENT_TYPE);
    // A stream goes on for ever, and a path or a method that is none has no words of the protocol.
    if kind.is_none_or(|kind| !kind.as_bytes().starts_with(b"application/json")) {
        return;
    }
    let body = server.ask(to_bytes(response.into_body(), ANSWER_BYTES_MAX));
    let body = body.expect("an answer of this world is not so large");
    let json: serde_json::Value = serde_json::from_slice(&body).expect("it says that it is JSON");
    if status.is_success() {
        let is_answer = json.get("value").is_some() || json.get("flags").is_some();
        assert!(is_answer, "{path}: {json}");
    } else {
        let said = json.get("errorCode").and_then(serde_json::Value::as_str);
        assert!(said.is_some(), "{path} {status}: {json}");
    }
}

/// A request to begin with.
fn seed(kind: u8, path: &str, selector: &str, origin: &str, body: &str) -> Vec<u8> {
    Seed::default()
        .byte(kind)
        .bytes(path.as_bytes())
        .bytes(selector.as_bytes())
        .bytes(origin.as_bytes())
        .bytes(body.as_bytes())
        .0
}

/// Inputs to begin with: every route, every way to select, every flag.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    const ALL: &str = "/ofrep/v1/evaluate/flags";
    const PROD: &str = "flagSetId=prod";
    let context =
        r#"{"context":{"targetingKey":"ann","tier":"beta","age":7,"tags":["a",{"b":null}]}}"#;
    let state = within_runtime(|| WORLD.server()).state();
    let mut seeds = vec![
        ("all".to_owned(), seed(2, ALL, PROD, "", context)),
        ("all-in-path".into(), seed(2, &format!("/environments/prod{ALL}"), "", "", "{}")),
        ("nothing-selected".into(), seed(2, ALL, "", "", "")),
        ("bare".into(), seed(2, ALL, "dev", "", "")),
        ("no-selector".into(), seed(2, ALL, "source=prod", "", "")),
        ("nowhere".into(), seed(2, ALL, "flagSetId=nowhere", "", "")),
        ("events".into(), seed(0, "/environments/prod/ofrep/v1/events", "", "", "")),
        ("preflight".into(), seed(1, ALL, "", ORIGIN, "")),
        ("known-origin".into(), seed(2, ALL, PROD, ORIGIN, context)),
        ("foreign-origin".into(), seed(2, ALL, PROD, "https://evil.example", context)),
        ("key-with-slash".into(), seed(2, &format!("{ALL}/a/b%2Fc"), PROD, "", context)),
        ("no-object".into(), seed(2, &format!("{ALL}/checkout"), PROD, "", r#"{"context":[1]}"#)),
        ("no-json".into(), seed(2, &format!("{ALL}/checkout"), PROD, "", "{")),
    ];
    for flag in state.flags() {
        let path = format!("{ALL}/{}", flag.id);
        seeds.push((format!("flag-{}", flag.id), seed(2, &path, PROD, "", context)));
    }
    seeds
}
