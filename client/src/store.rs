//! The store as a whole: a backup of a server that goes on meanwhile.

use crate::{
    Client, Error,
    v1::{self, export_store_response::Part, store_service_client::StoreServiceClient},
};
use sha2::{Digest as _, Sha256};
use std::fmt;
use tonic::{Code, Request, Streaming};

/// The text of a store at one revision, as it comes.
///
/// Only what [`next`](Self::next) has given to its end, without an error, is a backup. Dropping it ends it
/// on the server too.
pub struct StoreExport {
    snapshot: v1::StoreSnapshot,
    messages: Streaming<v1::ExportStoreResponse>,
    sum: Sha256,
    bytes: u64,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    GoesOn,
    Over,
}

impl fmt::Debug for StoreExport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreExport").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

impl Client {
    /// Asks for everything that the store holds, at one revision: all that was acknowledged before is in it.
    /// It is not asked for again by itself, and cannot be resumed; whoever is cut off begins anew.
    pub async fn export_store(&self) -> Result<StoreExport, Error> {
        let mut request = Request::new(v1::ExportStoreRequest {});
        self.settings.sign(request.metadata_mut());
        let mut service = StoreServiceClient::new(self.calls());
        let mut messages = service.export_store(request).await?.into_inner();
        let first = messages.message().await?.and_then(|message| message.part);
        let Some(Part::Snapshot(snapshot)) = first else {
            return Err(Error::incomplete("snapshot"));
        };
        let standing = Standing::GoesOn;
        Ok(StoreExport { snapshot, messages, sum: Sha256::new(), bytes: 0, standing })
    }
}

impl StoreExport {
    /// Which store, at which revision.
    pub fn snapshot(&self) -> &v1::StoreSnapshot {
        &self.snapshot
    }

    /// The next bytes of the text; none when all of it came, as the server sent it. After an error nothing
    /// that came before is worth keeping.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Error> {
        if self.standing == Standing::Over {
            return Ok(None);
        }
        match self.messages.message().await?.and_then(|message| message.part) {
            Some(Part::Text(text)) => {
                self.sum.update(&text);
                self.bytes += text.len() as u64;
                Ok(Some(text))
            }
            Some(Part::End(end)) => self.check(&end).map(|()| None),
            Some(Part::Snapshot(_)) | None => Err(cut_off()),
        }
    }

    fn check(&mut self, end: &v1::ExportEnd) -> Result<(), Error> {
        let sum = std::mem::take(&mut self.sum).finalize();
        let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
        if u64::try_from(end.bytes) != Ok(self.bytes) || end.sha256 != sum {
            let message = "the text is not as the server sent it: its checksum does not hold";
            return Err(Error::local(Code::DataLoss, message));
        }
        self.standing = Standing::Over;
        Ok(())
    }
}

fn cut_off() -> Error {
    Error::local(Code::DataLoss, "the text ends before its end: it was cut off")
}
