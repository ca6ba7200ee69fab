//! OFREP, the OpenFeature Remote Evaluation Protocol (its OpenAPI document, version 0.3.0): answers
//! over HTTP, and server-sent events that say when to ask again.
//!
//! | route | what |
//! |---|---|
//! | `POST /ofrep/v1/evaluate/flags/{key}` | what one flag answers |
//! | `POST /ofrep/v1/evaluate/flags` | what every flag answers, with an `ETag` |
//! | `GET /ofrep/v1/events` | a `refetchEvaluation` whenever the flags of the environment change |
//!
//! The environment is selected by the header `flagd-selector`, or by asking below
//! `/environments/{environment}`, which goes before it: browsers cannot give an `EventSource` a
//! header.
//!
//! A request of a browser names the origin of its page. Only the configured ones are let in, so
//! neither a foreign page nor one under a name that was pointed at this server learns anything.

use super::{
    Delivery, SELECTOR,
    answer::{self, Answer, Asker},
    flag_set::{self, Scope},
    hub::{Follower, Purpose},
    refusal::Refusal,
    selector,
};
use crate::{access, grpc::REQUEST_BYTES_MAX};
use async_stream::stream;
use axum::{
    Router,
    body::Bytes,
    extract::{
        DefaultBodyLimit, FromRequestParts, Path, Request, State, rejection::BytesRejection,
    },
    middleware::{Next, from_fn_with_state},
    response::{
        IntoResponse, Response,
        sse::{Event, KeepAlive, Sse},
    },
    routing::{get, post},
};
use futures_util::Stream;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use phasegate_api::convert::{self, Violation};
use phasegate_document::context;
use phasegate_engine::{flagd, id::EnvironmentId, value::Object};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, convert::Infallible, fmt::Write as _, time::Duration};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// When a browser opens its stream of events again after an end.
const RETRY: Duration = Duration::from_secs(1);
/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(3600);
/// A page that nobody looks at closes its stream after this, and opens it again when it is looked at.
const INACTIVITY_SECS: u64 = 120;
/// What a client that was refused for now waits.
const RETRY_AFTER_SECS: &str = "2";

/// All routes.
pub(super) fn routes(delivery: Delivery) -> Router {
    let origins: Vec<HeaderValue> =
        delivery.config.origins.iter().filter_map(|origin| origin.parse().ok()).collect();
    let cors = CorsLayer::new()
        .allow_origin(AllowOrigin::list(origins))
        .allow_methods([Method::GET, Method::POST])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            header::CACHE_CONTROL,
            HeaderName::from_static("last-event-id"),
            HeaderName::from_static(SELECTOR),
        ])
        .expose_headers([header::ETAG, header::RETRY_AFTER])
        .max_age(PREFLIGHT_KEPT);
    let protocol = || {
        Router::new()
            .route("/ofrep/v1/evaluate/flags", post(evaluate_all))
            .route("/ofrep/v1/evaluate/flags/", post(evaluate_all))
            .route("/ofrep/v1/evaluate/flags/{*key}", post(evaluate_one))
            .route("/ofrep/v1/events", get(events))
    };
    Router::new()
        .merge(protocol())
        .nest("/environments/{environment}", protocol())
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(cors)
        .layer(from_fn_with_state(delivery.clone(), keep))
        .with_state(delivery)
}

/// Lets a request in, unless it comes from a page that is not known.
async fn keep(State(delivery): State<Delivery>, request: Request, next: Next) -> Response {
    let origin = request.headers().get(header::ORIGIN);
    let known = |origin: &HeaderValue| {
        delivery.config.origins.iter().any(|known| known.as_bytes() == origin.as_bytes())
    };
    let mut response = match origin {
        Some(origin) if !known(origin) => {
            let problem = "pages of this origin may not ask; start the server with --ofrep-origin";
            let body = json!({ "errorCode": "GENERAL", "errorDetails": problem });
            (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
        }
        Some(_) | None => next.run(request).await,
    };
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    headers.insert(
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("cross-origin"),
    );
    response
}

/// The environment that a request selects: by its path, else by its header, else the default.
struct Selected(Result<EnvironmentId, Refusal>);

impl FromRequestParts<Delivery> for Selected {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, to: &Delivery) -> Result<Self, Infallible> {
        let in_path = Path::<BTreeMap<String, String>>::from_request_parts(parts, to).await;
        let in_path = in_path.ok().and_then(|Path(mut names)| names.remove("environment"));
        let in_header = parts.headers.get(SELECTOR);
        let select = || {
            let selected = match (&in_path, in_header) {
                (Some(id), _) => selector::parse(id)?,
                (None, Some(text)) => selector::parse(&String::from_utf8_lossy(text.as_bytes()))?,
                (None, None) => None,
            };
            let default = || to.config.default_environment.clone();
            selected.or_else(default).ok_or(Refusal::NothingSelected)
        };
        Ok(Self(select()))
    }
}

async fn evaluate_one(
    State(delivery): State<Delivery>,
    Selected(environment): Selected,
    Path(mut path): Path<BTreeMap<String, String>>,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let key = path.remove("key").unwrap_or_default();
    let answer = || -> Result<Answer, Refusal> {
        let state = delivery.hub.driver()?.state();
        let environment = environment?;
        let attributes = attributes(body)?;
        delivery.hub.check_environment(&state, &environment)?;
        let bucketing = delivery.api.bucketing();
        let asker = Asker { environment: &environment, attributes: &attributes, bucketing };
        answer::answer(&state, &key, asker)
    };
    match answer() {
        Ok(answer) => axum::Json(success(&key, &answer)).into_response(),
        Err(refusal) => failure(Some(&key), &refusal),
    }
}

async fn evaluate_all(
    State(delivery): State<Delivery>,
    Selected(environment): Selected,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Response {
    let answers = || -> Result<String, Refusal> {
        let state = delivery.hub.driver()?.state();
        let environment = environment?;
        let attributes = attributes(body)?;
        delivery.hub.check_environment(&state, &environment)?;
        let bucketing = delivery.api.bucketing();
        let asker = Asker { environment: &environment, attributes: &attributes, bucketing };
        let flags = answer::answers(&state, asker).map(|(id, a)| success(id.as_str(), &a));
        let body = json!({
            "flags": flags.collect::<Vec<_>>(),
            "metadata": flagd::object_to_json(&flag_set::metadata(&environment, bucketing)),
            "eventStreams": [{
                "type": "sse",
                "endpoint": {
                    "requestUri": format!("/environments/{environment}/ofrep/v1/events"),
                },
                "inactivityDelaySec": INACTIVITY_SECS,
            }],
        });
        Ok(body.to_string())
    };
    let body = match answers() {
        Ok(body) => body,
        Err(refusal) => return failure(None, &refusal),
    };
    // Of what is answered, so it is another one for another context, environment or state just if
    // that makes a difference.
    let etag = etag(&body);
    let is_known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| matches(known, &etag));
    let headers = [(header::ETAG, etag)];
    if is_known {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (headers, [(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// The attributes of the context in a request; none if there is no context.
fn attributes(body: Result<Bytes, BytesRejection>) -> Result<Object, Refusal> {
    let body = body.map_err(|rejection| match rejection.status() {
        StatusCode::PAYLOAD_TOO_LARGE => Refusal::BodyTooLarge(REQUEST_BYTES_MAX),
        _ => Refusal::Body(rejection.body_text()),
    })?;
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::new());
    }
    let mut request: Map<String, Value> =
        serde_json::from_slice(&body).map_err(|problem| Refusal::Body(problem.to_string()))?;
    let context = match request.remove("context") {
        None | Some(Value::Null) => None,
        Some(Value::Object(members)) => Some(context::of_json(members)),
        Some(Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_)) => {
            let description = "must be an object".to_owned();
            let violation = Violation { field: "context".to_owned(), description };
            return Err(Refusal::Context(vec![violation]));
        }
    };
    Ok(convert::evaluation_context(context)?)
}

fn success(key: &str, answer: &Answer) -> Value {
    json!({
        "key": key,
        "reason": answer.reason.as_str(),
        "variant": answer.variant,
        "value": flagd::to_json(&answer.value),
        "metadata": flagd::object_to_json(&answer.metadata),
    })
}

/// What is said to an application that the gate does not let in.
pub fn denied(refusal: &access::Refusal) -> Response {
    let body = json!({ "errorCode": "GENERAL", "errorDetails": refusal.to_string() });
    if refusal.is_about_who() {
        let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
        return (StatusCode::UNAUTHORIZED, challenge, axum::Json(body)).into_response();
    }
    if let access::Refusal::TooMany(retry) = refusal {
        let seconds = retry.as_secs().saturating_add(1).to_string();
        let later = [(header::RETRY_AFTER, seconds)];
        return (StatusCode::TOO_MANY_REQUESTS, later, axum::Json(body)).into_response();
    }
    (StatusCode::FORBIDDEN, axum::Json(body)).into_response()
}

fn failure(key: Option<&str>, refusal: &Refusal) -> Response {
    let (status, code) = refusal.over_http();
    let mut body = json!({ "errorCode": code, "errorDetails": refusal.to_string() });
    if let Some(key) = key {
        body["key"] = key.into();
    }
    let mut response = (status, axum::Json(body)).into_response();
    if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
        let after = HeaderValue::from_static(RETRY_AFTER_SECS);
        response.headers_mut().insert(header::RETRY_AFTER, after);
    }
    response
}

fn etag(body: &str) -> String {
    let mut etag = String::from("\"");
    for byte in &Sha256::digest(body)[..16] {
        let _ = write!(etag, "{byte:02x}");
    }
    etag.push('"');
    etag
}

/// Whether an `If-None-Match` names the tag (RFC 9110, section 13.1.2: compared weakly).
fn matches(known: &HeaderValue, etag: &str) -> bool {
    let Ok(known) = known.to_str() else { return false };
    known
        .split(',')
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

async fn events(
    State(delivery): State<Delivery>,
    Selected(environment): Selected,
    headers: HeaderMap,
) -> Response {
    let follow = || -> Result<Follower, Refusal> {
        delivery.hub.driver()?;
        delivery.hub.follow(Scope::Of(environment?), Purpose::Changes)
    };
    match follow() {
        Ok(follower) => {
            let last = headers.get("last-event-id").and_then(|id| id.to_str().ok());
            let keep_alive = KeepAlive::new().interval(delivery.config.keep_alive);
            Sse::new(refetches(follower, last.map(str::to_owned)))
                .keep_alive(keep_alive)
                .into_response()
        }
        Err(refusal) => failure(None, &refusal),
    }
}

/// An event at once, because flags may have changed since the client asked for answers and before
/// the stream was open, and then one whenever they change.
fn refetches(
    mut follower: Follower,
    last: Option<String>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let mut known = last;
        // A browser opens it again after an end, so there is nothing to say about why.
        while let Ok(set) = follower.next().await {
            if known.as_deref() == Some(&*set.etag) {
                known = None;
                continue;
            }
            known = None;
            let data = json!({
                "type": "refetchEvaluation",
                "etag": set.etag,
                "lastModified": set.time.as_millis() / 1000,
            });
            let event = Event::default().id(set.etag.clone()).retry(RETRY);
            yield Ok(event.data(data.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_known_if_one_of_the_list_is_it_weak_or_strong() {
        let etag = etag("body");
        let check = |known: &str| matches(&known.parse().unwrap(), &etag);
        assert!(check(&etag));
        assert!(check(&format!("W/{etag}")));
        assert!(check(&format!("\"other\", {etag}")));
        assert!(check("*"));
        assert!(!check("\"other\""));
        assert!(!check(etag.trim_matches('"')), "a tag has its quotes");
        assert!(!check(""));
    }
}
