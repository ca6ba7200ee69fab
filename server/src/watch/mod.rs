//! Watches: cursors into the log.
//!
//! A watch is a plain [`Stream`]: not polled, it costs one cursor and holds
//! nobody up; dropped, it is gone. The head of the log is a number that it waits for, never a queue
//! of events, so a slow watcher makes no one else slow and loses nothing.
//!
//! Promises, on one stream and across resumed ones, inside the retention of the log:
//!
//! 1. *Ordered*: revisions grow.
//! 2. *Once*: no revision comes twice, none at or below the one resumed from.
//! 3. *Complete*: no commit that concerns the stream is left out.
//! 4. *Whole*: no item ends inside a commit.
//! 5. *Durable*: only what is in the log, which has only what is on disk.
//! 6. *Resumable*: after revision R, in whatever item, nothing at or below R follows.
//! 7. *Contiguous*: the snapshot or the initial set as of R, then every commit above R.
//! 8. *Honest end*: a watch of one release ends without an error only if the release is over and its
//!    last commit was delivered. A watch of many always ends with one.
//!
//! Absent: wire types, status codes and permissions, which are the edge's.

mod config;
mod entry;
mod jitter;
mod level;
mod life;
mod release;
mod releases;
mod slots;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use entry::{Entry, approximate_bytes};
pub(crate) use jitter::Jitter;
pub use level::Level;
pub use life::WatchEnd;
pub use release::ReleaseItem;
pub use releases::{Fate, ReleasesItem, Select};
pub use slots::TooMany;

use crate::{
    driver::LogError,
    store::{LogQuery, StoreId},
};
use futures_util::Stream;
use life::{Drain, Life};
use phasegate_engine::{
    State,
    id::{Principal, ReleaseId, Revision},
    release::Release,
};
use slots::{Slot, Slots};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// What a watch reads. The driver's handle is one.
pub trait Log: Clone + Send + Sync + 'static {
    /// The newest durable revision: a level that rises with every commit. By the time it shows, everything
    /// else here has what it stands for.
    fn commits(&self) -> Arc<Level>;

    /// A level that rises when the other does for a change of this release, or later; for others it need
    /// not. It closes when the other does.
    fn moves(&self, _release: &ReleaseId) -> Arc<Level> {
        self.commits()
    }

    /// Oldest revision whose changes are all in the log; zero if nothing was ever removed.
    fn oldest(&self) -> Revision;

    /// Identity of the store.
    fn store_id(&self) -> StoreId;

    /// The newest durable state; the head may lag behind it.
    fn state(&self) -> State;

    /// Revision of the last change of a release, as of a state that is at least as new as the head.
    fn last_change(&self, release: &ReleaseId) -> Revision;

    /// Reads the log. The changes of one commit are never torn apart.
    fn read(
        &self,
        query: LogQuery,
    ) -> impl Future<Output = Result<Vec<Arc<Entry>>, LogError>> + Send;
}

/// Who watches, and from where.
#[derive(Clone, Debug)]
pub struct Watcher {
    /// Whose slot it takes.
    pub principal: Principal,
    /// The other end of its connection, where it is known.
    pub peer: Option<SocketAddr>,
    /// Everything up to here was delivered before; none: begin with a snapshot.
    pub resume_after: Option<Revision>,
    /// The store that was delivered from; none, or empty: whichever this is.
    pub store_id: Option<String>,
    /// Time that the call itself gives; none: no limit.
    pub time_left: Option<Duration>,
}

/// Why a watch did not begin. In the order in which it is found out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchRefusal {
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// There is no such release.
    #[error("releases/{0} does not exist")]
    NotFound(ReleaseId),
    /// The revision to resume from is another store's.
    #[error("the store was replaced")]
    StoreReplaced,
    /// The log no longer reaches back to the revision to resume from.
    #[error("the log begins at revision {oldest}")]
    Compacted {
        /// Where it begins.
        oldest: Revision,
    },
    /// The store was never at the revision to resume from.
    #[error("the store is at revision {head} only")]
    InFuture {
        /// Where it is.
        head: Revision,
    },
    /// No slot is free.
    #[error(transparent)]
    TooMany(#[from] TooMany),
}

/// Opens watches, counts them, and ends them. Clones share everything.
#[derive(Clone, Debug)]
pub struct Watches<L> {
    log: L,
    config: Arc<Config>,
    slots: Slots,
    jitter: Arc<Jitter>,
    drain: Arc<Drain>,
}

impl<L: Log> Watches<L> {
    /// Of this log.
    pub fn new(log: L, config: Config) -> Self {
        Self::with(log, config, Jitter::new())
    }

    /// Of this log, with the same random times at every run: for simulations.
    pub fn with_jitter(log: L, config: Config, seed: u64) -> Self {
        Self::with(log, config, Jitter::seeded(seed))
    }

    fn with(log: L, config: Config, jitter: Jitter) -> Self {
        let slots = Slots::new(&config);
        let jitter = Arc::new(jitter);
        let drain = Arc::default();
        Self { log, config: Arc::new(config), slots, jitter, drain }
    }

    /// Watches one release.
    pub fn release(
        &self,
        watcher: Watcher,
        release: ReleaseId,
    ) -> Result<impl Stream<Item = Result<ReleaseItem, WatchEnd>> + Send + use<L>, WatchRefusal>
    {
        self.check_not_draining()?;
        // In this order: a commit between the two would be lost otherwise.
        let (head, moves) = (self.log.commits(), self.log.moves(&release));
        let state = self.log.state();
        let found: Option<&Arc<Release>> = state.release(&release);
        let Some(found) = found else { return Err(WatchRefusal::NotFound(release)) };
        self.check_resumable(&watcher, &state)?;
        let slot = self.slots.take(&watcher.principal, watcher.peer)?;
        let from = match watcher.resume_after {
            None => release::Begin::Snapshot(Arc::clone(found), state.revision()),
            Some(after) => release::Begin::After(after, release::Progress::known_at(found, after)),
        };
        let life = self.life(head, moves, &slot, watcher.time_left);
        let (log, config) = (self.log.clone(), Arc::clone(&self.config));
        Ok(release::stream(log, config, release, from, life, slot))
    }

    /// Watches all releases that are selected. To resume, the selection has to be the same.
    pub fn releases<S: Select>(
        &self,
        watcher: Watcher,
        select: S,
    ) -> Result<impl Stream<Item = Result<ReleasesItem, WatchEnd>> + Send + use<L, S>, WatchRefusal>
    {
        self.check_not_draining()?;
        // In this order: a commit between the two would be lost otherwise.
        let head = self.log.commits();
        let state = self.log.state();
        self.check_resumable(&watcher, &state)?;
        let slot = self.slots.take(&watcher.principal, watcher.peer)?;
        let from = match watcher.resume_after {
            None => releases::Begin::InitialSet(Box::new(state)),
            Some(after) => releases::Begin::After(after),
        };
        let life = self.life(Arc::clone(&head), head, &slot, watcher.time_left);
        let (log, config) = (self.log.clone(), Arc::clone(&self.config));
        Ok(releases::stream(log, config, select, from, life, slot))
    }

    /// Refuses new watches, and ends all that there are, each at a random time of its own.
    pub fn drain(&self) {
        self.drain.begin();
        self.slots.wake_all();
    }

    /// How many watches are open.
    pub fn open(&self) -> usize {
        self.slots.taken()
    }

    /// How many commits the slowest open watch is behind the newest one; zero if none is open.
    pub fn lag(&self) -> u64 {
        let head = self.log.commits().reached().get();
        self.slots.slowest().map_or(0, |slowest| head.saturating_sub(slowest.get()))
    }

    /// Refuses if the server is stopping: what is found out first.
    pub fn check_not_draining(&self) -> Result<(), WatchRefusal> {
        if self.drain.has_begun() { Err(WatchRefusal::Draining) } else { Ok(()) }
    }

    fn check_resumable(&self, watcher: &Watcher, state: &State) -> Result<(), WatchRefusal> {
        let given = watcher.store_id.as_deref().filter(|id| !id.is_empty());
        if given.is_some_and(|id| id != self.log.store_id().to_string()) {
            return Err(WatchRefusal::StoreReplaced);
        }
        let Some(after) = watcher.resume_after else { return Ok(()) };
        let oldest = self.log.oldest();
        if after.next() < oldest {
            return Err(WatchRefusal::Compacted { oldest });
        }
        let head = state.revision();
        if after > head {
            return Err(WatchRefusal::InFuture { head });
        }
        Ok(())
    }

    fn life(
        &self,
        head: Arc<Level>,
        moves: Arc<Level>,
        slot: &Slot,
        time_left: Option<Duration>,
    ) -> Life {
        let (config, jitter) = (Arc::clone(&self.config), Arc::clone(&self.jitter));
        let (drain, open) = (Arc::clone(&self.drain), Arc::clone(slot.open()));
        Life::new(config, jitter, head, moves, drain, open, time_left)
    }
}

/// The first of these entries: whole commits as far as they fit, but at least one.
fn within(mut entries: Vec<Arc<Entry>>, bytes_max: usize) -> Vec<Arc<Entry>> {
    let mut bytes = 0;
    let mut end = 0;
    for commit in entries.chunk_by(|a, b| a.change.revision == b.change.revision) {
        bytes += commit.iter().map(|entry| entry.message_bytes()).sum::<usize>();
        if end > 0 && bytes > bytes_max {
            break;
        }
        end += commit.len();
    }
    entries.truncate(end);
    entries
}
