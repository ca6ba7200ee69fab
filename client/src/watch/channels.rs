//! Connections of watches, apart from those of calls: streams that deliver little and live long
//! would else fill the connection that calls need.

use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::transport::{Channel, Endpoint};

/// Watches on one connection. Beyond the server's limit of streams the rest would wait in silence;
/// proxies commonly allow 100.
const WATCHES_PER_CHANNEL: usize = 100;

/// As many connections as the open watches need.
#[derive(Debug)]
pub(crate) struct Channels {
    endpoint: Endpoint,
    /// Each with the places that are left on it.
    open: Mutex<Vec<(Channel, Arc<Semaphore>)>>,
}

/// A place on a connection, for as long as it is kept.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) channel: Channel,
    _taken: OwnedSemaphorePermit,
}

impl Channels {
    pub(crate) fn new(endpoint: Endpoint) -> Self {
        // An idle watch sends nothing, and must find a dead peer all the same.
        Self { endpoint: endpoint.keep_alive_while_idle(true), open: Mutex::default() }
    }

    /// A place on the first connection that has one left, or on a new one.
    pub(super) fn seat(&self) -> Seat {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        for (channel, places) in open.iter() {
            if let Ok(taken) = Arc::clone(places).try_acquire_owned() {
                return Seat { channel: channel.clone(), _taken: taken };
            }
        }
        let places = Arc::new(Semaphore::new(WATCHES_PER_CHANNEL));
        let taken = Arc::clone(&places).try_acquire_owned().expect("all places are free");
        let channel = self.endpoint.connect_lazy();
        open.push((channel.clone(), places));
        Seat { channel, _taken: taken }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_carries_a_hundred_watches_and_a_freed_place_is_taken_again() {
        let channels = Channels::new(Endpoint::from_static("http://127.0.0.1:1"));
        let connections = || channels.open.lock().unwrap().len();
        let mut seats: Vec<Seat> = (0..WATCHES_PER_CHANNEL).map(|_| channels.seat()).collect();
        assert_eq!(connections(), 1);
        let beyond = channels.seat();
        assert_eq!(connections(), 2);
        seats.pop();
        let _again = channels.seat();
        drop(beyond);
        let _on_the_second = channels.seat();
        assert_eq!(connections(), 2);
    }
}
