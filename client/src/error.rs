//! What a call fails with: one type, which programs decide on by [`Reason`] and people read.

use crate::v1;
use std::{collections::BTreeMap, error::Error as StdError, fmt, time::Duration};
use tonic::{Code, Status, TimeoutExpired};
use tonic_types::StatusExt as _;

/// The domain of the server's own errors; those of any other are a proxy's.
const DOMAIN: &str = "phasegate.v1";

/// Why a call failed.
///
/// Decide by [`reason`](Self::reason), never by the text. `Display` is for people: the message, each
/// violation, and the reason's name.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Error {
    /// The status code of gRPC.
    pub code: Code,
    /// What went wrong, as programs need it.
    pub reason: Reason,
    /// What went wrong, for people.
    pub message: String,
    /// Facts that belong to the reason, such as `state` or `activeRelease`; the keys of each reason
    /// are listed in the documentation of errors.
    pub metadata: BTreeMap<String, String>,
    /// What is wrong with the request, if the reason is [`Reason::InvalidField`].
    pub violations: Vec<Violation>,
    /// The server asked to wait so long before the call is made again.
    pub retry_after: Option<Duration>,
}

/// One field of a request that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Its path, in names of the proto files: `release.feature_gate.rules[3].targeting.id`.
    pub field: String,
    /// What it must be.
    pub description: String,
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What a call failed for: the values of `phasegate.v1.ErrorReason`, and two for errors that
        /// have none of them.
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[$doc])* $name,)*
            /// The server gave none: the transport, a proxy, or this client made the error.
            None,
            /// One that this client is too old to know.
            Unknown(String),
        }

        impl From<v1::ErrorReason> for Reason {
            fn from(reason: v1::ErrorReason) -> Self {
                match reason {
                    v1::ErrorReason::Unspecified => Self::None,
                    $(v1::ErrorReason::$name => Self::$name,)*
                }
            }
        }

        impl Reason {
            fn known(&self) -> Option<v1::ErrorReason> {
                match self {
                    $(Self::$name => Some(v1::ErrorReason::$name),)*
                    Self::None | Self::Unknown(_) => None,
                }
            }
        }
    };
}

reasons! {
    /// Fields of the request, see [`Error::violations`].
    InvalidField,
    /// `reason` is mandatory for this call.
    ReasonRequired,
    /// The request id was used before, for something else.
    RequestIdReused,
    /// The page token does not belong to this listing.
    InvalidPageToken,
    /// `metadata["resource"]` does not exist.
    ResourceNotFound,
    /// `metadata["resource"]` exists.
    ResourceExists,
    /// The resource changed since it was read.
    EtagMismatch,
    /// Who triggered a release may not approve it.
    SelfApproval,
    /// The caller is in none of the phase's reviewer groups.
    NotAnApprover,
    /// `metadata["referrer"]` stands in the way.
    ResourceInUse,
    /// `metadata["activeRelease"]` is changing the flag.
    FlagLocked,
    /// The flag changes along `metadata["pipeline"]` only.
    PipelineRequired,
    /// `metadata["activeRelease"]` comes first.
    ActiveReleaseExists,
    /// As many releases of the flag wait as may.
    QueueFull,
    /// The flag's spec is no longer the one that the change was made from.
    BaseChanged,
    /// The flag says this already.
    NoChange,
    /// The release is over.
    ReleaseOver,
    /// The release is pending.
    ReleaseNotStarted,
    /// The release is paused.
    ReleasePaused,
    /// The release was paused before.
    AlreadyPaused,
    /// The release is not paused.
    NotPaused,
    /// The release stands at another phase.
    PhaseNotCurrent,
    /// The phase needs no approval now.
    PhaseNotAwaitingApproval,
    /// The phase waits for no window.
    PhaseNotAwaitingWindow,
    /// The phase does not bake.
    PhaseNotBaking,
    /// The caller approved this phase before.
    AlreadyReviewed,
    /// Approvals are missing for `metadata["phaseIds"]`.
    ApprovalPending,
    /// The windows of `metadata["phaseIds"]` are closed.
    WindowClosed,
    /// The log no longer reaches back so far.
    RevisionCompacted,
    /// The store was never there.
    RevisionInFuture,
    /// The store is another one than before.
    StoreReplaced,
    /// A watcher did not read.
    SlowConsumer,
    /// As many watches are open as may.
    TooManyWatches,
    /// A watch reached its age.
    StreamExpired,
    /// The server is stopping.
    ServerDraining,
    /// The server cannot write now: it is starting, or its disk is full.
    StoreReadOnly,
    /// The flags of an environment would not fit into a message.
    FlagSetTooLarge,
    /// There is no credential, or it is not or no longer good.
    Unauthenticated,
    /// The permission `metadata["permission"]` is missing.
    PermissionMissing,
    /// What the caller may see is another set than before.
    ViewChanged,
    /// The caller makes more calls than its share.
    RateLimited,
    /// The server does as much at a time as it may.
    Overloaded,
    /// A defect of the server; its log has `metadata["incident"]`.
    Internal,
}

impl Reason {
    fn from_wire(name: &str) -> Self {
        match v1::ErrorReason::from_str_name(&format!("ERROR_REASON_{name}")) {
            Some(reason) => reason.into(),
            None => Self::Unknown(name.to_owned()),
        }
    }

    /// The name on the wire, such as `RELEASE_PAUSED`; none for [`Reason::None`].
    pub fn name(&self) -> Option<&str> {
        if let Self::Unknown(name) = self {
            return Some(name);
        }
        let name = self.known()?.as_str_name();
        Some(name.strip_prefix("ERROR_REASON_").unwrap_or(name))
    }
}

impl Error {
    /// An error that no server made.
    pub(crate) fn local(code: Code, message: impl Into<String>) -> Self {
        Self {
            code,
            reason: Reason::None,
            message: message.into(),
            metadata: BTreeMap::new(),
            violations: Vec::new(),
            retry_after: None,
        }
    }

    /// An answer that the contract does not allow.
    pub(crate) fn incomplete(field: &str) -> Self {
        Self::local(Code::Internal, format!("the server's answer lacks `{field}`"))
    }

    /// Whether the server was not reached, or did not answer: nothing is known about the call.
    pub fn is_unreachable(&self) -> bool {
        let code = matches!(self.code, Code::Unavailable | Code::Unknown | Code::DeadlineExceeded);
        self.reason == Reason::None && code
    }

    /// Whether the same call may succeed a little later. Calls that carry a request id, and those
    /// that change nothing, can then be made again without harm.
    pub(crate) fn is_passing(&self) -> bool {
        match self.code {
            Code::Unavailable => true,
            // A connection that is cut shows as UNKNOWN. The server's own errors have a reason.
            Code::Unknown => self.reason == Reason::None,
            // It was sent away at the door: nothing was done.
            Code::ResourceExhausted => {
                matches!(self.reason, Reason::RateLimited | Reason::Overloaded)
            }
            Code::Ok
            | Code::Cancelled
            | Code::InvalidArgument
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::Internal
            | Code::DataLoss
            | Code::Unauthenticated => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        // The server's message may say them already.
        let unsaid = |violation: &&Violation| !self.message.contains(&violation.description);
        for (n, violation) in self.violations.iter().filter(unsaid).enumerate() {
            let before = if n == 0 { ": " } else { "; " };
            write!(f, "{before}{} {}", violation.field, violation.description)?;
        }
        match self.reason.name() {
            Some(name) => write!(f, " [{name}]"),
            None => write!(f, " [{:?}]", self.code),
        }
    }
}

impl StdError for Error {}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info().filter(|info| info.domain == DOMAIN);
        let Some(info) = info else { return from_transport(&status) };
        let violations = details.bad_request().map(|bad| &bad.field_violations[..]);
        let violations = violations.unwrap_or_default().iter().map(|violation| Violation {
            field: violation.field.clone(),
            description: violation.description.clone(),
        });
        Self {
            code: status.code(),
            reason: Reason::from_wire(&info.reason),
            message: status.message().to_owned(),
            metadata: info.metadata.clone().into_iter().collect(),
            violations: violations.collect(),
            retry_after: details.retry_info().and_then(|retry| retry.retry_delay),
        }
    }
}

/// The transport says the least in its message and the most in its sources.
fn from_transport(status: &Status) -> Error {
    let source = status.source();
    let code = match source {
        // The transport calls its own timeout a cancellation.
        Some(source) if sources(source).any(|error| error.is::<TimeoutExpired>()) => {
            Code::DeadlineExceeded
        }
        // And so it calls the end of a connection that a call was about to take, as when a server stops; one
        // that is reset it does not know at all. What the server sends has no source.
        Some(_) if matches!(status.code(), Code::Cancelled | Code::Unknown) => Code::Unavailable,
        Some(_) | None => status.code(),
    };
    let message = match source {
        Some(source) => described(source),
        None if status.message().is_empty() => status.code().description().to_owned(),
        None => status.message().to_owned(),
    };
    let retry_after = status.get_error_details().retry_info().and_then(|retry| retry.retry_delay);
    Error { retry_after, ..Error::local(code, message) }
}

fn sources<'a>(
    error: &'a (dyn StdError + 'static),
) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}

/// An error with all its sources, each said once.
pub(crate) fn described(error: &(dyn StdError + 'static)) -> String {
    let mut text = String::new();
    for part in sources(error).map(ToString::to_string) {
        if !text.contains(&part) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(&part);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic_types::{ErrorDetails, FieldViolation};

    fn check(code: Code, details: ErrorDetails, message: &str) -> Error {
        Status::with_error_details(code, message, details).into()
    }

    #[test]
    fn every_reason_of_the_contract_has_a_variant_and_its_name() {
        let numbers = (1..=48).filter_map(|number| v1::ErrorReason::try_from(number).ok());
        let mut seen = 0;
        for wire in numbers {
            let name = wire.as_str_name().strip_prefix("ERROR_REASON_").unwrap();
            let details = ErrorDetails::with_error_info(name, DOMAIN, []);
            let error = check(Code::FailedPrecondition, details, "no");
            assert_eq!(error.reason, Reason::from(wire));
            assert_eq!(error.reason.name(), Some(name));
            assert!(!matches!(error.reason, Reason::None | Reason::Unknown(_)), "{name}");
            seen += 1;
        }
        assert_eq!(seen, 37);
    }

    #[test]
    fn a_reason_of_a_newer_server_keeps_its_name() {
        let details = ErrorDetails::with_error_info("MOON_PHASE", DOMAIN, []);
        let error = check(Code::FailedPrecondition, details, "not now");
        assert_eq!(error.reason, Reason::Unknown("MOON_PHASE".into()));
        assert_eq!(error.to_string(), "not now [MOON_PHASE]");
    }

    #[test]
    fn a_call_whose_connection_ends_under_it_may_be_made_again() {
        let refused: Error = Status::cancelled("operation was canceled").into();
        assert!(refused.code == Code::Cancelled && !refused.is_passing(), "the server said so");
        for mut status in [Status::cancelled("operation was canceled"), Status::unknown("reset")] {
            status.set_source(std::sync::Arc::new(std::io::Error::other("connection closed")));
            let cut: Error = status.into();
            assert!(cut.code == Code::Unavailable && cut.is_passing() && cut.is_unreachable());
            assert_eq!(cut.message, "connection closed");
        }
    }

    #[test]
    fn an_error_of_another_domain_has_no_reason() {
        let details = ErrorDetails::with_error_info("RELEASE_PAUSED", "proxy.example", []);
        let error = check(Code::Unavailable, details, "bad gateway");
        assert_eq!(error.reason, Reason::None);
        assert_eq!(error.to_string(), "bad gateway [Unavailable]");
        assert!(error.is_unreachable());
    }

    #[test]
    fn a_violation_that_the_message_says_is_not_said_twice() {
        let mut details = ErrorDetails::with_error_info("INVALID_FIELD", DOMAIN, []);
        details.set_bad_request(vec![FieldViolation::new("duration", "must be above 0 s")]);
        let error = check(Code::InvalidArgument, details, "duration must be above 0 s");
        assert_eq!(error.to_string(), "duration must be above 0 s [INVALID_FIELD]");
    }

    #[test]
    fn violations_metadata_and_the_wait_are_kept_and_shown() {
        let mut details = ErrorDetails::with_error_info(
            "INVALID_FIELD",
            DOMAIN,
            [("state".to_owned(), "BAKING".to_owned())],
        );
        details.set_bad_request(vec![
            FieldViolation::new("flag_id", "must not be empty"),
            FieldViolation::new("flag.spec", "must be set"),
        ]);
        details.set_retry_info(Some(Duration::from_secs(3)));
        let error = check(Code::InvalidArgument, details, "2 fields are invalid");
        assert_eq!(error.metadata["state"], "BAKING");
        assert_eq!(error.retry_after, Some(Duration::from_secs(3)));
        assert_eq!(
            error.to_string(),
            "2 fields are invalid: flag_id must not be empty; flag.spec must be set [INVALID_FIELD]"
        );
    }
}
