//! The writer, turned by hand.

mod audit;
mod batches;
mod export;
mod log;
mod outbox;
mod recovery;
mod requests;
mod retention;
mod timers;

use super::{
    Anything, AuditEntry, AuditHead, AuditQuery, Config, Done, Error, Handle, Inbox, Message, Mode,
    Origin, StoreFailed, Submission, Turn, Wait, Writer, assemble,
};
use crate::{
    clock::{Clock, ManualClock, Reading},
    store::{
        Compacted, Compaction, Error as StoreError, Image, LogQuery, LoggedCommit, RequestCursor,
        RequestIndex, RequestPlace, RequestRecord, RequestStretch, Store, StoreId, Writes, memory,
    },
};
use phasegate_engine::{
    command::{Action, Call, Caller, ConflictPolicy, Expected, Trigger},
    event::{Change, Happened},
    flag::{Rules, Spec},
    id::{FlagId, PhaseId, PipelineId, Principal, ReleaseId, RequestId, Revision},
    pipeline::{Phase, Template},
    release::{Release, ReleaseState},
    time::{Span, Timestamp},
};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;
use uuid::Uuid;

const START: Timestamp = Timestamp::from_millis(1_900_000_000_000);
const HOUR: Span = Span::from_secs(3600);

fn secs(secs: u32) -> Span {
    Span::from_secs(secs)
}

/// The clocks of a machine that a test turns.
#[derive(Debug)]
struct MachineClock {
    wall: AtomicI64,
    boottime: AtomicU64,
    monotonic: AtomicU64,
}

impl MachineClock {
    fn new() -> Self {
        let clock = |at| AtomicU64::new(at);
        Self {
            wall: AtomicI64::new(START.as_millis()),
            boottime: clock(9_000_000),
            monotonic: clock(8_000_000),
        }
    }

    fn step(&self, millis: i64) {
        self.wall.fetch_add(millis, Ordering::SeqCst);
    }

    fn suspend(&self, span: Span) {
        self.step(span.as_millis());
        self.boottime.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }

    fn run(&self, span: Span) {
        self.suspend(span);
        self.monotonic.fetch_add(span.as_millis() as u64, Ordering::SeqCst);
    }
}

impl Clock for MachineClock {
    fn read(&self) -> Reading {
        let millis = |clock: &AtomicU64| Duration::from_millis(clock.load(Ordering::SeqCst));
        Reading {
            wall: Timestamp::from_millis(self.wall.load(Ordering::SeqCst)),
            boottime: millis(&self.boottime),
            monotonic: millis(&self.monotonic),
        }
    }
}

/// What a test does to a store, and what it sees of it.
#[derive(Debug, Default)]
struct Controls {
    fails: AtomicBool,
    /// Whether requests cannot be read.
    loses_requests: AtomicBool,
    /// Less than zero: no bound.
    free: AtomicI64,
    commits: Mutex<Vec<Vec<Revision>>>,
    /// Called inside every commit.
    during_commit: Mutex<Option<Probe>>,
}

struct Probe(Box<dyn FnMut() + Send>);

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Probe")
    }
}

/// A store under control.
struct Controlled<S> {
    store: S,
    controls: Arc<Controls>,
}

impl<S: Store> Store for Controlled<S> {
    fn load(&mut self) -> Result<Image, StoreError> {
        self.store.load()
    }

    fn commit(&mut self, writes: Writes<'_>) -> Result<(), StoreError> {
        if let Some(Probe(probe)) = &mut *self.controls.during_commit.lock().unwrap() {
            probe();
        }
        if self.controls.fails.load(Ordering::SeqCst) {
            return Err(StoreError::Full(std::io::Error::other("told to fail")));
        }
        let revisions = writes.records.iter().map(|record| record.revision).collect();
        // A batch may bring nothing but entries of the audit chain.
        if !writes.records.is_empty() {
            self.controls.commits.lock().unwrap().push(revisions);
        }
        self.store.commit(writes)
    }

    fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        self.store.audit(query)
    }

    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, StoreError> {
        self.store.changes(query)
    }

    fn commits(&mut self, from: Revision, to: Revision) -> Result<Vec<LoggedCommit>, StoreError> {
        self.store.commits(from, to)
    }

    fn request(&mut self, place: RequestPlace) -> Result<Option<RequestRecord>, StoreError> {
        if self.controls.loses_requests.load(Ordering::SeqCst) {
            return Err(StoreError::Damaged("told to lose it".into()));
        }
        self.store.request(place)
    }

    fn requests(&mut self, after: Option<&RequestCursor>) -> Result<RequestStretch, StoreError> {
        self.store.requests(after)
    }

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, StoreError> {
        self.store.compact(limits)
    }

    fn free_space(&self) -> Result<Option<u64>, StoreError> {
        Ok(u64::try_from(self.controls.free.load(Ordering::SeqCst)).ok())
    }
}

/// A disk, a clock, and the server that runs on them.
struct World<C> {
    disk: memory::Disk,
    controls: Arc<Controls>,
    clock: Arc<C>,
    config: Config,
    writer: Writer,
    inbox: Inbox,
    handle: Handle,
}

impl World<ManualClock> {
    fn rehearsal() -> Self {
        Self::new(ManualClock::new(START), Config::default())
    }

    /// Moves the clock, and does all there is to do.
    fn advance(&mut self, by: Span) -> Timestamp {
        let (reply, mut answer) = oneshot::channel();
        self.turn([Message::Advance { by, reply }]).unwrap();
        answer.try_recv().unwrap().unwrap()
    }
}

impl World<MachineClock> {
    fn real() -> Self {
        Self::new(MachineClock::new(), Config::default())
    }

    /// Lets a second pass, several times, with a turn after each.
    fn run_seconds(&mut self, seconds: u32) {
        for _ in 0..seconds {
            self.clock.run(secs(1));
            self.turn([]).unwrap();
        }
    }
}

impl<C: Clock> World<C> {
    fn new(clock: C, config: Config) -> Self {
        let (disk, clock) = (memory::Disk::default(), Arc::new(clock));
        let controls = Arc::new(Controls { free: AtomicI64::new(-1), ..Controls::default() });
        let (writer, inbox, handle) = open(&disk, &controls, &clock, &config);
        Self { disk, controls, clock, config, writer, inbox, handle }
    }

    /// A new process on the same disk; what was only in memory is lost.
    fn restart(&mut self) {
        let (writer, inbox, handle) = open(&self.disk, &self.controls, &self.clock, &self.config);
        (self.writer, self.inbox, self.handle) = (writer, inbox, handle);
    }

    /// Turns the writer until all of this is taken and nothing is left to be done at once.
    fn turn(&mut self, messages: impl IntoIterator<Item = Message>) -> Result<(), StoreFailed> {
        let mut waiting: VecDeque<Message> = messages.into_iter().collect();
        loop {
            if self.writer.turn(&mut waiting)? == Turn::Stop {
                return Ok(());
            }
            if waiting.is_empty() && self.writer.wait() != Wait::No {
                return Ok(());
            }
        }
    }

    fn submit(&mut self, submission: Submission) -> Result<Done, Error> {
        let (message, mut answer) = message(submission);
        self.turn([message]).unwrap();
        answer.try_recv().unwrap()
    }

    fn call(&mut self, action: Action) -> Result<Done, Error> {
        self.submit(submission(action))
    }

    /// A flag `f` whose releases run along a pipeline of phases with these bakes.
    fn with_pipeline(mut self, bakes: &[Span]) -> Self {
        self.add_flag("f", bakes);
        self
    }

    fn add_flag(&mut self, id: &str, bakes: &[Span]) {
        let pipeline = PipelineId::parse(&format!("p-{id}")).unwrap();
        let template = Arc::new(template(bakes));
        self.call(Action::CreatePipeline { pipeline: pipeline.clone(), template }).unwrap();
        self.call(Action::CreateFlag {
            flag: flag(id),
            description: "".into(),
            spec: spec(false),
            pipeline: Some(pipeline),
            labels: BTreeMap::new(),
        })
        .unwrap();
    }

    fn release(&self, id: &str) -> Arc<Release> {
        Arc::clone(self.handle.state().release(&release(id)).unwrap())
    }

    fn state_of(&self, id: &str) -> ReleaseState {
        self.release(id).state()
    }

    /// Everything in the log: revision, release, and what happened.
    fn history(&mut self) -> Vec<(u64, Timestamp, String, Vec<Happened>)> {
        let entries = self.read(LogQuery {
            after: self
                .handle
                .oldest()
                .max(Revision::new(1))
                .get()
                .checked_sub(1)
                .map(Revision::new)
                .unwrap(),
            up_to: self.handle.state().revision(),
            release: None,
            order: crate::store::Order::OldestFirst,
            limit: usize::MAX,
        });
        let entries = entries.unwrap().into_iter().map(|entry| {
            let change = &entry.change;
            let happened = change.events.iter().map(|event| event.happened.clone()).collect();
            (change.revision.get(), change.time, change.release.id().to_string(), happened)
        });
        entries.collect()
    }

    fn read(&mut self, query: LogQuery) -> Result<Vec<Arc<crate::watch::Entry>>, super::LogError> {
        let (reply, mut answer) = oneshot::channel();
        self.turn([Message::ReadLog { query, reply }]).unwrap();
        answer.try_recv().unwrap()
    }
}

fn open<C: Clock>(
    disk: &memory::Disk,
    controls: &Arc<Controls>,
    clock: &Arc<C>,
    config: &Config,
) -> (Writer, Inbox, Handle) {
    let store = memory::open(disk, StoreId(Uuid::from_u128(7))).unwrap();
    let store = Controlled { store, controls: Arc::clone(controls) };
    let clock: Arc<dyn Clock> = Arc::<C>::clone(clock);
    assemble(Box::new(store), clock, config.clone()).unwrap()
}

fn message(submission: Submission) -> (Message, oneshot::Receiver<Result<Done, Error>>) {
    let (reply, answer) = oneshot::channel();
    (Message::Submit { submission: Box::new(submission), reply }, answer)
}

fn submission(action: Action) -> Submission {
    let caller = Caller { principal: Principal::new("ann"), groups: Vec::new() };
    let call = Call { caller, request_id: None, reason: "".into(), action };
    Submission {
        call,
        rpc: "Test",
        payload: [0; 32],
        mode: Mode::Commit,
        origin: Origin::default(),
        permit: Arc::new(Anything),
    }
}

fn with_id(action: Action, id: &str, payload: u8) -> Submission {
    let mut submission = submission(action);
    submission.call.request_id = Some(RequestId::new(id));
    submission.payload = [payload; 32];
    submission
}

fn flag(id: &str) -> FlagId {
    FlagId::parse(id).unwrap()
}

fn release(id: &str) -> ReleaseId {
    ReleaseId::parse(id).unwrap()
}

fn spec(default: bool) -> Arc<Spec> {
    Arc::new(Spec::Gate(Rules { rules: Vec::new(), default }))
}

fn phase_id(index: usize) -> PhaseId {
    PhaseId::parse(&format!("phase-{index}")).unwrap()
}

fn template(bakes: &[Span]) -> Template {
    let phase = |(index, bake): (usize, &Span)| Phase {
        id: phase_id(index),
        rules: Vec::new(),
        bake: *bake,
        approval: None,
        windows: None,
        guards: Vec::new(),
    };
    Template {
        description: "".into(),
        phases: bakes.iter().enumerate().map(phase).collect(),
        exempt_environments: Vec::new(),
        trigger_notice: "".into(),
    }
}

fn trigger(flag_id: &str, id: &str) -> Action {
    Action::TriggerRelease(trigger_at(flag_id, id, None))
}

fn trigger_at(flag_id: &str, id: &str, schedule_time: Option<Timestamp>) -> Trigger {
    Trigger {
        id: release(id),
        flag: flag(flag_id),
        pipeline: None,
        change: spec(true),
        base: None,
        labels: BTreeMap::new(),
        description: "".into(),
        schedule_time,
        conflict_policy: ConflictPolicy::Fail,
    }
}

fn pause(id: &str) -> Action {
    Action::PauseRelease { release: release(id) }
}

fn abort(id: &str) -> Action {
    Action::AbortRelease { release: release(id) }
}

fn unpause(id: &str) -> Action {
    Action::UnpauseRelease { release: release(id), expected: Expected::Anything }
}

fn kill(flag_id: &str) -> Action {
    let switch = phasegate_engine::command::SwitchTo::Engaged;
    Action::SetKillSwitch { flag: flag(flag_id), switch }
}
