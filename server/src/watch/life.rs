//! What all streams have in common: they wait for the head, break the silence, and end.

use super::{
    Config,
    jitter::Jitter,
    level::{Level, Open, Waiting},
};
use crate::driver::LogError;
use phasegate_engine::id::Revision;
use std::{
    future::poll_fn,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a stream ended. After each of these a client resumes where it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// It was open for long enough; this spreads streams over servers.
    #[error("the stream was open for its time; resume it")]
    Expired,
    /// The caller's own deadline is over.
    #[error("the deadline of the call is over")]
    DeadlineExceeded,
    /// The server is stopping.
    #[error("the server is stopping")]
    Draining,
    /// It had something to deliver for longer than the client may take.
    #[error("the client did not read for too long")]
    SlowConsumer,
    /// The log no longer reaches back to where the stream is.
    #[error("the log begins at revision {oldest}")]
    Compacted {
        /// Where it begins.
        oldest: Revision,
    },
}

impl WatchEnd {
    /// What it is called where ends are counted.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Expired => "expired",
            Self::DeadlineExceeded => "deadline_exceeded",
            Self::Draining => "draining",
            Self::SlowConsumer => "slow_consumer",
            Self::Compacted { .. } => "compacted",
        }
    }
}

impl From<LogError> for WatchEnd {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Compacted { oldest } => Self::Compacted { oldest },
            LogError::Stopped => Self::Draining,
        }
    }
}

/// Whether the server is stopping. It does not go back.
#[derive(Debug, Default)]
pub(super) struct Drain(AtomicBool);

impl Drain {
    /// To be called before streams are woken for it.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(super) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether a stream knows that the server is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knows {
    No,
    Yes,
}

/// What a stream waited for.
#[derive(Debug)]
pub(super) enum Wake {
    /// The head is beyond the cursor.
    Moved,
    /// It has been silent for long enough.
    Beat,
    /// It is over.
    End(WatchEnd),
}

/// The times of one stream.
#[derive(Debug)]
pub(super) struct Life {
    config: Arc<Config>,
    jitter: Arc<Jitter>,
    head: Arc<Level>,
    /// Rises when the head does for something that concerns the stream; what does not wakes nobody.
    moves: Waiting,
    drain: Arc<Drain>,
    draining: Knows,
    /// Goes off when there may be something to do, or earlier: it is set anew only when it has gone off,
    /// for that costs as much as an event.
    timer: Pin<Box<Sleep>>,
    dies: Instant,
    dies_of: WatchEnd,
    beat: Instant,
    given: Instant,
    was_kept_waiting: bool,
}

impl Life {
    pub(super) fn new(
        config: Arc<Config>,
        jitter: Arc<Jitter>,
        head: Arc<Level>,
        moves: Arc<Level>,
        drain: Arc<Drain>,
        open: Arc<Open>,
        deadline: Option<Duration>,
    ) -> Self {
        let now = Instant::now();
        let tenth = config.lifetime / 10;
        let expires = now + config.lifetime - tenth + jitter.up_to(2 * tenth);
        let deadline = deadline.and_then(|left| now.checked_add(left));
        let (dies, dies_of) = match deadline.filter(|deadline| *deadline < expires) {
            Some(deadline) => (deadline, WatchEnd::DeadlineExceeded),
            None => (expires, WatchEnd::Expired),
        };
        let beat = now + beat_after(&config, &jitter);
        Self {
            config,
            jitter,
            head,
            moves: Waiting::new(moves, open),
            drain,
            draining: Knows::No,
            timer: Box::pin(sleep_until(beat.min(dies))),
            dies,
            dies_of,
            beat,
            given: now,
            was_kept_waiting: false,
        }
    }

    /// The newest revision.
    pub(super) fn head(&self) -> Revision {
        self.head.reached()
    }

    /// The end, if it has come.
    pub(super) fn over(&mut self) -> Option<WatchEnd> {
        let now = Instant::now();
        if self.must_hear_of_draining() {
            self.draining = Knows::Yes;
            let ends = now + self.jitter.up_to(self.config.drain_over);
            if ends < self.dies {
                (self.dies, self.dies_of) = (ends, WatchEnd::Draining);
            }
        }
        (now >= self.dies).then(|| self.dies_of.clone())
    }

    /// Waits until the head is beyond the cursor, or until something else is to be done.
    pub(super) async fn wait(&mut self, cursor: Revision) -> Wake {
        loop {
            if let Some(end) = self.over() {
                return Wake::End(end);
            }
            if self.is_silent() {
                return Wake::Beat;
            }
            let until = self.beat.min(self.dies);
            if self.timer.is_elapsed() || self.timer.deadline() > until {
                self.timer.as_mut().reset(until);
            }
            let slept = Instant::now();
            let wake = poll_fn(|cx| {
                self.moves.open().waits(cx.waker());
                if self.moves.level().reached() > cursor {
                    return Poll::Ready(Some(Wake::Moved));
                }
                if self.moves.level().is_closed() {
                    // The writer is gone.
                    return Poll::Ready(Some(Wake::End(WatchEnd::Draining)));
                }
                if self.must_hear_of_draining() {
                    return Poll::Ready(None);
                }
                self.timer.as_mut().poll(cx).map(|()| None)
            });
            let wake = wake.await;
            self.was_kept_waiting |= self.is_too_long(slept.elapsed());
            if let Some(wake) = wake {
                return wake;
            }
        }
    }

    fn must_hear_of_draining(&self) -> bool {
        self.draining == Knows::No && self.drain.has_begun()
    }

    /// True if it is time for a bookmark.
    pub(super) fn is_silent(&self) -> bool {
        Instant::now() >= self.beat
    }

    /// To be called right before an item is given away.
    pub(super) fn gives(&mut self) {
        self.given = Instant::now();
    }

    /// To be called when the stream goes on after an item.
    pub(super) fn goes_on(&mut self) {
        self.was_kept_waiting = self.is_too_long(self.given.elapsed());
        self.beat = self.given + beat_after(&self.config, &self.jitter);
    }

    /// To be asked when there is something to deliver: true if nobody asked for it for too long.
    pub(super) fn is_slow(&self) -> bool {
        self.was_kept_waiting
    }

    /// A stream that is read is polled at every heartbeat at least.
    fn is_too_long(&self, unpolled: Duration) -> bool {
        unpolled > self.config.slow_after.max(self.config.heartbeat)
    }
}

fn beat_after(config: &Config, jitter: &Jitter) -> Duration {
    config.heartbeat - jitter.up_to(config.heartbeat / 10)
}
