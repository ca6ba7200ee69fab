//! The outbox as this room needs it: a level to wait for, and a way to write down how far rows are.

use crate::driver::{Error, Outbox, OutboxUpdate};
use phasegate_engine::time::Timestamp;
use std::future::Future;
use tokio::sync::watch;

/// Where notifications wait.
pub(super) trait Queue: Clone + Send + Sync + 'static {
    /// All rows, as of the newest durable commit: a level that closes when the server stops.
    fn outbox(&self) -> watch::Receiver<Outbox>;
    /// Writes down how far rows are. When it returns, that is durable and [`Self::outbox`] shows it.
    /// [`Error::DiskFull`] passes; then nothing was written.
    fn settle(
        &self,
        updates: Vec<OutboxUpdate>,
    ) -> impl Future<Output = Result<(), Error>> + Send + 'static;
    /// The server's clock.
    fn now(&self) -> Timestamp;
    /// Ends when the server's clock says this, or somewhat later; perhaps earlier, if the clock was
    /// stepped.
    fn wait_until(&self, time: Timestamp) -> impl Future<Output = ()> + Send + 'static;
}
