//! Requests that must not be done twice.

use super::handle::{Error, Submission};
use crate::store::{RequestKey, RequestRecord, Subject};
use imbl::OrdMap;
use phasegate_engine::{State, command::Action, time::Timestamp};

/// What is remembered of requests that succeeded. Requests of the batch in hand are among them, so
/// that the second of two at once is a repetition of the first.
#[derive(Debug)]
pub(super) struct Requests {
    done: OrdMap<RequestKey, RequestRecord>,
}

impl Requests {
    pub(super) fn load(records: Vec<(RequestKey, RequestRecord)>, state: &State) -> Self {
        let share = |(key, record): (RequestKey, RequestRecord)| {
            let subject = shared(record.subject, state);
            (key, RequestRecord { subject, ..record })
        };
        Self { done: records.into_iter().map(share).collect() }
    }

    /// All of them; cheap.
    pub(super) fn snapshot(&self) -> OrdMap<RequestKey, RequestRecord> {
        self.done.clone()
    }

    /// The subject of the request that this one repeats, if it does.
    pub(super) fn find(&self, submission: &Submission) -> Result<Option<&Subject>, Error> {
        let Some(record) = key(submission).and_then(|key| self.done.get(&key)) else {
            return Ok(None);
        };
        if record.payload == submission.payload {
            Ok(Some(&record.subject))
        } else {
            Err(Error::RequestIdReused)
        }
    }

    /// Remembers a request that succeeds with the commit in hand, which leads to `state`. None if it has
    /// no id.
    pub(super) fn remember(
        &mut self,
        submission: &Submission,
        time: Timestamp,
        state: &State,
    ) -> Option<(RequestKey, RequestRecord)> {
        let key = key(submission)?;
        let subject = shared(subject(&submission.call.action), state);
        let record = RequestRecord { payload: submission.payload, time, subject };
        self.done.insert(key.clone(), record.clone());
        Some((key, record))
    }

    pub(super) fn forget(&mut self, keys: &[RequestKey]) {
        for key in keys {
            self.done.remove(key);
        }
    }
}

fn key(submission: &Submission) -> Option<RequestKey> {
    let id = submission.call.request_id.as_ref()?;
    Some(RequestKey::new(&submission.call.caller.principal, submission.rpc, id))
}

/// The same, under the id that the state has of it already, so that the text is not in memory again for
/// each request.
fn shared(subject: Subject, state: &State) -> Subject {
    match &subject {
        Subject::Flag(id) => state.flag(id).map(|flag| Subject::Flag(flag.id.clone())),
        Subject::Pipeline(id) => {
            state.pipeline(id).map(|found| Subject::Pipeline(found.id.clone()))
        }
        Subject::Release(id) => state.release(id).map(|found| Subject::Release(found.id().clone())),
    }
    .unwrap_or(subject)
}

/// What an action is about, for the answer.
pub(super) fn subject(action: &Action) -> Subject {
    match action {
        Action::CreateFlag { flag, .. }
        | Action::UpdateFlag { flag, .. }
        | Action::DeleteFlag { flag, .. }
        | Action::SetKillSwitch { flag, .. } => Subject::Flag(flag.clone()),
        Action::CreatePipeline { pipeline, .. }
        | Action::UpdatePipeline { pipeline, .. }
        | Action::DeletePipeline { pipeline, .. } => Subject::Pipeline(pipeline.clone()),
        Action::TriggerRelease(trigger) => Subject::Release(trigger.id.clone()),
        Action::ApprovePhase { release, .. }
        | Action::RejectPhase { release, .. }
        | Action::PauseRelease { release }
        | Action::UnpauseRelease { release, .. }
        | Action::SkipPhase { release, .. }
        | Action::OverrideWindow { release, .. }
        | Action::AdjustBake { release, .. }
        | Action::AbortRelease { release }
        | Action::FullRollout { release, .. }
        | Action::ReportGuardSignal { release, .. } => Subject::Release(release.clone()),
    }
}
