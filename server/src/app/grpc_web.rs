//! gRPC-Web: calls of pages of other origins, if any are configured.
//!
//! It is the same API, so everything that holds for a call holds here: the gate, the places, the limits. What
//! is added are the rules of browsers. A page has to be of an origin that was named exactly, the host
//! has to be one that the pages answer to (a name that an attacker points at loopback is not), and the
//! header `x-grpc-web` has to be there, which no page can send without asking first (CORS, Fetch
//! standard 3.2). Cookies count for nothing: credentials come in `authorization`.
//!
//! What is deliberately absent: the translation, which is tonic-web's.

use crate::web::Hosts;
use axum::response::IntoResponse as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use std::{convert::Infallible, future::Future, sync::Arc, time::Duration};
use tonic::body::Body;
use tonic_web::GrpcWebLayer;
use tower::{Layer as _, service_fn, util::ServiceExt as _};
use tower_http::cors::{AllowOrigin, CorsLayer};

/// Says that a call means to be one.
const MARK: &str = "x-grpc-web";
/// What the content types of gRPC-Web begin with.
const CONTENT_TYPE: &[u8] = b"application/grpc-web";
/// How long a browser may keep the answer to a preflight.
const PREFLIGHT_KEPT: Duration = Duration::from_secs(3600);

/// Headers of calls that a page may set: those of the protocol, who calls, and which trace it belongs to.
const ASKED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("grpc-timeout"),
    HeaderName::from_static("phasegate-groups"),
    HeaderName::from_static("phasegate-principal"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static(MARK),
    HeaderName::from_static("x-user-agent"),
];
/// Headers of answers that a page may read, of those that end before they have begun.
const ANSWERED: [HeaderName; 3] = [
    HeaderName::from_static("grpc-message"),
    HeaderName::from_static("grpc-status"),
    HeaderName::from_static("grpc-status-details-bin"),
];

/// Whose pages may call.
#[derive(Clone, Debug)]
pub(super) struct GrpcWeb {
    origins: Arc<[HeaderValue]>,
    hosts: Hosts,
    cors: CorsLayer,
}

impl GrpcWeb {
    /// None without an origin: then nothing of this is served. The origins have been checked.
    pub(super) fn of(origins: &[String], hosts: Hosts) -> Option<Self> {
        let origins: Arc<[HeaderValue]> = origins.iter().filter_map(|o| o.parse().ok()).collect();
        if origins.is_empty() {
            return None;
        }
        let cors = CorsLayer::new()
            .allow_origin(AllowOrigin::list(origins.to_vec()))
            .allow_methods([Method::POST])
            .allow_headers(ASKED)
            .expose_headers(ANSWERED)
            .max_age(PREFLIGHT_KEPT);
        Some(Self { origins, hosts, cors })
    }

    /// Whether a request is a call of gRPC-Web, or asks whether a page may make one.
    pub(super) fn is_meant<B>(request: &Request<B>) -> bool {
        let headers = request.headers();
        let content_type = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_call = content_type.is_some_and(|is| is.starts_with(CONTENT_TYPE));
        let wanted = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS);
        let wanted = wanted.and_then(|names| names.to_str().ok()).unwrap_or_default();
        let is_preflight = request.method() == Method::OPTIONS
            && wanted.split(',').any(|name| name.trim().eq_ignore_ascii_case(MARK));
        is_call || is_preflight
    }

    /// Answers such a request, with `call` for what is left when it is plain gRPC.
    pub(super) async fn answer<F>(
        self,
        request: Request<Body>,
        call: impl Fn(Request<Body>) -> F,
    ) -> Result<Response<Body>, Infallible>
    where
        F: Future<Output = Result<Response<Body>, Infallible>>,
    {
        if let Err(why) = self.judge(&request) {
            return Ok((StatusCode::FORBIDDEN, why).into_response().map(Body::new));
        }
        let call = service_fn(call);
        self.cors.layer(GrpcWebLayer::new().layer(call)).oneshot(request).await
    }

    fn judge<B>(&self, request: &Request<B>) -> Result<(), &'static str> {
        let headers = request.headers();
        if !self.hosts.include(request.uri(), headers) {
            return Err("this server does not answer to the name that it was asked by; start it \
                        with --page-host NAME\n");
        }
        // Who sends none is no page: a browser says where every POST comes from.
        if headers.get(header::ORIGIN).is_some_and(|origin| !self.origins.contains(origin)) {
            return Err("pages of this origin may not call; start the server with \
                        --grpc-web-origin\n");
        }
        if request.method() != Method::OPTIONS && !marked(headers) {
            return Err("a call of gRPC-Web has the header x-grpc-web\n");
        }
        Ok(())
    }
}

fn marked(headers: &HeaderMap) -> bool {
    headers.contains_key(MARK)
}
