//! Wire to domain and back.
//!
//! Requests are parsed here and nowhere else: every limit of the comments in `proto/` is checked, all
//! violations are collected, and what comes out is trusted from there on. What depends on the state
//! (does the flag exist, is the phase current) is the engine's to refuse.

mod answer;
mod audit;
mod fields;
mod flag;
mod list;
mod mask;
mod notification;
mod pipeline;
mod release;
mod targeting;
#[cfg(test)]
mod tests;
mod time;
mod value;

pub use answer::{
    Detail, answer_to_wire, events_to_wire, plan_to_wire, plan_warning, release_to_wire,
    warnings_to_wire,
};
pub use audit::{
    AuditOutcome, ListAuditEntries, WatchAuditEntries, list_audit_entries, watch_audit_entries,
};
pub use flag::{
    EvaluateFlag, create_flag, delete_flag, evaluate_flag, evaluation_context, flag_name,
    flag_to_wire, set_kill_switch, update_flag,
};
pub use list::{
    EventOrder, ListFlags, ListPipelines, ListReleaseEvents, ListReleases, LogPosition, Page,
    ReleaseFilter, list_flags, list_pipelines, list_release_events, list_releases,
};
pub use notification::{
    DeadLetters, ListDeadLetters, list_dead_letters, replay_dead_letters, send_test_notification,
};
pub use pipeline::{
    create_pipeline, delete_pipeline, pipeline_name, pipeline_to_wire, update_pipeline,
};
pub use release::{
    WaitRelease, WaitUntil, WatchRelease, WatchReleases, abort_release, adjust_bake, approve_phase,
    full_rollout, override_window, pause_release, reject_phase, release_name, report_guard_signal,
    skip_phase, trigger_release, unpause_release, wait_release, watch_release, watch_releases,
};
pub use time::{span_to_wire, timestamp_to_wire};
pub use value::object_to_wire;

use phasegate_engine::{command::Action, id::RequestId};
use std::sync::Arc;

pub use fields::{Rejected, Violation, etag, revision_to_wire};

/// A request that changes something, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Parsed {
    /// What is asked.
    pub action: Action,
    /// Makes the call safe to repeat.
    pub request_id: Option<RequestId>,
    /// Text for the log; empty if none was given.
    pub reason: Arc<str>,
    /// Check everything, commit nothing, answer as if done.
    pub validate_only: bool,
}
