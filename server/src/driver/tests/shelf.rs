//! A store that keeps commits as they are.

use crate::store::{
    Compacted, Compaction, Error, Image, LogQuery, Order, Record, RequestKey, RequestRecord, Store,
    StoreId, Write,
};
use phasegate_engine::{
    State,
    event::Change,
    flag::Flag,
    id::{FlagId, PipelineId, ReleaseId, Revision},
    pipeline::Pipeline,
    release::Release,
    time::Timestamp,
};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

#[derive(Clone, Debug, Default)]
pub(super) struct Disk(Arc<Mutex<Shelf>>);

#[derive(Debug, Default)]
struct Shelf {
    revision: Revision,
    time: Option<Timestamp>,
    oldest: Revision,
    flags: BTreeMap<FlagId, Arc<Flag>>,
    pipelines: BTreeMap<PipelineId, Arc<Pipeline>>,
    releases: BTreeMap<ReleaseId, Arc<Release>>,
    changes: Vec<Arc<Change>>,
    requests: BTreeMap<RequestKey, RequestRecord>,
}

#[derive(Debug)]
pub(super) struct ShelfStore(Disk, StoreId);

pub(super) fn open(disk: &Disk, fresh: StoreId) -> Result<ShelfStore, Error> {
    Ok(ShelfStore(disk.clone(), fresh))
}

impl Store for ShelfStore {
    fn load(&mut self) -> Result<Image, Error> {
        let shelf = self.0.0.lock().unwrap();
        let state = State::restore(
            shelf.revision,
            shelf.time.unwrap_or(Timestamp::EPOCH),
            shelf.flags.values().cloned(),
            shelf.pipelines.values().cloned(),
            shelf.releases.values().cloned(),
        );
        let requests = shelf.requests.clone().into_iter().collect();
        Ok(Image { store_id: self.1, oldest: shelf.oldest, state, requests })
    }

    fn commit(&mut self, records: &[Record]) -> Result<(), Error> {
        let mut shelf = self.0.0.lock().unwrap();
        for record in records {
            assert_eq!(record.revision, shelf.revision.next());
            shelf.revision = record.revision;
            shelf.time = Some(record.time);
            for write in &record.flags {
                match write {
                    Write::Put(id, flag) => shelf.flags.insert(id.clone(), Arc::clone(flag)),
                    Write::Delete(id) => shelf.flags.remove(id),
                };
            }
            for write in &record.pipelines {
                match write {
                    Write::Put(id, it) => shelf.pipelines.insert(id.clone(), Arc::clone(it)),
                    Write::Delete(id) => shelf.pipelines.remove(id),
                };
            }
            for release in &record.releases {
                shelf.releases.insert(release.id().clone(), Arc::clone(release));
            }
            shelf.changes.extend(record.changes.iter().cloned());
            shelf.requests.extend(record.request.clone());
        }
        Ok(())
    }

    fn changes(&mut self, query: &LogQuery) -> Result<Vec<Arc<Change>>, Error> {
        let shelf = self.0.0.lock().unwrap();
        let wanted = |change: &&Arc<Change>| {
            change.revision > query.after
                && change.revision <= query.up_to
                && query.release.as_ref().is_none_or(|id| id == change.release.id())
        };
        let found: Vec<_> = shelf.changes.iter().filter(wanted).cloned().collect();
        let mut commits: Vec<_> = found.chunk_by(|a, b| a.revision == b.revision).collect();
        if query.order == Order::NewestFirst {
            commits.reverse();
        }
        let mut read = Vec::new();
        for commit in commits {
            if !read.is_empty() && read.len() + commit.len() > query.limit {
                break;
            }
            read.extend_from_slice(commit);
        }
        Ok(read)
    }

    fn compact(&mut self, limits: &Compaction) -> Result<Compacted, Error> {
        let mut shelf = self.0.0.lock().unwrap();
        let old = shelf.changes.iter().take_while(|change| change.time < limits.changes_before);
        let removed = old.take(limits.most).count();
        if removed > 0 {
            shelf.oldest = shelf.changes[removed - 1].revision.next();
            shelf.changes.drain(..removed);
        }
        let old =
            |(_, record): &(&RequestKey, &RequestRecord)| record.time < limits.requests_before;
        let requests: Vec<RequestKey> =
            shelf.requests.iter().filter(old).take(limits.most).map(|(k, _)| k.clone()).collect();
        shelf.requests.retain(|key, _| !requests.contains(key));
        Ok(Compacted { oldest: shelf.oldest, requests, changes: removed })
    }

    fn free_space(&self) -> Result<Option<u64>, Error> {
        Ok(None)
    }
}
