//! How long requests take and how they end: in the metrics, and in the span of each.
//!
//! What a call of gRPC came to stands behind its answer, in the trailers, so the answer is looked at as it
//! passes.

use crate::telemetry::{Metrics, cells::OTHER, otlp::SPANS};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};
use tonic::{Code, Status, body::Body};
use tracing::{Span, field::Empty};

/// A call of gRPC that is under way. One that is dropped was given up by who made it.
pub(super) struct Call {
    method: &'static str,
    begun: Instant,
    span: Span,
    metrics: Arc<Metrics>,
    is_over: bool,
}

impl Call {
    /// Begins now.
    pub(super) fn begin(method: &'static str, span: Span, metrics: Arc<Metrics>) -> Self {
        Self { method, begun: Instant::now(), span, metrics, is_over: false }
    }

    /// Looks at the answer, and goes on with its body.
    pub(super) fn answered(mut self, answer: Response<Body>) -> Response<Body> {
        if self.ends_with(answer.headers()) || answer.body().is_end_stream() {
            // One without a body and without a status is none of gRPC.
            self.end(Code::Unknown);
            return answer;
        }
        answer.map(|body| Body::new(Measured { body, call: self }))
    }

    /// Ends if these headers or trailers have a status.
    fn ends_with(&mut self, headers: &HeaderMap) -> bool {
        let Some(status) = headers.get("grpc-status") else { return false };
        self.end(Code::from_bytes(status.as_bytes()));
        true
    }

    /// The first end counts.
    fn end(&mut self, code: Code) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let name = code_name(code);
        self.metrics.rpc.record([self.method, name], self.begun.elapsed());
        self.span.record("rpc.response.status_code", name);
        if is_our_fault(code) {
            self.span.record("otel.status_code", "ERROR");
        }
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.end(Code::Cancelled);
    }
}

/// The body of an answer, looked at as it passes.
struct Measured {
    body: Body,
    call: Call,
}

impl HttpBody for Measured {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        match &frame {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(trailers) = frame.trailers_ref() {
                    self.call.ends_with(trailers);
                }
            }
            Poll::Ready(Some(Err(status))) => self.call.end(status.code()),
            Poll::Ready(None) => self.call.end(Code::Unknown),
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A code as the conventions of OpenTelemetry for gRPC write it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

/// The codes that make the span of a server one of an error, by the same conventions.
fn is_our_fault(code: Code) -> bool {
    matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    )
}

/// The span of a request of HTTP. A query may hold what is secret, and is not in it.
pub(super) fn http_span<B>(request: &Request<B>) -> Span {
    let method = method_name(request.method());
    tracing::info_span!(
        target: SPANS,
        "http",
        "otel.name" = method,
        "otel.kind" = "server",
        "otel.status_code" = Empty,
        "http.request.method" = method,
        "url.path" = request.uri().path(),
        "http.response.status_code" = Empty,
        "error.type" = Empty,
        "phasegate.release" = Empty,
        "phasegate.phase" = Empty,
        "phasegate.flag" = Empty,
        "phasegate.request_id" = Empty,
        "phasegate.revision" = Empty,
    )
}

/// A request of HTTP was answered.
pub(super) fn http_answered(
    method: &'static str,
    status: StatusCode,
    begun: Instant,
    span: &Span,
    metrics: &Metrics,
) {
    metrics.http.record([method, status_name(status)], begun.elapsed());
    span.record("http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        span.record("otel.status_code", "ERROR");
    }
}

/// A method as a label has it.
pub(super) fn method_name(method: &Method) -> &'static str {
    const KNOWN: [&str; 5] = ["GET", "HEAD", "POST", "OPTIONS", "PUT"];
    KNOWN.into_iter().find(|known| *known == method.as_str()).unwrap_or(OTHER)
}

/// A status as a label has it: those that are answered here, and no other.
fn status_name(status: StatusCode) -> &'static str {
    const KNOWN: [&str; 21] = [
        "200", "204", "302", "303", "304", "307", "308", "400", "401", "403", "404", "405", "408",
        "409", "412", "413", "415", "429", "500", "503", "504",
    ];
    KNOWN.into_iter().find(|known| *known == status.as_str()).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::text;
    use http_body_util::{BodyExt as _, StreamBody};

    fn counted(metrics: &Metrics, code: &str) -> bool {
        let line = format!(
            "rpc_server_call_duration_seconds_count{{rpc_system_name=\"grpc\",rpc_method=\"s/M\",\
             rpc_response_status_code=\"{code}\"}} 1"
        );
        text::render(metrics).lines().any(|shown| shown == line)
    }

    fn begin(metrics: &Arc<Metrics>) -> Call {
        Call::begin("s/M", Span::none(), Arc::clone(metrics))
    }

    fn body(status: &'static str) -> Body {
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", status.parse().unwrap());
        let frames = [Frame::data(Bytes::from_static(b"x")), Frame::trailers(trailers)];
        Body::new(StreamBody::new(futures_util::stream::iter(frames.map(Ok::<_, Status>))))
    }

    #[tokio::test]
    async fn a_call_ends_with_the_status_in_its_trailers() {
        let metrics = Arc::default();
        let answer = begin(&metrics).answered(Response::new(body("9")));
        assert_eq!(metrics.families().iter().filter(|f| f.name.starts_with("rpc")).count(), 1);
        assert!(!counted(&metrics, "FAILED_PRECONDITION"), "it goes on");
        answer.into_body().collect().await.unwrap();
        assert!(counted(&metrics, "FAILED_PRECONDITION"));
    }

    #[test]
    fn a_refusal_ends_with_the_status_in_its_headers() {
        let metrics = Arc::default();
        let answer = Status::permission_denied("no").into_http();
        let _answer = begin(&metrics).answered(answer);
        assert!(counted(&metrics, "PERMISSION_DENIED"));
    }

    #[test]
    fn a_call_that_is_dropped_was_cancelled() {
        let metrics = Arc::default();
        drop(begin(&metrics).answered(Response::new(body("0"))));
        assert!(counted(&metrics, "CANCELLED"));
    }
}
