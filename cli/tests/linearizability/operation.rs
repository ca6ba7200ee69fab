//! What callers ask of one release, and what they are told, in a form that can be compared: without
//! revisions and without instants, which nobody can foretell.

use phasegate_api::{
    convert::{self, Parsed, Rejected},
    v1::{self, release_service_client::ReleaseServiceClient},
};
use phasegate_engine::time::Timestamp;
use phasegate_server::grpc::caller::PRINCIPAL;
use prost::Message as _;
use std::{
    collections::BTreeMap,
    fmt,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    sync::Arc,
};
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};
use tonic_types::StatusExt as _;

/// One call: who, and what.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Who calls.
    pub(crate) principal: Arc<str>,
    /// What they ask.
    pub(crate) ask: Ask,
}

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) enum Ask {
    /// GetRelease.
    Get(v1::GetReleaseRequest),
    /// WaitRelease, without waiting: another way to the same state.
    Look(v1::WaitReleaseRequest),
    /// ListReleaseEvents, all of them.
    Log(v1::ListReleaseEventsRequest),
    /// TriggerRelease of another release of the same flag, to be validated only: it can be told from
    /// the answer whether the release of the round still has the flag.
    Validate(Box<v1::TriggerReleaseRequest>),
    /// Something that changes the release.
    Act(Act),
}

/// What is answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// The release, as it is or as the call left it.
    Release(Seen),
    /// The log of the release.
    Log(Log),
    /// A release that would be.
    Valid(Box<v1::Release>),
    /// No.
    Refused(No),
}

/// A release as it was answered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// The release without what cannot be foretold.
    pub(crate) release: Arc<v1::Release>,
    /// Its revision: names this state among all states of the release.
    pub(crate) revision: i64,
    /// Its etag.
    pub(crate) etag: String,
    /// Revision of the whole store, where it is told.
    pub(crate) head: Option<i64>,
}

/// A log as it was answered: after each event, a fingerprint of everything up to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log(Arc<[u64]>);

impl Log {
    pub(crate) fn of(events: Vec<v1::ReleaseEvent>) -> Self {
        let prints = events.into_iter().scan(Ended::default(), |ended, event| {
            *ended = ended.and(event);
            Some(ended.fingerprint)
        });
        Self(prints.collect())
    }

    /// True if it begins with another one, or is that.
    pub(crate) fn begins_with(&self, other: Ended) -> bool {
        let before = other.length.checked_sub(1).and_then(|last| self.0.get(last));
        *before.unwrap_or(&0) == other.fingerprint
    }

    /// How many events it has.
    pub(crate) fn length(&self) -> usize {
        self.0.len()
    }
}

/// The end of a log: how long it is, and a fingerprint of it all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Ended {
    pub(crate) length: usize,
    fingerprint: u64,
}

impl Ended {
    /// With one more event, less what cannot be foretold of it.
    #[must_use]
    pub(crate) fn and(self, mut event: v1::ReleaseEvent) -> Self {
        forget_commit(&mut event);
        let mut hasher = DefaultHasher::new();
        (self.fingerprint, event.encode_to_vec()).hash(&mut hasher);
        Self { length: self.length + 1, fingerprint: hasher.finish() }
    }
}

/// A refusal as it was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct No {
    /// Its `ErrorInfo.reason`.
    pub(crate) reason: String,
    /// Its metadata but the revision.
    pub(crate) metadata: BTreeMap<String, String>,
    /// The revision of the release that it was refused for, if any.
    pub(crate) revision: Option<i64>,
}

/// The start of the round, by the server's clock. Bake times are told in whole days from it: bakes
/// are set to whole days, and rounds are short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Round(pub(crate) Timestamp);

macro_rules! acts {
    ($($variant:ident($request:ident) $method:ident,)*) => {
        /// What changes the release. One variant for each action.
        #[derive(Clone, Debug)]
        pub(crate) enum Act {
            $($variant(v1::$request),)*
        }

        impl Act {
            /// As the server parses it.
            pub(crate) fn parse(self) -> Result<Parsed, Rejected> {
                match self {
                    $(Self::$variant(request) => convert::$method(request),)*
                }
            }

            /// Its RPC, which is part of the key of a request id.
            pub(crate) fn rpc(&self) -> &'static str {
                match self {
                    $(Self::$variant(_) => stringify!($variant),)*
                }
            }

            /// Its request id.
            pub(crate) fn request_id(&self) -> &str {
                match self {
                    $(Self::$variant(request) => &request.request_id,)*
                }
            }

            /// The text that it leaves in the log.
            pub(crate) fn reason_mut(&mut self) -> &mut String {
                match self {
                    $(Self::$variant(request) => &mut request.reason,)*
                }
            }

            /// What two requests with the same id must have in common.
            pub(crate) fn payload(&self) -> Vec<u8> {
                match self {
                    $(Self::$variant(request) => {
                        let request_id = String::new();
                        v1::$request { request_id, ..request.clone() }.encode_to_vec()
                    })*
                }
            }

            async fn send(
                self,
                releases: &mut ReleaseServiceClient<Channel>,
                principal: AsciiMetadataValue,
            ) -> Result<Option<v1::Release>, Status> {
                match self {
                    $(Self::$variant(request) => {
                        let answer = releases.$method(by(principal, request)).await?;
                        Ok(answer.into_inner().release)
                    })*
                }
            }
        }
    };
}

acts! {
    ApprovePhase(ApprovePhaseRequest) approve_phase,
    RejectPhase(RejectPhaseRequest) reject_phase,
    PauseRelease(PauseReleaseRequest) pause_release,
    UnpauseRelease(UnpauseReleaseRequest) unpause_release,
    SkipPhase(SkipPhaseRequest) skip_phase,
    OverrideWindow(OverrideWindowRequest) override_window,
    AdjustBake(AdjustBakeRequest) adjust_bake,
    AbortRelease(AbortReleaseRequest) abort_release,
    FullRollout(FullRolloutRequest) full_rollout,
    ReportGuardSignal(ReportGuardSignalRequest) report_guard_signal,
}

impl Act {
    /// Its etag, if it can have one.
    pub(crate) fn etag_mut(&mut self) -> Option<&mut String> {
        match self {
            Self::ApprovePhase(request) => Some(&mut request.etag),
            Self::RejectPhase(request) => Some(&mut request.etag),
            Self::UnpauseRelease(request) => Some(&mut request.etag),
            Self::SkipPhase(request) => Some(&mut request.etag),
            Self::OverrideWindow(request) => Some(&mut request.etag),
            Self::AdjustBake(request) => Some(&mut request.etag),
            Self::FullRollout(request) => Some(&mut request.etag),
            Self::PauseRelease(_) | Self::AbortRelease(_) | Self::ReportGuardSignal(_) => None,
        }
    }
}

fn by<T>(principal: AsciiMetadataValue, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(PRINCIPAL, principal);
    request
}

impl Call {
    /// Asks the server. None: there was no answer, so it may have been done or not.
    pub(crate) async fn send(self, channel: Channel, round: Round) -> Option<Answer> {
        let mut releases = ReleaseServiceClient::new(channel);
        let principal = AsciiMetadataValue::try_from(&*self.principal).expect("it is ASCII");
        let answered = match self.ask {
            Ask::Get(request) => releases.get_release(by(principal, request)).await.map(|answer| {
                let answer = answer.into_inner();
                Answer::release(answer.release.unwrap_or_default(), Some(answer.revision), round)
            }),
            Ask::Look(request) => {
                releases.wait_release(by(principal, request)).await.map(|answer| {
                    Answer::release(answer.into_inner().release.unwrap_or_default(), None, round)
                })
            }
            Ask::Log(request) => {
                releases.list_release_events(by(principal, request)).await.map(|answer| {
                    let answer = answer.into_inner();
                    assert_eq!(answer.next_page_token, "", "one page holds all");
                    Answer::Log(Log::of(answer.events))
                })
            }
            Ask::Validate(request) => {
                releases.trigger_release(by(principal, *request)).await.map(|answer| {
                    Answer::valid(answer.into_inner().release.unwrap_or_default(), round)
                })
            }
            Ask::Act(act) => act
                .send(&mut releases, principal)
                .await
                .map(|release| Answer::release(release.unwrap_or_default(), None, round)),
        };
        match answered {
            Ok(answer) => Some(answer),
            Err(status) => Answer::refused(&status),
        }
    }
}

impl Answer {
    /// A release that was answered or would be.
    pub(crate) fn release(release: v1::Release, head: Option<i64>, round: Round) -> Self {
        let (revision, etag) = (release.revision, release.etag.clone());
        Self::Release(Seen { release: Arc::new(round.comparable(release)), revision, etag, head })
    }

    /// A release that would be if it were triggered.
    pub(crate) fn valid(release: v1::Release, round: Round) -> Self {
        Self::Valid(Box::new(round.comparable(release)))
    }

    /// A refusal. None for a status that the server's rules did not make or that is about the server,
    /// not the call: nothing can be concluded from those.
    pub(crate) fn refused(status: &Status) -> Option<Self> {
        if status.code() == tonic::Code::Unavailable {
            return None;
        }
        let info = status.get_details_error_info()?;
        let mut metadata: BTreeMap<String, String> = info.metadata.into_iter().collect();
        let revision = metadata.remove("revision").and_then(|revision| revision.parse().ok());
        Some(Self::Refused(No { reason: info.reason, metadata, revision }))
    }
}

/// What stands for any instant.
const SOME_TIME: Option<prost_types::Timestamp> =
    Some(prost_types::Timestamp { seconds: 0, nanos: 0 });
const DAY_MILLIS: i64 = 86_400_000;

impl Round {
    /// The release without what cannot be foretold: whether there is an instant counts, not which.
    fn comparable(self, mut release: v1::Release) -> v1::Release {
        release.pipeline_snapshot = None;
        release.change = None;
        release.revision = 0;
        release.etag = String::new();
        let times = [
            &mut release.create_time,
            &mut release.update_time,
            &mut release.start_time,
            &mut release.end_time,
        ];
        times.into_iter().for_each(forget);
        release.pause.iter_mut().for_each(forget_commit);
        for phase in &mut release.phases {
            let times = [&mut phase.enter_time, &mut phase.apply_time, &mut phase.end_time];
            times.into_iter().for_each(forget);
            if let Some(time) = &mut phase.bake_end_time {
                let millis = time.seconds * 1000 + i64::from(time.nanos) / 1_000_000;
                let days = whole_days(millis - self.0.as_millis());
                *time = prost_types::Timestamp { seconds: days, nanos: 0 };
            }
            if let Some(left) = &mut phase.bake_remaining {
                let millis = left.seconds * 1000 + i64::from(left.nanos) / 1_000_000;
                *left = prost_types::Duration { seconds: whole_days(millis), nanos: 0 };
            }
            phase.guards.iter_mut().for_each(|guard| forget(&mut guard.report_time));
            phase.reviews.iter_mut().for_each(forget_commit);
        }
        release
    }
}

fn whole_days(millis: i64) -> i64 {
    (millis + DAY_MILLIS / 2).div_euclid(DAY_MILLIS)
}

fn forget(time: &mut Option<prost_types::Timestamp>) {
    if time.is_some() {
        *time = SOME_TIME;
    }
}

fn forget_commit(event: &mut v1::ReleaseEvent) {
    event.name = String::new();
    event.revision = 0;
    forget(&mut event.event_time);
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.principal)?;
        match &self.ask {
            Ask::Get(_) => f.write_str("GetRelease"),
            Ask::Look(_) => f.write_str("WaitRelease"),
            Ask::Log(_) => f.write_str("ListReleaseEvents"),
            Ask::Validate(_) => f.write_str("TriggerRelease (validate_only)"),
            Ask::Act(act) => {
                f.write_str(act.rpc())?;
                // The request's own words, without what is empty or the same everywhere.
                let mut act = act.clone();
                if let Some(etag) = act.etag_mut().filter(|etag| !etag.is_empty()) {
                    write!(f, " etag={etag}")?;
                }
                if !act.request_id().is_empty() {
                    write!(f, " id={}", act.request_id())?;
                }
                match &act {
                    Act::ApprovePhase(v1::ApprovePhaseRequest { phase_id, .. })
                    | Act::RejectPhase(v1::RejectPhaseRequest { phase_id, .. })
                    | Act::OverrideWindow(v1::OverrideWindowRequest { phase_id, .. }) => {
                        write!(f, " {phase_id}")?;
                    }
                    Act::SkipPhase(request) => {
                        write!(f, " {}", request.phase_id)?;
                        if request.bypass_approval {
                            f.write_str(" bypass_approval")?;
                        }
                    }
                    Act::AdjustBake(request) => {
                        let seconds = request.remaining.map_or(0, |remaining| remaining.seconds);
                        write!(f, " {} to {}d", request.phase_id, whole_days(seconds * 1000))?;
                    }
                    Act::ReportGuardSignal(request) => {
                        let verdict = request.verdict().as_str_name();
                        write!(f, " {}/{} {verdict}", request.phase_id, request.guard_id)?;
                    }
                    Act::FullRollout(request) => {
                        if request.bypass_approval {
                            f.write_str(" bypass_approval")?;
                        }
                    }
                    Act::PauseRelease(_) | Act::UnpauseRelease(_) | Act::AbortRelease(_) => {}
                }
                write!(f, " {:?}", act.reason_mut())
            }
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Release(seen) => {
                write!(f, "r{} {}", seen.revision, Brief(&seen.release))?;
                seen.head.map_or(Ok(()), |head| write!(f, " (store r{head})"))
            }
            Self::Log(log) => write!(f, "{} events", log.length()),
            Self::Valid(release) => write!(f, "valid: {}", Brief(release)),
            Self::Refused(No { reason, metadata, revision }) => {
                write!(f, "{reason}")?;
                if let Some(revision) = revision {
                    write!(f, " r{revision}")?;
                }
                for key in ["state", "heldState", "phaseId", "phaseIds", "activeRelease"] {
                    if let Some(value) = metadata.get(key).filter(|value| !value.is_empty()) {
                        write!(f, " {key}={value}")?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// A release in a line: where it stands, and what was said about the phase where it stands.
pub(crate) struct Brief<'a>(pub(crate) &'a v1::Release);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let release = self.0;
        let name = release.state().as_str_name();
        f.write_str(name.strip_prefix("RELEASE_STATE_").unwrap_or(name))?;
        if let Some(pause) = &release.pause {
            let held = release.held_state().as_str_name();
            let held = held.strip_prefix("RELEASE_STATE_").unwrap_or(held);
            write!(f, " held {held} by {:?}", pause.reason)?;
        }
        for phase in &release.phases {
            if phase.phase_id != release.current_phase_id {
                continue;
            }
            write!(f, " at {}", phase.phase_id)?;
            let left = phase.bake_remaining.map(|left| left.seconds);
            if let Some(days) = phase.bake_end_time.map(|time| time.seconds).or(left) {
                write!(f, " bake {days}d")?;
            }
            if !phase.reviews.is_empty() {
                let said = phase.reviews.iter().map(|review| review.reason.as_str());
                write!(f, " reviews {:?}", said.collect::<Vec<_>>())?;
            }
            for guard in phase.guards.iter().filter(|guard| !guard.message.is_empty()) {
                let verdict = guard.verdict().as_str_name();
                write!(f, " {} {verdict} {:?}", guard.guard_id, guard.message)?;
            }
        }
        let skipped = |phase: &&v1::PhaseStatus| phase.state() == v1::PhaseState::Skipped;
        let done = |phase: &&v1::PhaseStatus| phase.state() == v1::PhaseState::Succeeded;
        let (skipped, done) = (
            release.phases.iter().filter(skipped).count(),
            release.phases.iter().filter(done).count(),
        );
        write!(f, " ({done} done, {skipped} skipped)")
    }
}
