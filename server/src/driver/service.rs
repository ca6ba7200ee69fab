//! The thread around the writer.

use super::{
    config::Config,
    handle::Handle,
    inbox::{Inbox, Senders, inbox},
    writer::{BATCH_CALLS_MAX, OpenError, StoreFailed, Turn, Writer},
};
use crate::{clock::Clock, store::Store};
use std::{collections::VecDeque, sync::Arc};
use tokio::sync::oneshot;

/// Why the writer ended though nobody told it to. The process has to end, with a code that is not
/// zero: what is in memory is no longer what is on disk.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreFailed),
    /// The thread panicked; the log has it.
    #[error("the writer panicked")]
    Panicked,
}

/// A running writer.
#[derive(Debug)]
pub struct Driver {
    handle: Handle,
    ended: oneshot::Receiver<Result<(), StoreFailed>>,
}

/// The parts of a driver, for whoever turns the writer by hand.
pub fn assemble(
    store: Box<dyn Store>,
    clock: Arc<dyn Clock>,
    config: Config,
) -> Result<(Writer, Inbox, Handle), OpenError> {
    let writer = Writer::open(store, clock, config)?;
    let (sender, inbox) = inbox();
    let handle = Handle::new(Arc::clone(writer.published()), sender);
    Ok((writer, inbox, handle))
}

impl Driver {
    /// Loads the store, which takes a while if it is large, and starts the writer. It serves at
    /// once; timers that came due before are fired meanwhile.
    pub fn start(
        store: Box<dyn Store>,
        clock: Arc<dyn Clock>,
        config: Config,
    ) -> Result<Self, OpenError> {
        let (writer, inbox, handle) = assemble(store, clock, config)?;
        let (tell, ended) = oneshot::channel();
        let run = move || {
            let result = run(writer, &inbox);
            // The store is closed by now, and whoever waits for the end may open it again.
            let _ = tell.send(result);
        };
        std::thread::Builder::new()
            .name("writer".to_owned())
            .spawn(run)
            .map_err(OpenError::Thread)?;
        Ok(Self { handle, ended })
    }

    /// The way to it.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits until the writer has ended: because of [`Handle::stop`], or because it failed. It ends
    /// once; do not ask again after that.
    pub async fn ended(&mut self) -> Result<(), Failure> {
        match (&mut self.ended).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Failure::Panicked),
        }
    }
}

fn run(mut writer: Writer, inbox: &Inbox) -> Result<(), StoreFailed> {
    let mut waiting = VecDeque::with_capacity(BATCH_CALLS_MAX);
    loop {
        if waiting.is_empty()
            && inbox.receive(writer.wait(), &mut waiting, BATCH_CALLS_MAX) == Senders::AllGone
        {
            return Ok(());
        }
        match writer.turn(&mut waiting) {
            Ok(Turn::GoOn) => {}
            Ok(Turn::Stop) => return Ok(()),
            Err(failed) => {
                tracing::error!(error = &failed as &dyn std::error::Error, "the writer ends");
                return Err(failed);
            }
        }
    }
}
