//! What stands before the services: which requests are gRPC at all, and how long a call may take.
//!
//! One port serves gRPC over HTTP/2 and, to everything else, the pages. Without this tonic would answer
//! a browser with `200` and a `grpc-status` that nobody sees.

use super::incoming::Peer;
use crate::{
    access::identity::{
        Authenticate, ClientCertificate, Credentials, Unauthenticated, Vouched, trusting,
    },
    grpc,
};
use axum::{
    Router,
    extract::{Request as HttpRequest, State},
    middleware::Next,
    response::{IntoResponse as _, Response as HttpResponse},
};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response, StatusCode, Version, header};
use std::{
    convert::Infallible,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};
use tonic::{Status, body::Body, service::Routes};
use tower::{Service, util::ServiceExt as _};

/// A call that was not answered after this is given up. What it asked for may still happen: the
/// caller repeats it with the same request_id.
const CALL_MAX: Duration = Duration::from_secs(30);
/// WaitRelease may wait 60 s by itself.
const WAIT_MAX: Duration = Duration::from_secs(65);
/// A rehearsal may have years of timers to commit.
const ADVANCE_MAX: Duration = Duration::from_secs(600);
/// tonic watches grpc-timeout too, and would answer CANCELLED. Being a little earlier makes the
/// answer DEADLINE_EXCEEDED, as gRPC has it.
const EARLIER_THAN_TONIC: Duration = Duration::from_millis(5);

/// The outermost service.
#[derive(Clone, Debug)]
pub(super) struct Front {
    /// What is gRPC.
    pub routes: Routes,
    /// Everything else.
    pub pages: Router,
    /// Who is let in to what is gRPC. The pages have a door of their own.
    pub door: Door,
}

/// Lets callers in as who they are.
#[derive(Clone, Debug)]
pub(super) struct Door {
    /// Tells who calls.
    pub authenticate: Arc<dyn Authenticate>,
    /// What becomes of calls without credentials.
    pub nobody: Nobody,
}

/// What becomes of calls without credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Nobody {
    /// They are made by `anonymous`: there is nobody to authenticate them.
    Served,
    /// They are refused.
    Refused,
}

/// The one service that tells nobody anything but whether there is one.
const HEALTH: &str = "/grpc.health.v1.Health/";

impl Door {
    /// Puts the caller's identity into the extensions, or says no. What the metadata says of the caller
    /// is taken away unless it is what is believed.
    fn identify<B>(&self, request: &mut Request<B>) -> Result<(), Status> {
        let certificate = request.extensions().get::<ClientCertificate>();
        let credentials = Credentials { headers: request.headers(), certificate };
        let found = self.authenticate.authenticate(&credentials);
        let identity = match found {
            Ok(Some(identity)) => identity,
            // Said with the paths of fields, by who reads them.
            Err(Unauthenticated::Metadata(_)) => return Ok(()),
            Ok(None) if self.nobody == Nobody::Served => return Ok(()),
            Ok(None) if request.uri().path().starts_with(HEALTH) => return Ok(()),
            Ok(None) => return Err(Status::unauthenticated("the call brings no credentials")),
            Err(error) => {
                tracing::debug!(%error, path = request.uri().path(), "unauthenticated");
                return Err(Status::unauthenticated(Unauthenticated::TEXT));
            }
        };
        if identity.vouched != Vouched::Proxy {
            request.headers_mut().remove(trusting::PRINCIPAL);
            request.headers_mut().remove(trusting::GROUPS);
        }
        request.extensions_mut().insert(identity);
        Ok(())
    }
}

impl Service<Request<Body>> for Front {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        unpack(&mut request);
        if !is_grpc(&request) {
            let answer = self.pages.clone().oneshot(request.map(axum::body::Body::new));
            return Box::pin(async move { Ok(answer.await?.map(Body::new)) });
        }
        if let Err(refusal) = self.door.identify(&mut request) {
            return Box::pin(async { Ok(refusal.into_http()) });
        }
        let limit = call_limit(&request);
        let answer = self.routes.clone().oneshot(request);
        Box::pin(async move {
            match tokio::time::timeout(limit, answer).await {
                Ok(answer) => answer,
                Err(_) => Ok(Status::deadline_exceeded("the call took too long").into_http()),
            }
        })
    }
}

/// The door of what is asked over HTTP and is no page.
pub(super) async fn keep(
    State(door): State<Door>,
    mut request: HttpRequest,
    next: Next,
) -> HttpResponse {
    // Browsers ask whether they may ask without credentials.
    if request.method() == Method::OPTIONS || door.identify(&mut request).is_ok() {
        return next.run(request).await;
    }
    let body = format!(r#"{{"errorDetails":"{}"}}"#, Unauthenticated::TEXT);
    let json = [(header::CONTENT_TYPE, "application/json")];
    // RFC 6750, section 3.
    let bearer = [(header::WWW_AUTHENTICATE, "Bearer")];
    (StatusCode::UNAUTHORIZED, json, bearer, body).into_response()
}

/// Puts what is known of the connection into the extensions one by one.
fn unpack(request: &mut Request<Body>) {
    let Some(peer) = request.extensions_mut().remove::<Peer>() else { return };
    request.extensions_mut().insert(peer.tcp);
    if let Some(certificate) = peer.certificate {
        request.extensions_mut().insert(ClientCertificate::clone(&certificate));
    }
}

/// How long the answer (of a stream: its headers) may take.
fn call_limit(request: &Request<Body>) -> Duration {
    let ours = match request.uri().path() {
        "/phasegate.v1.ReleaseService/WaitRelease" => WAIT_MAX,
        "/phasegate.rehearsal.v1.ClockService/Advance" => ADVANCE_MAX,
        _ => CALL_MAX,
    };
    let theirs = grpc::timeout(request.headers())
        .map_or(Duration::MAX, |timeout| timeout.saturating_sub(EARLIER_THAN_TONIC));
    ours.min(theirs)
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    const GRPC: &[u8] = b"application/grpc";
    let content_type = request.headers().get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2
        && content_type
            .and_then(|content_type| content_type.strip_prefix(GRPC))
            // Not application/grpc-web, which is another protocol.
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::identity::Trusting;

    #[test]
    fn only_grpc_over_http_2_is_grpc() {
        let check = |version, content_type: &str| {
            let request = Request::builder().version(version);
            let request = request.header(header::CONTENT_TYPE, content_type);
            is_grpc(&request.body(()).unwrap())
        };
        for good in ["application/grpc", "application/grpc+proto", "application/grpc;x=y"] {
            assert!(check(Version::HTTP_2, good), "{good}");
            assert!(!check(Version::HTTP_11, good), "{good}");
        }
        for bad in ["application/grpc-web", "application/grpc-web+proto", "text/html", ""] {
            assert!(!check(Version::HTTP_2, bad), "{bad}");
        }
    }

    fn grpc(path: &str, timeout: &str) -> Request<Body> {
        let request = Request::builder().version(Version::HTTP_2).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/grpc");
        request.header("grpc-timeout", timeout).body(Body::empty()).unwrap()
    }

    #[tokio::test]
    async fn a_call_that_takes_longer_than_it_may_is_answered_with_deadline_exceeded() {
        let never = Router::new().fallback(std::future::pending::<()>);
        let mut front = Front {
            routes: Routes::from(never),
            pages: Router::new(),
            door: Door { authenticate: Arc::new(Trusting::new()), nobody: Nobody::Served },
        };
        let answer = front.call(grpc("/s/m", "20m")).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "the code is in grpc-status");
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    }

    #[test]
    fn a_call_has_the_shorter_of_its_own_time_and_ours() {
        let check = |path, timeout| call_limit(&grpc(path, timeout)).as_secs();
        assert_eq!(check("/phasegate.v1.FlagService/GetFlag", "2M"), 30);
        assert_eq!(check("/phasegate.v1.ReleaseService/WaitRelease", "2M"), 65);
        assert_eq!(check("/phasegate.rehearsal.v1.ClockService/Advance", "2H"), 600);
        assert_eq!(check("/phasegate.v1.FlagService/GetFlag", "3S"), 2, "a little earlier");
    }
}
