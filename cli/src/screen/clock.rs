//! What time it is at the server, which is what its deadlines are about.
//!
//! Every message of a watch says it; in between, time that has passed here is added. The clock of
//! this machine is never asked what time it is. In a rehearsal time stands still until somebody moves
//! it, which no message tells if nothing came due: so that clock is asked.

use crate::time;
use chrono::{DateTime, TimeDelta, Utc};
use phasegate_client::Client;
use prost_types::Timestamp;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How much earlier than thought the server may be for the difference to be the network's. More is a
/// clock that was set, or a server that was replaced.
const LATE: TimeDelta = TimeDelta::seconds(5);
/// How often the clock of a rehearsal is asked: what moves by the second should not lag by more.
const ASK_EVERY: Duration = Duration::from_millis(500);

/// The server's clock, as far as it is known here.
#[derive(Clone, Debug)]
pub(crate) struct ServerClock {
    said: DateTime<Utc>,
    heard: Instant,
    pace: Pace,
}

/// How time passes at the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    Runs,
    /// A rehearsal.
    StandsStill,
}

impl ServerClock {
    pub(crate) fn new(said: DateTime<Utc>, pace: Pace) -> Self {
        Self { said, heard: Instant::now(), pace }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.at(Instant::now())
    }

    fn at(&self, here: Instant) -> DateTime<Utc> {
        match self.pace {
            Pace::StandsStill => self.said,
            Pace::Runs => {
                let passed = here.saturating_duration_since(self.heard);
                TimeDelta::from_std(passed).map_or(self.said, |passed| self.said + passed)
            }
        }
    }

    /// The server said what time it is.
    pub(crate) fn hear(&mut self, said: Option<&Timestamp>) {
        if let Some(said) = said {
            self.hear_at(time::instant(said), Instant::now());
        }
    }

    fn hear_at(&mut self, said: DateTime<Utc>, here: Instant) {
        // Messages are late, by less or by more: the least late of them is right.
        let thought = self.at(here);
        let is_late = self.pace == Pace::Runs && said < thought && thought - said < LATE;
        if !is_late {
            (self.said, self.heard) = (said, here);
        }
    }
}

/// Asks whether the server is a rehearsal, and keeps asking what its clock says if it is one.
pub(crate) struct Rehearsal {
    told: Option<watch::Receiver<Timestamp>>,
}

impl Rehearsal {
    pub(crate) async fn ask(client: &Client) -> Self {
        // Any other server does not have a clock to ask.
        let Ok(first) = client.clock_now().await else { return Self { told: None } };
        let (tell, told) = watch::channel(first);
        let client = client.clone();
        tokio::spawn(async move {
            let mut often = tokio::time::interval(ASK_EVERY);
            while !tell.is_closed() {
                often.tick().await;
                // While the server is away its clock stands still anyway.
                if let Ok(now) = client.clock_now().await {
                    tell.send_if_modified(|told| std::mem::replace(told, now) != now);
                }
            }
        });
        Self { told: Some(told) }
    }

    pub(crate) fn clock(&self) -> ServerClock {
        match &self.told {
            Some(told) => ServerClock::new(time::instant(&told.borrow()), Pace::StandsStill),
            // Until the first message says better.
            None => ServerClock::new(time::local_now(), Pace::Runs),
        }
    }

    /// When the clock was moved, and never in a server whose clock runs.
    pub(crate) async fn moved(&mut self) -> Timestamp {
        if let Some(told) = &mut self.told
            && told.changed().await.is_ok()
        {
            return *told.borrow_and_update();
        }
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instant(text: &str) -> DateTime<Utc> {
        time::parse_instant(text).unwrap()
    }

    #[test]
    fn time_passes_between_messages_and_a_late_one_does_not_turn_it_back() {
        let mut clock = ServerClock::new(instant("2030-06-14T18:00:00Z"), Pace::Runs);
        let start = clock.heard;
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.at(after(10)), instant("2030-06-14T18:00:10Z"));
        clock.hear_at(instant("2030-06-14T18:00:08Z"), after(10));
        assert_eq!(clock.at(after(10)), instant("2030-06-14T18:00:10Z"), "it was late");
        clock.hear_at(instant("2030-06-14T18:00:12Z"), after(10));
        assert_eq!(clock.at(after(11)), instant("2030-06-14T18:00:13Z"), "it was quicker");
        clock.hear_at(instant("2030-06-14T17:00:00Z"), after(11));
        assert_eq!(clock.at(after(12)), instant("2030-06-14T17:00:01Z"), "it was set");
    }

    #[test]
    fn in_a_rehearsal_time_stands_still() {
        let mut clock = ServerClock::new(instant("2030-06-14T18:00:00Z"), Pace::StandsStill);
        let later = clock.heard + Duration::from_secs(60);
        assert_eq!(clock.at(later), instant("2030-06-14T18:00:00Z"));
        clock.hear_at(instant("2030-06-14T20:00:00Z"), later);
        assert_eq!(clock.at(later), instant("2030-06-14T20:00:00Z"));
    }
}
