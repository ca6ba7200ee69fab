//! The promises of a watch, over random logs, random resumptions and random moments of reading.

use super::*;
use proptest::{collection::vec, prelude::*};
use std::collections::BTreeSet;

/// What happens while somebody watches.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Half of a commit is published: its state, or its head.
    PublishHalf,
    /// The client reads one item, if there is one.
    Read,
    /// The client reads until there is nothing more.
    ReadAll,
    /// Seconds pass.
    Pass(u8),
    /// The connection breaks, and the client comes back with what it knows.
    Reconnect,
    /// The oldest part of the log is removed.
    Compact(u8),
    /// From here on so much of the log is published between any two looks at it.
    Haste(u8),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => Just(Step::PublishHalf),
        4 => Just(Step::Read),
        2 => Just(Step::ReadAll),
        2 => (0..90_u8).prop_map(Step::Pass),
        1 => Just(Step::Reconnect),
        1 => (0..30_u8).prop_map(Step::Compact),
        1 => (0..4_u8).prop_map(Step::Haste),
    ];
    vec(step, 1..120)
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let release = |flag: usize, index: usize| format!("r-{}-{index}", ["f", "g"][flag]);
    let action = (0..2_usize, 0..4_usize, 0..12_u8, 1..4_usize).prop_map(
        move |(flag_index, index, kind, rules)| {
            let flag = ["f", "g"][flag_index];
            let release = release(flag_index, index);
            let named = id(&release);
            match kind {
                0..=2 => trigger(flag, &release, rules, ConflictPolicy::Queue),
                3 => trigger(flag, &release, rules, ConflictPolicy::Supersede),
                4 => pause(&release),
                5 => unpause(&release),
                6 => abort(&release),
                7 => Action::FullRollout {
                    release: named,
                    expected: Expected::Anything,
                    approvals: Gate::Bypass,
                    windows: Gate::Bypass,
                },
                8 => switch(flag, SwitchTo::Engaged),
                9 => switch(flag, SwitchTo::Lifted),
                _ => Action::SkipPhase {
                    release: named,
                    expected: Expected::Anything,
                    phase: phase_id(rules - 1),
                    approvals: Gate::Bypass,
                },
            }
        },
    );
    vec(action, 0..60)
}

fn configs() -> impl Strategy<Value = Config> {
    (1..6_usize, 0..4_000_usize, 0..4_000_usize).prop_map(|(entries, read, item)| Config {
        read_entries: entries,
        read_bytes: read,
        item_bytes: item,
        ..Config::default()
    })
}

/// A client: it checks each item against the whole log, and keeps what it needs to come back.
trait Client {
    type Item;

    /// Opens a stream with what the client knows.
    fn open(&mut self, watches: &Watches<FakeLog>) -> Result<BoxStream<Self::Item>, WatchRefusal>;

    /// Checks an item.
    fn take(&mut self, log: &FakeLog, item: Self::Item);

    /// The stream has nothing more for now.
    fn rests(&self, log: &FakeLog);

    /// The stream has ended without an error.
    fn ended(&self, log: &FakeLog);

    /// Forgets everything: the next stream begins anew.
    fn forget(&mut self);

    /// Everything up to here was delivered.
    fn delivered(&self) -> Option<Revision>;
}

type BoxStream<T> = Pin<Box<dyn Stream<Item = Result<T, WatchEnd>> + Send>>;

async fn run<C: Client>(mut client: C, log: &FakeLog, config: Config, steps: &[Step]) {
    let watches = Watches::new(log.clone(), config);
    let mut stream = None;
    let last = [Step::PublishHalf, Step::PublishHalf, Step::ReadAll, Step::ReadAll];
    for step in steps.iter().chain(&last) {
        match step {
            Step::PublishHalf => log.publish_half(),
            Step::Read => read(&mut client, log, &watches, &mut stream, 1),
            Step::ReadAll => read(&mut client, log, &watches, &mut stream, usize::MAX),
            Step::Pass(seconds) => {
                let time = Duration::from_secs(u64::from(*seconds));
                tokio::time::advance(time).await;
            }
            Step::Reconnect => stream = None,
            Step::Compact(up_to) => {
                let mut shown = log.shown.lock().unwrap();
                let head = log.commits[shown.head].state.revision();
                let oldest = Revision::new(u64::from(*up_to)).min(head.next());
                shown.oldest = shown.oldest.max(oldest);
            }
            Step::Haste(haste) => log.shown.lock().unwrap().haste = *haste,
        }
    }
}

fn read<C: Client>(
    client: &mut C,
    log: &FakeLog,
    watches: &Watches<FakeLog>,
    stream: &mut Option<BoxStream<C::Item>>,
    most: usize,
) {
    for _ in 0..most {
        if stream.is_none() {
            match client.open(watches) {
                Ok(opened) => *stream = Some(opened),
                Err(WatchRefusal::Compacted { oldest }) => {
                    // Not without need.
                    assert!(client.delivered().unwrap().next() < oldest);
                    client.forget();
                    continue;
                }
                // The release does not exist yet.
                Err(WatchRefusal::NotFound(_)) => return,
                Err(other) => panic!("{other}"),
            }
        }
        let Some(open) = stream.as_mut() else { return };
        match poll(open) {
            Poll::Ready(Some(Ok(item))) => client.take(log, item),
            Poll::Ready(Some(Err(WatchEnd::Compacted { oldest }))) => {
                assert!(client.delivered().is_none_or(|delivered| delivered.next() < oldest));
                client.forget();
                *stream = None;
            }
            Poll::Ready(Some(Err(_))) => *stream = None,
            Poll::Ready(None) => {
                client.ended(log);
                return *stream = None;
            }
            Poll::Pending => return client.rests(log),
        }
    }
}

/// Watches one release.
struct OfOne {
    release: ReleaseId,
    delivered: Option<Revision>,
}

impl OfOne {
    /// What the log has of the release above what was delivered.
    fn missing<'a>(&'a self, log: &'a FakeLog) -> impl Iterator<Item = &'a Arc<Entry>> {
        let delivered = self.delivered;
        log.entries().filter(move |entry| {
            *entry.change.release.id() == self.release && Some(entry.change.revision) > delivered
        })
    }
}

impl Client for OfOne {
    type Item = ReleaseItem;

    fn open(&mut self, watches: &Watches<FakeLog>) -> Result<BoxStream<ReleaseItem>, WatchRefusal> {
        let watcher = Watcher { resume_after: self.delivered, ..watcher() };
        Ok(Box::pin(watches.release(watcher, self.release.clone())?))
    }

    fn take(&mut self, log: &FakeLog, item: ReleaseItem) {
        let shown = log.shown_state().revision();
        match item {
            ReleaseItem::Snapshot { release, revision } => {
                assert_eq!(self.delivered, None, "a resumed stream has no snapshot");
                assert!(revision <= shown, "durable");
                assert_eq!(Some(&release), log.state_at(revision).release(&self.release));
                self.delivered = Some(revision);
            }
            ReleaseItem::Change(entry) => {
                assert!(self.delivered.is_some(), "a snapshot comes first");
                assert!(entry.change.revision <= shown, "durable");
                let next = self.missing(log).next().expect("ordered and once");
                assert_eq!(entry.change, next.change, "complete and whole");
                self.delivered = Some(entry.change.revision);
            }
            ReleaseItem::Bookmark(revision) => {
                assert!(revision <= shown, "durable");
                assert!(Some(revision) >= self.delivered, "ordered");
                let next = self.missing(log).next().map(|entry| entry.change.revision);
                assert!(next.is_none_or(|next| next > revision), "complete");
                self.delivered = Some(revision);
            }
        }
    }

    fn rests(&self, log: &FakeLog) {
        let head = log.head.reached();
        let next = self.missing(log).next().map(|entry| entry.change.revision);
        assert!(next.is_none_or(|next| next > head), "{next:?} is due");
    }

    fn ended(&self, log: &FakeLog) {
        assert_eq!(self.missing(log).count(), 0, "an honest end");
        assert!(log.shown_state().release(&self.release).unwrap().is_over(), "an honest end");
    }

    fn forget(&mut self) {
        self.delivered = None;
    }

    fn delivered(&self) -> Option<Revision> {
        self.delivered
    }
}

/// Selects the releases of some flags in some states.
#[derive(Clone, Debug)]
struct Wanted {
    flags: BTreeSet<&'static str>,
    states: BTreeSet<ReleaseState>,
}

impl Select for Wanted {
    fn matches(&self, release: &Release, state: ReleaseState) -> bool {
        self.flags.contains(release.proposal.flag.as_str()) && self.states.contains(&state)
    }
}

impl Wanted {
    fn in_state(&self, state: &State) -> BTreeMap<ReleaseId, Arc<Release>> {
        let wanted = state.releases().filter(|release| self.matches(release, release.state()));
        wanted.map(|release| (release.id().clone(), Arc::clone(release))).collect()
    }
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let flags = proptest::sample::subsequence(vec!["f", "g"], 1..=2);
    let states = [
        ReleaseState::Pending,
        ReleaseState::Baking,
        ReleaseState::Paused,
        ReleaseState::Succeeded,
        ReleaseState::Aborted,
        ReleaseState::Failed,
    ];
    let states = proptest::sample::subsequence(states.to_vec(), 1..=6);
    (flags, states).prop_map(|(flags, states)| Wanted {
        flags: flags.into_iter().collect(),
        states: states.into_iter().collect(),
    })
}

/// Watches many, and knows at each moment which releases it would show.
struct OfMany {
    wanted: Wanted,
    delivered: Option<Revision>,
    initial: BTreeMap<ReleaseId, Arc<Release>>,
    known: BTreeMap<ReleaseId, Arc<Release>>,
}

impl OfMany {
    /// What the log has for this client above what was delivered, up to a revision. Found by
    /// comparing whole states, which is not how the stream does it.
    fn missing(&self, log: &FakeLog, up_to: Revision) -> Vec<(Revision, ReleaseId, Fate)> {
        let mut missing = Vec::new();
        for pair in log.commits.windows(2) {
            let [before, after] = pair else { continue };
            let revision = after.state.revision();
            if Some(revision) <= self.delivered || revision > up_to {
                continue;
            }
            let (was, is) =
                (self.wanted.in_state(&before.state), self.wanted.in_state(&after.state));
            for release in after.state.releases() {
                let id = release.id();
                if before.state.release(id) == Some(release) {
                    continue;
                }
                let fate = match (was.contains_key(id), is.contains_key(id)) {
                    (_, true) => Fate::Kept,
                    (true, false) => Fate::Removed,
                    (false, false) => continue,
                };
                missing.push((revision, id.clone(), fate));
            }
        }
        missing
    }
}

impl Client for OfMany {
    type Item = ReleasesItem;

    fn open(
        &mut self,
        watches: &Watches<FakeLog>,
    ) -> Result<BoxStream<ReleasesItem>, WatchRefusal> {
        // A broken initial set is begun anew.
        self.initial.clear();
        let watcher = Watcher { resume_after: self.delivered, ..watcher() };
        Ok(Box::pin(watches.releases(watcher, self.wanted.clone())?))
    }

    fn take(&mut self, log: &FakeLog, item: ReleasesItem) {
        let shown = log.shown_state().revision();
        match item {
            ReleasesItem::Initial(releases) => {
                assert_eq!(self.delivered, None, "a resumed stream has no initial set");
                assert!(!releases.is_empty());
                for release in releases {
                    let twice = self.initial.insert(release.id().clone(), release);
                    assert_eq!(twice, None, "once");
                }
            }
            ReleasesItem::Synced(revision) => {
                assert_eq!(self.delivered, None, "a resumed stream has no initial set");
                assert!(revision <= shown, "durable");
                self.known = std::mem::take(&mut self.initial);
                self.delivered = Some(revision);
            }
            ReleasesItem::Changes { revision, changes } => {
                assert!(self.delivered.is_some(), "the initial set comes first");
                assert!(revision <= shown, "durable");
                assert!(!changes.is_empty());
                let came = changes.iter().map(|(entry, fate)| {
                    (entry.change.revision, entry.change.release.id().clone(), *fate)
                });
                let came: Vec<_> = came.collect();
                assert_eq!(came, self.missing(log, revision), "ordered, once, complete and whole");
                for (entry, fate) in changes {
                    let id = entry.change.release.id().clone();
                    match fate {
                        Fate::Kept => self.known.insert(id, Arc::clone(&entry.change.release)),
                        Fate::Removed => self.known.remove(&id),
                    };
                }
                self.delivered = Some(revision);
            }
            ReleasesItem::Bookmark(revision) => {
                assert!(revision <= shown, "durable");
                assert!(Some(revision) >= self.delivered, "ordered");
                assert_eq!(self.missing(log, revision), [], "complete");
                self.delivered = Some(revision);
            }
        }
        if let Some(delivered) = self.delivered {
            assert_eq!(self.known, self.wanted.in_state(log.state_at(delivered)), "contiguous");
        }
    }

    fn rests(&self, log: &FakeLog) {
        assert!(self.delivered.is_some(), "an initial set ends");
        assert_eq!(self.missing(log, log.head.reached()), []);
    }

    fn ended(&self, _: &FakeLog) {
        panic!("a watch of many never ends without an error");
    }

    fn forget(&mut self) {
        self.delivered = None;
        self.known.clear();
    }

    fn delivered(&self) -> Option<Revision> {
        self.delivered
    }
}

fn with_paused_time(test: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().start_paused(true).build().unwrap().block_on(test);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_watch_of_one_release_keeps_its_promises(
        actions in actions(),
        steps in steps(),
        config in configs(),
        release in (0..2_usize, 0..4_usize),
    ) {
        with_paused_time(async {
            let release = id(&format!("r-{}-{}", ["f", "g"][release.0], release.1));
            let log = FakeLog::new(commits(actions));
            run(OfOne { release, delivered: None }, &log, config, &steps).await;
        });
    }

    #[test]
    fn a_watch_of_many_releases_keeps_its_promises(
        actions in actions(),
        steps in steps(),
        config in configs(),
        wanted in wanted(),
    ) {
        with_paused_time(async {
            let log = FakeLog::new(commits(actions));
            let (initial, known) = (BTreeMap::new(), BTreeMap::new());
            run(OfMany { wanted, delivered: None, initial, known }, &log, config, &steps).await;
        });
    }
}
