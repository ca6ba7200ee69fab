//! The account of a call that asks for a change: one line of the log when it is answered, and the same
//! in its span. The line has the release, its phase, the request, the revision and the trace as fields of
//! their own, so that whoever has one finds the others.
//!
//! No text that a caller has written is in it, and no credential.

use super::status;
use crate::{
    driver::{Done, Error, Mode, Subject},
    telemetry::TraceContext,
};
use phasegate_engine::{
    command::Call,
    id::{PipelineId, ReleaseId, Revision},
};
use tonic::Status;
use tracing::{Span, field::Empty};

/// What is known of a call before it is judged.
#[derive(Clone, Debug)]
pub(super) struct Account {
    rpc: &'static str,
    trace: Option<TraceContext>,
    principal: Option<String>,
    request_id: Option<String>,
    release: Option<String>,
    flag: Option<String>,
    phase: Option<String>,
    mode: Mode,
}

impl Account {
    /// Of a call of which nothing is known yet.
    pub(super) fn of(rpc: &'static str, trace: Option<TraceContext>) -> Self {
        Self {
            rpc,
            trace,
            principal: None,
            request_id: None,
            release: None,
            flag: None,
            phase: None,
            mode: Mode::Commit,
        }
    }

    /// With what it asks for.
    pub(super) fn with(self, call: &Call, mode: Mode) -> Self {
        Self {
            principal: Some(call.caller.principal.to_string()),
            request_id: call.request_id.as_ref().map(ToString::to_string),
            release: call.action.release().map(ToString::to_string),
            flag: call.action.flag().map(ToString::to_string),
            mode,
            ..self
        }
    }

    /// It could not be read.
    pub(super) fn unreadable(self, status: &Status) {
        self.refused(&status::reason_of(status).unwrap_or_default());
    }

    /// It was answered.
    pub(super) fn close(mut self, answer: &Result<Done, Error>) {
        let done = match answer {
            Ok(done) => done,
            Err(error) => return self.refused(error.reason()),
        };
        let revision = match &done.subject {
            Subject::Flag(id) => {
                self.flag = Some(id.to_string());
                done.state.flag(id).map(|flag| flag.revision)
            }
            Subject::Pipeline(id) => pipeline_revision(done, id),
            Subject::Release(id) => self.see_release(done, id),
        };
        // What was deleted has none of its own.
        let revision = revision.unwrap_or_else(|| done.state.revision()).get();
        self.note();
        // What has no sign would be exported as text.
        Span::current().record("phasegate.revision", revision.cast_signed());
        tracing::info!(
            rpc = self.rpc,
            outcome = match self.mode {
                Mode::Commit => "done",
                Mode::ValidateOnly => "validated",
            },
            release = self.release,
            phase = self.phase,
            flag = self.flag,
            request_id = self.request_id,
            revision,
            principal = self.principal,
            trace_id = self.trace.as_ref().map(TraceContext::trace_id),
            "call"
        );
    }

    fn see_release(&mut self, done: &Done, id: &ReleaseId) -> Option<Revision> {
        let release = done.state.release(id)?;
        self.release = Some(id.to_string());
        self.flag = Some(release.proposal.flag.to_string());
        self.phase = release.current().map(|phase| release.phase(phase).id.to_string());
        Some(release.progress.revision)
    }

    fn refused(self, reason: &str) {
        self.note();
        Span::current().record("error.type", reason);
        tracing::info!(
            rpc = self.rpc,
            outcome = "refused",
            reason,
            release = self.release,
            flag = self.flag,
            request_id = self.request_id,
            principal = self.principal,
            trace_id = self.trace.as_ref().map(TraceContext::trace_id),
            "call"
        );
    }

    fn note(&self) {
        let span = Span::current();
        for (name, value) in [
            ("phasegate.release", &self.release),
            ("phasegate.phase", &self.phase),
            ("phasegate.flag", &self.flag),
            ("phasegate.request_id", &self.request_id),
        ] {
            if let Some(value) = value {
                span.record(name, value.as_str());
            }
        }
    }
}

fn pipeline_revision(done: &Done, id: &PipelineId) -> Option<Revision> {
    done.state.pipeline(id).map(|pipeline| pipeline.revision)
}

/// The span of a call of gRPC, by the conventions of OpenTelemetry for RPC, with room for what is found
/// out on the way. It is exported, and stands in no log.
pub fn span(method: &'static str) -> Span {
    tracing::info_span!(
        target: crate::telemetry::otlp::SPANS,
        "rpc",
        "otel.name" = method,
        "otel.kind" = "server",
        "otel.status_code" = Empty,
        "rpc.system.name" = "grpc",
        "rpc.method" = method,
        "rpc.response.status_code" = Empty,
        "error.type" = Empty,
        "phasegate.release" = Empty,
        "phasegate.phase" = Empty,
        "phasegate.flag" = Empty,
        "phasegate.request_id" = Empty,
        "phasegate.revision" = Empty,
    )
}
