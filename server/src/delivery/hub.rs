//! One set for each environment that somebody follows, made when the state moves and shared by all.
//!
//! Compiled once for each change, at most every [`Config::pause`], by one task for each scope that
//! lives as long as somebody follows it. A follower is a cursor that jumps: it gets the newest set
//! and none in between, so a slow one costs no more than a fast one and holds nobody up.

use super::{
    Config,
    flag_set::{FlagSet, Scope},
    refusal::Refusal,
};
use crate::{driver::Handle, grpc::Api, watch::Jitter};
use phasegate_engine::{
    State, environment,
    id::{EnvironmentId, Revision},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// All scopes that somebody follows. Clones share everything.
#[derive(Clone, Debug)]
pub(super) struct Hub {
    api: Api,
    config: Arc<Config>,
    drain_over: Duration,
    channels: Arc<Mutex<BTreeMap<Scope, Arc<Channel>>>>,
    streams: Arc<Semaphore>,
    jitter: Arc<Jitter>,
}

/// One scope, and those who follow it.
#[derive(Debug)]
struct Channel {
    newest: watch::Sender<Arc<FlagSet>>,
    /// Cancelled when there will be no more: the writer is gone.
    gone: CancellationToken,
    /// How many followers of sets were last given the set of which revision.
    given: Mutex<BTreeMap<Revision, usize>>,
}

/// How an environment is followed by in-process providers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Following {
    /// Which.
    pub environment: EnvironmentId,
    /// Streams that are open.
    pub streams: usize,
    /// The commit that its newest set is of.
    pub newest: Revision,
    /// Streams whose last set is that one.
    pub up_to_date: usize,
    /// The commit that the oldest set is of that a stream was last given.
    pub oldest: Revision,
    /// Bytes of the newest set.
    pub bytes: usize,
}

/// What a follower is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It hands out whole sets: an application holds them, and the page counts it.
    Sets,
    /// It says what has changed.
    Changes,
}

impl Hub {
    pub(super) fn new(api: Api, config: Arc<Config>, drain_over: Duration) -> Self {
        let streams = Arc::new(Semaphore::new(config.streams));
        let jitter = Arc::new(Jitter::new());
        Self { api, config, drain_over, channels: Arc::default(), streams, jitter }
    }

    /// The driver, once the server has its store.
    pub(super) fn driver(&self) -> Result<&Handle, Refusal> {
        self.api.driver().map_err(|_| Refusal::Starting)
    }

    /// Refuses an environment that nothing names.
    pub(super) fn check_environment(
        &self,
        state: &State,
        id: &EnvironmentId,
    ) -> Result<(), Refusal> {
        if self.config.environments().contains(id) || environment::is_environment(state, id) {
            return Ok(());
        }
        Err(Refusal::UnknownEnvironment(id.clone()))
    }

    /// The newest set of an environment, once.
    pub(super) fn newest(&self, id: &EnvironmentId) -> Result<Arc<FlagSet>, Refusal> {
        let state = self.driver()?.state();
        self.check_environment(&state, id)?;
        let scope = Scope::Of(id.clone());
        let channel = lock(&self.channels).get(&scope).cloned();
        let before = channel.map(|channel| channel.newest.borrow().clone());
        let set = FlagSet::compile(&state, &scope, self.api.bucketing(), before.as_ref());
        self.check_size(&scope, &set)?;
        Ok(set)
    }

    /// Follows a scope from its newest set on.
    pub(super) fn follow(&self, scope: Scope, purpose: Purpose) -> Result<Follower, Refusal> {
        let driver = self.driver()?;
        if let Scope::Of(id) = &scope {
            self.check_environment(&driver.state(), id)?;
        }
        if self.api.draining().is_cancelled() {
            return Err(Refusal::Draining);
        }
        let permit = Arc::clone(&self.streams).try_acquire_owned();
        let permit = permit.map_err(|_| Refusal::TooManyStreams(self.config.streams))?;
        let mut channels = lock(&self.channels);
        let channel = match channels.get(&scope) {
            Some(channel) => Arc::clone(channel),
            None => {
                let state = driver.state();
                let set = FlagSet::compile(&state, &scope, self.api.bucketing(), None);
                self.check_size(&scope, &set)?;
                let channel = Arc::new(Channel {
                    newest: watch::Sender::new(set),
                    gone: CancellationToken::new(),
                    given: Mutex::default(),
                });
                channels.insert(scope.clone(), Arc::clone(&channel));
                let publisher = Publisher {
                    hub: self.clone(),
                    driver: driver.clone(),
                    scope,
                    seen: state.revision(),
                    channel: Arc::clone(&channel),
                };
                tokio::spawn(publisher.run());
                channel
            }
        };
        // Subscribed under the lock, so that the task does not take the channel for one that nobody
        // follows.
        let mut sets = channel.newest.subscribe();
        sets.mark_changed();
        drop(channels);
        let now = Instant::now();
        let tenth = self.config.lifetime / 10;
        let dies = now + self.config.lifetime - tenth + self.jitter.up_to(2 * tenth);
        Ok(Follower {
            sets,
            channel,
            purpose,
            given: None,
            dies,
            dies_of: Refusal::Expired,
            draining: self.api.draining(),
            drain_over: self.drain_over,
            jitter: Arc::clone(&self.jitter),
            _permit: permit,
        })
    }

    /// Which environments are followed by in-process providers, and how far they are.
    pub(super) fn following(&self) -> Vec<Following> {
        let channels = lock(&self.channels);
        let of = |(scope, channel): (&Scope, &Arc<Channel>)| {
            let Scope::Of(environment) = scope else { return None };
            let set = channel.newest.borrow().clone();
            let given = lock(&channel.given);
            let streams = given.values().sum();
            let oldest = *given.keys().next()?;
            Some(Following {
                environment: environment.clone(),
                streams,
                newest: set.revision,
                up_to_date: given.get(&set.revision).copied().unwrap_or_default(),
                oldest,
                bytes: set.bytes(),
            })
        };
        channels.iter().filter_map(of).collect()
    }

    /// How many streams are open, for whatever purpose.
    pub(super) fn open(&self) -> usize {
        self.config.streams.saturating_sub(self.streams.available_permits())
    }

    /// Refuses a set that no client would take.
    fn check_size(&self, scope: &Scope, set: &FlagSet) -> Result<(), Refusal> {
        let Scope::Of(environment) = scope else { return Ok(()) };
        let (bytes, max) = (set.bytes(), self.config.set_bytes_max);
        if bytes <= max {
            return Ok(());
        }
        Err(Refusal::TooLarge { environment: environment.clone(), bytes, max })
    }
}

/// The task that keeps one scope at the newest state.
struct Publisher {
    hub: Hub,
    driver: Handle,
    scope: Scope,
    seen: Revision,
    channel: Arc<Channel>,
}

impl Publisher {
    async fn run(mut self) {
        let mut head = self.driver.head();
        let mut oversized = Oversized::No;
        loop {
            let seen = self.seen;
            tokio::select! {
                moved = head.wait_for(|head| *head > seen) => {
                    if moved.is_err() {
                        self.channel.gone.cancel();
                        lock(&self.hub.channels).remove(&self.scope);
                        return;
                    }
                }
                () = self.channel.newest.closed() => {
                    if self.leave() {
                        return;
                    }
                    continue;
                }
            }
            oversized = self.publish(oversized);
            // Also after a commit that concerns nobody here, so that many of them cost little.
            sleep(self.hub.config.pause).await;
        }
    }

    /// Makes the newest set, and shows it if it is another one.
    fn publish(&mut self, oversized: Oversized) -> Oversized {
        let state = self.driver.state();
        self.seen = state.revision();
        let before = self.channel.newest.borrow().clone();
        let bucketing = self.hub.api.bucketing();
        let set = FlagSet::compile(&state, &self.scope, bucketing, Some(&before));
        if Arc::ptr_eq(&set, &before) {
            return oversized;
        }
        let Err(problem) = self.hub.check_size(&self.scope, &set) else {
            self.channel.newest.send_replace(set);
            return Oversized::No;
        };
        // The writer refuses what leads here, so this is a store from before, or another limit than
        // before. What was sent last stays: an empty set would be worse.
        if oversized == Oversized::No {
            tracing::error!(%problem, scope = ?self.scope, "a flag set is too large to be sent");
        }
        Oversized::Said
    }

    /// Ends the channel, unless somebody has come meanwhile.
    fn leave(&self) -> bool {
        let mut channels = lock(&self.hub.channels);
        let alone = self.channel.newest.receiver_count() == 0;
        if alone {
            channels.remove(&self.scope);
        }
        alone
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Oversized {
    No,
    Said,
}

/// One stream that follows a scope.
#[derive(Debug)]
pub(super) struct Follower {
    sets: watch::Receiver<Arc<FlagSet>>,
    channel: Arc<Channel>,
    purpose: Purpose,
    given: Option<Revision>,
    dies: Instant,
    dies_of: Refusal,
    draining: CancellationToken,
    drain_over: Duration,
    jitter: Arc<Jitter>,
    _permit: OwnedSemaphorePermit,
}

impl Follower {
    /// The newest set, at once at first and then whenever there is another. An error is the end.
    pub(super) async fn next(&mut self) -> Result<Arc<FlagSet>, Refusal> {
        loop {
            let is_draining = matches!(self.dies_of, Refusal::Draining);
            tokio::select! {
                biased;
                () = sleep_until(self.dies) => return Err(self.dies_of.clone()),
                () = self.draining.cancelled(), if !is_draining => {
                    // Each at a time of its own, lest all come back at once.
                    let ends = Instant::now() + self.jitter.up_to(self.drain_over);
                    self.dies = self.dies.min(ends);
                    self.dies_of = Refusal::Draining;
                }
                () = self.channel.gone.cancelled() => return Err(Refusal::Draining),
                // The channel holds the sender, so this cannot fail.
                _ = self.sets.changed() => {
                    let set = self.sets.borrow_and_update().clone();
                    self.note(set.revision);
                    return Ok(set);
                }
            }
        }
    }

    /// Remembers for the page what the stream was given.
    fn note(&mut self, revision: Revision) {
        if self.purpose == Purpose::Sets {
            self.forget();
            *lock(&self.channel.given).entry(revision).or_default() += 1;
            self.given = Some(revision);
        }
    }

    fn forget(&mut self) {
        if let Some(given) = self.given.take() {
            let mut all = lock(&self.channel.given);
            if let Some(count) = all.get_mut(&given) {
                *count -= 1;
                if *count == 0 {
                    all.remove(&given);
                }
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.forget();
    }
}

/// What is behind these locks is right at every moment at which something could panic.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
