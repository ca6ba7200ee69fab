//! `StoreService`.
//!
//! The text is made by a task of its own, one piece ahead of whoever takes it, so that one who stops taking
//! it is found, and what it holds is let go.

use super::{Api, status, submit::note_act};
use crate::{
    driver::{EXPORT_TIME_MAX, Export, ExportError},
    watch::WatchEnd,
};
use futures_util::{StreamExt as _, stream::BoxStream};
use phasegate_api::{
    convert::{revision_to_wire, timestamp_to_wire},
    v1::{
        ExportEnd, ExportStoreRequest, ExportStoreResponse, StoreSnapshot,
        export_store_response::Part, store_service_server::StoreService,
    },
};
use phasegate_engine::id::Revision;
use sha2::{Digest as _, Sha256};
use std::{fmt::Write as _, pin::pin, sync::Arc, time::Duration};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Exports at a time. Each keeps the state of its revision, and the log from losing anything.
pub(super) const EXPORTS_MAX: usize = 2;
/// Whoever takes nothing for so long gets no more.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
/// The most bytes of the text in one message, as the contract says.
const TEXT_BYTES_MAX: usize = 1 << 20;

#[tonic::async_trait]
impl StoreService for Api {
    type ExportStoreStream = BoxStream<'static, Result<ExportStoreResponse, Status>>;

    async fn export_store(
        &self,
        request: Request<ExportStoreRequest>,
    ) -> Result<Response<Self::ExportStoreStream>, Status> {
        let driver = self.driver()?;
        let place = Arc::clone(&self.exports).try_acquire_owned();
        let place = place.map_err(|_| status::overloaded())?;
        note_act(self, &request, "ExportStore", String::new())?;
        let export = driver.export().await.map_err(status::failed)?;
        let snapshot = StoreSnapshot {
            store_id: driver.store_id().to_string(),
            revision: revision_to_wire(export.revision()),
            time: (export.revision() > Revision::ZERO).then(|| timestamp_to_wire(export.time())),
        };
        let (to, taken) = mpsc::channel(1);
        let draining = self.draining();
        tokio::spawn(async move {
            let _place = place;
            let sent = tokio::select! {
                () = draining.cancelled() => Err(Ended::Draining),
                sent = send(snapshot, export, &to) => sent,
            };
            let end = match sent {
                Ok(()) => return,
                Err(Ended::Gone) => {
                    tracing::info!("an export was not taken to its end");
                    return;
                }
                Err(Ended::Draining) => status::draining(),
                Err(Ended::Slow) => status::watch_ended(WatchEnd::SlowConsumer),
                Err(Ended::Expired) => status::watch_ended(WatchEnd::Expired),
                Err(Ended::Failed(error)) => status::export_failed(&error),
            };
            tracing::warn!(status = end.message(), "an export ends too early");
            // Who does not take this either sees the end of the stream, without `end`.
            let _ = timeout(TAKEN_WITHIN, to.send(Err(end))).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(taken))))
    }
}

/// Why an export is not sent to its end.
enum Ended {
    /// Nobody takes it any more.
    Gone,
    /// Nothing was taken for too long.
    Slow,
    /// It took too long as a whole.
    Expired,
    /// The server is about to stop.
    Draining,
    /// The text does not go on.
    Failed(ExportError),
}

type Sender = mpsc::Sender<Result<ExportStoreResponse, Status>>;

/// Sends all of it.
async fn send(snapshot: StoreSnapshot, export: Export, to: &Sender) -> Result<(), Ended> {
    let ends = Instant::now() + EXPORT_TIME_MAX;
    let hand_over = async |part: Part| {
        let message = Ok(ExportStoreResponse { part: Some(part) });
        match timeout_at(ends.min(Instant::now() + TAKEN_WITHIN), to.send(message)).await {
            Ok(sent) => sent.map_err(|_| Ended::Gone),
            Err(_) if Instant::now() >= ends => Err(Ended::Expired),
            Err(_) => Err(Ended::Slow),
        }
    };
    let revision = snapshot.revision;
    hand_over(Part::Snapshot(snapshot)).await?;
    let (mut sum, mut bytes) = (Sha256::new(), 0_i64);
    let mut pieces = pin!(export.pieces());
    while let Some(piece) = pieces.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(ExportError::Stopped) => return Err(Ended::Draining),
            Err(ExportError::Expired) => return Err(Ended::Expired),
            Err(error @ (ExportError::Damaged(_) | ExportError::Text(_))) => {
                return Err(Ended::Failed(error));
            }
        };
        sum.update(&piece);
        // A piece is a part of what is in memory.
        bytes += i64::try_from(piece.len()).unwrap_or(i64::MAX);
        for text in piece.chunks(TEXT_BYTES_MAX) {
            hand_over(Part::Text(text.to_vec())).await?;
        }
    }
    let mut sha256 = String::with_capacity(64);
    for byte in sum.finalize() {
        // A text takes whatever is written to it.
        let _ = write!(sha256, "{byte:02x}");
    }
    hand_over(Part::End(ExportEnd { bytes, sha256 })).await?;
    tracing::info!(revision, bytes, "an export was sent");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::SystemClock,
        driver::{Config, Driver, StoreId},
        store::memory,
    };

    /// The clock stands still but for waits: one that nobody ends is over at once.
    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_for_a_minute_gets_no_more() {
        let store = memory::open(&memory::Disk::new(), StoreId::fresh()).unwrap();
        let driver =
            Driver::start(Box::new(store), Arc::new(SystemClock), Config::default()).unwrap();
        let export = driver.handle().export().await.unwrap();
        let (to, mut taken) = mpsc::channel(1);
        let begun = Instant::now();
        let sent = send(StoreSnapshot::default(), export, &to).await;
        assert!(matches!(sent, Err(Ended::Slow)));
        assert_eq!(begun.elapsed().as_secs(), TAKEN_WITHIN.as_secs());
        let first = taken.recv().await.unwrap().unwrap();
        assert!(matches!(first.part, Some(Part::Snapshot(_))));
        // And who has gone is not waited for.
        let export = driver.handle().export().await.unwrap();
        drop(taken);
        let sent = send(StoreSnapshot::default(), export, &to).await;
        assert!(matches!(sent, Err(Ended::Gone)));
        driver.handle().stop();
    }
}
