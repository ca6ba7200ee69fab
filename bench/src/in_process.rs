//! The server's writer in this process, without gRPC around it: to measure it alone, and to make stores
//! of a size that nobody would want to wait for over a socket.

use crate::subject;
use phasegate_api::convert::{self, Parsed, Rejected};
use phasegate_engine::{
    command::{Call, Caller},
    id::{Principal, Revision},
    time::Timestamp,
};
use phasegate_server::{
    clock::{Clock, ManualClock, SystemClock},
    driver::{
        Anything, Config, FlagSets, Handle, Inbox, Message, Mode, Origin, StoreId, Submission,
        Writer, assemble,
    },
    store::{Batch, Direction, Error, Ledger, Store, Tree, memory, sled},
};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
    path::Path,
    sync::{Arc, Mutex},
};
use tokio::sync::oneshot;

/// A writer that is turned by hand.
#[derive(Debug)]
pub(crate) struct InProcess {
    writer: Writer,
    // The writer stops without them.
    _others: (Inbox, Handle),
    manual: Option<Arc<ManualClock>>,
    calls: u64,
}

impl InProcess {
    /// With a store on disk, made if it is missing.
    pub(crate) fn on_disk(directory: &Path) -> Self {
        let store = sled::open(directory, StoreId::fresh()).expect("the directory is ours");
        Self::with(Box::new(store), Arc::new(SystemClock), None)
    }

    /// With a store in memory.
    pub(crate) fn in_memory() -> Self {
        let store = memory::open(&memory::Disk::new(), StoreId::fresh());
        Self::with(Box::new(store.expect("it is empty")), Arc::new(SystemClock), None)
    }

    /// With a store on disk, and as if it were this time.
    pub(crate) fn on_disk_at(directory: &Path, time: Timestamp) -> Self {
        let store = sled::open(directory, StoreId::fresh()).expect("the directory is ours");
        let clock = Arc::new(ManualClock::new(time));
        Self::with(Box::new(store), Arc::clone(&clock) as _, Some(clock))
    }

    /// With a store that keeps what it is given, batch by batch.
    pub(crate) fn recorded() -> (Self, Tape) {
        let tape = Tape::default();
        let tree = Recorded { map: BTreeMap::new(), tape: tape.clone() };
        let store = Ledger::create(tree, StoreId::fresh()).expect("a map takes everything");
        (Self::with(Box::new(store), Arc::new(SystemClock), None), tape)
    }

    fn with(
        store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        manual: Option<Arc<ManualClock>>,
    ) -> Self {
        // More flags than go to an application in one message: a server with so many is told so.
        let config = Config { flag_sets: FlagSets { bytes_max: None }, ..Config::default() };
        let (writer, inbox, handle) = assemble(store, clock, config).expect("the store is sound");
        Self { writer, _others: (inbox, handle), manual, calls: 0 }
    }

    /// Makes a pipeline, and flags with a running release each, numbered from nought on.
    pub(crate) fn fill(&mut self, releases: usize) {
        let pipeline = convert::create_pipeline(subject::create_pipeline());
        self.turn(vec![("CreatePipeline", pipeline)]);
        self.fill_more(0, releases);
    }

    /// Makes more of them.
    pub(crate) fn fill_more(&mut self, first: usize, releases: usize) {
        const BATCH: usize = 512;
        for from in (first..first + releases).step_by(BATCH) {
            let numbers = from..(first + releases).min(from + BATCH);
            self.turn(numbers.clone().map(flag).collect());
            self.turn(numbers.map(release).collect());
        }
    }

    /// As [`Self::fill`], each at a time of its own; later ones later.
    pub(crate) fn fill_at(&mut self, releases: usize, time: impl Fn(usize) -> Timestamp) {
        let pipeline = convert::create_pipeline(subject::create_pipeline());
        self.turn(vec![("CreatePipeline", pipeline)]);
        for n in 0..releases {
            let clock = self.manual.as_ref().expect("the clock is one that can be moved");
            clock.move_to(time(n));
            self.turn(vec![flag(n)]);
            self.turn(vec![release(n)]);
        }
    }

    /// Pauses the first so many releases, or unpauses them, in turn: one batch.
    pub(crate) fn act(&mut self, releases: usize) {
        self.calls += 1;
        let call = self.calls;
        let action = |n: usize| {
            let (release, request_id) = (format!("releases/r-{n}"), format!("{n}-{call}"));
            if call % 2 == 1 {
                ("PauseRelease", convert::pause_release(subject::pause(&release, request_id)))
            } else {
                ("UnpauseRelease", convert::unpause_release(subject::unpause(&release, request_id)))
            }
        };
        self.turn((0..releases).map(action).collect());
    }

    /// Has calls done, in as few batches as they fit into.
    fn turn(&mut self, calls: Vec<Asked>) {
        let mut answers = Vec::new();
        let mut waiting = VecDeque::new();
        for (rpc, parsed) in calls {
            let Parsed { action, request_id, reason, .. } = parsed.expect("it is sound");
            let caller =
                Caller { principal: Principal::new("caller@example.com"), groups: Vec::new() };
            let submission = Submission {
                call: Call { caller, request_id, reason, action },
                rpc,
                payload: [0; 32],
                mode: Mode::Commit,
                permit: Arc::new(Anything),
                origin: Origin::default(),
            };
            let (reply, answer) = oneshot::channel();
            waiting.push_back(Message::Submit { submission: Box::new(submission), reply });
            answers.push(answer);
        }
        while !waiting.is_empty() {
            self.writer.turn(&mut waiting).expect("the disk takes it");
        }
        for mut answer in answers {
            answer.try_recv().expect("a turn answers").expect("nothing is refused");
        }
    }
}

/// The name of an RPC, and its request.
type Asked = (&'static str, Result<Parsed, Rejected>);

fn flag(n: usize) -> Asked {
    ("CreateFlag", convert::create_flag(subject::create_flag(n)))
}

fn release(n: usize) -> Asked {
    let unused = "unused".parse().expect("it is an id");
    ("TriggerRelease", convert::trigger_release(subject::trigger(n), unused))
}

/// What a store was given to write, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tape(Arc<Mutex<Vec<Batch>>>);

impl Tape {
    /// What was given since this was asked last.
    pub(crate) fn take(&self) -> Vec<Batch> {
        std::mem::take(&mut self.0.lock().expect("nobody panics with it"))
    }
}

/// A tree in memory.
#[derive(Debug)]
struct Recorded {
    map: BTreeMap<Vec<u8>, Vec<u8>>,
    tape: Tape,
}

impl Tree for Recorded {
    type Bytes = Vec<u8>;

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.map.get(key).cloned())
    }

    fn scan(
        &self,
        range: Range<Vec<u8>>,
        direction: Direction,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), Error>> {
        let end = range.end.max(range.start.clone());
        let mut entries = self.map.range(range.start..end);
        std::iter::from_fn(move || {
            let next = match direction {
                Direction::Up => entries.next(),
                Direction::Down => entries.next_back(),
            };
            next.map(|(key, value)| Ok((key.clone(), value.clone())))
        })
    }

    fn apply(&mut self, batch: Batch) -> Result<(), Error> {
        for (key, value) in batch.iter() {
            match value {
                Some(value) => self.map.insert(key.to_vec(), value.to_vec()),
                None => self.map.remove(key),
            };
        }
        self.tape.0.lock().expect("nobody panics with it").push(batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Error> {
        Ok(())
    }

    fn note_durable(&mut self, _revision: Revision) -> Result<(), Error> {
        Ok(())
    }

    fn noted_durable(&self) -> Revision {
        Revision::ZERO
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}
