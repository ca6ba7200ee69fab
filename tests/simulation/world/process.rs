//! The process on the machine: it starts, takes turns, fails, ends, and is started again.

use super::{Ended, Flow, Overdue, Server, Told, World, due, marks};
use crate::{
    disk::{CutAt, Fault},
    operation::Answer,
    promises::{self, Broken},
    store::{self, WatchedStore},
};
use phasegate_engine::{
    deadline::deadline,
    event::{Actor, Happened, ReleaseEvent},
    id::{ReleaseId, Revision},
    release::PauseCause,
    time::Timestamp,
};
use phasegate_server::{
    clock::Clock,
    driver::{BATCH_CALLS_MAX, Mode, StoreFailed, Turn, Wait, assemble},
    store::{Record, Store as _, StoreId},
    watch::Watches,
};
use std::{
    collections::{BTreeMap, VecDeque},
    hash::Hash as _,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Duration,
};

impl World {
    /// One turn of the writer, and everything that is to be seen of it.
    pub(super) fn turn(&mut self) -> Told {
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
    pub(super) fn learn_commits(&mut self, wall: Timestamp) -> Result<(), Broken> {
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

    pub(super) fn learn_batch(
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
                marks::mark_change(reached, before, change, wall);
                let flag = &change.release.proposal.flag;
                if origin.is_some() && fired_flags.contains(flag) {
                    reached.mark("a timer fired in the batch of a call about its flag");
                    let paused = |event: &ReleaseEvent| {
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
    pub(super) fn hear(&mut self, head_before: Revision) -> Result<(), Broken> {
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
            marks::mark_answer(&mut self.reached, asked, &answer, &self.history, head_before);
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
    pub(super) fn look_for_what_stands_still(&mut self, wall: Timestamp) {
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
    pub(super) fn fail(
        &mut self,
        wall: Timestamp,
        head_before: Revision,
        failed: &StoreFailed,
    ) -> Told {
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

    pub(super) fn mark_fault(&mut self, fault: Fault, at: CutAt, commits: usize) {
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

    pub(super) fn lose_writes(&mut self, seed: u64) {
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
    pub(super) fn end_process(&mut self, ended: Ended) -> Told {
        self.seen.look().readers = None;
        let Some(server) = self.server.take() else { return Ok(Flow::GoOn) };
        drop(server);
        if ended == Ended::Killed {
            self.disconnect();
        }
        Ok(Flow::GoOn)
    }

    pub(super) fn disconnect(&mut self) {
        self.is_draining = false;
        for watcher in &mut self.watchers {
            watcher.cut();
        }
    }

    pub(super) fn cut_power(&mut self, survivors: u64) -> Told {
        let flow = self.end_process(Ended::Killed)?;
        self.lose_writes(survivors);
        // A fuse that did not blow is gone with the power.
        self.disk.lay_fuse(u32::MAX, Fault::Eio);
        Ok(flow)
    }

    pub(super) fn stop(&mut self) -> Told {
        let Some(server) = &self.server else { return Ok(Flow::GoOn) };
        server.handle.stop();
        // What was handed over before is done before it stops.
        for _ in 0..3 {
            self.turn()?;
        }
        promises::every_call_is_answered(usize::from(self.server.is_some()))?;
        Ok(Flow::GoOn)
    }

    pub(super) fn store_id(&self) -> StoreId {
        StoreId(uuid::Uuid::from_u128(u128::from(self.seed) + 1))
    }

    /// A new process on the disk as it is.
    pub(super) fn start(&mut self) -> Told {
        if self.server.is_some() {
            return Ok(Flow::GoOn);
        }
        self.is_draining = false;
        let opened = store::open(&self.disk, self.store_id());
        let opened = opened.map_err(|error| format!("{error:?}")).and_then(|ledger| {
            let store = Box::new(WatchedStore::new(ledger, self.seen.clone()));
            let clock: Arc<dyn Clock> = self.clock.clone();
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

    pub(super) fn did_not_start(&mut self, what: String) -> Told {
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
    pub(super) fn recovered(&mut self) -> Result<(), Broken> {
        let (loaded, attempted, kept_from, acknowledged, attempted_audit) = {
            let mut sights = self.seen.look();
            let loaded = sights.loaded.take().expect("a process that started has loaded the store");
            let (acknowledged, attempted_audit) = (sights.audit, sights.audit_attempted.take());
            sights.audit = loaded.image.audit;
            let attempted = std::mem::take(&mut sights.attempted);
            (loaded, attempted, sights.requests_kept_from, acknowledged, attempted_audit)
        };
        let image = &loaded.image;
        if self.is_flipped {
            return promises::damage_is_noticed(&image.state, self.disk.noted(), &self.history);
        }
        promises::what_was_acknowledged_survives(image, &self.history, &attempted)?;
        promises::the_audit_chain_survives(image.audit, acknowledged, attempted_audit)?;
        if image.state.revision() > self.history.state().revision() {
            self.reached.mark("a commit survived of which nobody was told");
            self.learn_batch(&attempted, self.attempted_at, kept_from)?;
        } else if !attempted.is_empty() {
            self.reached.mark("a commit was lost of which nobody was told");
        }
        promises::a_restart_changes_nothing(&loaded, &self.history, kept_from)
    }
}
