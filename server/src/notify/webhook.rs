//! A webhook: one POST over one connection, without anything that could lead it elsewhere.

use super::{
    attempt::{Trace, World, plain},
    connect::{self, Trust},
    event::Event,
    scheduler::{Fault, FaultKind, Outcome},
    sign::Keys,
    target::Target,
    template::Template,
};
use crate::telemetry::trace::{TRACEPARENT, TRACESTATE};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper_util::rt::TokioIo;
use phasegate_engine::time::{Span, Timestamp};
use std::{pin::pin, time::Duration};
use tokio::time::{Instant, timeout_at};

/// All of an attempt: the name, the connection, TLS, the request and the answer.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(10);
/// So much of an answer is read. What is in it is of no use; it is read so that a receiver that waits
/// for that is not cut off.
pub(super) const REPLY_BYTES_MAX: usize = 64 << 10;
/// All headers of an answer.
const REPLY_HEADER_BYTES_MAX: usize = 16 << 10;
/// How many there may be.
const REPLY_HEADERS_MAX: usize = 64;

/// A webhook that can be sent to.
#[derive(Clone, Debug)]
pub(super) struct Webhook {
    /// Where.
    pub(super) target: Target,
    /// Path and query, as they are sent.
    pub(super) path: String,
    /// Who signs.
    pub(super) keys: Keys,
    /// What is sent.
    pub(super) template: Template,
    /// Headers of the file, and `authorization`.
    pub(super) headers: HeaderMap,
    /// Whom certificates are believed from.
    pub(super) trust: Trust,
}

impl Webhook {
    /// Sends an event once.
    pub(super) async fn send(
        &self,
        event: &Event<'_>,
        now: Timestamp,
        world: &World,
        trace: &mut Trace,
    ) -> Outcome {
        let deadline = Instant::now() + ATTEMPT_MAX;
        match timeout_at(deadline, self.attempt(event, now, world, trace, deadline)).await {
            Ok(Ok(answer)) => judge(&answer, now),
            Ok(Err(fault)) => Outcome::Failed(fault),
            Err(_) => Outcome::Failed(late()),
        }
    }

    async fn attempt(
        &self,
        event: &Event<'_>,
        now: Timestamp,
        world: &World,
        trace: &mut Trace,
        deadline: Instant,
    ) -> Result<http::response::Parts, Fault> {
        let request = self.request(event, now)?;
        let addresses = connect::addresses(&self.target, &*world.resolver).await?;
        let shown: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
        trace.done(format!("{} is at {}", self.target.host(), shown.join(", ")));
        let (stream, address) = connect::tcp(&addresses).await?;
        trace.done(format!("connected to {address}"));
        let (stream, agreed) = connect::secure(stream, &self.target, &self.trust).await?;
        trace.done(agreed);
        let bytes = request.body().size();
        let (parts, read) = exchange(stream, request, deadline).await?;
        trace.done(format!("sent {bytes} bytes, answered {}", parts.status.as_u16()));
        tracing::trace!(?read, "the answer was read");
        Ok(parts)
    }

    fn request(&self, event: &Event<'_>, now: Timestamp) -> Result<Request<Full<Bytes>>, Fault> {
        let body = self.template.body(event);
        let forbidden = |error: &dyn std::fmt::Display| Fault {
            kind: FaultKind::Forbidden,
            text: plain(&format!("the request cannot be written: {error}")),
        };
        let host = match (self.target.literal(), self.target.port()) {
            (Some(std::net::IpAddr::V6(address)), port) => format!("[{address}]:{port}"),
            (_, 443) => self.target.host(),
            (_, port) => format!("{}:{port}", self.target.host()),
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&self.path)
            .header(header::HOST, host)
            .header(header::USER_AGENT, concat!("phasegate/", env!("CARGO_PKG_VERSION")))
            .header(header::CONTENT_TYPE, self.template.content_type())
            .header(ID, event.id());
        let seconds = now.as_millis().div_euclid(1000);
        request = request.header(TIMESTAMP, seconds);
        if !self.keys.is_empty() {
            request = request.header(SIGNATURE, self.keys.sign(event.id(), seconds, &body));
        }
        let mut request =
            request.body(Full::new(Bytes::from(body))).map_err(|error| forbidden(&error))?;
        for (name, value) in &self.headers {
            request.headers_mut().insert(name, value.clone());
        }
        if let Some(trace) = event.trace() {
            request.headers_mut().insert(TRACEPARENT, trace.header());
        }
        Ok(request)
    }
}

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// Headers that the file may not say: they are ours, or say how the connection is used.
pub(super) fn is_reserved(name: &HeaderName) -> bool {
    let reserved = [
        header::AUTHORIZATION,
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::COOKIE,
        header::EXPECT,
        header::HOST,
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
        header::USER_AGENT,
    ];
    let is_trace = [TRACEPARENT, TRACESTATE].contains(name);
    reserved.contains(name) || is_trace || name.as_str().starts_with("webhook-")
}

/// How much of an answer's body was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// All of it, or as much as is read at most.
    Read(usize),
    /// It broke off, or did not come in time. With the status the receiver has answered all the same.
    BrokeOff,
}

/// Sends the request and reads the answer, by the deadline. Whatever happens, the connection ends with
/// this.
async fn exchange(
    stream: impl connect::Stream,
    request: Request<Full<Bytes>>,
    deadline: Instant,
) -> Result<(http::response::Parts, Body), Fault> {
    let work = async {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(REPLY_HEADER_BYTES_MAX)
            .max_headers(REPLY_HEADERS_MAX)
            .handshake(TokioIo::new(stream))
            .await?;
        let talk = async {
            let (parts, body) = sender.send_request(request).await?.into_parts();
            let body = match timeout_at(deadline, read(body)).await {
                Ok(Ok(bytes)) => Body::Read(bytes),
                Ok(Err(_)) | Err(_) => Body::BrokeOff,
            };
            Ok((parts, body))
        };
        let mut talk = pin!(talk);
        tokio::select! {
            biased;
            talked = &mut talk => return talked,
            // How it failed is said to who waits for the answer.
            _ = connection => {}
        }
        talk.await
    };
    match timeout_at(deadline, work).await {
        Ok(answer) => answer.map_err(|error| unreachable(&error)),
        Err(_) => Err(late()),
    }
}

/// Reads a body up to the limit; what comes behind is never read.
async fn read(mut body: Incoming) -> hyper::Result<usize> {
    let mut read = 0;
    while read < REPLY_BYTES_MAX
        && let Some(frame) = body.frame().await
    {
        read += frame?.data_ref().map_or(0, Bytes::len);
    }
    Ok(read)
}

fn late() -> Fault {
    let text = format!("no answer within {} s", ATTEMPT_MAX.as_secs());
    Fault { kind: FaultKind::Unreachable, text }
}

fn unreachable(error: &hyper::Error) -> Fault {
    let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
    let text = format!("the exchange failed: {error}{}", cause.unwrap_or_default());
    Fault { kind: FaultKind::Unreachable, text: plain(&text) }
}

/// What an answer means (Standard Webhooks 1.0.0, "Delivery success and failure").
fn judge(answer: &http::response::Parts, now: Timestamp) -> Outcome {
    let status = answer.status;
    if status.is_success() {
        return Outcome::Delivered;
    }
    let kind = match status {
        StatusCode::GONE => FaultKind::Gone,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            FaultKind::Overloaded(retry_after(&answer.headers, now))
        }
        status if status.is_server_error() => FaultKind::Overloaded(None),
        _ => FaultKind::Refused,
    };
    let text = match status {
        status if status.is_redirection() => {
            format!("answered {}; redirects are not followed", status.as_u16())
        }
        status => format!("answered {}", status.as_u16()),
    };
    Outcome::Failed(Fault { kind, text })
}

/// `Retry-After` (RFC 9110, section 10.2.3): seconds, or a date.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Span> {
    let text = headers.get(header::RETRY_AFTER).map(HeaderValue::to_str)?.ok()?.trim();
    if let Ok(seconds) = text.parse::<u32>() {
        return Some(Span::from_secs(seconds));
    }
    let date = chrono::DateTime::parse_from_rfc2822(text).ok()?;
    Some(Timestamp::from_millis(date.timestamp_millis()).since(now))
}

/// The size of a body that is there as a whole.
trait Size {
    fn size(&self) -> u64;
}

impl Size for Full<Bytes> {
    fn size(&self) -> u64 {
        hyper::body::Body::size_hint(self).lower()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Response;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_000);

    fn check(status: u16, retry_after: Option<&str>) -> Outcome {
        let mut answer = Response::builder().status(status);
        if let Some(value) = retry_after {
            answer = answer.header(header::RETRY_AFTER, value);
        }
        judge(&answer.body(()).unwrap().into_parts().0, NOW)
    }

    fn kind(outcome: Outcome) -> Option<FaultKind> {
        match outcome {
            Outcome::Delivered => None,
            Outcome::Failed(fault) => Some(fault.kind),
        }
    }

    #[test]
    fn only_a_status_of_the_two_hundreds_is_a_success() {
        for status in [200, 201, 202, 204, 299] {
            assert_eq!(check(status, None), Outcome::Delivered);
        }
        for status in [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 422] {
            assert_eq!(kind(check(status, None)), Some(FaultKind::Refused), "{status}");
        }
        for status in [429, 500, 502, 503, 504, 599] {
            assert_eq!(kind(check(status, None)), Some(FaultKind::Overloaded(None)), "{status}");
        }
        assert_eq!(kind(check(410, None)), Some(FaultKind::Gone));
    }

    #[test]
    fn a_receiver_says_when_to_come_back_in_seconds_or_with_a_date() {
        let after = |seconds| Some(FaultKind::Overloaded(Some(Span::from_secs(seconds))));
        assert_eq!(kind(check(429, Some("120"))), after(120));
        assert_eq!(kind(check(503, Some(" 0 "))), after(0));
        // 2023-11-14T22:13:20Z and two minutes.
        assert_eq!(kind(check(503, Some("Tue, 14 Nov 2023 22:15:20 GMT"))), after(120));
        assert_eq!(kind(check(503, Some("Tue, 14 Nov 2000 22:15:20 GMT"))), after(0));
        let unknown = Some(FaultKind::Overloaded(None));
        for nonsense in ["soon", "-1", "99999999999999999999", ""] {
            assert_eq!(kind(check(429, Some(nonsense))), unknown, "{nonsense}");
        }
        // Elsewhere it means nothing to us.
        assert_eq!(kind(check(500, Some("120"))), unknown);
        assert_eq!(kind(check(404, Some("120"))), Some(FaultKind::Refused));
    }

    #[test]
    fn headers_that_are_ours_cannot_be_set_by_the_file() {
        for name in
            ["Authorization", "host", "webhook-id", "Webhook-Signature", "transfer-encoding"]
        {
            assert!(is_reserved(&name.parse().unwrap()), "{name}");
        }
        assert!(!is_reserved(&"x-team".parse().unwrap()));
    }

    fn request() -> Request<Full<Bytes>> {
        Request::post("/").header(header::HOST, "x.test").body(Full::from("{}")).unwrap()
    }

    /// What becomes of an exchange with a receiver that reads the request, says this again and again,
    /// and then stays silent.
    async fn check_exchange(says: &[u8], times: usize) -> Result<(u16, Body), String> {
        let (ours, mut theirs) = tokio::io::duplex(4096);
        let receiver = async {
            let mut request = vec![0; 1024];
            let read = theirs.read(&mut request).await.unwrap();
            assert!(request[..read].starts_with(b"POST / HTTP/1.1\r\n"));
            for _ in 0..times {
                if theirs.write_all(says).await.is_err() {
                    return;
                }
            }
            std::future::pending().await
        };
        let deadline = Instant::now() + ATTEMPT_MAX;
        tokio::select! {
            answer = exchange(ours, request(), deadline) => {
                assert!(Instant::now() <= deadline);
                answer.map(|(parts, body)| (parts.status.as_u16(), body)).map_err(|fault| fault.text)
            }
            () = async { receiver.await; std::future::pending().await } => unreachable!("it is pending"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_says_nothing_is_given_up_after_ten_seconds() {
        assert_eq!(check_exchange(b"", 0).await, Err("no answer within 10 s".into()));
        assert_eq!(check_exchange(b"HTTP/1.1 200", 1).await, Err("no answer within 10 s".into()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_endless_head_or_one_that_is_no_http_is_an_error() {
        let found = check_exchange(b"HTTP/1.1 200 OK\r\nx-a: ", 1).await;
        assert_eq!(found, Err("no answer within 10 s".into()));
        let found = check_exchange(&[b'a'; 1000], 1_000_000).await.unwrap_err();
        assert!(found.starts_with("the exchange failed"), "{found}");
        let mut head = b"HTTP/1.1 200 OK\r\n".to_vec();
        (0..1000).for_each(|n| head.extend(format!("x-{n}: v\r\n").into_bytes()));
        let found = check_exchange(&head, 1).await.unwrap_err();
        assert!(found.starts_with("the exchange failed"), "{found}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_status_is_an_answer_though_its_body_hangs() {
        let found = check_exchange(b"HTTP/1.1 204 No Content\r\n\r\n", 1).await;
        assert_eq!(found, Ok((204, Body::Read(0))));
        let found = check_exchange(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nabc", 1).await;
        assert_eq!(found, Ok((200, Body::BrokeOff)));
    }

    /// The answer claims a gigabyte and goes on saying it; a little more than the limit is read.
    #[tokio::test(start_paused = true)]
    async fn of_a_reply_of_a_gigabyte_sixty_four_kib_are_read() {
        let mut says = b"HTTP/1.1 200 OK\r\ncontent-length: 1073741824\r\n\r\n".to_vec();
        says.resize(1024, b'x');
        let (status, body) = check_exchange(&says, 1_000_000).await.unwrap();
        let Body::Read(bytes) = body else { panic!("{body:?}") };
        assert_eq!(status, 200);
        assert!(
            (REPLY_BYTES_MAX..REPLY_BYTES_MAX + REPLY_HEADER_BYTES_MAX).contains(&bytes),
            "{bytes}"
        );
    }
}
