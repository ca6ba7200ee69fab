//! The data directory as the server sees it, and a store that fails.

use crate::server::{Server, config, create_flag, within};
use phasegate_api::v1;
use phasegate_engine::{event::Change, id::Revision};
use phasegate_server::{
    app::{ExitCode, OpenStore, Parts},
    config::{Config, Data},
    store::{
        AuditQuery, Compacted, Compaction, Error, Image, LogQuery, LoggedCommit, RequestCursor,
        RequestPlace, RequestRecord, RequestStretch, Store, StoreId, Writes,
        audit::AuditEntry,
        memory::{self, Disk},
    },
};
use std::{path::Path, sync::Arc};
use uuid::Uuid;

fn in_directory(dir: &Path) -> Config {
    let mut config = config();
    config.data = Data::Dir(dir.join("data"));
    config
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start_with(in_directory(dir.path())).await;
    let created = server.flags().await.create_flag(create_flag("f")).await.unwrap().into_inner();
    server.stop().await;

    let server = Server::start_with(in_directory(dir.path())).await;
    let get = v1::GetFlagRequest { name: "flags/f".into() };
    let read = server.flags().await.get_flag(get).await.unwrap().into_inner();
    assert_eq!(read.flag, created.flag);
    server.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_in_use_has_its_exit_code() {
    let dir = tempfile::tempdir().unwrap();
    let first = Server::start_with(in_directory(dir.path())).await;
    let config = in_directory(dir.path());
    let parts = Parts::of(&config);
    let second = Server::start_unready(config, parts).await;
    assert_eq!(second.ended().await.unwrap_err().exit_code(), ExitCode::InUse);
    first.stop().await;
}

/// Reads, and fails to write.
struct Broken(memory::MemoryStore);

impl Store for Broken {
    fn load(&mut self) -> Result<Image, Error> {
        self.0.load()
    }

    fn commit(&mut self, _: Writes<'_>) -> Result<(), Error> {
        let source = std::io::Error::other("the disk is gone");
        Err(Error::Io { doing: "writing".into(), source })
    }

    fn audit(&mut self, query: &AuditQuery) -> Result<Vec<AuditEntry>, Error> {
        self.0.audit(query)
    }

    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, Error> {
        self.0.changes(query)
    }

    fn commits(&mut self, from: Revision, to: Revision) -> Result<Vec<LoggedCommit>, Error> {
        self.0.commits(from, to)
    }

    fn request(&mut self, place: RequestPlace) -> Result<Option<RequestRecord>, Error> {
        self.0.request(place)
    }

    fn requests(&mut self, after: Option<&RequestCursor>) -> Result<RequestStretch, Error> {
        self.0.requests(after)
    }

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
        self.0.compact(limits)
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        self.0.free_space()
    }
}

#[tokio::test]
async fn a_store_that_fails_ends_the_server_and_acknowledges_nothing() {
    let config = config();
    let open_store: OpenStore = Box::new(|| {
        let store = memory::open(&Disk::new(), StoreId(Uuid::new_v4()))?;
        Ok(Box::new(Broken(store)))
    });
    let parts = Parts { open_store, ..Parts::of(&config) };
    let server = Server::start_unready(config, parts).await;
    server.serves().await;
    let mut flags = server.flags().await;
    within(flags.create_flag(create_flag("f"))).await.unwrap_err();
    assert_eq!(server.ended().await.unwrap_err().exit_code(), ExitCode::Io);
}
