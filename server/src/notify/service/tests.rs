use super::*;
use crate::{
    driver::OutboxState,
    notify::{
        ATTEMPTS_AT_A_TIME,
        testing::{START, approval_due, settings_of},
    },
};
use phasegate_engine::time::Span;
use std::future::Future;
use tokio::{sync::mpsc, time::Instant};

/// An outbox in memory, whose clock is tokio's, which a test turns.
#[derive(Clone, Debug)]
struct Memory {
    rows: watch::Sender<Outbox>,
    started: Instant,
    disk: Arc<Mutex<Disk>>,
    settled: Arc<Mutex<Vec<OutboxUpdate>>>,
}

/// Whether anything can be written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Disk {
    Good,
    Full,
}

impl Memory {
    fn new(rows: &[(&str, u64)]) -> Self {
        let row = |(name, sequence): &(&str, u64)| {
            let row = OutboxRow::new(approval_due(&format!("r-{sequence}")));
            (OutboxKey { sink: sink(name), sequence: *sequence }, Arc::new(row))
        };
        Self {
            rows: watch::Sender::new(rows.iter().map(row).collect()),
            started: Instant::now(),
            disk: Arc::new(Mutex::new(Disk::Good)),
            settled: Arc::default(),
        }
    }

    async fn until(&self, what: impl Fn(&Outbox) -> bool) {
        self.rows.subscribe().wait_for(what).await.map(drop).unwrap();
    }

    fn apply(&self, update: OutboxUpdate, now: Timestamp) {
        self.rows.send_modify(|rows| match update {
            OutboxUpdate::Delivered(key) => {
                rows.remove(&key);
            }
            OutboxUpdate::Failed { key, error, next_at } => {
                let row = Arc::make_mut(rows.get_mut(&key).unwrap());
                (row.attempts, row.last_error, row.next_at) = (row.attempts + 1, error, next_at);
            }
            OutboxUpdate::Dead { key, error } => {
                let row = Arc::make_mut(rows.get_mut(&key).unwrap());
                (row.attempts, row.last_error) = (row.attempts + 1, error);
                row.state = OutboxState::Dead(now);
            }
            update @ (OutboxUpdate::Replay(_)
            | OutboxUpdate::Discard(_)
            | OutboxUpdate::Add { .. }) => panic!("{update:?}"),
        });
    }
}

impl Queue for Memory {
    fn outbox(&self) -> watch::Receiver<Outbox> {
        self.rows.subscribe()
    }

    fn settle(
        &self,
        updates: Vec<OutboxUpdate>,
    ) -> impl Future<Output = Result<(), Error>> + std::marker::Send + 'static {
        let memory = self.clone();
        async move {
            // The writer is another thread.
            tokio::task::yield_now().await;
            if *memory.disk.lock().unwrap() == Disk::Full {
                return Err(Error::DiskFull);
            }
            for update in updates {
                memory.settled.lock().unwrap().push(update.clone());
                memory.apply(update, memory.now());
            }
            Ok(())
        }
    }

    fn now(&self) -> Timestamp {
        START + Span::from_millis(i64::try_from(self.started.elapsed().as_millis()).unwrap())
    }

    fn wait_until(
        &self,
        time: Timestamp,
    ) -> impl Future<Output = ()> + std::marker::Send + 'static {
        let left = time.since(self.now()).as_millis();
        tokio::time::sleep(Duration::from_millis(u64::try_from(left).unwrap()))
    }
}

/// How a receiver behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Takes,
    Fails,
    /// Takes, after so many seconds.
    Slow(u64),
    Panics,
}

/// Receivers, and what was sent to them.
#[derive(Clone, Debug)]
struct Receivers {
    behaviour: Arc<Mutex<BTreeMap<&'static str, Behaviour>>>,
    sent: mpsc::UnboundedSender<(String, String, Instant)>,
}

impl Send for Receivers {
    fn send(
        &self,
        sink: Arc<Sink>,
        row: Arc<OutboxRow>,
        _: Timestamp,
    ) -> BoxFuture<'static, Outcome> {
        let behaviour = self.behaviour.lock().unwrap()[sink.id.as_str()];
        let sent = (sink.id.to_string(), row.notification.id.to_string(), Instant::now());
        self.sent.send(sent).unwrap();
        Box::pin(async move {
            match behaviour {
                Behaviour::Takes => Outcome::Delivered,
                Behaviour::Fails => failed(FaultKind::Unreachable, "down"),
                Behaviour::Slow(seconds) => {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                    Outcome::Delivered
                }
                Behaviour::Panics => panic!("on purpose"),
            }
        })
    }
}

fn sink(name: &str) -> SinkId {
    SinkId::parse(name).unwrap()
}

/// A service over an outbox in memory.
struct World {
    memory: Memory,
    receivers: Receivers,
    sent: mpsc::UnboundedReceiver<(String, String, Instant)>,
    router: Router,
    changed: watch::Sender<u64>,
    drain: CancellationToken,
    metrics: Arc<Metrics>,
    service: tokio::task::JoinHandle<()>,
    _files: tempfile::TempDir,
}

impl World {
    fn start(sinks: &[(&'static str, Behaviour)], rows: &[(&str, u64)]) -> Self {
        let memory = Memory::new(rows);
        let (sent, arrivals) = mpsc::unbounded_channel();
        let behaviour = Arc::new(Mutex::new(sinks.iter().copied().collect()));
        let receivers = Receivers { behaviour, sent };
        let names: Vec<_> = sinks.iter().map(|(name, _)| *name).collect();
        let (settings, files) = settings_of(&names);
        let router = Router::new(settings);
        let (changed, changes) = watch::channel(0);
        let (drain, metrics) = (CancellationToken::new(), Arc::new(Metrics::default()));
        let service = Service {
            queue: memory.clone(),
            sender: receivers.clone(),
            router: router.clone(),
            changed: changes,
            standings: Standings::default(),
            metrics: Arc::clone(&metrics),
            drain: drain.clone(),
        };
        let service = tokio::spawn(service.run());
        let sent = arrivals;
        Self { memory, receivers, sent, router, changed, drain, metrics, service, _files: files }
    }

    fn behave(&self, name: &'static str, behaviour: Behaviour) {
        self.receivers.behaviour.lock().unwrap().insert(name, behaviour);
    }

    /// Everything that was sent until now, as sink and id.
    fn sent(&mut self) -> Vec<(String, String)> {
        let mut sent = Vec::new();
        while let Ok((name, id, _)) = self.sent.try_recv() {
            sent.push((name, id));
        }
        sent.sort();
        sent
    }
}

fn of(rows: &Outbox, name: &str) -> usize {
    rows.keys().filter(|key| key.sink == sink(name)).count()
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_or_fails_does_not_delay_another() {
    let sinks =
        [("bad", Behaviour::Fails), ("good", Behaviour::Takes), ("slow", Behaviour::Slow(10))];
    let mut rows: Vec<(&str, u64)> = Vec::new();
    for sequence in 0..100 {
        rows.extend([
            ("bad", sequence * 3),
            ("good", sequence * 3 + 1),
            ("slow", sequence * 3 + 2),
        ]);
    }
    let begun = Instant::now();
    let world = World::start(&sinks, &rows);
    world.memory.until(|rows| of(rows, "good") == 0).await;
    assert_eq!(begun.elapsed(), Duration::ZERO, "nobody waited for anybody");
    // The slow one gets its own as fast as it takes them.
    world.memory.until(|rows| of(rows, "slow") == 0).await;
    let rounds = 100 / u64::try_from(ATTEMPTS_AT_A_TIME).unwrap();
    assert_eq!(begun.elapsed().as_secs(), rounds * 10);
    // And the one that fails has lost nothing.
    assert_eq!(of(&world.memory.rows.borrow(), "bad"), 100);
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_comes_back_gets_everything_once() {
    let mut world = World::start(&[("a", Behaviour::Fails)], &[("a", 1), ("a", 2)]);
    world.memory.until(|rows| rows.values().all(|row| row.attempts == 2)).await;
    let tried = world.sent().len();
    assert_eq!(tried, 4);
    world.behave("a", Behaviour::Takes);
    world.memory.until(Outbox::is_empty).await;
    let ids: Vec<_> = world.sent().into_iter().map(|(_, id)| id).collect();
    assert_eq!(ids, ["n-r-1", "n-r-2"]);
    // 5 s and 5 min later, each up to a fifth more or less.
    let waited = world.memory.started.elapsed().as_secs_f64();
    assert!((305.0 * 0.8..=305.0 * 1.2).contains(&waited), "{waited}");
    let counts = world.metrics.counts()[&sink("a")];
    assert_eq!((counts.delivered, counts.failed, counts.dead), (2, 4, 0));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_written_down_is_kept_and_not_sent_again() {
    let mut world = World::start(&[("a", Behaviour::Takes)], &[]);
    *world.memory.disk.lock().unwrap() = Disk::Full;
    let row = Arc::new(OutboxRow::new(approval_due("r-1")));
    let key = OutboxKey { sink: sink("a"), sequence: 1 };
    world.memory.rows.send_modify(|rows| {
        rows.insert(key.clone(), Arc::clone(&row));
    });
    tokio::time::advance(Duration::from_secs(60)).await;
    let (_, id, _) = world.sent.recv().await.unwrap();
    assert_eq!(id, "n-r-1");
    *world.memory.disk.lock().unwrap() = Disk::Good;
    world.memory.until(Outbox::is_empty).await;
    assert_eq!(world.sent(), [], "it was sent once");
}

#[tokio::test(start_paused = true)]
async fn draining_lets_what_was_begun_end_and_begins_nothing() {
    let rows: Vec<_> = (1..10).map(|sequence| ("a", sequence)).collect();
    let mut world = World::start(&[("a", Behaviour::Slow(3))], &rows);
    for _ in 0..ATTEMPTS_AT_A_TIME {
        world.sent.recv().await.unwrap();
    }
    world.drain.cancel();
    world.service.await.unwrap();
    assert!(world.sent.try_recv().is_err(), "nothing more was begun");
    assert_eq!(world.memory.rows.borrow().len(), rows.len() - ATTEMPTS_AT_A_TIME);
    assert_eq!(world.memory.settled.lock().unwrap().len(), ATTEMPTS_AT_A_TIME);
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_panics_is_a_failure_and_not_the_end() {
    let world = World::start(&[("a", Behaviour::Panics)], &[("a", 1)]);
    world.memory.until(|rows| rows.values().all(|row| row.attempts == 1)).await;
    let error = world.memory.rows.borrow().values().next().unwrap().last_error.clone();
    assert!(error.contains("panicked"), "{error}");
    world.behave("a", Behaviour::Takes);
    world.memory.until(Outbox::is_empty).await;
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_the_settings_name_no_more_is_given_up() {
    let world =
        World::start(&[("a", Behaviour::Fails), ("b", Behaviour::Fails)], &[("a", 1), ("b", 2)]);
    world.memory.until(|rows| rows.values().all(|row| row.attempts == 1)).await;
    let (settings, _files) = settings_of(&["b"]);
    world.router.replace(settings);
    world.changed.send_modify(|count| *count += 1);
    world.memory.until(|rows| !rows.values().next().unwrap().is_pending()).await;
    let rows = world.memory.rows.borrow();
    assert_eq!(rows.values().map(|row| row.is_pending()).collect::<Vec<_>>(), [false, true]);
}
