//! The writer: one batch after the other, each decided, committed, published and answered in this
//! order. Nothing in here waits or starts a thread, so a test or a simulation can turn it by hand.
//!
//! Between [`decide`] and the store stands the *working state*: the durable state and the commits of
//! the batch in hand. Nobody outside sees it, or an answer that came from it, before the batch is
//! durable. If the store fails, nobody ever does.

mod calls;
mod exporting;
mod firing;
mod reminding;
mod sets;
mod upkeep;

use super::{
    alarms::Alarms,
    config::Config,
    export::{ExportError, Hold, Holds, Piece, Stretch},
    handle::{Done, Error, LogError},
    inbox::Wait,
    message::Message,
    outbox::{OutboxUpdate, Rows},
    pacing::Pacing,
    published::{Beside, Published, Publisher},
    recorder::{Recorder, Room},
    reminders::Reminders,
    requests::Requests,
    trust::{Notice, Trust},
};
use crate::{
    clock::{Clock, Reading},
    store::{
        self, AuditQuery, LogQuery, Record, Store, Write, Writes,
        audit::AuditEntry,
        outbox::{OutboxKey, OutboxRow, Reminder},
        snapshot::Snapshot,
    },
    watch::Entry,
};
use phasegate_engine::{
    State,
    id::{ReleaseId, Revision},
    time::{Span, Timestamp},
};
use sets::Sets;
use std::{collections::VecDeque, panic, sync::Arc, thread, time::Duration};
use tokio::sync::oneshot;
use upkeep::{Cleaning, Space};

/// Calls in one batch: enough to share one flush among all that wait, few enough to answer soon.
pub const BATCH_CALLS_MAX: usize = 1024;
/// Bytes in one batch, by estimate; the call that passes it is the last one.
const BATCH_BYTES_MAX: usize = 256 << 10;
/// About how many bytes a row of the outbox takes when it is written.
const ROW_BYTES: usize = 512;
/// The longest sleep. A sleep does not notice steps and suspends, so the clock is read this often.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

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
    sets: Sets,
    rows: Rows,
    reminders: Reminders,
    recorder: Recorder,
    holds: Holds,
    /// Refusals of which nothing but their number is known, as far as they are on record.
    unnoted: u64,
}

/// What one durable write brings, and who waits for it.
#[derive(Debug, Default)]
struct Batch {
    calls: usize,
    bytes: usize,
    records: Vec<Record>,
    answers: Vec<Answer>,
    reads: Vec<Read>,
    notices: Notices,
}

/// What a batch brings besides commits.
#[derive(Debug, Default)]
struct Notices {
    audit: Vec<AuditEntry>,
    outbox: Vec<Write<OutboxKey, OutboxRow>>,
    reminders: Vec<Write<ReleaseId, Reminder>>,
    settled: Vec<oneshot::Sender<Result<(), Error>>>,
    reads: Vec<ReadAudit>,
    snapshots: Vec<oneshot::Sender<(Snapshot, Hold)>>,
    stretches: Vec<ReadStretch>,
}

impl Notices {
    fn is_empty(&self) -> bool {
        self.audit.is_empty()
            && self.outbox.is_empty()
            && self.reminders.is_empty()
            && self.settled.is_empty()
            && self.reads.is_empty()
            && self.snapshots.is_empty()
            && self.stretches.is_empty()
    }
}

/// A part of the audit chain that is read when the batch is durable.
#[derive(Debug)]
struct ReadAudit {
    query: AuditQuery,
    reply: oneshot::Sender<Result<Vec<AuditEntry>, LogError>>,
}

/// A stretch of an export, read when the batch is durable.
#[derive(Debug)]
struct ReadStretch {
    stretch: Stretch,
    reply: oneshot::Sender<Result<Piece, ExportError>>,
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
        self.records.is_empty()
            && self.answers.is_empty()
            && self.reads.is_empty()
            && self.notices.is_empty()
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
            notices.into_iter().for_each(Notice::tell);
            trust
        };
        let now = clock.now();
        let rows = Rows::load(image.outbox, config.outbox.clone());
        let mut reminders = Reminders::load(image.reminders, config.outbox.remind_before);
        // All are walked along, which is faster than to find the unfinished among them one by one.
        let unfinished = || state.releases().filter(|release| !release.is_over());
        // The timers of very many take as long as the rest, so they are armed beside it.
        let (alarms, sets) = thread::scope(|scope| {
            let arm = || Alarms::of(unfinished(), now);
            let arming = thread::Builder::new().name("arming".into()).spawn_scoped(scope, arm);
            let arming = arming.map_err(OpenError::Thread)?;
            for release in unfinished() {
                // What is remembered of others was removed with the commit that moved them on.
                reminders.track(release, &mut Vec::new());
            }
            let sets = Sets::load(&state, config.flag_sets.bytes_max);
            let alarms = arming.join().unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            Ok::<_, OpenError>((alarms, sets))
        })?;
        tracing::info!(
            store_id = %image.store_id,
            revision = state.revision().get(),
            oldest = image.oldest.get(),
            "store loaded"
        );
        let metrics = Arc::clone(&config.metrics);
        // As the writer takes it, until it has looked, and where nobody can tell.
        metrics.store_writable.set(1);
        let beside = Beside { audit: image.audit, outbox: rows.snapshot(), metrics };
        let publisher = Publisher::new(
            image.store_id,
            Arc::clone(&clock),
            state.clone(),
            image.oldest,
            beside,
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
            space: Space::default(),
            cleaning: Cleaning::Now,
            publisher,
            sets,
            rows,
            reminders,
            recorder: Recorder::new(image.store_id, image.audit, config.audit.clone()),
            holds: Holds::default(),
            unnoted: 0,
            config,
        })
    }

    pub(in crate::driver) fn published(&self) -> &Arc<Published> {
        self.publisher.published()
    }

    /// How long to wait for a message before the next turn.
    pub fn wait(&self) -> Wait {
        let reading = self.clock.read();
        if self.is_to_clean(reading) {
            return Wait::No;
        }
        let mut longest = LOOK_AGAIN;
        if self.may_fire() {
            if self.alarms.any_due() {
                return Wait::No;
            }
            if self.alarms.overdue() > 0 {
                longest = longest.min(self.pacing.until_next(reading.monotonic));
            }
            match self.next_moment() {
                Some(at) if at <= reading.wall => return Wait::No,
                Some(at) => longest = longest.min(duration(at.since(reading.wall))),
                None => {}
            }
        }
        match self.clock.as_manual() {
            Some(_) => Wait::ForMessage,
            None => Wait::AtMost(longest),
        }
    }

    /// Does what waits: calls as far as they fit into a batch, then timers that are due. Returns
    /// when all of it is durable and answered. What did not fit stays in the queue.
    pub fn turn(&mut self, waiting: &mut VecDeque<Message>) -> Result<Turn, StoreFailed> {
        let mut reading = self.look();
        let mut batch = Batch::default();
        let mut turn = Turn::GoOn;
        while batch.takes_calls()
            && let Some(message) = waiting.pop_front()
        {
            match message {
                Message::Submit { submission, reply } => {
                    batch.calls += 1;
                    let earlier = self.requests.earlier(&submission, &mut *self.store)?;
                    let now = reading.wall;
                    let result = self.submit_on_record(&submission, earlier, now, &mut batch);
                    batch.answers.push(Answer { reply, result });
                }
                Message::ReadLog { query, reply } => batch.reads.push(Read { query, reply }),
                Message::ReadAudit { query, reply } => {
                    batch.notices.reads.push(ReadAudit { query, reply });
                }
                Message::Snapshot { reply } => batch.notices.snapshots.push(reply),
                Message::ReadStretch { stretch, reply } => {
                    batch.notices.stretches.push(ReadStretch { stretch, reply });
                }
                Message::Note { call } => {
                    batch.calls += 1;
                    let room = self.room();
                    let audit = &mut batch.notices.audit;
                    self.recorder.refused(*call, reading.wall, room, audit);
                }
                Message::Settle { updates, reply } => {
                    batch.calls += 1;
                    self.settle(updates, reply, reading.wall, &mut batch);
                }
                Message::Advance { by, reply } if batch.is_empty() => {
                    // An answer that nobody waits for is no loss, here and below.
                    let _ = reply.send(self.advance(by)?);
                    reading = self.look();
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
        self.fire_due(reading.wall, &mut batch);
        self.remind(reading.wall, &mut batch);
        self.close_the_record(turn, reading.wall, &mut batch);
        self.finish(batch)?;
        self.clean(reading)?;
        Ok(turn)
    }

    /// Reads the clocks, and draws the conclusions.
    fn look(&mut self) -> Reading {
        let reading = self.clock.read();
        for notice in self.trust.observe(reading) {
            notice.tell();
            if notice.is_step() {
                self.published().metrics.clock_steps.add(1);
            }
        }
        self.pacing.look(reading.monotonic);
        self.look_at_space(reading);
        reading
    }

    /// Makes the batch durable, shows it, answers.
    fn finish(&mut self, mut batch: Batch) -> Result<(), StoreFailed> {
        let notices = std::mem::take(&mut batch.notices);
        let Batch { records, answers, reads, .. } = batch;
        let Notices { audit, outbox, reminders, .. } = &notices;
        let writes = Writes { records: &records, audit, outbox, reminders };
        if !writes.is_empty() {
            let begun = self.clock.read().monotonic;
            self.store.commit(writes)?;
            self.requests.settle();
            let metrics = &self.published().metrics;
            metrics.commit_time.record(self.clock.read().monotonic.saturating_sub(begun));
            if let Some(time) = self.store.sync_took() {
                metrics.sync_time.record(time);
            }
            if !notices.audit.is_empty() {
                self.publisher.publish_audit(self.recorder.head());
            }
            if !notices.outbox.is_empty() {
                self.publisher.publish_outbox(self.rows.snapshot());
            }
        }
        if !records.is_empty() {
            let metrics = &self.published().metrics;
            metrics.commits.add(records.len());
            metrics.batch_commits.record_things(records.len());
            let changes = records.iter().flat_map(|record| &record.changes);
            for event in changes.flat_map(|change| &change.events) {
                metrics.transitions.of(event.happened.name()).add(1);
            }

            let changes = records.into_iter().flat_map(|record| record.changes);
            let entries = changes.map(|change| Arc::new(Entry::new(Arc::unwrap_or_clone(change))));
            self.publisher.publish(&self.state, &entries.collect::<Vec<_>>());
        }
        for Answer { reply, result } in answers {
            let _ = reply.send(result);
        }
        for Read { query, reply } in reads {
            let _ = reply.send(self.read_log(&query)?);
        }
        for reply in notices.settled {
            let _ = reply.send(Ok(()));
        }
        for ReadAudit { query, reply } in notices.reads {
            let _ = reply.send(Ok(self.store.audit(&query)?));
        }
        for reply in notices.snapshots {
            let hold = self.holds.add(self.clock.read().monotonic);
            let _ = reply.send((self.snapshot(), hold));
        }
        for ReadStretch { stretch, reply } in notices.stretches {
            let _ = reply.send(self.read_stretch(stretch)?);
        }
        Ok(())
    }

    /// Writes what was counted, when it is time to.
    fn close_the_record(&mut self, turn: Turn, now: Timestamp, batch: &mut Batch) {
        let unnoted = self.published().metrics.refusals_unnoted.get();
        self.recorder.uncounted(unnoted - self.unnoted, now);
        self.unnoted = unnoted;
        if self.space.is_short() {
            return;
        }
        match turn {
            Turn::GoOn => self.recorder.close_windows(now, &mut batch.notices.audit),
            Turn::Stop => self.recorder.close_all(now, &mut batch.notices.audit),
        }
    }

    /// Whether refusals may be written.
    fn room(&self) -> Room {
        if self.space.is_short() { Room::None } else { Room::Enough }
    }

    /// Takes in what became of notifications.
    fn settle(
        &mut self,
        updates: Vec<OutboxUpdate>,
        reply: oneshot::Sender<Result<(), Error>>,
        now: Timestamp,
        batch: &mut Batch,
    ) {
        if self.space.is_short() {
            // An answer that nobody waits for is no loss.
            let _ = reply.send(Err(Error::DiskFull));
            return;
        }
        for update in updates {
            batch.bytes += ROW_BYTES;
            self.rows.update(update, now, &mut batch.notices.outbox);
        }
        batch.notices.settled.push(reply);
    }

    /// When there is something to do next, as far as it is known.
    fn next_moment(&self) -> Option<Timestamp> {
        self.alarms.next().into_iter().chain(self.reminders.next()).min()
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

fn duration(span: Span) -> Duration {
    // A span is never negative.
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or_default())
}
