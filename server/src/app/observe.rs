//! What is looked at when somebody asks for the metrics, because nobody counts it as it happens.

use crate::{
    clock::Clock,
    config::Data,
    delivery::Delivery,
    driver::{Handle, OutboxRow, OutboxState},
    notify::Notifier,
    telemetry::{self, Metrics},
    watch::Watches,
};
use phasegate_engine::{release::ReleaseState, time::Timestamp};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// Looks. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Observer {
    metrics: Arc<Metrics>,
    /// Of the operating system, whatever timers follow.
    clock: Arc<dyn Clock>,
    began: Instant,
    data: Option<Arc<PathBuf>>,
    connections: watch::Receiver<usize>,
    running: Arc<OnceLock<Running>>,
}

/// What there is once the store is read.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) driver: Handle,
    pub(super) watches: Watches<Handle>,
    pub(super) delivery: Delivery,
    pub(super) notifier: Option<Notifier>,
}

impl Observer {
    pub(super) fn new(
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        data: &Data,
        connections: watch::Receiver<usize>,
    ) -> Self {
        let data = match data {
            Data::Dir(dir) => Some(Arc::new(dir.clone())),
            Data::Memory => None,
        };
        let running = Arc::default();
        Self { metrics, clock, began: Instant::now(), data, connections, running }
    }

    /// From here on there is more to look at.
    pub(super) fn open(&self, running: Running) {
        // Only the first call counts, and there is one.
        self.running.get_or_init(|| running);
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The time of the operating system.
    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Looks at everything; reads files, so not on a thread that must not wait.
    pub(super) fn look(&self) {
        let metrics = &*self.metrics;
        metrics.uptime.set(self.began.elapsed());
        metrics.connections.set(*self.connections.borrow());
        telemetry::observe_process(metrics);
        if let Some(dir) = &self.data {
            metrics.store_size.set_to(size(dir));
        }
        if let Some(running) = self.running.get() {
            running.look(metrics);
        }
    }
}

impl Running {
    fn look(&self, metrics: &Metrics) {
        let driver = &self.driver;
        let state = driver.state();
        metrics.queue.set(driver.waiting());
        metrics.revision.set_to(state.revision().get());
        metrics.oldest_revision.set_to(driver.oldest().get());
        metrics.flags.set(state.flags().count());
        let mut counts = [0; STATES.len()];
        for place in state.all_unfinished().filter_map(|release| place(release.state())) {
            counts[place] += 1;
        }
        for (name, count) in STATES.iter().zip(counts) {
            metrics.releases.of(name).set(count);
        }
        metrics.watch_streams.set(self.watches.open());
        metrics.watch_lag.set_to(self.watches.lag());
        self.look_at_applications(metrics);
        self.look_at_outbox(metrics);
    }

    fn look_at_applications(&self, metrics: &Metrics) {
        let following = self.delivery.following();
        let sets: usize = following.iter().map(|of| of.streams).sum();
        let up_to_date: usize = following.iter().map(|of| of.up_to_date).sum();
        metrics.applications.of("sets").set(sets);
        metrics.applications.of("changes").set(self.delivery.open().saturating_sub(sets));
        metrics.applications_behind.set(sets.saturating_sub(up_to_date));
    }

    fn look_at_outbox(&self, metrics: &Metrics) {
        let rows = self.driver.outbox().borrow().clone();
        let (mut pending, mut dead) = (0, 0);
        let mut oldest: Option<Timestamp> = None;
        for OutboxRow { state, notification, .. } in rows.values().map(AsRef::as_ref) {
            match state {
                OutboxState::Pending => {
                    pending += 1;
                    let time = notification.time;
                    oldest = Some(oldest.map_or(time, |oldest| oldest.min(time)));
                }
                OutboxState::Dead(_) => dead += 1,
            }
        }
        metrics.outbox.of("pending").set(pending);
        metrics.outbox.of("dead").set(dead);
        let age = oldest.map_or(0, |oldest| self.driver.now().since(oldest).as_millis());
        metrics.outbox_age.set(Duration::from_millis(u64::try_from(age).unwrap_or_default()));
        let Some(notifier) = &self.notifier else { return };
        let counts = notifier.metrics().counts();
        let sum = |of: fn(&crate::notify::Counts) -> u64| counts.values().map(of).sum();
        metrics.attempts.of("delivered").observe(sum(|counts| counts.delivered));
        metrics.attempts.of("failed").observe(sum(|counts| counts.failed));
        metrics.given_up.observe(sum(|counts| counts.dead));
    }
}

const STATES: [&str; 5] = ["pending", "awaiting_approval", "awaiting_window", "baking", "held"];

/// The place of a state among [`STATES`]; none of one that is final.
fn place(state: ReleaseState) -> Option<usize> {
    match state {
        ReleaseState::Pending => Some(0),
        ReleaseState::AwaitingApproval => Some(1),
        ReleaseState::AwaitingWindow => Some(2),
        ReleaseState::Baking => Some(3),
        ReleaseState::Paused => Some(4),
        ReleaseState::Succeeded | ReleaseState::Aborted | ReleaseState::Failed => None,
    }
}

/// Bytes of the files in a directory and below. What goes away meanwhile is not counted.
fn size(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.flatten().map(of).sum()
}
