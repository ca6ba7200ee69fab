//! One simulated machine: its clocks, its disk, the process on it, the network before it, and
//! everybody out there. It does what it is told, one operation after the other, and holds what comes
//! of it against the promises.

use crate::{
    clock::MachineClock,
    disk::{CutAt, Disk, Fault, Room},
    generator::Outlook,
    history::{Asked, History},
    operation::{Answer, Content, Dry, From, Identity, Operation, Pace, Request, spec, template},
    promises::{self, Broken},
    reached::Reached,
    request::{Sight, caller, flag_id, pipeline_id, release_id},
    store::{self, Seen, WatchedStore},
    watcher::{Gate, Watcher},
    weather::Weather,
};
use phasegate_engine::{
    State,
    command::{Action, Call},
    deadline::{Timer, TimerKind, deadline},
    event::{Actor, Change, Happened},
    id::{ReleaseId, Revision},
    release::{EndReason, Held, HeldWait, PauseCause, Release, Stage, Wait as Waits},
    time::Timestamp,
};
use phasegate_server::{
    clock::Clock as _,
    driver::{
        BATCH_CALLS_MAX, Done, Error, Handle, Inbox, Message, Mode, StoreFailed, Submission, Turn,
        Wait, Writer, assemble,
    },
    store::{LogQuery, Order, Record, Store as _, StoreId},
    watch::Watches,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::{DefaultHasher, Hash as _, Hasher as _},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
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
        let submission = Submission { call, rpc, payload: [1; 32], mode: Mode::Commit };
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

    /// One turn of the writer, and everything that is to be seen of it.
    fn turn(&mut self) -> Told {
        let Some(server) = &mut self.server else { return Ok(Flow::GoOn) };
        let reading = self.clock.read();
        let wall = reading.wall;
        let boottime = i64::try_from(reading.boottime.as_millis()).expect("runs are short");
        let offset = wall.as_millis() - boottime;
        let stepped = offset - self.offset.replace(offset).unwrap_or(offset);
        if stepped > promises::SURELY_STEPPED {
            self.withheld_until = reading.boottime + promises::WITHHELD;
        }
        let is_withheld = reading.boottime < self.withheld_until;
        let head_before = self.history.state().revision();
        let time_before = self.history.state().time();
        server.inbox.receive(Wait::No, &mut server.waiting, BATCH_CALLS_MAX);
        let result = server.writer.turn(&mut server.waiting);
        if self.clock.read().wall > wall {
            let passed = self.history.state().all_unfinished().any(|release| {
                deadline(release, wall)
                    .is_some_and(|timer| timer.at > wall && timer.at <= self.now())
            });
            if passed {
                self.reached.mark("a barrier took so long that timers became due");
            }
        }
        if wall < time_before {
            self.reached.mark("the clock was behind the last commit");
        }
        self.learn_commits(wall)?;
        let new = self.history.origins_after(head_before);
        promises::nothing_fires_right_after_a_step_ahead(is_withheld, new)?;
        match result {
            Ok(turn) => {
                self.hear(head_before)?;
                let Some(server) = &self.server else { return Ok(Flow::GoOn) };
                promises::readers_see_what_is_committed(&server.handle, &self.history)?;
                self.look_for_what_stands_still(wall);
                if turn == Turn::Stop {
                    self.reached.mark("a process stopped in order");
                    return self.end_process(Ended::InOrder);
                }
                Ok(Flow::GoOn)
            }
            Err(failed) => self.fail(wall, head_before, &failed),
        }
    }

    /// Takes in what was committed in a turn that began at `wall`.
    fn learn_commits(&mut self, wall: Timestamp) -> Result<(), Broken> {
        let (committed, kept_from, broken) = {
            let mut sights = self.seen.look();
            let committed = std::mem::take(&mut sights.committed);
            (committed, sights.requests_kept_from, sights.broken.take())
        };
        if let Some(broken) = broken {
            return Err(broken);
        }
        for batch in committed {
            self.learn_batch(&batch, wall, kept_from)?;
        }
        Ok(())
    }

    fn learn_batch(
        &mut self,
        batch: &[Record],
        wall: Timestamp,
        kept_from: Timestamp,
    ) -> Result<(), Broken> {
        if batch.len() > 1 {
            self.reached.mark("several commits in one batch");
        }
        let mut fired = Vec::new();
        let mut approvals: Vec<(ReleaseId, &Actor)> = Vec::new();
        let mut fired_flags = Vec::new();
        for record in batch {
            let learnt = self.history.learn(record, &self.asked, wall, kept_from)?;
            self.commits += 1;
            format!("{} {}", record.revision, record.time).hash(&mut self.trace);
            let origin = learnt.origin;
            if let Some(asked) = origin.and_then(|call| self.asked.get_mut(&call)) {
                asked.done_in = Some(self.processes);
            }
            for change in &record.changes {
                format!("{:?}", change.events).hash(&mut self.trace);
            }
            // A commit of a timer: which of those it was that were overdue.
            if origin.is_none() {
                for change in &record.changes {
                    let before = learnt.before.release(change.release.id());
                    let Some(before) = before else { continue };
                    fired_flags.push(before.proposal.flag.clone());
                    let key = (before.id().clone(), before.progress.timer_generation);
                    let server = self.server.as_ref();
                    let due = server.and_then(|server| server.overdue.get(&key).copied());
                    let Some(due) = due.filter(|_| promises::fired(change)) else { continue };
                    fired.push((due.timer.at, due.created));
                    let limit = self.weather.hold_if_late_by;
                    promises::nothing_grows_by_a_timer_found_too_late(due, wall, limit, change)?;
                }
            }
            for change in &record.changes {
                let reached = &mut self.reached;
                let before = learnt.before.release(change.release.id()).map(|release| &**release);
                mark_change(reached, before, change, wall);
                let flag = &change.release.proposal.flag;
                if origin.is_some() && fired_flags.contains(flag) {
                    reached.mark("a timer fired in the batch of a call about its flag");
                    let paused = |event: &phasegate_engine::event::ReleaseEvent| {
                        matches!(
                            event.happened,
                            Happened::Paused { cause: PauseCause::Requested, .. }
                        )
                    };
                    if change.events.iter().any(paused) {
                        reached.mark("a pause came in the millisecond of the deadline");
                    }
                }
                for event in &change.events {
                    if matches!(event.happened, Happened::ApprovalRecorded { .. }) {
                        approvals.push((change.release.id().clone(), &event.actor));
                    }
                }
            }
            if let Some((key, _)) = &record.request
                && self.history.requests_of(key).count() > 1
            {
                self.reached.mark("a request was done again after its time of keeping");
            }
        }
        if approvals.windows(2).any(|two| two[0].0 == two[1].0 && two[0].1 != two[1].1) {
            self.reached.mark("two people approved in one batch");
        }
        // Before a call come the timers of its flag, whatever becomes of the call.
        let calls_came = self.server.as_ref().is_some_and(|server| !server.in_flight.is_empty());
        if !calls_came {
            promises::overdue_timers_fire_in_order(&fired)?;
        }
        Ok(())
    }

    /// Polls everybody who waits for an answer.
    fn hear(&mut self, head_before: Revision) -> Result<(), Broken> {
        let Some(server) = &mut self.server else { return Ok(()) };
        let kept_from = self.seen.look().requests_kept_from;
        let mut context = Context::from_waker(Waker::noop());
        let mut waiting = Vec::new();
        for mut flight in std::mem::take(&mut server.in_flight) {
            let Poll::Ready(answer) = flight.future.as_mut().poll(&mut context) else {
                waiting.push(flight);
                continue;
            };
            let asked = &self.asked[&flight.call];
            match &answer {
                Ok(done) => format!("{} {}", flight.call, done.state.revision()),
                Err(error) => format!("{} {error}", flight.call),
            }
            .hash(&mut self.trace);
            promises::check_answer(asked, &answer, &self.history, head_before, kept_from)?;
            mark_answer(&mut self.reached, asked, &answer, &self.history, head_before);
            if let (Ok(done), Mode::Commit, Answer::Heard) =
                (answer, asked.submission.mode, flight.answer)
            {
                let count = self.views.len();
                let view = &mut self.views[asked.client % count];
                if done.state.revision() > view.revision() {
                    *view = done.state;
                }
            }
        }
        server.in_flight = waiting;
        Ok(())
    }

    /// Marks timers that are due and do not fire: withheld, paced, or without room on the disk.
    fn look_for_what_stands_still(&mut self, wall: Timestamp) {
        let Some(server) = &self.server else { return };
        let state = self.history.state();
        if !state.all_unfinished().any(|release| due(state, release, wall).is_some()) {
            return;
        }
        let overdue = server.handle.metrics().timers_overdue.get();
        self.reached.mark(if overdue > 0 {
            "overdue timers had to wait for their turn"
        } else if self.disk.is_full() {
            "a full disk held a timer back"
        } else {
            "timers were withheld after a step"
        });
    }

    /// The store failed in a turn. Nobody may have learnt of anything that is not durable.
    fn fail(&mut self, wall: Timestamp, head_before: Revision, failed: &StoreFailed) -> Told {
        let text = format!("{failed:?}");
        text.hash(&mut self.trace);
        self.attempted_at = wall;
        let blown = self.disk.take_blown();
        promises::a_store_fails_only_with_its_disk(blown.is_some(), &text)?;
        let Some((fault, at)) = blown else { return Ok(Flow::GoOn) };
        if let Some(server) = &self.server {
            promises::readers_see_what_is_committed(&server.handle, &self.history)?;
            let worst = store::open(&self.disk.worst_case(), self.store_id());
            let worst = worst.and_then(|mut ledger| ledger.load());
            let worst = promises::a_store_opens_after_every_crash(worst)?;
            let attempted = self.seen.look().attempted.clone();
            promises::what_was_acknowledged_survives(&worst, &self.history, &attempted)?;
        }
        let commits = self.seen.look().attempted.len();
        self.mark_fault(fault, at, commits);
        // The writer goes first: whoever still waits is turned away.
        if let Some(server) = self.server.take() {
            let Server { writer, inbox, handle, waiting, watches, in_flight, overdue } = server;
            drop((writer, inbox, waiting));
            self.seen.look().readers = None;
            let _ = (handle, watches, overdue);
            for mut flight in in_flight {
                let asked = &self.asked[&flight.call];
                let polled = flight.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(answer) = polled {
                    let kept_from = self.seen.look().requests_kept_from;
                    let history = &self.history;
                    promises::check_answer(asked, &answer, history, head_before, kept_from)?;
                }
            }
        }
        self.disconnect();
        let seed = match fault {
            Fault::PowerCut(seed) => seed,
            // Of what an error met nobody knows whether it is there.
            Fault::Eio | Fault::Enospc => self.seed ^ self.steps,
        };
        self.lose_writes(seed);
        Ok(Flow::GoOn)
    }

    fn mark_fault(&mut self, fault: Fault, at: CutAt, commits: usize) {
        let reached = &mut self.reached;
        match (fault, at) {
            (Fault::Eio, _) => reached.mark("EIO ended a process"),
            (Fault::Enospc, _) => reached.mark("ENOSPC ended a process"),
            (Fault::PowerCut(_), CutAt::Write) => reached.mark("power was cut at a write"),
            (Fault::PowerCut(_), CutAt::BeforeBarrier) => {
                reached.mark("power was cut before a barrier");
                if commits > 1 {
                    reached
                        .mark("power was cut before a barrier with several commits in the batch");
                }
            }
            (Fault::PowerCut(_), CutAt::AfterBarrier) => {
                reached.mark("power was cut after a barrier, before an answer");
            }
            (Fault::PowerCut(_), CutAt::Note) => reached.mark("power was cut at a note"),
        }
    }

    fn lose_writes(&mut self, seed: u64) {
        let damage = self.disk.cut(seed);
        for (count, mark) in [
            (damage.kept, "a write was kept"),
            (damage.dropped, "a write was dropped"),
            (damage.torn, "a write was torn"),
        ] {
            if count > 0 {
                self.reached.mark(mark);
            }
        }
    }

    /// The process is gone, with its connections.
    fn end_process(&mut self, ended: Ended) -> Told {
        self.seen.look().readers = None;
        let Some(server) = self.server.take() else { return Ok(Flow::GoOn) };
        drop(server);
        if ended == Ended::Killed {
            self.disconnect();
        }
        Ok(Flow::GoOn)
    }

    fn disconnect(&mut self) {
        self.is_draining = false;
        for watcher in &mut self.watchers {
            watcher.cut();
        }
    }

    fn cut_power(&mut self, survivors: u64) -> Told {
        let flow = self.end_process(Ended::Killed)?;
        self.lose_writes(survivors);
        // A fuse that did not blow is gone with the power.
        self.disk.lay_fuse(u32::MAX, Fault::Eio);
        Ok(flow)
    }

    fn stop(&mut self) -> Told {
        let Some(server) = &self.server else { return Ok(Flow::GoOn) };
        server.handle.stop();
        // What was handed over before is done before it stops.
        for _ in 0..3 {
            self.turn()?;
        }
        promises::every_call_is_answered(usize::from(self.server.is_some()))?;
        Ok(Flow::GoOn)
    }

    fn store_id(&self) -> StoreId {
        StoreId(uuid::Uuid::from_u128(u128::from(self.seed) + 1))
    }

    /// A new process on the disk as it is.
    fn start(&mut self) -> Told {
        if self.server.is_some() {
            return Ok(Flow::GoOn);
        }
        self.is_draining = false;
        let opened = store::open(&self.disk, self.store_id());
        let opened = opened.map_err(|error| format!("{error:?}")).and_then(|ledger| {
            let store = Box::new(WatchedStore::new(ledger, self.seen.clone()));
            let clock: Arc<dyn phasegate_server::clock::Clock> = self.clock.clone();
            assemble(store, clock, self.weather.driver()).map_err(|error| format!("{error:?}"))
        });
        let (writer, inbox, handle) = match opened {
            Ok(parts) => parts,
            Err(what) => return self.did_not_start(what),
        };
        self.processes += 1;
        self.offset = None;
        self.withheld_until = Duration::ZERO;
        self.recovered()?;
        if self.is_flipped {
            return Ok(Flow::End);
        }
        let (now, state) = (self.now(), self.history.state());
        let mut overdue = BTreeMap::new();
        for release in state.all_unfinished() {
            if let Some(timer) = due(state, release, now) {
                let key = (release.id().clone(), release.progress.timer_generation);
                let created = release.proposal.created;
                overdue.insert(key, Overdue { timer, created, found: now });
            }
        }
        if !overdue.is_empty() {
            self.reached.mark("timers were overdue at a start");
        }
        promises::reads_never_go_back(self.newest_seen, handle.state().revision())?;
        self.seen.look().readers = Some(handle.clone());
        let jitter = self.seed ^ self.processes as u64;
        let watches = Watches::with_jitter(handle.clone(), self.weather.watches(), jitter);
        self.server = Some(Server {
            writer,
            inbox,
            handle,
            waiting: VecDeque::new(),
            watches,
            in_flight: Vec::new(),
            overdue,
        });
        Ok(Flow::GoOn)
    }

    fn did_not_start(&mut self, what: String) -> Told {
        match self.disk.take_blown() {
            Some((fault, at)) => {
                self.mark_fault(fault, at, 0);
                self.reached.mark("power was cut while a process started");
                let seed = match fault {
                    Fault::PowerCut(seed) => seed,
                    Fault::Eio | Fault::Enospc => self.seed ^ self.steps,
                };
                self.lose_writes(seed);
                Ok(Flow::GoOn)
            }
            None if self.is_flipped => {
                self.reached.mark("a bit flipped and was noticed");
                Ok(Flow::End)
            }
            None => promises::a_store_opens_after_every_crash(Err(what)),
        }
    }

    /// A process has loaded the store: what it found is what was acknowledged, and perhaps the one
    /// batch of which nobody was told.
    fn recovered(&mut self) -> Result<(), Broken> {
        let (image, attempted, kept_from) = {
            let mut sights = self.seen.look();
            let image = sights.loaded.take().expect("a process that started has loaded the store");
            (image, std::mem::take(&mut sights.attempted), sights.requests_kept_from)
        };
        if self.is_flipped {
            return promises::damage_is_noticed(&image.state, self.disk.noted(), &self.history);
        }
        promises::what_was_acknowledged_survives(&image, &self.history, &attempted)?;
        if image.state.revision() > self.history.state().revision() {
            self.reached.mark("a commit survived of which nobody was told");
            self.learn_batch(&attempted, self.attempted_at, kept_from)?;
        } else if !attempted.is_empty() {
            self.reached.mark("a commit was lost of which nobody was told");
        }
        promises::a_restart_changes_nothing(&image, &self.history, kept_from)
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

    /// No more faults, and time enough: now everything must come to an end that has one.
    pub(crate) async fn heal(&mut self) -> Told {
        self.disk.heal();
        let behind = self.history.state().time().since(self.now()).as_millis();
        self.clock.step(behind);
        self.start()?;
        while !self.network.is_empty() {
            self.deliver(0, Answer::Heard);
        }
        let long = match self.weather.pace {
            Pace::Seconds => 100_000,
            Pace::Days => 2 * 86_400_000,
        };
        // Seconds first and last: for a disk that is looked at every second, for clocks that are
        // distrusted for half a minute, for timers that are let through a few a second.
        self.settle()?;
        self.run(long)?;
        self.settle()?;
        promises::no_timer_is_forgotten(self.history.state(), self.now())?;
        let waiting = self.server.as_ref().map_or(0, |server| server.in_flight.len());
        promises::every_call_is_answered(waiting)?;
        self.catch_up().await?;
        self.stop()
    }

    fn settle(&mut self) -> Told {
        for _ in 0..60 {
            self.turn()?;
            self.clock.run(1_000);
        }
        self.turn()
    }

    async fn catch_up(&mut self) -> Told {
        for index in 0..self.watchers.len() {
            // Those that were cut off come back; one that is too old to go on begins anew.
            for from in [From::WhereItWas, From::Start] {
                if !self.watchers[index].is_open() {
                    self.connect(index, 0, from).await?;
                }
            }
            for _ in 0..1_000 {
                let read = self.read(index, 8).await?;
                if !self.watchers[index].is_open() {
                    // It ended for a reason; all that is behind it was checked.
                    break;
                }
                let before = self.seen.look().reads;
                self.turn()?;
                if read == 0 && self.seen.look().reads == before {
                    break;
                }
            }
            self.watchers[index].caught_up(&self.history)?;
        }
        Ok(Flow::GoOn)
    }

    /// The last look: the store is sound, its log is the history, and its events make its state.
    pub(crate) fn audit(&mut self) -> Result<(), Broken> {
        let opened = store::open(&self.disk, self.store_id());
        let mut ledger = promises::a_store_opens_after_every_crash(opened)?;
        let verified = promises::the_store_is_sound(ledger.verify())?;
        let image = promises::a_store_opens_after_every_crash(ledger.load())?;
        let kept_from = self.seen.look().requests_kept_from;
        promises::a_restart_changes_nothing(&image, &self.history, kept_from)?;
        let query = LogQuery {
            after: Revision::new(verified.oldest.get().saturating_sub(1)),
            up_to: verified.revision,
            release: None,
            order: Order::OldestFirst,
            limit: usize::MAX,
        };
        let log = promises::a_store_opens_after_every_crash(ledger.changes(&query))?;
        if self.seen.look().removed > 0 {
            self.reached.mark("events were removed");
        }
        if self.seen.look().reads > 0 {
            self.reached.mark("the log was read from the store");
        }
        let changes_kept_from = self.seen.look().changes_kept_from;
        promises::events_are_kept_for_their_time(
            verified.oldest,
            changes_kept_from,
            &self.history,
        )?;
        promises::the_log_makes_the_state(verified.oldest, &log, &self.history)
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

fn mark_answer(
    reached: &mut Reached,
    asked: &Asked,
    answer: &Result<Done, Error>,
    history: &History,
    head_before: Revision,
) {
    use phasegate_engine::{Refusal, refusal::ReleaseRefusal};
    match answer {
        Ok(_) if asked.submission.mode == Mode::ValidateOnly => {
            reached.mark("a dry run was answered");
        }
        Ok(_) => {
            let Some(key) = asked.key() else { return };
            let Some((revision, _)) = history.requests_of(&key).last() else { return };
            if revision <= head_before {
                reached.mark("a repeated request was answered without being done");
                if asked.done_in < asked.process {
                    reached.mark("a repeated request was answered after a restart");
                }
            }
        }
        Err(Error::RequestIdReused) => reached.mark("an id was refused for another request"),
        Err(Error::DiskFull) => reached.mark("a full disk refused a call"),
        Err(Error::Refused(refusal)) => match refusal {
            Refusal::StaleEtag { .. } | Refusal::Release { why: ReleaseRefusal::StaleEtag, .. } => {
                reached.mark("a stale etag was refused");
            }
            Refusal::Release { why: ReleaseRefusal::Over, standing }
                if standing.revision > head_before
                    && matches!(asked.submission.call.action, Action::AbortRelease { .. }) =>
            {
                reached.mark("an abort met a release that had just ended");
            }
            _ => {}
        },
        Err(Error::Stopped | Error::Internal(_)) => {}
    }
}

fn mark_change(reached: &mut Reached, before: Option<&Release>, change: &Change, wall: Timestamp) {
    let release = &change.release;
    for event in &change.events {
        match &event.happened {
            Happened::Started { timer } => {
                if timer.is_some() {
                    reached.mark("a scheduled release started");
                } else if before.is_some() {
                    reached.mark("a queued release started");
                }
            }
            Happened::WindowOpened { .. } => reached.mark("a window opened"),
            Happened::BakeAdjusted { ends: None, .. } => {
                reached.mark("a bake was adjusted while paused");
            }
            Happened::Paused { held, cause } => match cause {
                PauseCause::Overdue(_) => {
                    reached.mark("a release was held because its timer was too late");
                }
                PauseCause::Guard(_) => reached.mark("a guard held a release"),
                PauseCause::Requested => {
                    let nothing_left = matches!(
                        held,
                        Held::Running { wait: HeldWait::Bake { remaining }, .. } if remaining.is_zero()
                    );
                    if nothing_left {
                        reached.mark("a pause came after the deadline and before the firing");
                    }
                }
            },
            Happened::ApprovalRecorded { .. } => {
                let expires = before.and_then(|before| match &before.progress.stage {
                    Stage::Running { wait: Waits::Approval { expires }, .. } => *expires,
                    _ => None,
                });
                if expires.is_some_and(|at| at.since(wall).as_millis() <= 1) {
                    reached.mark("an approval came in the millisecond of the expiry");
                }
            }
            _ => {}
        }
    }
    if release.progress.phases.iter().any(|phase| phase.bypassed) {
        reached.mark("an approval was gone round");
    }
    if let Some(end) = release.end_reason() {
        reached.mark(match end {
            EndReason::AllPhasesDone => "a release succeeded by its last phase",
            EndReason::FullRollout => "a release succeeded by a full rollout",
            EndReason::Superseded => "a release was superseded",
            EndReason::ApprovalExpired => "a release failed for want of approvals",
            EndReason::GuardFailed => "a release failed by a guard",
            EndReason::BaseChanged => "a release failed because its base changed",
            EndReason::AbortRequested | EndReason::ApprovalRejected => return,
        });
    }
}
