//! The service: takes rows, sends them, has it written down, and stops in good order.

use super::{
    attempt::{Trace, World, plain},
    event::Event,
    metrics::Metrics,
    outbox::Queue,
    scheduler::{Fault, FaultKind, Outcome, Scheduler, Standing},
    settings::{Channel, Settings, Sink},
};
use crate::driver::{Error, Outbox, OutboxKey, OutboxRow, OutboxUpdate};
use crate::telemetry::{TraceContext, otlp::SPANS, trace};
use arc_swap::ArcSwap;
use futures_util::{FutureExt as _, future::BoxFuture};
use phasegate_engine::{id::SinkId, time::Timestamp};
use std::{
    collections::BTreeMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field::Empty};

/// When the store takes nothing, it is asked again after this. Rows stay taken meanwhile.
const SETTLE_AGAIN: Duration = Duration::from_secs(5);

/// Says where a notification goes, by the settings as they are now. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Router(Arc<ArcSwap<Settings>>);

impl Router {
    /// By these settings.
    pub fn new(settings: Settings) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(settings)))
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        self.0.load_full()
    }

    /// From now on by these.
    pub(super) fn replace(&self, settings: Settings) {
        self.0.store(Arc::new(settings));
    }
}

impl crate::driver::Route for Router {
    fn sinks(&self, notification: &crate::driver::Notification) -> Vec<SinkId> {
        self.0.load().wanting(notification)
    }
}

/// Sends what an attempt is for. Tests replace it.
pub(super) trait Send: Clone + std::marker::Send + Sync + 'static {
    /// Sends an event to a sink, once, within a limited time.
    fn send(
        &self,
        sink: Arc<Sink>,
        row: Arc<OutboxRow>,
        now: Timestamp,
    ) -> BoxFuture<'static, Outcome>;
}

impl Sink {
    /// Sends an event once.
    pub(super) async fn send(
        &self,
        event: &Event<'_>,
        now: Timestamp,
        world: &World,
        trace: &mut Trace,
    ) -> Outcome {
        match &self.channel {
            Channel::Webhook(webhook) => webhook.send(event, now, world, trace).await,
            Channel::Mail(mail) => mail.send(event, now, world, trace).await,
        }
    }
}

impl Send for World {
    fn send(
        &self,
        sink: Arc<Sink>,
        row: Arc<OutboxRow>,
        now: Timestamp,
    ) -> BoxFuture<'static, Outcome> {
        let world = self.clone();
        Box::pin(async move {
            let notification = &row.notification;
            let came = notification.trace.as_deref().and_then(TraceContext::parse);
            let span = tracing::info_span!(
                target: SPANS,
                "notify",
                "otel.kind" = "client",
                "otel.status_code" = Empty,
                "cloudevents.event_id" = &*notification.id,
                "phasegate.sink" = sink.id.as_str(),
                "cloudevents.event_type" = notification.kind.name(),
                "phasegate.attempt" = i64::from(row.attempts) + 1,
                "phasegate.revision" = notification.revision.get().cast_signed(),
            );
            let hop = trace::continue_trace(&span, came.as_ref(), Default::default());
            let event = Event { notification, store: &world.store, hop: hop.as_ref() };
            let outcome = sink
                .send(&event, now, &world, &mut Trace::default())
                .instrument(span.clone())
                .await;
            if outcome != Outcome::Delivered {
                span.record("otel.status_code", "ERROR");
            }
            outcome
        })
    }
}

/// How sinks stand, for people. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Standings(Arc<Mutex<BTreeMap<SinkId, Standing>>>);

impl Standings {
    /// How a sink stands.
    pub(super) fn of(&self, sink: &SinkId) -> Standing {
        let standings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        standings.get(sink).copied().unwrap_or(Standing::Open)
    }
}

/// The loop.
pub(super) struct Service<Q, S> {
    pub(super) queue: Q,
    pub(super) sender: S,
    pub(super) router: Router,
    /// Moves when the settings have changed.
    pub(super) changed: watch::Receiver<u64>,
    pub(super) standings: Standings,
    pub(super) metrics: Arc<Metrics>,
    /// Nothing new is begun once it is cancelled.
    pub(super) drain: CancellationToken,
}

/// An attempt that has ended.
struct Ended {
    key: OutboxKey,
    row: Arc<OutboxRow>,
    outcome: Outcome,
}

/// What is being written down.
struct Settling {
    keys: Vec<OutboxKey>,
    updates: Vec<OutboxUpdate>,
}

impl<Q: Queue, S: Send> Service<Q, S> {
    /// Runs until it is drained and all that was begun has ended, or the writer is gone.
    pub(super) async fn run(mut self) {
        let mut outbox = self.queue.outbox();
        let mut scheduler = Scheduler::new(self.router.settings().sinks.keys().cloned());
        let mut attempts: JoinSet<Ended> = JoinSet::new();
        let mut waiting: Vec<(OutboxKey, OutboxUpdate)> = Vec::new();
        let mut settling: Option<BoxFuture<'static, (Settling, Result<(), Error>)>> = None;
        loop {
            let mut wake = None;
            if !self.drain.is_cancelled() {
                let rows: Outbox = outbox.borrow_and_update().clone();
                let plan = scheduler.plan(&rows, self.queue.now());
                wake = plan.wake;
                for key in plan.start {
                    self.begin(&mut attempts, &rows, key);
                }
                for update in plan.given_up {
                    let Some(key) = key_of(&update) else { continue };
                    self.metrics.count(&key.sink, |counts| counts.dead += 1);
                    waiting.push((key, update));
                }
            }
            if settling.is_none() && !waiting.is_empty() {
                settling = Some(self.settle(std::mem::take(&mut waiting)));
            }
            self.note_standings(&scheduler);
            if self.drain.is_cancelled() && attempts.is_empty() && settling.is_none() {
                return;
            }
            let until = wake.map(|time| self.queue.wait_until(time));
            tokio::select! {
                changed = outbox.changed(), if !self.drain.is_cancelled() => {
                    if changed.is_err() {
                        // The writer is gone, and nothing can be written down any more.
                        return;
                    }
                }
                Some(ended) = attempts.join_next() => {
                    // An attempt catches its panics, and nobody aborts it.
                    let Ok(ended) = ended else { continue };
                    let update = self.ended(&mut scheduler, &ended);
                    waiting.push((ended.key, update));
                }
                (done, result) = async { settling.as_mut().expect("it is there").await },
                    if settling.is_some() =>
                {
                    settling = None;
                    match result {
                        Ok(()) => scheduler.settled(&done.keys),
                        Err(Error::Stopped) => return,
                        Err(error) => {
                            tracing::warn!(%error, "how far notifications are cannot be written down");
                            settling = Some(self.settle_later(done));
                        }
                    }
                }
                Ok(()) = self.changed.changed() => {
                    scheduler.configure(self.router.settings().sinks.keys().cloned());
                }
                Some(()) = async {
                    until?.await;
                    Some(())
                } => {}
                () = self.drain.cancelled(), if !self.drain.is_cancelled() => {}
            }
        }
    }

    fn begin(&self, attempts: &mut JoinSet<Ended>, rows: &Outbox, key: OutboxKey) {
        // The plan was made of these rows, by these sinks; a sink may have gone since.
        let Some(row) = rows.get(&key).cloned() else { return };
        let sink = self.router.settings().sinks.get(&key.sink).cloned();
        let now = self.queue.now();
        let sender = self.sender.clone();
        attempts.spawn(async move {
            let sent = async {
                match sink {
                    Some(sink) => sender.send(sink, Arc::clone(&row), now).await,
                    None => failed(FaultKind::Forbidden, "the sink is no more"),
                }
            };
            let outcome = AssertUnwindSafe(sent).catch_unwind().await.unwrap_or_else(|_| {
                failed(FaultKind::Forbidden, "internal error: the attempt panicked")
            });
            Ended { key, row, outcome }
        });
    }

    fn ended(&self, scheduler: &mut Scheduler, ended: &Ended) -> OutboxUpdate {
        let Ended { key, row, outcome } = ended;
        let now = self.queue.now();
        let update = scheduler.finished(key, row.attempts, outcome.clone(), now, random());
        let (id, kind) = (&*row.notification.id, row.notification.kind.name());
        let attempt = row.attempts.saturating_add(1);
        let sink = &key.sink;
        match outcome {
            Outcome::Delivered => {
                self.metrics.count(sink, |counts| counts.delivered += 1);
                tracing::debug!(%sink, id, kind, attempt, "delivered");
            }
            Outcome::Failed(fault) => {
                let error = plain(&fault.text);
                self.metrics.count(sink, |counts| counts.failed += 1);
                match &update {
                    OutboxUpdate::Dead { .. } => {
                        self.metrics.count(sink, |counts| counts.dead += 1);
                        tracing::error!(%sink, id, kind, attempt, error, "given up; `phasegate notify replay` sends it again");
                    }
                    OutboxUpdate::Failed { next_at, .. } => {
                        tracing::warn!(%sink, id, kind, attempt, error, %next_at, "not delivered");
                    }
                    OutboxUpdate::Delivered(_)
                    | OutboxUpdate::Replay(_)
                    | OutboxUpdate::Discard(_)
                    | OutboxUpdate::Add { .. } => {}
                }
                if fault.kind == FaultKind::Gone {
                    tracing::error!(%sink, "the receiver has answered 410 Gone: the sink is sent nothing until the file of notifications changes");
                }
            }
        }
        update
    }

    fn settle(
        &self,
        waiting: Vec<(OutboxKey, OutboxUpdate)>,
    ) -> BoxFuture<'static, (Settling, Result<(), Error>)> {
        let (keys, updates) = waiting.into_iter().unzip();
        let settling = Settling { keys, updates };
        let settled = self.queue.settle(settling.updates.clone());
        Box::pin(async move { (settling, settled.await) })
    }

    fn settle_later(
        &self,
        settling: Settling,
    ) -> BoxFuture<'static, (Settling, Result<(), Error>)> {
        let queue = self.queue.clone();
        let drain = self.drain.clone();
        Box::pin(async move {
            // Who drains does not wait for space on the disk: the rows are sent once more then.
            tokio::select! {
                () = tokio::time::sleep(SETTLE_AGAIN) => {}
                () = drain.cancelled() => return (settling, Err(Error::Stopped)),
            }
            let settled = queue.settle(settling.updates.clone()).await;
            (settling, settled)
        })
    }

    fn note_standings(&self, scheduler: &Scheduler) {
        let now = self.queue.now();
        let sinks = &self.router.settings().sinks;
        let standings = sinks.keys().map(|sink| (sink.clone(), scheduler.standing(sink, now)));
        let standings = standings.collect();
        *self.standings.0.lock().unwrap_or_else(PoisonError::into_inner) = standings;
    }
}

fn failed(kind: FaultKind, text: &str) -> Outcome {
    Outcome::Failed(Fault { kind, text: text.to_owned() })
}

/// Which row an update is about.
fn key_of(update: &OutboxUpdate) -> Option<OutboxKey> {
    match update {
        OutboxUpdate::Delivered(key)
        | OutboxUpdate::Replay(key)
        | OutboxUpdate::Discard(key)
        | OutboxUpdate::Failed { key, .. }
        | OutboxUpdate::Dead { key, .. } => Some(key.clone()),
        OutboxUpdate::Add { .. } => None,
    }
}

/// Any number. If the operating system has none, delays are what they are without chance.
fn random() -> u64 {
    let mut bytes = [0; 8];
    match aws_lc_rs::rand::fill(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => 0,
    }
}

#[cfg(test)]
mod tests;
