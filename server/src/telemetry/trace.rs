//! W3C Trace Context: the trace that a call belongs to, from who calls to whatever comes of it.
//!
//! What cannot be read is as if it were not there. `tracestate` goes to the span of the call; it is not
//! kept with what comes of the call.

use http::{HeaderMap, HeaderName, HeaderValue};
use opentelemetry::{
    Context, SpanId, TraceFlags, TraceId,
    trace::{SpanContext, TraceContextExt as _, TraceState},
};
use std::{str::FromStr as _, sync::Arc};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

/// The header that carries it.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// The header that carries what tracing systems add.
pub const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");

/// What tracing systems may add, as sent on at least (section 3.3.1.5 of W3C Trace Context).
const STATE_BYTES_MAX: usize = 512;

/// The trace that something belongs to, as a `traceparent` of version 00. Lives in the extensions of a
/// request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceContext(Arc<str>);

impl TraceContext {
    /// Reads a `traceparent`. A later version may go on behind what version 00 has.
    pub fn parse(text: &str) -> Option<Self> {
        let (head, rest) = text.split_at_checked(55)?;
        let mut parts = head.split('-');
        let is_hex = |part: &&str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let mut part = |length: usize| parts.next().filter(|p| p.len() == length).filter(is_hex);
        let version = part(2)?;
        let (trace, parent, flags) = (part(32)?, part(16)?, part(2)?);
        let ends_well = match version {
            "00" => rest.is_empty(),
            "ff" => false,
            _ => rest.is_empty() || rest.starts_with('-'),
        };
        let is_zero = |id: &str| id.bytes().all(|b| b == b'0');
        let is_good = ends_well && parts.next().is_none() && !is_zero(trace) && !is_zero(parent);
        is_good.then(|| Self(format!("00-{trace}-{parent}-{flags}").into()))
    }

    /// Reads it from the headers of a request; more than one is none.
    pub fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let value = values.next()?;
        if values.next().is_some() {
            return None;
        }
        Self::parse(value.to_str().ok()?)
    }

    /// As it stands in a header.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same, to keep.
    pub fn text(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The id of the trace.
    pub fn trace_id(&self) -> &str {
        &self.0[3..35]
    }

    /// As a header.
    pub fn header(&self) -> HeaderValue {
        HeaderValue::from_str(&self.0).expect("digits and dashes can stand in a header")
    }

    fn remote(&self, state: TraceState) -> Option<SpanContext> {
        let trace = TraceId::from_hex(self.trace_id()).ok()?;
        let span = SpanId::from_hex(&self.0[36..52]).ok()?;
        let flags = u8::from_str_radix(&self.0[53..55], 16).ok()?;
        // Of the flags only the first is known.
        let flags = TraceFlags::new(flags) & TraceFlags::SAMPLED;
        Some(SpanContext::new(trace, span, flags, true, state))
    }

    fn of_span(context: &SpanContext) -> Option<Self> {
        let flags = context.trace_flags().to_u8();
        let (trace, span) = (context.trace_id(), context.span_id());
        context.is_valid().then(|| Self(format!("00-{trace}-{span}-{flags:02x}").into()))
    }
}

/// Makes a span part of the trace that a request says it belongs to. Gives what is to be told to
/// whatever comes of the request: the span itself if it is exported, else what came with the request.
pub fn join(span: &Span, headers: &HeaderMap) -> Option<TraceContext> {
    let came = TraceContext::of_headers(headers);
    let state = came.as_ref().map(|_| state_of(headers)).unwrap_or_default();
    continue_trace(span, came.as_ref(), state)
}

/// The same, without a request.
pub fn continue_trace(
    span: &Span,
    came: Option<&TraceContext>,
    state: TraceState,
) -> Option<TraceContext> {
    if let Some(remote) = came.and_then(|came| came.remote(state)) {
        // Nobody exports spans, or not this one.
        let _ = span.set_parent(Context::new().with_remote_span_context(remote));
    }
    let exported = TraceContext::of_span(span.context().span().span_context());
    exported.or_else(|| came.cloned())
}

fn state_of(headers: &HeaderMap) -> TraceState {
    let values: Vec<_> =
        headers.get_all(TRACESTATE).iter().filter_map(|value| value.to_str().ok()).collect();
    let text = values.join(",");
    if text.len() > STATE_BYTES_MAX {
        return TraceState::NONE;
    }
    TraceState::from_str(&text).unwrap_or(TraceState::NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_traceparent_is_read_or_is_as_if_it_were_not_there() {
        let parse =
            |text: &str| TraceContext::parse(text).map(|context| context.as_str().to_owned());
        assert_eq!(parse(GOOD), Some(GOOD.into()));
        let later = GOOD.replacen("00", "cc", 1);
        assert_eq!(parse(&later), Some(GOOD.into()));
        assert_eq!(parse(&format!("{later}-more")), Some(GOOD.into()));
        for bad in [
            String::new(),
            format!("{GOOD}-more"),
            format!("{later}more"),
            GOOD.replacen("00", "ff", 1),
            GOOD.to_uppercase(),
            GOOD.replace("0af7651916cd43dd8448eb211c80319c", &"0".repeat(32)),
            GOOD.replace("b7ad6b7169203331", &"0".repeat(16)),
            GOOD.replace("-01", "-0x"),
            GOOD[..54].to_owned(),
            "ü".repeat(55),
        ] {
            assert_eq!(parse(&bad), None, "{bad}");
        }
    }

    #[test]
    fn more_than_one_traceparent_is_none() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        let read = TraceContext::of_headers(&headers).expect("it is good");
        assert_eq!(read.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        assert_eq!(TraceContext::of_headers(&headers), None);
    }

    #[test]
    fn where_nobody_exports_spans_the_trace_goes_on_as_it_came() {
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, HeaderValue::from_static(GOOD));
        let joined = join(&Span::none(), &headers);
        assert_eq!(joined.as_ref().map(TraceContext::as_str), Some(GOOD));
        assert_eq!(join(&Span::none(), &HeaderMap::new()), None);
    }
}
