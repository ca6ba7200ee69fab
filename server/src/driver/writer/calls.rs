//! Judging a call, and what becomes of it.

use super::{Batch, ROW_BYTES, Writer, sets::TooLarge};
use crate::{
    driver::{
        handle::{Done, Error, Mode, Submission},
        notify::{self, By},
        record::{approximate_bytes, record},
        requests::{Earlier, subject},
    },
    store::{RequestKey, RequestRecord, Subject},
};
use phasegate_engine::{
    Command, Refusal, State, apply,
    command::Call,
    decide,
    event::{Change, Commit, changes},
    id::{FlagId, Revision},
    refusal::Resource,
    time::Timestamp,
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

fn resource(subject: &Subject) -> Resource {
    match subject {
        Subject::Flag(id) => Resource::Flag(id.clone()),
        Subject::Pipeline(id) => Resource::Pipeline(id.clone()),
        Subject::Release(id) => Resource::Release(id.clone()),
    }
}

/// What an accepted call did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// This commit.
    Committed(Revision),
    /// Nothing: all was as asked for already, or only to be checked.
    None,
    /// Nothing: it was done before.
    Repeated,
}

impl Writer {
    /// Judges one call and puts on record what came of it. A dry run is no act, and a repetition is
    /// no other one.
    pub(super) fn submit_on_record(
        &mut self,
        submission: &Submission,
        earlier: Option<Earlier>,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Done, Error> {
        let judged = self.submit(submission, earlier, now, batch);
        if submission.mode == Mode::ValidateOnly {
            return judged.map(|(done, _)| done);
        }
        let room = self.room();
        let audit = &mut batch.notices.audit;
        let written = audit.len();
        match &judged {
            Ok((_, Effect::Committed(revision))) => {
                self.recorder.accepted(submission, Some(*revision), now, audit);
            }
            Ok((_, Effect::None)) => self.recorder.accepted(submission, None, now, audit),
            Ok((_, Effect::Repeated)) => {}
            Err(error) => {
                self.config.metrics.refusals.of(error.reason()).add(1);
                self.recorder.refused_here(submission, error, now, room, audit);
            }
        }
        batch.bytes += audit[written..].iter().map(|entry| entry.json.len()).sum::<usize>();
        judged.map(|(done, _)| done)
    }

    /// Judges one call. Its commit, if it makes one, joins the batch.
    fn submit(
        &mut self,
        submission: &Submission,
        earlier: Option<Earlier>,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<(Done, Effect), Error> {
        if self.space.is_short() {
            return Err(Error::DiskFull);
        }
        if let Some(flag) = self.flag_of(&submission.call) {
            self.fire_flag(&flag, now, now, batch);
        }
        if let Some(earlier) = earlier {
            let subject = earlier.repeated_by(submission)?;
            // What was seen then may be out of sight now.
            let resource = resource(&subject);
            if !submission.permit.sees(&self.state, &resource) {
                return Err(Error::Refused(Refusal::NotFound(resource)));
            }
            self.published().metrics.replays.add(1);
            let done = Done { state: self.state.clone(), subject, now };
            return Ok((done, Effect::Repeated));
        }
        submission.permit.check(&self.state, &submission.call.action)?;
        let command = Command::Call(submission.call.clone());
        let judged = self.judge(&command, now);
        if let (Ok(Some((_, after))), Some(flag)) = (&judged, self.flag_of(&submission.call)) {
            let checked = self.sets.check(&self.state, after, &flag);
            checked.map_err(|TooLarge { bytes, max }| Error::FlagSetTooLarge { bytes, max })?;
        }
        let subject = subject(&submission.call.action);
        let by = By {
            principal: Some(submission.call.caller.principal.clone()),
            trace: submission.origin.trace.clone(),
        };
        let before = self.state.revision();
        let state = match (judged?, submission.mode) {
            (Some((_, after)), Mode::ValidateOnly) => after,
            (None, Mode::ValidateOnly) => self.state.clone(),
            (Some((commit, after)), Mode::Commit) => {
                let request = self.requests.remember(submission, commit.time);
                self.stage(&commit, after, request, &by, now, batch);
                self.state.clone()
            }
            (None, Mode::Commit) => {
                // Nothing changes, but a repetition must do nothing either, whatever happens until
                // then: so the request is kept, with a commit that holds nothing else.
                if submission.call.request_id.is_some() {
                    let (commit, after) = self.empty_commit(now);
                    let request = self.requests.remember(submission, commit.time);
                    self.stage(&commit, after, request, &by, now, batch);
                }
                self.state.clone()
            }
        };
        let after = self.state.revision();
        let effect = if after > before { Effect::Committed(after) } else { Effect::None };
        Ok((Done { state, subject, now }, effect))
    }

    /// The flag that a call is about.
    fn flag_of(&self, call: &Call) -> Option<FlagId> {
        let of_release = |id| Some(self.state.release(id)?.proposal.flag.clone());
        call.action.flag().cloned().or_else(|| call.action.release().and_then(of_release))
    }

    /// What a command does to the working state. A defect of the engine is caught: it has only read
    /// the state, and the caller is told under which name the log has it.
    pub(super) fn judge(
        &self,
        command: &Command,
        now: Timestamp,
    ) -> Result<Option<(Commit, State)>, Error> {
        let judge = || -> Result<_, Refusal> {
            let Some(commit) = decide(&self.state, command, now)? else { return Ok(None) };
            let mut after = self.state.clone();
            apply(&mut after, &commit);
            Ok(Some((commit, after)))
        };
        catch_unwind(AssertUnwindSafe(judge)).map_or_else(
            |_| {
                let incident = uuid::Uuid::new_v4().to_string();
                tracing::error!(incident, ?command, "the engine panicked");
                Err(Error::Internal(incident))
            },
            |judged| judged.map_err(Error::Refused),
        )
    }

    fn empty_commit(&self, now: Timestamp) -> (Commit, State) {
        let commit = Commit {
            revision: self.state.revision().next(),
            time: now.max(self.state.time()),
            events: Vec::new(),
        };
        let mut after = self.state.clone();
        apply(&mut after, &commit);
        (commit, after)
    }

    /// Adds a commit to the batch and makes the working state what it is after it.
    pub(super) fn stage(
        &mut self,
        commit: &Commit,
        after: State,
        request: Option<(RequestKey, RequestRecord)>,
        by: &By,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        let mut changes = changes(&self.state, &after, commit);
        for change in &mut changes {
            change.trace = by.trace.clone();
        }
        let changes: Vec<Arc<Change>> = changes.into_iter().map(Arc::new).collect();
        self.sets.note(&self.state, &after, commit);
        let store = self.published().store_id;
        let told = notify::of_commit(&self.config, store, &self.state, commit, &changes, by);
        for (sink, notification) in told {
            batch.bytes += ROW_BYTES;
            self.rows.add(sink, notification, now, &mut batch.notices.outbox);
        }
        self.state = after;
        for change in &changes {
            self.alarms.track(&change.release, now);
            self.reminders.track(&change.release, &mut batch.notices.reminders);
            if change.release.is_over() {
                // A start that came due while the flag was taken has no alarm any more. The commit
                // that frees the flag starts it, unless the clock has stepped back meanwhile.
                for waiting in self.state.unfinished(&change.release.proposal.flag) {
                    self.alarms.track(waiting, now);
                }
            }
        }
        let record = record(commit, changes, request);
        batch.bytes += approximate_bytes(&record);
        batch.records.push(record);
    }
}
