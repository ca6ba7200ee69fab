//! The writer: one batch after the other, each decided, committed, published and answered in this
//! order. Nothing in here waits or starts a thread, so a test or a simulation can turn it by hand.
//!
//! Between [`decide`] and the store stands the *working state*: the durable state and the commits of
//! the batch in hand. Nobody outside sees it, or an answer that came from it, before the batch is
//! durable. If the store fails, nobody ever does.

use super::{
    alarms::{Alarms, Due, Urgency},
    config::Config,
    handle::{Done, Error, LogError, Mode, Submission},
    inbox::Wait,
    message::Message,
    pacing::Pacing,
    published::{Published, Publisher},
    record::{approximate_bytes, record},
    requests::{Requests, subject},
    trust::{Firing, Notice, Trust},
};
use crate::{
    clock::{Clock, Reading},
    store::{
        self, Compaction, CompactionProgress, LogQuery, Record, RequestKey, RequestRecord, Store,
    },
    watch::Entry,
};
use phasegate_engine::{
    Command, Refusal, State, TimerKind, apply,
    command::{Call, Fire, Lateness},
    deadline::next_due,
    decide,
    event::{Change, Commit, changes},
    id::{FlagId, ReleaseId, Revision},
    time::{Span, Timestamp},
};
use std::{
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Duration,
};
use tokio::sync::oneshot;

/// Calls in one batch: enough to share one flush among all that wait, few enough to answer soon.
pub const BATCH_CALLS_MAX: usize = 1024;
/// Bytes in one batch, by estimate; the call that passes it is the last one.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// Timers fired in one batch, besides those that calls wait for. As many as calls, so that neither
/// starves the other.
const BATCH_TIMERS_MAX: usize = 1024;
/// The longest sleep. A sleep does not notice steps and suspends, so the clock is read this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How often free space is looked at.
const SPACE_LOOK: Duration = Duration::from_secs(1);
/// Timers of one flag that are fired before one call. A flag has at most eleven releases, each with
/// at most fifty phases and some timers in each; more than this is a defect.
const FIRES_BEFORE_CALL_MAX: usize = 2000;

/// Why there is no writer.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error("cannot load the store")]
    Store(#[from] store::Error),
    /// What it holds does not fit together.
    #[error("the store contradicts itself: {0}")]
    Inconsistent(String),
    /// The operating system gave no thread.
    #[error("cannot start the writer")]
    Thread(#[source] std::io::Error),
}

/// The store failed. Nothing may be assumed any more: what was being committed may or may not be
/// durable, nobody was told of it, and the process has to end.
#[derive(Debug, thiserror::Error)]
#[error("the store failed")]
pub struct StoreFailed(#[from] store::Error);

/// Whether there is to be another turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is.
    GoOn,
    /// There is not: it was told to stop.
    Stop,
}

/// Owns the store and the working state.
pub struct Writer {
    store: Box<dyn Store>,
    clock: Arc<dyn Clock>,
    config: Config,
    state: State,
    requests: Requests,
    alarms: Alarms,
    pacing: Pacing,
    trust: Trust,
    space: Space,
    cleaning: Cleaning,
    publisher: Publisher,
}

/// Whether the disk has room, as of the last look.
#[derive(Debug)]
struct Space {
    state: Room,
    looked: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    Enough,
    Short,
}

/// When retention is enforced next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cleaning {
    /// There may be more to remove.
    Now,
    /// It was looked at this time.
    Rested(Duration),
}

/// What one durable write brings, and who waits for it.
#[derive(Debug, Default)]
struct Batch {
    calls: usize,
    bytes: usize,
    records: Vec<Record>,
    answers: Vec<Answer>,
    reads: Vec<Read>,
}

#[derive(Debug)]
struct Answer {
    reply: oneshot::Sender<Result<Done, Error>>,
    result: Result<Done, Error>,
}

/// A part of the log that is read when the batch is durable.
#[derive(Debug)]
struct Read {
    query: LogQuery,
    reply: oneshot::Sender<Result<Vec<Arc<Entry>>, LogError>>,
}

impl Batch {
    fn takes_calls(&self) -> bool {
        self.calls < BATCH_CALLS_MAX && self.bytes < BATCH_BYTES_MAX
    }

    fn is_empty(&self) -> bool {
        self.records.is_empty() && self.answers.is_empty() && self.reads.is_empty()
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("revision", &self.state.revision()).finish_non_exhaustive()
    }
}

impl Writer {
    /// Loads what the store holds, checks that it fits together, and arms the timers.
    pub fn open(
        mut store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let image = store.load()?;
        let state = image.state;
        check(&state, image.oldest).map_err(OpenError::Inconsistent)?;

        let trust = if let Some(manual) = clock.as_manual() {
            // A rehearsal goes on where it stopped.
            manual.move_to(state.time());
            Trust::Manual
        } else {
            let (trust, notices) =
                Trust::watched(config.timers.clone(), clock.read(), state.time());
            tell(&notices);
            trust
        };
        let now = clock.now();
        let mut alarms = Alarms::new(now);
        for release in state.all_unfinished() {
            alarms.track(release, now);
        }
        tracing::info!(
            store_id = %image.store_id,
            revision = state.revision().get(),
            oldest = image.oldest.get(),
            "store loaded"
        );
        let publisher = Publisher::new(
            image.store_id,
            Arc::clone(&clock),
            state.clone(),
            image.oldest,
            config.log_memory.0,
        );
        Ok(Self {
            store,
            clock,
            state,
            requests: Requests::load(image.requests),
            alarms,
            pacing: Pacing::new(&config.timers),
            trust,
            space: Space { state: Room::Enough, looked: None },
            cleaning: Cleaning::Now,
            publisher,
            config,
        })
    }

    pub(super) fn published(&self) -> &Arc<Published> {
        self.publisher.published()
    }

    /// How long to wait for a message before the next turn.
    pub fn wait(&self) -> Wait {
        let is_manual = self.clock.as_manual().is_some();
        if self.cleaning == Cleaning::Now && self.trust.firing() == Firing::Allowed {
            return Wait::No;
        }
        let mut longest = LOOK_AGAIN;
        if self.may_fire() {
            let reading = self.clock.read();
            if self.alarms.any_due() {
                return Wait::No;
            }
            if self.alarms.overdue() > 0 {
                longest = longest.min(self.pacing.until_next(reading.monotonic));
            }
            match self.alarms.next() {
                Some(at) if at <= reading.wall => return Wait::No,
                Some(at) => longest = longest.min(duration(at.since(reading.wall))),
                None => {}
            }
        }
        if is_manual { Wait::ForMessage } else { Wait::AtMost(longest) }
    }

    /// Does what waits: calls as far as they fit into a batch, then timers that are due. Returns
    /// when all of it is durable and answered. What did not fit stays in the queue.
    pub fn turn(&mut self, waiting: &mut VecDeque<Message>) -> Result<Turn, StoreFailed> {
        let reading = self.look();
        let now = reading.wall;
        let mut batch = Batch::default();
        let mut turn = Turn::GoOn;
        while batch.takes_calls()
            && let Some(message) = waiting.pop_front()
        {
            match message {
                Message::Submit { submission, reply } => {
                    batch.calls += 1;
                    let result = self.submit(&submission, now, &mut batch);
                    batch.answers.push(Answer { reply, result });
                }
                Message::ReadLog { query, reply } => batch.reads.push(Read { query, reply }),
                Message::Advance { by, reply } if batch.is_empty() => {
                    // An answer that nobody waits for is no loss, here and below.
                    let _ = reply.send(self.advance(by)?);
                }
                Message::Advance { .. } => {
                    // What came before it happened before it.
                    waiting.push_front(message);
                    break;
                }
                Message::Stop => {
                    turn = Turn::Stop;
                    break;
                }
            }
        }
        self.fire_due(now, &mut batch);
        self.finish(batch)?;
        self.clean(reading)?;
        Ok(turn)
    }

    /// Reads the clocks, and draws the conclusions.
    fn look(&mut self) -> Reading {
        let reading = self.clock.read();
        let notices = self.trust.observe(reading);
        tell(&notices);
        let stepped = notices
            .iter()
            .filter(|n| matches!(n, Notice::SteppedAhead(_) | Notice::SteppedBack(_)));
        self.published().metrics.clock_steps.add(stepped.count());
        self.pacing.look(reading.monotonic);
        self.look_at_space(reading);
        reading
    }

    fn look_at_space(&mut self, reading: Reading) {
        let due = |looked: Duration| reading.monotonic.saturating_sub(looked) >= SPACE_LOOK;
        // A manual clock may stand still for hours; there are few turns then.
        if self.clock.as_manual().is_none() && !self.space.looked.is_none_or(due) {
            return;
        }
        self.space.looked = Some(reading.monotonic);
        let free = match self.store.free_space() {
            Ok(free) => free,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "cannot tell free space");
                return;
            }
        };
        let reserve = self.config.disk.reserve;
        let found =
            if free.is_some_and(|free| free < reserve) { Room::Short } else { Room::Enough };
        match (self.space.state, found) {
            (Room::Enough, Room::Short) => {
                tracing::error!(free, reserve, "the disk is nearly full: nothing is written");
            }
            (Room::Short, Room::Enough) => {
                tracing::info!(free, reserve, "the disk has space again");
                self.trust.resume(reading.wall);
            }
            (Room::Enough, Room::Enough) | (Room::Short, Room::Short) => {}
        }
        self.space.state = found;
    }

    fn may_fire(&self) -> bool {
        self.trust.firing() == Firing::Allowed && self.space.state == Room::Enough
    }

    /// Judges one call. Its commit, if it makes one, joins the batch.
    fn submit(
        &mut self,
        submission: &Submission,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Done, Error> {
        if self.space.state == Room::Short {
            return Err(Error::DiskFull);
        }
        if let Some(flag) = self.flag_of(&submission.call) {
            self.fire_flag(&flag, now, batch);
        }
        if let Some(subject) = self.requests.find(submission)? {
            let subject = subject.clone();
            self.published().metrics.replays.add(1);
            return Ok(Done { state: self.state.clone(), subject, now });
        }
        let command = Command::Call(submission.call.clone());
        let judged = self.judge(&command, now);
        if matches!(judged, Err(Error::Refused(_))) {
            self.published().metrics.refusals.add(1);
        }
        let subject = subject(&submission.call.action);
        let state = match (judged?, submission.mode) {
            (Some((_, after)), Mode::ValidateOnly) => after,
            (None, Mode::ValidateOnly) => self.state.clone(),
            (Some((commit, after)), Mode::Commit) => {
                let request = self.requests.remember(submission, now);
                self.stage(&commit, after, request, now, batch);
                self.state.clone()
            }
            (None, Mode::Commit) => {
                // Nothing changes, but a repetition must do nothing either, whatever happens until
                // then: so the request is kept, with a commit that holds nothing else.
                if let Some(request) = self.requests.remember(submission, now) {
                    let (commit, after) = self.empty_commit(now);
                    self.stage(&commit, after, Some(request), now, batch);
                }
                self.state.clone()
            }
        };
        Ok(Done { state, subject, now })
    }

    /// The flag that a call is about.
    fn flag_of(&self, call: &Call) -> Option<FlagId> {
        let of_release = |id| Some(self.state.release(id)?.proposal.flag.clone());
        call.action.flag().cloned().or_else(|| call.action.release().and_then(of_release))
    }

    /// What a command does to the working state. A defect of the engine is caught: it has only read
    /// the state, and the caller is told under which name the log has it.
    fn judge(&self, command: &Command, now: Timestamp) -> Result<Option<(Commit, State)>, Error> {
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
    fn stage(
        &mut self,
        commit: &Commit,
        after: State,
        request: Option<(RequestKey, RequestRecord)>,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        let changes: Vec<Arc<Change>> =
            changes(&self.state, &after, commit).into_iter().map(Arc::new).collect();
        self.state = after;
        for change in &changes {
            self.alarms.track(&change.release, now);
        }
        let record = record(commit, changes, request);
        batch.bytes += approximate_bytes(&record);
        batch.records.push(record);
    }

    /// Fires what is due: what has just come due, then what is overdue, as fast as it may.
    fn fire_due(&mut self, now: Timestamp, batch: &mut Batch) {
        if self.may_fire() {
            let trust = &self.trust;
            self.alarms.collect_due(now, |at| {
                if trust.is_overdue(at) { Urgency::Paced } else { Urgency::Now }
            });
            for _ in 0..BATCH_TIMERS_MAX {
                let Some(due) = self.alarms.pop_due() else { break };
                self.fire(&due, now, batch);
            }
            while self.pacing.has_room() {
                let (state, pacing) = (&self.state, &self.pacing);
                let admits = |id: &ReleaseId| {
                    let release = state.release(id);
                    release.is_none_or(|release| pacing.has_room_for(&release.proposal.flag))
                };
                let Some(due) = self.alarms.pop_overdue(admits) else { break };
                if let Some(release) = state.release(&due.release) {
                    self.pacing.count(&release.proposal.flag);
                }
                self.fire(&due, now, batch);
            }
        }
        self.published().metrics.timers_overdue.set(self.alarms.overdue());
    }

    /// Fires a timer, after those of its flag that were due before it.
    fn fire(&mut self, due: &Due, now: Timestamp, batch: &mut Batch) {
        let generation = |state: &State| {
            state.release(&due.release).map(|release| release.progress.timer_generation)
        };
        if generation(&self.state) != Some(due.generation) {
            self.published().metrics.timers_stale.add(1);
            return;
        }
        let Some(release) = self.state.release(&due.release).map(Arc::clone) else { return };
        self.fire_flag(&release.proposal.flag, now, batch);
        if generation(&self.state) != Some(due.generation) {
            // That was the timer itself.
            return;
        }
        // All that it does is to look: at a flag that is taken, or for an opening of a window.
        self.fire_one(due, TimerKind::Window, now, batch);
        if let Some(release) = self.state.release(&due.release)
            && phasegate_engine::deadline(release, now).is_some_and(|timer| timer.at > now)
        {
            self.alarms.track(release, now);
        }
    }

    /// Fires the timers of a flag that are due, oldest deadline first.
    fn fire_flag(&mut self, flag: &FlagId, now: Timestamp, batch: &mut Batch) {
        if !self.may_fire() {
            return;
        }
        for _ in 0..FIRES_BEFORE_CALL_MAX {
            let Some((release, timer)) = next_due(&self.state, flag, now) else { return };
            let due = Due {
                release: release.id().clone(),
                at: timer.at,
                generation: release.progress.timer_generation,
            };
            if self.fire_one(&due, timer.kind, now, batch) == Fired::Nothing {
                break;
            }
        }
        // The way out of a release must not depend on its timers, so the call goes on.
        tracing::error!(%flag, "a due timer does nothing");
    }

    fn fire_one(&mut self, due: &Due, kind: TimerKind, now: Timestamp, batch: &mut Batch) -> Fired {
        let Due { release, at, generation } = due.clone();
        let lateness = self.trust.lateness(at, now);
        let fire = Fire { release: release.clone(), generation, lateness };
        let Ok(Some((commit, after))) = self.judge(&Command::Fire(fire), now) else {
            return Fired::Nothing;
        };
        self.stage(&commit, after, None, now, batch);
        let metrics = &self.published().metrics;
        metrics.timers_fired.add(1);
        if let Lateness::Hold(late) = lateness
            && kind.may_grow_exposure()
        {
            metrics.timers_held.add(1);
            tracing::warn!(%release, late_ms = late.as_millis(), "a timer was found too late");
        }
        Fired::Something
    }

    /// Makes the batch durable, shows it, answers.
    fn finish(&mut self, batch: Batch) -> Result<(), StoreFailed> {
        let Batch { records, answers, reads, .. } = batch;
        if !records.is_empty() {
            let begun = self.clock.read().monotonic;
            self.store.commit(&records)?;
            let metrics = &self.published().metrics;
            metrics.commit_micros.record_micros(self.clock.read().monotonic.saturating_sub(begun));
            metrics.commits.add(records.len());
            metrics.batch_commits.record(u64::try_from(records.len()).unwrap_or(u64::MAX));

            let changes = records.into_iter().flat_map(|record| record.changes);
            let entries = changes.map(|change| Arc::new(Entry::new(Arc::unwrap_or_clone(change))));
            self.publisher.publish(&self.state, entries.collect());
        }
        for Answer { reply, result } in answers {
            let _ = reply.send(result);
        }
        for Read { query, reply } in reads {
            let _ = reply.send(self.read_log(&query)?);
        }
        Ok(())
    }

    fn read_log(
        &mut self,
        query: &LogQuery,
    ) -> Result<Result<Vec<Arc<Entry>>, LogError>, StoreFailed> {
        // Asked again, because something may have been removed since the reader asked.
        if !self.published().reaches_back(query) {
            return Ok(Err(LogError::Compacted { oldest: self.published().oldest() }));
        }
        let changes = self.store.changes(query)?;
        let entry = |change| Arc::new(Entry::new(Arc::unwrap_or_clone(change)));
        Ok(Ok(changes.into_iter().map(entry).collect()))
    }

    /// Moves the manual clock from deadline to deadline.
    fn advance(&mut self, by: Span) -> Result<Result<Timestamp, Error>, StoreFailed> {
        let clock = Arc::clone(&self.clock);
        let Some(manual) = clock.as_manual() else {
            // The handle does not send this without a manual clock.
            return Ok(Err(Error::Stopped));
        };
        let target = manual.now() + by;
        loop {
            self.look();
            if self.space.state == Room::Short {
                return Ok(Err(Error::DiskFull));
            }
            let mut batch = Batch::default();
            self.fire_due(manual.now(), &mut batch);
            self.finish(batch)?;
            if self.alarms.any_due() {
                continue;
            }
            match self.alarms.next() {
                Some(at) if at <= target => manual.move_to(at),
                Some(_) | None => break,
            }
        }
        manual.move_to(target);
        self.cleaning = Cleaning::Now;
        Ok(Ok(target))
    }

    /// Removes some of what is too old to keep.
    fn clean(&mut self, reading: Reading) -> Result<(), StoreFailed> {
        let every = duration(self.config.retention.every);
        let due = match self.cleaning {
            Cleaning::Now => true,
            Cleaning::Rested(at) => reading.monotonic.saturating_sub(at) >= every,
        };
        // A clock that is not trusted says nothing about age.
        if !due || self.trust.firing() == Firing::Withheld {
            return Ok(());
        }
        let retention = &self.config.retention;
        let before = |span: Span| {
            let now = self.clock.now().as_millis();
            Timestamp::from_millis(now.saturating_sub(span.as_millis()))
        };
        let limits = Compaction {
            changes_before: before(retention.events),
            requests_before: before(retention.requests),
            most: retention.step,
        };
        let compacted = self.store.compact(&limits)?;
        // Nobody reads the store but this thread, so nobody saw it without what was removed and
        // with the old beginning.
        if compacted.oldest > self.published().oldest() {
            self.publisher.raise_oldest(compacted.oldest);
        }
        self.requests.forget(&compacted.requests);
        self.published().metrics.changes_removed.add(compacted.changes);
        self.cleaning = match compacted.progress {
            CompactionProgress::More => Cleaning::Now,
            CompactionProgress::Done => Cleaning::Rested(reading.monotonic),
        };
        Ok(())
    }
}

/// Whether a timer did something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fired {
    Something,
    Nothing,
}

/// What must hold of what a store holds.
fn check(state: &State, oldest: Revision) -> Result<(), String> {
    let head = state.revision();
    if oldest > head.next() {
        return Err(format!("the log begins at revision {oldest}, after its head {head}"));
    }
    let late = state.releases().find(|release| release.progress.revision > head);
    if let Some(release) = late {
        let (id, revision) = (release.id(), release.progress.revision);
        return Err(format!("releases/{id} is of revision {revision}, after the head {head}"));
    }
    let flags = state.flags().map(|flag| flag.revision);
    let pipelines = state.pipelines().map(|pipeline| pipeline.revision);
    if let Some(revision) = flags.chain(pipelines).find(|revision| *revision > head) {
        return Err(format!("a resource is of revision {revision}, after the head {head}"));
    }
    Ok(())
}

fn tell(notices: &[Notice]) {
    for notice in notices {
        match notice {
            Notice::SteppedAhead(by) => {
                tracing::warn!(step_ms = by.as_millis(), "clock_step");
            }
            Notice::SteppedBack(by) => {
                tracing::warn!(step_ms = -by.as_millis(), "clock_step");
            }
            Notice::WasAway { away, suspended } => {
                let (away_ms, suspended_ms) = (away.as_millis(), suspended.as_millis());
                tracing::warn!(away_ms, suspended_ms, "the server was away");
            }
            Notice::Behind(by) => {
                let behind_ms = by.as_millis();
                tracing::warn!(behind_ms, "the clock is behind the last commit: no timer fires");
            }
            Notice::Resumed => tracing::info!("timers fire again"),
        }
    }
}

fn duration(span: Span) -> Duration {
    // A span is never negative.
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or_default())
}
