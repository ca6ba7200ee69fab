//! A store as text while the writer goes on with it.
//!
//! What changes is taken at one revision, which costs nothing: it is shared with the writer's own state,
//! and copied only where the writer changes it. The log, the audit chain and requests only grow, so they are
//! read from the store meanwhile, a stretch at a time. That nothing is removed from them for so long is the
//! writer's to see to.
//!
//! The text is what [`tools::export`](super::tools::export) writes of a store that nobody has open, but
//! for the order of its lines, which means nothing but in the audit chain.

use super::{
    RequestIndex, RequestKey, RequestRecord, StoreId,
    audit::{AuditEntry, AuditHead},
    outbox::{OutboxKey, OutboxRow, Reminder},
    record::{ChangeRecord, CommitRecord, FORMAT, StoredRequest},
    text::{
        self, ChangeLine, CommitLine, Line, LineWriter, OutboxLine, ProgressLine, ReminderLine,
    },
};
use imbl::OrdMap;
use phasegate_engine::{
    State,
    id::{ReleaseId, Revision},
    time::Timestamp,
};
use std::{borrow::Cow, io, sync::Arc};

/// What a store holds at one revision, the log and the audit chain apart. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Identity of the store.
    pub store_id: StoreId,
    /// Where the log begins.
    pub oldest: Revision,
    /// Flags, pipelines and releases, and the revision.
    pub state: State,
    /// Which requests must not be done twice. They themselves are read from the store.
    pub requests: RequestIndex,
    /// Where the audit chain ends.
    pub audit: AuditHead,
    /// Notifications that are to be sent, and those that were given up.
    pub outbox: OrdMap<OutboxKey, Arc<OutboxRow>>,
    /// Of releases of whose approvals somebody was reminded: when those run out.
    pub reminders: OrdMap<ReleaseId, Timestamp>,
}

impl Snapshot {
    /// All its records, but for requests.
    pub fn records(&self) -> impl Iterator<Item = SnapshotRecord<'_>> + Send {
        let state = &self.state;
        let pipelines = state.pipelines().map(|pipeline| Line::Pipeline(Cow::Borrowed(pipeline)));
        let flags = state.flags().map(|flag| Line::Flag(Cow::Borrowed(flag)));
        let proposals =
            state.releases().map(|release| Line::Proposal(Cow::Borrowed(&release.proposal)));
        let progress = state.releases().map(|release| {
            let progress = Cow::Borrowed(&release.progress);
            Line::Progress(ProgressLine { release: release.id().clone(), progress })
        });
        let outbox = self.outbox.iter().map(|(key, row)| {
            let (sink, sequence) = (key.sink.clone(), key.sequence);
            Line::Outbox(OutboxLine { sink, sequence, row: Cow::Borrowed(row) })
        });
        let reminders = self.reminders.iter().map(|(release, expires)| {
            let (release, reminder) = (release.clone(), Reminder { expires: *expires });
            Line::Reminder(ReminderLine { release, reminder })
        });
        let resources = pipelines.chain(flags).chain(proposals).chain(progress);
        resources.chain(outbox).chain(reminders).map(SnapshotRecord)
    }
}

/// One record of a [`Snapshot`].
#[derive(Debug)]
pub struct SnapshotRecord<'a>(Line<'a>);

/// A commit with all that the log has of it, as it is stored.
#[derive(Clone, Debug)]
pub struct LoggedCommit {
    pub(super) revision: Revision,
    pub(super) commit: CommitRecord,
    pub(super) changes: Vec<(ReleaseId, ChangeRecord<'static>)>,
}

impl LoggedCommit {
    /// Which one.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

/// The text, as far as it has got. Its first line and its last come by themselves.
#[derive(Debug)]
pub struct SnapshotText {
    writer: LineWriter,
    /// Written, and not yet taken.
    piece: Vec<u8>,
}

impl SnapshotText {
    /// Begins it.
    pub fn of(snapshot: &Snapshot) -> io::Result<Self> {
        let mut text = Self { writer: LineWriter::default(), piece: Vec::new() };
        let head = (snapshot.state.revision(), snapshot.state.time());
        let header = text::header(FORMAT, snapshot.store_id, snapshot.oldest, head);
        text.add_line(&Line::Export(header))?;
        Ok(text)
    }

    fn add_line(&mut self, line: &Line<'_>) -> io::Result<()> {
        self.writer.write(&mut self.piece, line)
    }

    /// Goes on with a record.
    pub fn add(&mut self, record: &SnapshotRecord<'_>) -> io::Result<()> {
        self.add_line(&record.0)
    }

    /// Goes on with a request.
    pub fn add_request(&mut self, key: &RequestKey, record: &RequestRecord) -> io::Result<()> {
        let (key, record) = (Cow::Borrowed(key), Cow::Borrowed(record));
        self.add_line(&Line::Request(StoredRequest { key, record }))
    }

    /// Goes on with a commit of the log.
    pub fn add_commit(&mut self, logged: LoggedCommit) -> io::Result<()> {
        let LoggedCommit { revision, commit, changes } = logged;
        self.add_line(&Line::Commit(CommitLine { revision, commit }))?;
        for (release, change) in changes {
            self.add_line(&Line::Change(ChangeLine { release, change }))?;
        }
        Ok(())
    }

    /// Goes on with the next entry of the audit chain.
    pub fn add_audit(&mut self, entry: &AuditEntry) -> io::Result<()> {
        self.add_line(&Line::Audit(Arc::clone(&entry.json)))
    }

    /// Bytes that were written and not yet taken.
    pub fn waiting(&self) -> usize {
        self.piece.len()
    }

    /// Takes what was written.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.piece)
    }

    /// Ends it, and takes what is left.
    pub fn finish(mut self) -> io::Result<Vec<u8>> {
        self.writer.finish(&mut self.piece)?;
        Ok(self.piece)
    }
}
