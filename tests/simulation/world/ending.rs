//! The end of a run: no more faults, and time enough; then a last look at everything.

use super::{Flow, Told, World};
use crate::{
    operation::{Answer, From, Pace},
    promises::{self, Broken},
    store::{self, Loaded},
};
use phasegate_engine::id::Revision;
use phasegate_server::store::{LogQuery, Order, Store as _};

impl World {
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
        let loaded = promises::a_store_opens_after_every_crash(Loaded::of(image, &mut ledger))?;
        let kept_from = self.seen.look().requests_kept_from;
        promises::a_restart_changes_nothing(&loaded, &self.history, kept_from)?;
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
