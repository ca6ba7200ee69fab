//! The one table from what went wrong to what the caller is told: code, reason and details.
//!
//! Every status made here carries exactly one `ErrorInfo` of the domain [`DOMAIN`] and fits into
//! trailers that any client accepts. A status without `ErrorInfo` comes from the transport. The
//! same table for people is `docs/errors.md`; a test compares the two.

use super::caller::{Unknown, violations};
use crate::{
    access,
    driver::{self, LogError},
    watch::{WatchEnd, WatchRefusal},
};
use phasegate_api::{
    convert::{Rejected, Violation},
    v1::{ErrorReason, ReleaseState as WireState},
};
use phasegate_engine::{
    id::{PhaseId, Revision},
    refusal::{Refusal, ReleaseRefusal, Resource, Standing},
    release::ReleaseState,
};
use std::{collections::HashMap, time::Duration};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// `ErrorInfo.domain` of every error of this server.
pub const DOMAIN: &str = "phasegate.v1";

/// A serialized `google.rpc.Status` stays below this: some clients refuse metadata above 8 KiB,
/// base64 adds a third, and `grpc-message` repeats the text.
pub const DETAILS_BYTES_MAX: usize = 4096;

/// The text, which is sent twice or three times, is cut to this.
const MESSAGE_BYTES_MAX: usize = 512;
/// One violation's field and its description are each cut to this.
const VIOLATION_TEXT_BYTES_MAX: usize = 256;
/// All violations together, as encoded: what [`DETAILS_BYTES_MAX`] leaves beside the message.
const VIOLATIONS_BYTES_MAX: usize = 3000;
/// What a violation's framing costs at most: its own tag and length, and those of its two texts.
const VIOLATION_FRAME_BYTES: usize = 9;
/// The ids of phases in one value of the metadata, commas included.
const PHASE_IDS_BYTES_MAX: usize = 2000;

/// Recovery takes about a second for a store of some size.
const RETRY_RECOVERY: Duration = Duration::from_secs(1);
/// The driver looks for space on the disk again after some seconds; people are slower.
const RETRY_DISK_FULL: Duration = Duration::from_secs(30);
/// A restart takes seconds. Clients add jitter of their own.
const RETRY_DRAINING: Duration = Duration::from_secs(2);
/// A client that was slow gets time to drain what it has buffered.
const RETRY_SLOW_CONSUMER: Duration = Duration::from_secs(1);
/// What runs is done within this, mostly.
const RETRY_OVERLOADED: Duration = Duration::from_secs(1);
/// Slots come free when other streams end, and streams are long.
const RETRY_TOO_MANY_WATCHES: Duration = Duration::from_secs(10);

/// An answer that is no, before it is put on the wire.
struct Answer {
    reason: ErrorReason,
    message: String,
    metadata: HashMap<String, String>,
    violations: Vec<Violation>,
    /// Resource whose state stands in the way, for FAILED_PRECONDITION.
    subject: Option<String>,
    retry: Option<Duration>,
}

impl Answer {
    fn new(reason: ErrorReason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            metadata: HashMap::new(),
            violations: Vec::new(),
            subject: None,
            retry: None,
        }
    }

    fn with(mut self, key: &str, value: impl ToString) -> Self {
        self.metadata.insert(key.to_owned(), value.to_string());
        self
    }

    fn about(mut self, resource: impl ToString) -> Self {
        self.subject = Some(resource.to_string());
        self
    }

    fn later(mut self, delay: Duration) -> Self {
        self.retry = Some(delay);
        self
    }

    fn into_status(self) -> Status {
        let code = code(self.reason);
        let name = name(self.reason);
        let message = cut(&self.message, MESSAGE_BYTES_MAX);
        let mut details = ErrorDetails::new();
        details.set_error_info(name, DOMAIN, self.metadata);
        for violation in fitting(self.violations) {
            details.add_bad_request_violation(violation.field, violation.description);
        }
        if code == Code::FailedPrecondition {
            details.add_precondition_failure_violation(
                name,
                self.subject.unwrap_or_default(),
                message.as_str(),
            );
        }
        if let Some(delay) = self.retry {
            details.set_retry_info(Some(delay));
        }
        Status::with_error_details(code, message, details)
    }
}

/// A reason as `ErrorInfo` carries it: without the prefix of its enum.
pub fn name(reason: ErrorReason) -> &'static str {
    let name = reason.as_str_name();
    name.strip_prefix("ERROR_REASON_").unwrap_or(name)
}

/// The status code of a reason.
pub fn code(reason: ErrorReason) -> Code {
    match reason {
        ErrorReason::InvalidField
        | ErrorReason::ReasonRequired
        | ErrorReason::RequestIdReused
        | ErrorReason::InvalidPageToken => Code::InvalidArgument,
        ErrorReason::ResourceNotFound => Code::NotFound,
        ErrorReason::ResourceExists => Code::AlreadyExists,
        ErrorReason::EtagMismatch => Code::Aborted,
        ErrorReason::Unauthenticated => Code::Unauthenticated,
        ErrorReason::NotAnApprover | ErrorReason::SelfApproval | ErrorReason::PermissionMissing => {
            Code::PermissionDenied
        }
        ErrorReason::ReleaseOver
        | ErrorReason::ReleaseNotStarted
        | ErrorReason::ReleasePaused
        | ErrorReason::AlreadyPaused
        | ErrorReason::NotPaused
        | ErrorReason::PhaseNotCurrent
        | ErrorReason::PhaseNotAwaitingApproval
        | ErrorReason::PhaseNotAwaitingWindow
        | ErrorReason::PhaseNotBaking
        | ErrorReason::AlreadyReviewed
        | ErrorReason::ApprovalPending
        | ErrorReason::WindowClosed
        | ErrorReason::FlagLocked
        | ErrorReason::PipelineRequired
        | ErrorReason::ActiveReleaseExists
        | ErrorReason::BaseChanged
        | ErrorReason::NoChange
        | ErrorReason::ResourceInUse
        | ErrorReason::StoreReplaced => Code::FailedPrecondition,
        ErrorReason::RevisionCompacted
        | ErrorReason::RevisionInFuture
        | ErrorReason::ViewChanged => Code::OutOfRange,
        ErrorReason::QueueFull
        | ErrorReason::SlowConsumer
        | ErrorReason::TooManyWatches
        | ErrorReason::FlagSetTooLarge
        | ErrorReason::RateLimited
        | ErrorReason::Overloaded => Code::ResourceExhausted,
        ErrorReason::StreamExpired | ErrorReason::ServerDraining | ErrorReason::StoreReadOnly => {
            Code::Unavailable
        }
        // The first is never sent; a defect is what sending it would be.
        ErrorReason::Unspecified | ErrorReason::Internal => Code::Internal,
    }
}

/// The request itself was rejected.
pub fn rejected(rejected: Rejected) -> Status {
    let message = rejected.to_string();
    match rejected {
        Rejected::Invalid(violations) => {
            Answer { violations, ..Answer::new(ErrorReason::InvalidField, message) }.into_status()
        }
        Rejected::ReasonRequired => Answer::new(ErrorReason::ReasonRequired, message).into_status(),
        Rejected::InvalidPageToken => {
            Answer::new(ErrorReason::InvalidPageToken, message).into_status()
        }
    }
}

/// Fields of the request are invalid.
pub fn invalid(violations: Vec<Violation>) -> Status {
    rejected(Rejected::Invalid(violations))
}

/// The caller and what they ask for, or everything that is wrong with both: all violations at once,
/// and before anything else.
pub(super) fn both<C, T>(
    caller: Result<C, Unknown>,
    asked: Result<T, Rejected>,
) -> Result<(C, T), Status> {
    match (caller, asked) {
        (Ok(caller), Ok(asked)) => Ok((caller, asked)),
        (Ok(_), Err(why)) => Err(rejected(why)),
        (Err(Unknown::NotAdmitted(status)), _) => Err(*status),
        (Err(Unknown::Malformed(mut violations)), Err(Rejected::Invalid(more))) => {
            violations.extend(more);
            Err(invalid(violations))
        }
        (
            Err(Unknown::Malformed(violations)),
            Ok(_) | Err(Rejected::ReasonRequired | Rejected::InvalidPageToken),
        ) => Err(invalid(violations)),
    }
}

/// The gate did not let somebody in, or lets them stay no longer.
pub fn denied(refusal: access::Refusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        access::Refusal::NoCredential | access::Refusal::BadCredential | access::Refusal::Ended => {
            Answer::new(ErrorReason::Unauthenticated, message).into_status()
        }
        access::Refusal::Malformed(wrong) => invalid(violations(wrong)),
        access::Refusal::Missing(permission) => forbidden(permission.name(), message),
        access::Refusal::NoRule => {
            Answer::new(ErrorReason::PermissionMissing, message).into_status()
        }
        access::Refusal::TooMany(retry) => rate_limited(retry),
    }
}

fn forbidden(permission: &str, message: String) -> Status {
    Answer::new(ErrorReason::PermissionMissing, message)
        .with("permission", permission)
        .into_status()
}

/// A request that has not come through the gate.
pub(super) fn not_admitted() -> Status {
    tracing::error!("a request was served that has not come through the gate");
    denied(access::Refusal::NoRule)
}

/// What the caller may see is another set than the one that a stream was begun with.
pub(super) fn view_changed() -> Status {
    let message = "what you may see has changed; begin with a snapshot";
    Answer::new(ErrorReason::ViewChanged, message).into_status()
}

/// Something that the caller does not see stands in the way.
pub(super) fn in_use_unseen(resource: &Resource) -> Status {
    let message = format!("{resource} is in use by something that you may not see");
    Answer::new(ErrorReason::ResourceInUse, message).about(resource).into_status()
}

/// A resource that was asked for does not exist.
pub fn not_found(resource: &Resource) -> Status {
    refused(Refusal::NotFound(resource.clone()))
}

/// Something that applications name, and that is not a resource of ours or no id at all.
pub fn no_such(collection: &str, id: &str, message: String) -> Status {
    Answer::new(ErrorReason::ResourceNotFound, message)
        .with("resource", format!("{collection}/{id}"))
        .into_status()
}

/// A set of flags is larger than clients take.
pub fn flag_set_too_large(message: String) -> Status {
    Answer::new(ErrorReason::FlagSetTooLarge, message).into_status()
}

/// Recovery is not finished.
pub fn recovering() -> Status {
    Answer::new(ErrorReason::StoreReadOnly, "the server is starting and reads its store")
        .later(RETRY_RECOVERY)
        .into_status()
}

/// The driver did not do what was asked.
pub fn failed(error: driver::Error) -> Status {
    let message = error.to_string();
    match error {
        driver::Error::Refused(refusal) => refused(refusal),
        driver::Error::Forbidden { permission } => forbidden(permission, message),
        driver::Error::RequestIdReused => {
            Answer::new(ErrorReason::RequestIdReused, message).into_status()
        }
        driver::Error::DiskFull => {
            Answer::new(ErrorReason::StoreReadOnly, message).later(RETRY_DISK_FULL).into_status()
        }
        driver::Error::FlagSetTooLarge { .. } => flag_set_too_large(message),
        driver::Error::Stopped => draining(),
        driver::Error::Internal(incident) => {
            Answer::new(ErrorReason::Internal, message).with("incident", incident).into_status()
        }
    }
}

/// The log could not be read.
pub fn log_failed(error: LogError) -> Status {
    match error {
        LogError::Compacted { oldest } => compacted(oldest),
        LogError::Stopped => draining(),
    }
}

/// An export could not be made to its end; the cause is in the log.
pub(super) fn export_failed(error: &driver::ExportError) -> Status {
    let incident = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(%incident, error = error as &dyn std::error::Error, "an export failed");
    failed(driver::Error::Internal(incident))
}

/// A watch was not opened.
pub fn watch_refused(refusal: WatchRefusal) -> Status {
    let message = refusal.to_string();
    match refusal {
        WatchRefusal::Draining => draining(),
        WatchRefusal::NotFound(release) => not_found(&Resource::Release(release)),
        WatchRefusal::StoreReplaced => {
            let message = "the store is another one than before; begin with a snapshot";
            Answer::new(ErrorReason::StoreReplaced, message).into_status()
        }
        WatchRefusal::Compacted { oldest } => compacted(oldest),
        WatchRefusal::InFuture { head } => {
            let message = format!("the store is at revision {head} only; begin with a snapshot");
            Answer::new(ErrorReason::RevisionInFuture, message).into_status()
        }
        WatchRefusal::TooMany(_) => too_many_watches(message),
    }
}

/// A watch of the audit chain was to begin after an entry that is not there yet.
pub fn audit_in_future(newest: u64) -> Status {
    let message = format!("the audit chain ends with entry {newest}");
    Answer::new(ErrorReason::RevisionInFuture, message).into_status()
}

/// The reason that a status carries in its `ErrorInfo`; none if it comes from elsewhere.
pub fn reason_of(status: &Status) -> Option<String> {
    status.get_error_details().error_info().map(|info| info.reason.clone())
}

/// A watch ended other than with OK.
pub fn watch_ended(end: WatchEnd) -> Status {
    let message = end.to_string();
    match end {
        WatchEnd::Expired => Answer::new(ErrorReason::StreamExpired, message).into_status(),
        // As gRPC has it everywhere; nothing of ours to add.
        WatchEnd::DeadlineExceeded => Status::deadline_exceeded(message),
        WatchEnd::Draining => draining(),
        WatchEnd::SlowConsumer => {
            Answer::new(ErrorReason::SlowConsumer, message).later(RETRY_SLOW_CONSUMER).into_status()
        }
        WatchEnd::Compacted { oldest } => compacted(oldest),
    }
}

/// The server is about to stop.
pub fn draining() -> Status {
    Answer::new(ErrorReason::ServerDraining, "the server is stopping; try again")
        .later(RETRY_DRAINING)
        .into_status()
}

/// As much is being done as may be.
pub fn overloaded() -> Status {
    Answer::new(ErrorReason::Overloaded, "the server has its hands full; try again")
        .later(RETRY_OVERLOADED)
        .into_status()
}

/// The caller asks for more than their share.
pub fn rate_limited(retry: Duration) -> Status {
    Answer::new(ErrorReason::RateLimited, "more calls than one principal may make; try again later")
        .later(retry)
        .into_status()
}

/// As gRPC has it everywhere; nothing of ours to add.
pub fn deadline_exceeded() -> Status {
    Status::deadline_exceeded("the call took too long")
}

/// Too many streams, or calls that wait, are open.
pub fn too_many_watches(message: impl Into<String>) -> Status {
    Answer::new(ErrorReason::TooManyWatches, message).later(RETRY_TOO_MANY_WATCHES).into_status()
}

fn compacted(oldest: Revision) -> Status {
    let message = format!("the log begins at revision {oldest}; begin with a snapshot");
    Answer::new(ErrorReason::RevisionCompacted, message)
        .with("oldestRevision", oldest)
        .into_status()
}

/// The engine said no.
pub fn refused(refusal: Refusal) -> Status {
    let message = refusal.to_string();
    let answer = match refusal {
        Refusal::NotFound(resource) => {
            Answer::new(ErrorReason::ResourceNotFound, message).with("resource", resource)
        }
        Refusal::Exists(resource) => {
            Answer::new(ErrorReason::ResourceExists, message).with("resource", resource)
        }
        Refusal::InvalidField { field, problem } => {
            return invalid(vec![Violation { field, description: problem }]);
        }
        Refusal::StaleEtag { resource, revision } => {
            Answer::new(ErrorReason::EtagMismatch, message)
                .with("resource", resource)
                .with("revision", revision)
        }
        Refusal::InUse { resource, referrer } => Answer::new(ErrorReason::ResourceInUse, message)
            .about(resource)
            .with("referrer", referrer),
        Refusal::FlagLocked { flag, active } => Answer::new(ErrorReason::FlagLocked, message)
            .about(Resource::Flag(flag))
            .with("activeRelease", Resource::Release(active)),
        Refusal::PipelineRequired { flag, pipeline } => {
            Answer::new(ErrorReason::PipelineRequired, message)
                .about(Resource::Flag(flag))
                .with("pipeline", pipeline.map(Resource::Pipeline).map_or_else(String::new, text))
        }
        Refusal::ActiveReleaseExists { flag, active } => {
            Answer::new(ErrorReason::ActiveReleaseExists, message)
                .about(Resource::Flag(flag))
                .with("activeRelease", Resource::Release(active))
        }
        Refusal::QueueFull { flag: _ } => Answer::new(ErrorReason::QueueFull, message),
        Refusal::BaseChanged { flag, spec_revision } => {
            Answer::new(ErrorReason::BaseChanged, message)
                .about(Resource::Flag(flag))
                .with("specRevision", spec_revision)
        }
        Refusal::NoChange { flag } => {
            Answer::new(ErrorReason::NoChange, message).about(Resource::Flag(flag))
        }
        Refusal::Release { standing, why } => release_refused(&standing, why, message),
    };
    answer.into_status()
}

fn text(resource: Resource) -> String {
    resource.to_string()
}

fn release_refused(standing: &Standing, why: ReleaseRefusal, message: String) -> Answer {
    use ReleaseState::{AwaitingApproval, AwaitingWindow, Baking, Paused, Pending};
    /// Every state of a release that has started, is not over and is not held.
    const RUNNING: &[ReleaseState] = &[AwaitingApproval, AwaitingWindow, Baking];
    /// Every state that is not final and not a hold.
    const UNPAUSED: &[ReleaseState] = &[Pending, AwaitingApproval, AwaitingWindow, Baking];
    /// Every state of a release that has started and is not over.
    const STARTED: &[ReleaseState] = &[AwaitingApproval, AwaitingWindow, Baking, Paused];

    let (reason, allowed, phases): (_, &[ReleaseState], &[PhaseId]) = match &why {
        ReleaseRefusal::NoSuchPart(_) => (ErrorReason::ResourceNotFound, &[], &[]),
        ReleaseRefusal::StaleEtag => (ErrorReason::EtagMismatch, &[], &[]),
        ReleaseRefusal::Over => (ErrorReason::ReleaseOver, &[], &[]),
        ReleaseRefusal::NotStarted => (ErrorReason::ReleaseNotStarted, STARTED, &[]),
        ReleaseRefusal::Paused => (ErrorReason::ReleasePaused, RUNNING, &[]),
        ReleaseRefusal::AlreadyPaused => (ErrorReason::AlreadyPaused, UNPAUSED, &[]),
        ReleaseRefusal::NotPaused => (ErrorReason::NotPaused, &[Paused], &[]),
        ReleaseRefusal::PhaseNotCurrent(_) => (ErrorReason::PhaseNotCurrent, &[], &[]),
        ReleaseRefusal::PhaseNotAwaitingApproval(_) => {
            (ErrorReason::PhaseNotAwaitingApproval, &[AwaitingApproval], &[])
        }
        ReleaseRefusal::PhaseNotAwaitingWindow(_) => {
            (ErrorReason::PhaseNotAwaitingWindow, &[AwaitingWindow], &[])
        }
        ReleaseRefusal::PhaseNotBaking(_) => (ErrorReason::PhaseNotBaking, &[Baking], &[]),
        ReleaseRefusal::NotAnApprover(_) => (ErrorReason::NotAnApprover, &[], &[]),
        ReleaseRefusal::SelfApproval => (ErrorReason::SelfApproval, &[], &[]),
        ReleaseRefusal::AlreadyReviewed(_) => (ErrorReason::AlreadyReviewed, &[], &[]),
        ReleaseRefusal::ApprovalPending(phases) => (ErrorReason::ApprovalPending, &[], phases),
        ReleaseRefusal::WindowClosed(phases) => (ErrorReason::WindowClosed, &[], phases),
    };
    let release = Resource::Release(standing.release.clone());
    let mut answer = Answer::new(reason, message)
        .about(&release)
        .with("release", &release)
        .with("state", word(standing.state))
        .with("phaseId", standing.phase.as_ref().map_or("", PhaseId::as_str))
        .with("revision", standing.revision);
    if let ReleaseRefusal::NoSuchPart(resource) = &why {
        answer = answer.with("resource", resource);
    }
    if let Some(held) = standing.held {
        answer = answer.with("heldState", word(held));
    }
    if !allowed.is_empty() {
        let words: Vec<_> = allowed.iter().copied().map(word).collect();
        answer = answer.with("allowedStates", words.join(","));
    }
    if !phases.is_empty() {
        let (ids, omitted) = joined(phases);
        answer = answer.with("phaseIds", ids);
        if omitted > 0 {
            answer = answer.with("phaseIdsOmitted", omitted);
        }
    }
    answer
}

/// A state as metadata carries it: the name of the enum's value without its prefix.
fn word(state: ReleaseState) -> &'static str {
    let wire = match state {
        ReleaseState::Pending => WireState::Pending,
        ReleaseState::AwaitingApproval => WireState::AwaitingApproval,
        ReleaseState::AwaitingWindow => WireState::AwaitingWindow,
        ReleaseState::Baking => WireState::Baking,
        ReleaseState::Paused => WireState::Paused,
        ReleaseState::Succeeded => WireState::Succeeded,
        ReleaseState::Aborted => WireState::Aborted,
        ReleaseState::Failed => WireState::Failed,
    };
    let name = wire.as_str_name();
    name.strip_prefix("RELEASE_STATE_").unwrap_or(name)
}

/// The ids that fit, comma-separated, and how many do not.
fn joined(phases: &[PhaseId]) -> (String, usize) {
    let mut ids = String::new();
    for (index, phase) in phases.iter().enumerate() {
        if ids.len() + 1 + phase.as_str().len() > PHASE_IDS_BYTES_MAX {
            return (ids, phases.len() - index);
        }
        if index > 0 {
            ids.push(',');
        }
        ids.push_str(phase.as_str());
    }
    (ids, 0)
}

/// The violations that fit; a last one says how many do not.
fn fitting(violations: Vec<Violation>) -> Vec<Violation> {
    let all = violations.len();
    let mut bytes = 0;
    let mut kept = Vec::new();
    for violation in violations {
        let violation = Violation {
            field: cut(&violation.field, VIOLATION_TEXT_BYTES_MAX),
            description: cut(&violation.description, VIOLATION_TEXT_BYTES_MAX),
        };
        bytes += violation.field.len() + violation.description.len() + VIOLATION_FRAME_BYTES;
        if bytes > VIOLATIONS_BYTES_MAX {
            let description = format!("and {} more", all - kept.len());
            kept.push(Violation { field: String::new(), description });
            return kept;
        }
        kept.push(violation);
    }
    kept
}

/// The text, or as much of it as fits before an ellipsis.
fn cut(text: &str, bytes_max: usize) -> String {
    const ELLIPSIS: &str = "…";
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let room = bytes_max - ELLIPSIS.len();
    let end = (0..=room).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    format!("{}{ELLIPSIS}", &text[..end])
}

/// The driver answered about another kind of resource than the call was about. Cannot happen; if it
/// does, the log has what the caller is not told.
pub fn mismatch(subject: &impl std::fmt::Debug) -> Status {
    let incident = uuid::Uuid::new_v4().simple().to_string();
    tracing::error!(%incident, ?subject, "the driver answered about another resource");
    failed(driver::Error::Internal(incident))
}

#[cfg(test)]
mod tests;
