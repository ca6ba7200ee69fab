//! The room as others have it: start, look, send again, try, reload, drain.

use super::{
    attempt::{Step, Trace, World},
    event::{Event, test_notification},
    metrics::{Counts, Metrics},
    outbox::Queue,
    scheduler::{Outcome, Standing},
    service::{Router, Service, Standings},
    settings::{self, Settings},
};
use crate::driver::{Error, Handle, Outbox, OutboxKey, OutboxRow, OutboxUpdate};
use phasegate_engine::{
    id::{Revision, SinkId},
    time::{Span, Timestamp},
};
use std::{
    future::Future,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How often the file, and what it names, is looked at for changes. A signal is heeded at once.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(10);

/// The clock of the operating system is asked again after this, lest a step of it is slept through.
const STEP_NOTICED: Duration = Duration::from_secs(30);

impl Queue for Handle {
    fn outbox(&self) -> watch::Receiver<Outbox> {
        self.outbox()
    }

    fn settle(
        &self,
        updates: Vec<OutboxUpdate>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let handle = self.clone();
        async move { handle.settle(updates).await }
    }

    fn now(&self) -> Timestamp {
        self.now()
    }

    fn wait_until(&self, time: Timestamp) -> impl Future<Output = ()> + Send + 'static {
        let (manual, left) = (self.manual_clock(), time.since(self.now()));
        async move {
            match manual {
                // A clock that is gone stays where it is.
                Some(mut clock) => {
                    if clock.wait_for(|now| *now >= time).await.map(drop).is_err() {
                        std::future::pending().await
                    }
                }
                None => tokio::time::sleep(duration(left).min(STEP_NOTICED)).await,
            }
        }
    }
}

fn duration(span: Span) -> Duration {
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or_default())
}

/// One sink, for people.
#[derive(Clone, Debug)]
pub struct SinkReport {
    /// Its name.
    pub id: SinkId,
    /// What it is called: how it is sent to.
    pub channel: &'static str,
    /// Where it leads, without anything secret.
    pub shown: String,
    /// How many rows wait.
    pub pending: usize,
    /// How many were given up.
    pub dead: usize,
    /// Why the last attempt of a row that is still there failed; empty if none did.
    pub last_error: Arc<str>,
    /// When the next row is due, if one waits.
    pub next_at: Option<Timestamp>,
    /// Whether it is sent to; none if the file does not name it any more.
    pub standing: Option<Standing>,
    /// What was counted since the process began.
    pub counts: Counts,
}

/// Which dead letters are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Which {
    /// All of the sink.
    All,
    /// Those with these ids of notifications.
    Ids(Vec<String>),
}

/// How a test went.
#[derive(Clone, Debug)]
pub struct TestReport {
    /// What was done.
    pub steps: Vec<Step>,
    /// How it ended.
    pub outcome: Outcome,
}

/// The room. Clones share it.
#[derive(Clone, Debug)]
pub struct Notifier {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    driver: Handle,
    router: Router,
    world: World,
    standings: Standings,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
    reload: Reload,
    service: Mutex<Option<JoinHandle<()>>>,
}

/// How the settings are read anew.
#[derive(Debug)]
struct Reload {
    file: PathBuf,
    changed: watch::Sender<u64>,
    /// What was said last of a file that was refused, so that it is said once.
    refused: Mutex<String>,
}

impl Notifier {
    /// Sends what the driver has, by the router that the driver asks, and follows the file.
    pub fn start(driver: Handle, router: Router, file: PathBuf) -> Self {
        let world = World::new(driver.store_id().to_string());
        let (changed, changes) = watch::channel(0);
        let (standings, metrics) = (Standings::default(), Arc::new(Metrics::default()));
        let drain = CancellationToken::new();
        let service = Service {
            queue: driver.clone(),
            sender: world.clone(),
            router: router.clone(),
            changed: changes,
            standings: standings.clone(),
            metrics: Arc::clone(&metrics),
            drain: drain.clone(),
        };
        let service = Mutex::new(Some(tokio::spawn(service.run())));
        let reload = Reload { file, changed, refused: Mutex::default() };
        let inner = Inner { driver, router, world, standings, metrics, drain, reload, service };
        let notifier = Self { inner: Arc::new(inner) };
        tokio::spawn(notifier.clone().follow());
        notifier
    }

    /// Reads the file again when it changes or a signal says so, until it is drained.
    async fn follow(self) {
        let mut hangup = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
        {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP is not heard");
                None
            }
        };
        loop {
            let signalled = async {
                match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                }
            };
            let asked = tokio::select! {
                _ = signalled => true,
                () = tokio::time::sleep(LOOKED_AT_EVERY) => false,
                () = self.inner.drain.cancelled() => return,
            };
            self.reload(asked).await;
        }
    }

    async fn reload(&self, asked: bool) {
        let Reload { file, changed, refused } = &self.inner.reload;
        let path = file.clone();
        let read = tokio::task::spawn_blocking(move || settings::read(&path)).await;
        // Reading does not panic; if it does, everything stays as it is.
        let Ok(read) = read else { return };
        let mut refused = refused.lock().unwrap_or_else(PoisonError::into_inner);
        match read {
            Ok(settings) => {
                refused.clear();
                if settings.is_same(&self.inner.router.settings()) {
                    if asked {
                        tracing::info!(file = %file.display(), "the file of notifications is unchanged");
                    }
                    return;
                }
                tracing::info!(file = %file.display(), sinks = settings.sinks.len(), "notifications follow the changed file");
                self.inner.router.replace(settings);
                self.inner.metrics.reloaded();
                changed.send_modify(|count| *count += 1);
            }
            Err(error) => {
                let error = error.to_string();
                if asked || *refused != error {
                    tracing::error!(
                        error,
                        "the file of notifications is refused; what was read before holds"
                    );
                    self.inner.metrics.refused();
                    *refused = error;
                }
            }
        }
    }

    /// The settings as they are now.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.router.settings()
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// All sinks of the file, and those that it names no more and that have rows.
    pub fn sinks(&self) -> Vec<SinkReport> {
        let settings = self.settings();
        let counts = self.inner.metrics.counts();
        let rows = self.inner.driver.outbox().borrow().clone();
        let mut reports: std::collections::BTreeMap<SinkId, SinkReport> = settings
            .sinks
            .values()
            .map(|sink| {
                let report = SinkReport {
                    channel: sink.channel.name(),
                    shown: sink.shown.clone(),
                    standing: Some(self.inner.standings.of(&sink.id)),
                    ..SinkReport::nameless(&sink.id, counts.get(&sink.id).copied())
                };
                (sink.id.clone(), report)
            })
            .collect();
        let mut last: std::collections::BTreeMap<&SinkId, u64> = Default::default();
        for (key, row) in &rows {
            let report = reports
                .entry(key.sink.clone())
                .or_insert_with(|| SinkReport::nameless(&key.sink, counts.get(&key.sink).copied()));
            if row.is_pending() {
                report.pending += 1;
                report.next_at = Some(report.next_at.map_or(row.next_at, |at| at.min(row.next_at)));
            } else {
                report.dead += 1;
            }
            if !row.last_error.is_empty() && last.get(&key.sink).is_none_or(|s| *s < key.sequence) {
                last.insert(&key.sink, key.sequence);
                report.last_error = Arc::clone(&row.last_error);
            }
        }
        reports.into_values().collect()
    }

    /// Dead letters of a sink behind one, oldest first, at most so many. None if there is no such sink.
    pub fn dead(
        &self,
        sink: &SinkId,
        after: u64,
        most: usize,
    ) -> Option<Vec<(OutboxKey, Arc<OutboxRow>)>> {
        let rows = self.inner.driver.outbox().borrow().clone();
        let first = OutboxKey { sink: sink.clone(), sequence: after.saturating_add(1) };
        let of_sink = rows.range(first..).take_while(|(key, _)| key.sink == *sink);
        let dead = of_sink.filter(|(_, row)| !row.is_pending()).take(most);
        let dead: Vec<_> = dead.map(|(key, row)| (key.clone(), Arc::clone(row))).collect();
        self.is_known(sink, &rows).then_some(dead)
    }

    fn is_known(&self, sink: &SinkId, rows: &Outbox) -> bool {
        self.settings().sinks.contains_key(sink) || rows.keys().any(|key| key.sink == *sink)
    }

    /// Sends dead letters of a sink again, from the beginning of the schedule. Gives how many; none if
    /// there is no such sink.
    pub async fn replay(&self, sink: &SinkId, which: &Which) -> Result<Option<usize>, Error> {
        let Some(dead) = self.dead(sink, 0, usize::MAX) else { return Ok(None) };
        let is_meant = |row: &OutboxRow| match which {
            Which::All => true,
            Which::Ids(ids) => ids.iter().any(|id| **id == *row.notification.id),
        };
        let meant = dead.into_iter().filter(|(_, row)| is_meant(row));
        let updates: Vec<_> = meant.map(|(key, _)| OutboxUpdate::Replay(key)).collect();
        let count = updates.len();
        if count > 0 {
            self.inner.driver.settle(updates).await?;
        }
        Ok(Some(count))
    }

    /// Sends a test to a sink, now and once, beside the outbox. None if there is no such sink.
    pub async fn test(&self, sink: &SinkId) -> Option<TestReport> {
        let sink = self.settings().sinks.get(sink).cloned()?;
        let revision = *self.inner.driver.head().borrow();
        Some(test(&sink, &self.inner.world, self.inner.driver.now(), revision).await)
    }

    /// Begins nothing new, and waits until what was begun has ended and is written down. Whoever does
    /// not wait risks that something is sent once more, with the same id, after the next start.
    pub async fn drain(&self) {
        self.inner.drain.cancel();
        let service = self.inner.service.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(service) = service
            && let Err(error) = service.await
        {
            tracing::error!(%error, "the service of notifications failed");
        }
    }
}

impl SinkReport {
    fn nameless(id: &SinkId, counts: Option<Counts>) -> Self {
        Self {
            id: id.clone(),
            channel: "not in the file",
            shown: String::new(),
            pending: 0,
            dead: 0,
            last_error: "".into(),
            next_at: None,
            standing: None,
            counts: counts.unwrap_or_default(),
        }
    }
}

/// Sends a test to a sink, now and once: with a server, or with a file alone.
pub async fn test(
    sink: &settings::Sink,
    world: &World,
    now: Timestamp,
    revision: Revision,
) -> TestReport {
    let id = format!("test-{}-{}", now.as_millis(), sink.id);
    let notification = test_notification(id.into(), now, revision);
    let event = Event { notification: &notification, store: &world.store, hop: None };
    let mut trace = Trace::default();
    let outcome = sink.send(&event, now, world, &mut trace).await;
    TestReport { steps: trace.steps().to_vec(), outcome }
}
