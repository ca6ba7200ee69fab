//! When calls are due, at a given rate, to a tenth of a millisecond.
//!
//! tokio's timers go by whole milliseconds, from when the runtime began: a call would be made up to two of
//! them late, by as much for all of one load, and by another amount in the next. So a thread of its own sleeps
//! until a call is due, and whoever is free makes it. What is due while nobody is free waits and is late,
//! which counts.

use std::{
    num::NonZeroU64,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};
use tokio::sync::mpsc::{self, UnboundedReceiver};

/// By how much the kernel may be late with a sleep, in nanoseconds. It takes 50 us without being told.
const SLACK: NonZeroU64 = NonZeroU64::MIN;

/// Says when the next call is due, to each call once.
#[derive(Debug)]
pub(crate) struct Pacer {
    due: tokio::sync::Mutex<UnboundedReceiver<Instant>>,
    /// What was due before is left out.
    since: Mutex<Instant>,
}

impl Pacer {
    /// So many calls in a second, evenly, from now on and as long as anybody asks.
    pub(crate) fn start(rate: f64) -> Arc<Self> {
        let (hand_out, due) = mpsc::unbounded_channel();
        let begun = Instant::now();
        thread::spawn(move || {
            // Without it calls are only a little later.
            let _ = rustix::thread::set_current_timer_slack(Some(SLACK));
            for call in 0_u32.. {
                let at = begun + Duration::from_secs_f64(f64::from(call) / rate);
                thread::sleep(at.saturating_duration_since(Instant::now()));
                if hand_out.send(at).is_err() {
                    break;
                }
            }
        });
        Arc::new(Self { due: tokio::sync::Mutex::new(due), since: Mutex::new(begun) })
    }

    /// Waits until a call is due, and says when it was.
    pub(crate) async fn next(&self) -> Instant {
        let mut due = self.due.lock().await;
        loop {
            let at = due.recv().await.expect("the other end goes on as long as this one is there");
            if at >= *self.since.lock().unwrap_or_else(PoisonError::into_inner) {
                return at;
            }
        }
    }

    /// Leaves out what was due until now and nobody has made.
    pub(crate) fn leave_out(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_call_is_due_once_and_those_left_out_never() {
        let pacer = Pacer::start(10_000.0);
        let mut last = None;
        for _ in 0..20 {
            let at = pacer.next().await;
            assert!(at <= Instant::now(), "nothing is handed out before it is due");
            assert!(last.is_none_or(|last| last < at), "one after the other");
            last = Some(at);
        }
        let left_out = Instant::now();
        pacer.leave_out();
        assert!(pacer.next().await >= left_out);
    }
}
