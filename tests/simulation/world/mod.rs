//! One simulated machine: its clocks, its disk, the process on it, the network before it, and
//! everybody out there. It does what it is told, one operation after the other, and holds what comes
//! of it against the promises.

mod ending;
mod marks;
mod process;

use crate::{
    clock::MachineClock,
    disk::{Disk, Room},
    generator::Outlook,
    history::{Asked, History},
    operation::{Answer, Content, Dry, From, Identity, Operation, Pace, Request, spec, template},
    promises::{self, Broken},
    reached::Reached,
    request::{Sight, caller, flag_id, pipeline_id, release_id},
    store::Seen,
    watcher::{Gate, Watcher},
    weather::Weather,
};
use phasegate_engine::{
    State,
    command::{Action, Call},
    deadline::{Timer, TimerKind, deadline},
    id::{ReleaseId, Revision},
    release::Release,
    time::Timestamp,
};
use phasegate_server::{
    clock::Clock as _,
    driver::{
        Anything, Done, Error, Handle, Inbox, Message, Mode, Origin, Submission, Wait, Writer,
    },
    watch::Watches,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Waker},
    time::Duration,
};

/// Whether a run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    GoOn,
    /// The disk was damaged and the server said so: there is nothing more to see.
    End,
}

type Told = Result<Flow, Broken>;

/// The world of one run.
pub(crate) struct World {
    weather: Weather,
    seed: u64,
    clock: Arc<MachineClock>,
    disk: Disk,
    seen: Seen,
    history: History,
    asked: BTreeMap<usize, Asked>,
    /// Calls on their way, the oldest first.
    network: VecDeque<usize>,
    /// What each client last saw.
    views: Vec<State>,
    server: Option<Server>,
    processes: usize,
    watchers: Vec<Watcher>,
    /// When what was last attempted was decided.
    attempted_at: Timestamp,
    newest_seen: Revision,
    /// Monotonic milliseconds up to which tokio's clock was moved.
    followed: u64,
    /// Wall time minus the time since boot, as of the last turn of this process.
    offset: Option<i64>,
    /// Since boot: after a step ahead nothing fires before.
    withheld_until: Duration,
    is_flipped: bool,
    is_draining: bool,
    pub(crate) reached: Reached,
    trace: DefaultHasher,
    pub(crate) steps: u64,
    pub(crate) commits: u64,
    pub(crate) simulated_millis: u64,
}

struct Server {
    writer: Writer,
    inbox: Inbox,
    handle: Handle,
    waiting: VecDeque<Message>,
    watches: Watches<Handle>,
    in_flight: Vec<InFlight>,
    /// Timers that were due when it started, by release and generation.
    overdue: BTreeMap<(ReleaseId, u64), Overdue>,
}

/// A timer that was due when a process started.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Overdue {
    pub(crate) timer: Timer,
    /// Creation of its release.
    pub(crate) created: Revision,
    /// When the process started.
    pub(crate) found: Timestamp,
}

struct InFlight {
    call: usize,
    answer: Answer,
    future: Pin<Box<dyn Future<Output = Result<Done, Error>>>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    InOrder,
    Killed,
}

impl World {
    pub(crate) fn new(seed: u64, weather: Weather) -> Self {
        let clock = Arc::new(MachineClock::new());
        let disk = Disk::new(Arc::clone(&clock));
        let followed = clock.monotonic();
        Self {
            views: vec![State::default(); weather.clients],
            watchers: (0..weather.watchers).map(Watcher::new).collect(),
            weather,
            seed,
            disk,
            clock,
            seen: Seen::default(),
            history: History::new(),
            asked: BTreeMap::new(),
            network: VecDeque::new(),
            server: None,
            processes: 0,
            attempted_at: Timestamp::EPOCH,
            newest_seen: Revision::ZERO,
            followed,
            offset: None,
            withheld_until: Duration::ZERO,
            is_flipped: false,
            is_draining: false,
            reached: Reached::default(),
            trace: DefaultHasher::new(),
            steps: 0,
            commits: 0,
            simulated_millis: 0,
        }
    }

    /// A number that stands for everything that has happened.
    pub(crate) fn trace(&self) -> u64 {
        self.trace.finish()
    }

    /// The last commits, told.
    pub(crate) fn told(&self) -> Vec<String> {
        self.history.told().map(str::to_owned).collect()
    }

    fn now(&self) -> Timestamp {
        self.clock.read().wall
    }

    fn note(&mut self, what: &impl std::fmt::Debug) {
        format!("{what:?}").hash(&mut self.trace);
    }

    /// What the generator sees.
    pub(crate) fn outlook(&self) -> Outlook {
        let releases = self
            .asked
            .values()
            .filter(|asked| matches!(asked.submission.call.action, Action::TriggerRelease(_)))
            .count();
        let state = self.history.state();
        let number = |id: &ReleaseId| id.as_str().strip_prefix('r')?.parse().ok();
        Outlook {
            is_up: self.server.is_some(),
            calls: self.asked.len(),
            on_the_way: self.network.len(),
            releases,
            unfinished: state.all_unfinished().filter_map(|r| number(r.id())).collect(),
            next_deadline: self.next_deadline().map(|at| millis(at, self.now())),
            watching: (0..self.watchers.len()).filter(|w| self.watchers[*w].is_open()).collect(),
        }
    }

    /// The next deadline that is ahead.
    fn next_deadline(&self) -> Option<Timestamp> {
        let now = self.now();
        let state = self.history.state();
        let timers = state.all_unfinished().filter_map(|release| deadline(release, now));
        timers.map(|timer| timer.at).filter(|at| *at > now).min()
    }

    /// A process, two pipelines, and the flags: the scene of every run.
    pub(crate) async fn set_scene(&mut self) -> Told {
        self.start()?;
        for index in 0..self.weather.shapes.len() {
            let action = Action::CreatePipeline {
                pipeline: pipeline_id(index),
                template: template(self.weather.shapes[index], self.weather.pace),
            };
            self.prepare("CreatePipeline", action);
        }
        for index in 0..self.weather.flags {
            let action = Action::CreateFlag {
                flag: flag_id(index),
                description: "".into(),
                spec: spec(0),
                pipeline: Some(pipeline_id(index)),
                labels: Default::default(),
            };
            self.prepare("CreateFlag", action);
        }
        while !self.network.is_empty() {
            self.deliver(0, Answer::Heard);
        }
        self.turn()
    }

    fn prepare(&mut self, rpc: &'static str, action: Action) {
        let number = 1_000_000 + self.asked.len();
        let id = phasegate_engine::id::RequestId::new(format!("scene-{number}"));
        let call = Call {
            caller: caller(0),
            request_id: Some(id),
            reason: crate::history::reason(number),
            action,
        };
        let submission = Submission {
            call,
            rpc,
            payload: [1; 32],
            mode: Mode::Commit,
            origin: Origin::default(),
            permit: Arc::new(Anything),
        };
        self.ask(0, number, submission);
    }

    fn ask(&mut self, client: usize, number: usize, submission: Submission) {
        let asked =
            Asked { number, client, submission, deliveries: 0, process: None, done_in: None };
        self.asked.insert(number, asked);
        self.network.push_back(number);
    }

    /// Does one thing.
    pub(crate) async fn execute(&mut self, operation: &Operation) -> Told {
        self.note(operation);
        self.steps += 1;
        let before = self.clock.monotonic();
        let told = self.perform(operation).await;
        self.simulated_millis += self.clock.monotonic() - before;
        if let Some(broken) = self.seen.look().broken.take() {
            return Err(broken);
        }
        told
    }

    async fn perform(&mut self, operation: &Operation) -> Told {
        match operation {
            Operation::Look { client } => self.look(*client),
            Operation::Ask { client, call, request, identity, mode } => {
                self.make_request(*client, *call, request, *identity, *mode);
                Ok(Flow::GoOn)
            }
            Operation::AskAgain { call, content } => {
                self.ask_again(*call, *content);
                Ok(Flow::GoOn)
            }
            Operation::Deliver { nth, answer } => {
                self.deliver(*nth, *answer);
                Ok(Flow::GoOn)
            }
            Operation::Lose { nth } => {
                if !self.network.is_empty() {
                    self.network.remove(nth % self.network.len());
                    self.reached.mark("a message was lost");
                }
                Ok(Flow::GoOn)
            }
            Operation::Turn => self.turn(),
            Operation::Run { millis } => self.run(*millis),
            Operation::Suspend { millis } => {
                self.pass_over(*millis, "the machine slept over a deadline");
                self.simulated_millis += millis;
                self.clock.suspend(*millis);
                Ok(Flow::GoOn)
            }
            Operation::Freeze { millis } => {
                self.pass_over(*millis, "the process stood still over a deadline");
                self.clock.run(*millis);
                Ok(Flow::GoOn)
            }
            Operation::Step { millis } => {
                self.step_clock(*millis);
                Ok(Flow::GoOn)
            }
            Operation::SlowBarrier { millis } => {
                self.disk.slow_down(*millis);
                Ok(Flow::GoOn)
            }
            Operation::Fault { after, fault } => {
                self.disk.lay_fuse(*after, *fault);
                Ok(Flow::GoOn)
            }
            Operation::Kill => {
                if self.server.is_some() {
                    self.reached.mark("a process was killed");
                }
                self.end_process(Ended::Killed)
            }
            Operation::PowerCut { survivors } => self.cut_power(*survivors),
            Operation::Stop => self.stop(),
            Operation::Start => self.start(),
            Operation::Fill => {
                self.disk.set_full(Room::None);
                Ok(Flow::GoOn)
            }
            Operation::Free => {
                self.disk.set_full(Room::Plenty);
                Ok(Flow::GoOn)
            }
            Operation::FlipBit { place } => {
                self.is_flipped = self.server.is_none() && self.disk.flip_bit(*place);
                if self.is_flipped { self.start() } else { Ok(Flow::GoOn) }
            }
            Operation::Connect { watcher, release, from } => {
                self.connect(*watcher, *release, *from).await
            }
            Operation::Read { watcher, items } => {
                self.read(*watcher, *items).await.map(|_| Flow::GoOn)
            }
            Operation::Leave { watcher } => {
                if let Some(watcher) = self.watchers.get_mut(*watcher) {
                    watcher.cut();
                }
                Ok(Flow::GoOn)
            }
            Operation::Drain => {
                if let Some(server) = &self.server {
                    server.watches.drain();
                    self.is_draining = true;
                }
                Ok(Flow::GoOn)
            }
        }
    }

    fn look(&mut self, client: usize) -> Told {
        let Some(server) = &self.server else { return Ok(Flow::GoOn) };
        let view = server.handle.state();
        promises::reads_never_go_back(self.newest_seen, view.revision())?;
        promises::readers_see_what_is_committed(&server.handle, &self.history)?;
        self.newest_seen = view.revision();
        let count = self.views.len();
        self.views[client % count] = view;
        Ok(Flow::GoOn)
    }

    fn make_request(
        &mut self,
        client: usize,
        number: usize,
        request: &Request,
        identity: Identity,
        mode: Dry,
    ) {
        let view = &self.views[client % self.views.len()];
        let sight = Sight { view, now: self.now(), pace: self.weather.pace };
        let submission = sight.submission(client, number, request, identity, mode);
        self.ask(client, number, submission);
    }

    fn ask_again(&mut self, call: usize, content: Content) {
        let Some(asked) = self.asked.get(&call) else { return };
        match content {
            Content::Same => self.network.push_back(call),
            Content::Other(number) => {
                let (client, mut submission) = (asked.client, asked.submission.clone());
                if submission.call.request_id.is_none() || self.asked.contains_key(&number) {
                    return;
                }
                submission.payload[31] = 1;
                submission.payload[..8].copy_from_slice(&number.to_le_bytes());
                submission.call.reason = crate::history::reason(number);
                self.ask(client, number, submission);
            }
        }
    }

    fn deliver(&mut self, nth: usize, answer: Answer) {
        if self.network.is_empty() {
            return;
        }
        let index = nth % self.network.len();
        if index > 0 {
            self.reached.mark("messages overtook each other");
        }
        let Some(call) = self.network.remove(index) else { return };
        // Without a server the connection is refused.
        let (Some(server), Some(asked)) = (&mut self.server, self.asked.get_mut(&call)) else {
            return;
        };
        if self.history.commits_of(call).next().is_some() && asked.process != Some(self.processes) {
            self.reached.mark("an unanswered commit was asked for again after the restart");
        }
        asked.deliveries += 1;
        asked.process = Some(self.processes);
        let (handle, submission) = (server.handle.clone(), asked.submission.clone());
        let mut future: Pin<Box<dyn Future<Output = _>>> =
            Box::pin(async move { handle.submit(submission).await });
        // The first poll puts it into the writer's queue; nobody answers before a turn.
        let polled = future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending(), "an answer before the writer has seen the call");
        if answer == Answer::Lost {
            self.reached.mark("an answer was lost");
        }
        server.in_flight.push(InFlight { call, answer, future });
    }

    /// Marks if a deadline lies in a stretch in which nobody looks.
    fn pass_over(&mut self, millis_ahead: u64, mark: &'static str) {
        let now = self.now();
        let passes = self.next_deadline().is_some_and(|at| millis(at, now) <= millis_ahead);
        if passes && self.server.is_some() {
            self.reached.mark(mark);
        }
    }

    fn step_clock(&mut self, by: i64) {
        let (now, next) = (self.now(), self.next_deadline());
        let state = self.history.state();
        let armed = |release: &Arc<_>| deadline(release, now).is_some();
        if by < 0 && state.all_unfinished().any(armed) {
            self.reached.mark("the clock stepped back over an armed deadline");
        }
        if by > 0 && next.is_some_and(|at| at.since(now).as_millis() <= by) {
            self.reached.mark("the clock stepped ahead over an armed deadline");
        }
        self.clock.step(by);
    }

    /// Lets the server run as its thread does.
    fn run(&mut self, millis_in_all: u64) -> Told {
        let end = self.clock.monotonic() + millis_in_all;
        let mut restless = 0;
        while self.server.is_some() {
            if self.turn()? == Flow::End {
                return Ok(Flow::End);
            }
            let now = self.clock.monotonic();
            if now >= end {
                return Ok(Flow::GoOn);
            }
            let Some(server) = &mut self.server else { break };
            let asleep = match server.writer.wait() {
                Wait::No => {
                    restless += 1;
                    promises::the_writer_comes_to_rest(restless)?;
                    continue;
                }
                Wait::AtMost(asleep) => asleep,
                Wait::ForMessage => Duration::from_secs(1),
            };
            restless = 0;
            // It rounds down, and a millisecond is the least.
            let mut asleep =
                u64::try_from(asleep.as_millis()).expect("it is a second at most").max(1);
            if self.weather.pace == Pace::Days && asleep == 1_000 {
                let ahead = self.next_deadline().map(|at| millis(at, self.now()));
                asleep = ahead.unwrap_or(u64::MAX).max(1_000);
            }
            self.clock.run(asleep.min(end - now));
        }
        // Without a server time goes by all the same.
        let now = self.clock.monotonic();
        self.clock.run(end.saturating_sub(now));
        Ok(Flow::GoOn)
    }

    /// Tokio's clock, which streams look at, goes along with the monotonic one.
    async fn follow_time(&mut self) {
        let now = self.clock.monotonic();
        let ahead = now - self.followed;
        if ahead > 0 {
            tokio::time::advance(Duration::from_millis(ahead)).await;
            self.followed = now;
        }
    }

    async fn connect(&mut self, watcher: usize, release: usize, from: From) -> Told {
        self.follow_time().await;
        let (Some(server), Some(watcher)) = (&self.server, self.watchers.get_mut(watcher)) else {
            return Ok(Flow::GoOn);
        };
        let gate = Gate {
            watches: &server.watches,
            handle: &server.handle,
            process: self.processes,
            is_draining: self.is_draining,
        };
        watcher.connect(&gate, &release_id(release), from, &self.history, &mut self.reached)?;
        Ok(Flow::GoOn)
    }

    async fn read(&mut self, watcher: usize, items: u32) -> Result<u32, Broken> {
        self.follow_time().await;
        let Some(watcher) = self.watchers.get_mut(watcher) else { return Ok(0) };
        let read = watcher.read(items, &self.history, &mut self.reached)?;
        read.hash(&mut self.trace);
        Ok(read)
    }
}

/// The timer of a release, if it is due and would do something: a start waits for its turn.
fn due(state: &State, release: &Release, now: Timestamp) -> Option<Timer> {
    let taken = state.active_release(&release.proposal.flag).is_some();
    deadline(release, now)
        .filter(|timer| timer.at <= now && !(taken && timer.kind == TimerKind::Start))
}

/// From now to a moment that is not before it.
fn millis(at: Timestamp, now: Timestamp) -> u64 {
    u64::try_from(at.since(now).as_millis()).expect("spans are never negative")
}
