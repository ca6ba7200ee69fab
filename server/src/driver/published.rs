//! What the writer has published: durable, and read by everyone without asking the writer.

use super::{followed::Followed, outbox::Outbox, ring::Ring};
use crate::{
    clock::Clock,
    store::{LogQuery, Order, StoreId, audit::AuditHead},
    telemetry::Metrics,
    watch::{Entry, Level},
};
use arc_swap::ArcSwap;
use phasegate_engine::{State, id::Revision};
use std::sync::{
    Arc, PoisonError, RwLock,
    atomic::{AtomicU64, Ordering},
};
use tokio::sync::watch;

/// The readers' side.
#[derive(Debug)]
pub(super) struct Published {
    pub(super) store_id: StoreId,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) head: watch::Receiver<Revision>,
    pub(super) audit: watch::Receiver<AuditHead>,
    pub(super) outbox: watch::Receiver<Outbox>,
    /// The head, for watches.
    pub(super) commits: Arc<Level>,
    pub(super) followed: Followed,
    state: ArcSwap<State>,
    ring: RwLock<Ring>,
    oldest: AtomicU64,
}

/// The writer's side. When it is dropped the head is closed, which ends all watches.
#[derive(Debug)]
pub(super) struct Publisher {
    published: Arc<Published>,
    head: watch::Sender<Revision>,
    audit: watch::Sender<AuditHead>,
    outbox: watch::Sender<Outbox>,
}

/// What is published besides the state.
#[derive(Debug)]
pub(super) struct Beside {
    pub(super) audit: AuditHead,
    pub(super) outbox: Outbox,
    pub(super) metrics: Arc<Metrics>,
}

impl Published {
    /// The newest durable state.
    pub(super) fn state(&self) -> arc_swap::Guard<Arc<State>> {
        self.state.load()
    }

    /// Oldest revision whose changes are all in the log.
    pub(super) fn oldest(&self) -> Revision {
        Revision::new(self.oldest.load(Ordering::Acquire))
    }

    /// True if the log reaches back to where the reading begins. One that begins at the newest end
    /// simply ends where the log does.
    pub(super) fn reaches_back(&self, query: &LogQuery) -> bool {
        match query.order {
            Order::OldestFirst => query.after.next() >= self.oldest(),
            Order::NewestFirst => true,
        }
    }

    /// A stretch of the log, if it is in memory.
    pub(super) fn recent(&self, query: &LogQuery) -> Option<Vec<Arc<Entry>>> {
        self.ring.read().unwrap_or_else(PoisonError::into_inner).read(query)
    }
}

impl Drop for Publisher {
    fn drop(&mut self) {
        self.published.commits.close();
        self.published.followed.end();
    }
}

impl Publisher {
    pub(super) fn new(
        store_id: StoreId,
        clock: Arc<dyn Clock>,
        state: State,
        oldest: Revision,
        beside: Beside,
        log_bytes_max: usize,
    ) -> Self {
        let (sender, head) = watch::channel(state.revision());
        let (audit_sender, audit) = watch::channel(beside.audit);
        let (outbox_sender, outbox) = watch::channel(beside.outbox);
        let published = Published {
            store_id,
            clock,
            metrics: beside.metrics,
            head,
            audit,
            outbox,
            commits: Arc::new(Level::new(state.revision())),
            followed: Followed::default(),
            ring: RwLock::new(Ring::new(state.revision(), log_bytes_max)),
            state: ArcSwap::from_pointee(state),
            oldest: AtomicU64::new(oldest.get()),
        };
        let published = Arc::new(published);
        Self { published, head: sender, audit: audit_sender, outbox: outbox_sender }
    }

    pub(super) fn published(&self) -> &Arc<Published> {
        &self.published
    }

    /// Shows what became durable. The head comes last but for who is woken by it: whoever sees it finds the
    /// rest.
    pub(super) fn publish(&self, state: &State, entries: &[Arc<Entry>]) {
        self.ring_mut(|ring| ring.push(entries.iter().map(Arc::clone)));
        self.published.state.store(Arc::new(state.clone()));
        self.head.send_replace(state.revision());
        self.published.commits.raise(state.revision());
        for entry in entries {
            self.published.followed.raise(entry.change.release.id(), entry.change.revision);
        }
    }

    /// Shows how far the audit chain has got.
    pub(super) fn publish_audit(&self, head: AuditHead) {
        self.audit.send_replace(head);
    }

    /// Shows what waits to be sent.
    pub(super) fn publish_outbox(&self, outbox: Outbox) {
        self.outbox.send_replace(outbox);
    }

    /// Shows that the log begins later than before.
    pub(super) fn raise_oldest(&self, oldest: Revision) {
        self.published.oldest.store(oldest.get(), Ordering::Release);
        let gone = Revision::new(oldest.get().saturating_sub(1));
        self.ring_mut(|ring| ring.forget_up_to(gone));
    }

    fn ring_mut(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut self.published.ring.write().unwrap_or_else(PoisonError::into_inner));
    }
}
