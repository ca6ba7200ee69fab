//! Why an application is not given what it asks for, in the terms of both protocols.

use super::selector::Malformed;
use crate::{grpc::status, watch::WatchEnd};
use http::StatusCode;
use phasegate_api::convert::{Rejected, Violation};
use phasegate_engine::{
    id::{EnvironmentId, FlagId},
    refusal::Resource,
};
use tonic::Status;

/// Why an application is not given what it asks for.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Refusal {
    /// The selector says nothing that is understood.
    #[error(transparent)]
    Selector(#[from] Malformed),
    /// Nothing is selected, and there is no default.
    #[error(
        "select an environment with the header flagd-selector: flagSetId=ENVIRONMENT (over OFREP also \
         by the path /environments/ENVIRONMENT); this server has no default environment"
    )]
    NothingSelected,
    /// No flag, no pipeline and no setting names the environment.
    #[error("environments/{0} is named by no flag and no pipeline")]
    UnknownEnvironment(EnvironmentId),
    /// There is no such flag; the text may be no id at all.
    #[error("there is no flag {0:?}")]
    NoSuchFlag(String),
    /// The flag is of another type than was asked for.
    #[error("flags/{flag} answers {answers}, and {asked} was asked for")]
    TypeMismatch {
        /// Which.
        flag: FlagId,
        /// What it answers.
        answers: &'static str,
        /// What was asked for.
        asked: &'static str,
    },
    /// The context is too large, too deep or no object.
    #[error("{}", violations(.0))]
    Context(Vec<Violation>),
    /// What was sent is no request.
    #[error("the request cannot be read: {0}")]
    Body(String),
    /// What was sent is larger than it may be.
    #[error("the request has more than {0} bytes")]
    BodyTooLarge(usize),
    /// The flags of the environment do not fit into a message.
    #[error(
        "the flags of environments/{environment} have {bytes} bytes, above the {max} that clients take"
    )]
    TooLarge {
        /// Which.
        environment: EnvironmentId,
        /// How many.
        bytes: usize,
        /// How many there may be.
        max: usize,
    },
    /// Too many streams are open.
    #[error("{0} streams are open already")]
    TooManyStreams(usize),
    /// The server is starting.
    #[error("the server is starting and reads its store")]
    Starting,
    /// The server is stopping.
    #[error("the server is stopping; try again")]
    Draining,
    /// The stream was open for its time.
    #[error("the stream was open for its time; open it again")]
    Expired,
}

fn violations(violations: &[Violation]) -> String {
    let text = |violation: &Violation| format!("{}: {}", violation.field, violation.description);
    violations.iter().map(text).collect::<Vec<_>>().join("; ")
}

impl From<Rejected> for Refusal {
    fn from(rejected: Rejected) -> Self {
        match rejected {
            Rejected::Invalid(violations) => Self::Context(violations),
            Rejected::ReasonRequired | Rejected::InvalidPageToken => {
                unreachable!("a context has neither a reason nor a page token")
            }
        }
    }
}

impl From<Refusal> for Status {
    /// As flagd's clients read it: NOT_FOUND is FLAG_NOT_FOUND to them, INVALID_ARGUMENT is
    /// TYPE_MISMATCH, and UNAVAILABLE makes them come again.
    fn from(refusal: Refusal) -> Self {
        let message = refusal.to_string();
        let invalid = |field: &str| {
            let violation = Violation { field: field.to_owned(), description: message.clone() };
            status::invalid(vec![violation])
        };
        match refusal {
            Refusal::Selector(_) | Refusal::NothingSelected => invalid("flagd-selector"),
            Refusal::TypeMismatch { .. } => invalid("flag_key"),
            Refusal::Body(_) | Refusal::BodyTooLarge(_) => invalid("context"),
            Refusal::Context(violations) => status::invalid(violations),
            Refusal::UnknownEnvironment(id) => {
                status::no_such("environments", id.as_str(), message)
            }
            Refusal::NoSuchFlag(key) => match FlagId::parse(&key) {
                Ok(id) => status::not_found(&Resource::Flag(id)),
                Err(_) => status::no_such("flags", &key, message),
            },
            Refusal::TooLarge { .. } => status::flag_set_too_large(message),
            Refusal::TooManyStreams(_) => status::too_many_watches(message),
            Refusal::Starting => status::recovering(),
            Refusal::Draining => status::draining(),
            Refusal::Expired => status::watch_ended(WatchEnd::Expired),
        }
    }
}

impl Refusal {
    /// As OFREP has it: the status of the answer and its `errorCode`.
    pub(super) fn over_http(&self) -> (StatusCode, &'static str) {
        match self {
            Self::Selector(_) | Self::NothingSelected => (StatusCode::BAD_REQUEST, "GENERAL"),
            Self::UnknownEnvironment(_) => (StatusCode::NOT_FOUND, "GENERAL"),
            Self::NoSuchFlag(_) => (StatusCode::NOT_FOUND, "FLAG_NOT_FOUND"),
            Self::TypeMismatch { .. } => (StatusCode::BAD_REQUEST, "TYPE_MISMATCH"),
            Self::Context(_) => (StatusCode::BAD_REQUEST, "INVALID_CONTEXT"),
            Self::Body(_) => (StatusCode::BAD_REQUEST, "PARSE_ERROR"),
            Self::BodyTooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "INVALID_CONTEXT"),
            Self::TooManyStreams(_) => (StatusCode::TOO_MANY_REQUESTS, "GENERAL"),
            Self::TooLarge { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "GENERAL"),
            Self::Starting | Self::Draining | Self::Expired => {
                (StatusCode::SERVICE_UNAVAILABLE, "PROVIDER_NOT_READY")
            }
        }
    }
}
