//! Requests that must not be done twice.

use super::handle::{Error, Submission};
use crate::store::{self, RequestIndex, RequestKey, RequestPlace, RequestRecord, Store, Subject};
use phasegate_engine::{command::Action, time::Timestamp};
use std::collections::BTreeMap;

/// What is remembered of requests that succeeded. Requests of the batch in hand are among them, so
/// that the second of two at once is a repetition of the first.
#[derive(Debug)]
pub(super) struct Requests {
    /// Those that the store has.
    done: RequestIndex,
    /// Those of the batch in hand.
    staged: BTreeMap<RequestKey, RequestRecord>,
}

/// A request that was done with the id of the one in hand.
#[derive(Debug)]
pub(super) struct Earlier(RequestRecord);

impl Earlier {
    /// What it was about, if the one in hand repeats it.
    pub(super) fn repeated_by(self, submission: &Submission) -> Result<Subject, Error> {
        let Self(record) = self;
        if record.payload == submission.payload {
            Ok(record.subject)
        } else {
            Err(Error::RequestIdReused)
        }
    }
}

impl Requests {
    pub(super) fn load(done: RequestIndex) -> Self {
        Self { done, staged: BTreeMap::new() }
    }

    /// Those that the store has; cheap.
    pub(super) fn index(&self) -> &RequestIndex {
        &self.done
    }

    /// The request that was done with the id of this one, if there was one.
    pub(super) fn earlier(
        &self,
        submission: &Submission,
        store: &mut dyn Store,
    ) -> Result<Option<Earlier>, store::Error> {
        let Some(key) = key(submission) else { return Ok(None) };
        if let Some(record) = self.staged.get(&key) {
            return Ok(Some(Earlier(record.clone())));
        }
        let Some(place) = self.done.find(&key) else { return Ok(None) };
        Ok(store.request(place)?.map(Earlier))
    }

    /// Remembers a request that succeeds with the commit in hand, which has this time. None if it has
    /// no id.
    pub(super) fn remember(
        &mut self,
        submission: &Submission,
        time: Timestamp,
    ) -> Option<(RequestKey, RequestRecord)> {
        let key = key(submission)?;
        let subject = subject(&submission.call.action);
        let record = RequestRecord { payload: submission.payload, time, subject };
        self.staged.insert(key.clone(), record.clone());
        Some((key, record))
    }

    /// The batch in hand is durable.
    pub(super) fn settle(&mut self) {
        for (key, record) in std::mem::take(&mut self.staged) {
            self.done.add(RequestPlace::of(&key, record.time));
        }
    }

    pub(super) fn forget(&mut self, places: &[RequestPlace]) {
        for place in places {
            self.done.forget(*place);
        }
    }
}

fn key(submission: &Submission) -> Option<RequestKey> {
    let id = submission.call.request_id.as_ref()?;
    Some(RequestKey::new(&submission.call.caller.principal, submission.rpc, id))
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
