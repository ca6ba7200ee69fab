//! What `phasegate store` does to a store that no server has open: verify, export, import. Export and
//! import are there for any [`Tree`] too. The text is that of `text`; a server that runs writes the
//! same through [`snapshot`](super::snapshot).
//!
//! An imported store has another identity, so that watchers of the old one begin anew.
//!
//! All functions block.

pub use super::text::{Malformed, Report};
use super::{
    Counts, Error as StoreError, Finding, Store as _, StoreId, Verified, Writes,
    audit::{Act, AuditEntry},
    check,
    ledger::{
        Ledger, index::Gathered, put_audit, put_change, put_commit, put_proposal, request_key,
    },
    memory,
    record::{
        ChangeRecord, Oldest, StoredAudit, StoredProgress, decode, encode,
        key::{Key, Kind},
        packs::OpenPacks,
        parts,
        proposal::{Copies, ProposalRecord},
    },
    sled,
    text::{
        self, ChangeLine, CommitLine, Counted, Header, Line, LineReader, LineWriter, OutboxLine,
        ProgressLine, ReminderLine,
    },
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::{
    id::{ReleaseId, Revision},
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use std::{
    borrow::Cow,
    io::{self, BufRead, Write},
    path::Path,
    sync::Arc,
};

/// How many keys an import writes in one batch. Large enough that the barriers do not count.
const KEYS_PER_BATCH: usize = 4096;

/// Why a tool did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be opened, read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export could not be written.
    #[error("the export cannot be written")]
    Write(#[source] io::Error),
    /// The text is not an export, or not a whole one.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// The store contradicts itself.
    #[error("the store is not sound: {} findings, the first: {first}", verified.findings_total)]
    Unsound {
        /// The first finding.
        first: Finding,
        /// All that was found.
        verified: Box<Verified>,
    },
}

/// Reads the whole store in a directory and reports what contradicts the rest. To open it, sled
/// writes to the directory; nothing of what is stored changes.
pub fn verify(path: &Path) -> Result<Verified, Error> {
    Ok(check_sound(&mut sled::open_existing(path)?)?)
}

fn check_sound(store: &mut sled::SledStore) -> Result<Verified, StoreError> {
    let mut verified = store.verify()?;
    for name in store.tree.files_never_synced()? {
        verified.findings_total += 1;
        verified.findings.push(Finding {
            key: format!("blobs/{name}"),
            problem: "a value lies in a file that sled never syncs".into(),
        });
    }
    Ok(verified)
}

fn sound(verified: Verified) -> Result<Verified, Error> {
    match verified.findings.first().cloned() {
        Some(first) => Err(Error::Unsound { first, verified: Box::new(verified) }),
        None => Ok(verified),
    }
}

/// Writes the whole store in a directory as text. Refuses a store that is not sound.
pub fn export(path: &Path, out: &mut dyn Write, report: Report<'_>) -> Result<Verified, Error> {
    let mut store = sled::open_existing(path)?;
    let verified = sound(check_sound(&mut store)?)?;
    write_records(&store, &verified, out, report)?;
    Ok(verified)
}

/// As [`export`], of a store that is open, whatever holds it.
pub fn export_from<T: Tree>(
    store: &mut Ledger<T>,
    out: &mut dyn Write,
    report: Report<'_>,
) -> Result<Verified, Error> {
    let verified = sound(store.verify()?)?;
    write_records(store, &verified, out, report)?;
    Ok(verified)
}

fn write_records<T: Tree>(
    store: &Ledger<T>,
    verified: &Verified,
    out: &mut dyn Write,
    report: Report<'_>,
) -> Result<(), Error> {
    let mut to = Lines { writer: LineWriter::default(), buffer: Vec::new(), out, report };
    let head = (verified.revision, verified.time);
    let header = text::header(store.format, verified.store_id, verified.oldest, head);
    to.writer.write(&mut to.buffer, &Line::Export(header)).map_err(Error::Write)?;
    let tree = &store.tree;
    to.kind(tree, Kind::Pipeline, |_, value| Some(Line::Pipeline(Cow::Owned(value))))?;
    to.kind(tree, Kind::Flag, |_, value| Some(Line::Flag(Cow::Owned(value))))?;
    let mut copies = Copies::default();
    for entry in parts::scan(tree, Kind::PipelineAt.all(), Direction::Up) {
        let (key, value) = entry?.map_err(StoreError::from)?;
        copies.add(decode(&key, value.as_ref()).map_err(StoreError::from)?);
    }
    to.kind(tree, Kind::Proposal, |_, record: ProposalRecord| {
        // The store is sound, so the copy of its pipeline is there.
        let proposal = record.with(&mut copies).ok()?;
        Some(Line::Proposal(Cow::Owned(proposal)))
    })?;
    to.kind(tree, Kind::Progress, |key, stored: StoredProgress<'_>| {
        let Key::Progress(release) = key else { return None };
        Some(Line::Progress(ProgressLine { release, progress: stored.progress }))
    })?;
    // What is below the oldest revision is on its way out of the store.
    to.kind(tree, Kind::Commit, |key, commit| {
        let Key::Commit(revision) = key else { return None };
        let line = CommitLine { revision, commit };
        (revision >= verified.oldest).then_some(Line::Commit(line))
    })?;
    to.kind(tree, Kind::Change, |key, change| {
        let Key::Change(revision, release) = key else { return None };
        let line = ChangeLine { release, change };
        (revision >= verified.oldest).then_some(Line::Change(line))
    })?;
    to.kind(tree, Kind::Request, |_, value| Some(Line::Request(value)))?;
    to.requests(tree)?;
    to.kind(tree, Kind::Audit, |_, entry: StoredAudit| Some(Line::Audit(entry.json)))?;
    to.kind(tree, Kind::Outbox, |key, row| {
        let Key::Outbox(sink, sequence) = key else { return None };
        Some(Line::Outbox(OutboxLine { sink, sequence, row: Cow::Owned(row) }))
    })?;
    to.kind(tree, Kind::Reminder, |key, reminder| {
        let Key::Reminder(release) = key else { return None };
        Some(Line::Reminder(ReminderLine { release, reminder }))
    })?;
    to.finish()
}

/// Where the lines of an export go.
struct Lines<'a> {
    writer: LineWriter,
    buffer: Vec<u8>,
    out: &'a mut dyn Write,
    report: Report<'a>,
}

impl Lines<'_> {
    fn kind<'v, T: Tree, V: DeserializeOwned>(
        &mut self,
        tree: &T,
        kind: Kind,
        mut line: impl FnMut(Key, V) -> Option<Line<'v>>,
    ) -> Result<(), Error> {
        for entry in parts::scan(tree, kind.all(), Direction::Up) {
            let (key, value) = entry?.map_err(StoreError::from)?;
            let value = decode(&key, value.as_ref()).map_err(StoreError::from)?;
            if let Some(line) = line(key, value) {
                self.line(&line)?;
            }
        }
        Ok(())
    }

    /// Those that stand under their times. A time without one is of a request that stands by itself.
    fn requests<T: Tree>(&mut self, tree: &T) -> Result<(), Error> {
        for entry in parts::scan(tree, Kind::RequestAt.all(), Direction::Up) {
            let (key, value) = entry?.map_err(StoreError::from)?;
            if !value.as_ref().is_empty() {
                let request = decode(&key, value.as_ref()).map_err(StoreError::from)?;
                self.line(&Line::Request(request))?;
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &Line<'_>) -> Result<(), Error> {
        let written = self.writer.record(&mut self.buffer, line, self.report);
        written.and_then(|()| self.out.write_all(&self.buffer)).map_err(Error::Write)?;
        self.buffer.clear();
        Ok(())
    }

    fn finish(mut self) -> Result<(), Error> {
        let last = self.writer.finish(&mut self.buffer);
        let written = last.and_then(|()| self.out.write_all(&self.buffer));
        written.and_then(|()| self.out.flush()).map_err(Error::Write)
    }
}

/// What an export holds, as its text says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Identity of the store that it is of.
    pub store_id: StoreId,
    /// Its last commit.
    pub revision: Revision,
    /// Records by kind.
    pub counts: Counts,
}

/// Reads a text to its end: whether it is a whole export, and as it was written. Whether its records fit
/// together is what [`try_import`] says, which needs room for all of them.
pub fn inspect(from: &mut dyn BufRead) -> Result<Contents, Error> {
    let (header, mut lines) = LineReader::begin(from)?;
    let mut counted = Counted::default();
    loop {
        let line = lines.next()?;
        counted.count(&line, &mut |_| {});
        if matches!(line, Line::Export(_)) {
            return Err(lines.problem("a second header").into());
        }
        if let Line::End(trailer) = line {
            lines.check_end(&trailer)?;
            let (store_id, revision) = (header.store_id, header.revision);
            return Ok(Contents { store_id, revision, counts: counted.counts });
        }
    }
}

/// Reads a text as an import would, and makes the store in memory: whether a server could start from it.
/// The audit chain of what it counts has one entry more, that of the import.
pub fn try_import(
    from: &mut dyn BufRead,
    now: Timestamp,
    report: Report<'_>,
) -> Result<Verified, Error> {
    let mut store = memory::open(&memory::Disk::new(), StoreId::fresh())?;
    import_into(&mut store, from, now, report)
}

/// Makes a store with the identity `fresh` from an export, in a directory that is empty or missing.
/// If that fails the directory is left empty. The audit chain keeps its bytes, and goes on with an
/// entry of the time `now` that says which store it came from.
pub fn import(
    path: &Path,
    from: &mut dyn BufRead,
    fresh: StoreId,
    now: Timestamp,
    report: Report<'_>,
) -> Result<Verified, Error> {
    // Looked at first, so that a file of another kind does not even make a directory.
    let (header, lines) = LineReader::begin(from)?;
    let mut store = sled::create_unfinished(path, fresh)?;
    let read = |store: &mut sled::SledStore| {
        let counts = read_records(store, &header, lines, now, report)?;
        complete(check_sound(store)?, counts)
    };
    match read(&mut store) {
        Ok(verified) => {
            sled::finish(store)?;
            Ok(verified)
        }
        Err(error) => {
            // Why the import failed matters more than that its remains could not be removed; they
            // cannot be opened as a store either way.
            let _ = sled::abandon(store);
            Err(error)
        }
    }
}

/// As [`import`], into a store that was just made, whatever holds it. What it holds after an error is
/// worth nothing.
pub fn import_into<T: Tree>(
    store: &mut Ledger<T>,
    from: &mut dyn BufRead,
    now: Timestamp,
    report: Report<'_>,
) -> Result<Verified, Error> {
    let (header, lines) = LineReader::begin(from)?;
    let counts = read_records(store, &header, lines, now, report)?;
    complete(store.verify()?, counts)
}

/// What came of an import, if it is sound and all that was in the text.
fn complete(verified: Verified, counts: Counts) -> Result<Verified, Error> {
    let verified = sound(verified)?;
    if verified.counts != counts {
        // A record stood there twice.
        return Err(Malformed::Changed.into());
    }
    Ok(verified)
}

/// Reads all lines after the first, and says how many records they were.
fn read_records<T: Tree>(
    store: &mut Ledger<T>,
    header: &Header,
    mut lines: LineReader<'_>,
    now: Timestamp,
    report: Report<'_>,
) -> Result<Counts, Error> {
    let mut counted = Counted::default();
    let mut batch = Batch::default();
    let mut packs = OpenPacks::default();
    let mut index = Gathered::default();
    let mut log = LogOrder::default();
    // One is stored for all that took it, so they have to be the same.
    let mut copies = Copies::default();
    let mut audit = store.audit;
    if header.oldest > Revision::ZERO {
        let oldest = Oldest { revision: header.oldest };
        parts::insert(&mut batch, &Key::Oldest, encode(&oldest));
    }
    loop {
        let line = lines.next()?;
        counted.count(&line, report);
        match line {
            Line::Pipeline(pipeline) => {
                parts::insert(&mut batch, &Key::Pipeline(pipeline.id.clone()), encode(&pipeline));
            }
            Line::Flag(flag) => {
                parts::insert(&mut batch, &Key::Flag(flag.id.clone()), encode(&flag));
            }
            Line::Proposal(proposal) => {
                let pipeline = &proposal.pipeline;
                match copies.get(&pipeline.id, pipeline.revision) {
                    Some(copy) if copy != pipeline => {
                        let problem = format!("another copy of {} of one revision", pipeline.id);
                        return Err(lines.problem(problem).into());
                    }
                    Some(_) => {}
                    None => copies.add(Arc::clone(pipeline)),
                }
                put_proposal(&mut batch, &store.tree, &proposal)?;
            }
            Line::Progress(ProgressLine { release, progress }) => {
                // Its entries of the log get an index of lists.
                let stored = StoredProgress { progress, log: Vec::new() };
                parts::insert(&mut batch, &Key::Progress(release), encode(&stored));
            }
            Line::Commit(CommitLine { revision, commit }) => {
                log.commit(revision).map_err(|problem| lines.problem(problem))?;
                put_commit(&mut batch, &mut packs, revision, commit);
            }
            Line::Change(ChangeLine { release, change }) => {
                log.change(&change, &release).map_err(|problem| lines.problem(problem))?;
                index.add(&mut batch, &release, change.revision);
                put_change(&mut batch, &mut packs, &release, &change);
            }
            // They come in any order, so they cannot lie in packs.
            Line::Request(request) => {
                parts::insert(&mut batch, &request_key(&request), encode(&request));
            }
            Line::Audit(json) => {
                let entry = AuditEntry::read(json).map_err(|error| lines.problem(error))?;
                check::follows_in_chain(&entry, audit).map_err(|error| lines.problem(error))?;
                audit = entry.head();
                put_audit(&mut batch, &mut packs, &entry);
            }
            Line::Outbox(OutboxLine { sink, sequence, row }) => {
                parts::insert(&mut batch, &Key::Outbox(sink, sequence), encode(&row));
            }
            Line::Reminder(ReminderLine { release, reminder }) => {
                parts::insert(&mut batch, &Key::Reminder(release), encode(&reminder));
            }
            Line::Export(_) => return Err(lines.problem("a second header").into()),
            Line::End(trailer) => {
                lines.check_end(&trailer)?;
                break;
            }
        }
        if batch.len() >= KEYS_PER_BATCH {
            packs.write(&mut batch);
            let batch = std::mem::take(&mut batch);
            store.write_with_audit(batch, header.revision, header.time, audit)?;
        }
    }
    for list in index.finish() {
        list(&mut batch);
        if batch.len() >= KEYS_PER_BATCH {
            let batch = std::mem::take(&mut batch);
            store.write_with_audit(batch, header.revision, header.time, audit)?;
        }
    }
    packs.write(&mut batch);
    store.write_with_audit(batch, header.revision, header.time, audit)?;
    store.oldest = header.oldest;
    let act = Act::Imported { from: header.store_id, revision: header.revision };
    let imported = [AuditEntry::after(store.audit, now, store.store_id, act)];
    store.commit(Writes { audit: &imported, ..Writes::default() })?;
    counted.counts.audit += 1;
    Ok(counted.counts)
}

/// Where the log of a text has got. It is written from its beginning on, as it is read.
#[derive(Default)]
struct LogOrder {
    commit: Revision,
    change: Option<(Revision, ReleaseId)>,
}

impl LogOrder {
    fn commit(&mut self, revision: Revision) -> Result<(), &'static str> {
        let fits = self.commit < revision;
        self.commit = revision;
        if fits { Ok(()) } else { Err("a commit after a later one") }
    }

    fn change(
        &mut self,
        change: &ChangeRecord<'_>,
        release: &ReleaseId,
    ) -> Result<(), &'static str> {
        let place = Some((change.revision, release.clone()));
        let fits = self.change < place;
        self.change = place;
        if fits { Ok(()) } else { Err("an entry of the log after a later one") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        Image, LogQuery, Order, Store,
        testing::{History, START, describe_flag},
    };
    use phasegate_engine::time::Span;
    use sha2::{Digest as _, Sha256};
    use std::{fs, path::PathBuf};
    use tempfile::TempDir;
    use uuid::Uuid;

    const FIRST: StoreId = StoreId(Uuid::from_u128(1));
    const SECOND: StoreId = StoreId(Uuid::from_u128(2));

    fn directory() -> (TempDir, PathBuf) {
        let temporary = tempfile::tempdir().unwrap();
        let path = temporary.path().join("data");
        (temporary, path)
    }

    fn history() -> History {
        let mut history = History::long();
        history.call(describe_flag("search", &"\"\\\u{1}ä".repeat(50_000)));
        history
    }

    /// A directory with a store whose log was compacted.
    fn store() -> (TempDir, PathBuf) {
        let (temporary, path) = directory();
        let mut store = sled::open(&path, FIRST).unwrap();
        store.commit(Writes::of(&history().records)).unwrap();
        store
            .compact(&crate::store::Compaction {
                changes_before: START + Span::from_secs(5),
                requests_before: START + Span::from_secs(5),
                most: 100,
            })
            .unwrap();
        (temporary, path)
    }

    fn exported(path: &Path) -> String {
        let mut text = Vec::new();
        export(path, &mut text, &mut |_| {}).unwrap();
        String::from_utf8(text).unwrap()
    }

    fn imported(path: &Path, text: &str) -> Result<Verified, Error> {
        import(path, &mut text.as_bytes(), SECOND, START, &mut |_| {})
    }

    fn contents(path: &Path) -> (Image, Vec<Arc<phasegate_engine::event::Change>>) {
        let mut store = sled::open_existing(path).unwrap();
        let image = store.load().unwrap();
        let query = LogQuery {
            after: Revision::ZERO,
            up_to: image.state.revision(),
            release: None,
            order: Order::OldestFirst,
            limit: usize::MAX,
        };
        let changes = store.changes(&query).unwrap();
        (image, changes)
    }

    #[test]
    fn a_sound_store_has_no_findings() {
        let (_temporary, path) = store();
        let verified = verify(&path).unwrap();
        assert_eq!(verified.findings, []);
        assert_eq!((verified.counts.flags, verified.counts.pipelines), (2, 1));
        assert_eq!(verified.counts.releases, 4);
    }

    #[test]
    fn an_imported_store_is_the_exported_one_but_for_its_identity() {
        let (_temporary, path) = store();
        let text = exported(&path);
        let (_other, copy) = directory();
        let verified = imported(&copy, &text).unwrap();
        assert_eq!(verified.store_id, SECOND);
        let ((was, was_log), (is, is_log)) = (contents(&path), contents(&copy));
        assert_eq!(is.store_id, SECOND);
        assert_eq!(is.oldest, was.oldest);
        assert_eq!(is.state, was.state);
        assert_eq!(is.requests, was.requests);
        assert_eq!(is_log, was_log);
        // But for the header and the checksum that follows from it, so is its export.
        let lines = |text: &str| text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>();
        let (mut was, mut is) = (lines(&text), lines(&exported(&copy)));
        was.pop();
        is.pop();
        // The chain goes on where it came to be another store.
        let imported = is.iter().position(|line| line.contains("imported")).unwrap();
        let last = is.remove(imported);
        assert!(last.contains(&FIRST.to_string()) && last.contains(&SECOND.to_string()), "{last}");
        // Requests of one moment stand in any order.
        is.sort();
        was.sort();
        assert_eq!(is, was);
    }

    #[test]
    fn an_imported_store_goes_on() {
        let mut history = history();
        let (_temporary, path) = store();
        let (_other, copy) = directory();
        imported(&copy, &exported(&path)).unwrap();
        let mut store = sled::open(&copy, FIRST).unwrap();
        let record = history.call(describe_flag("search", "short again"));
        store.commit(Writes::of(&[record])).unwrap();
        assert_eq!(store.load().unwrap().state, history.state);
        assert_eq!(store.verify().unwrap().findings, []);
    }

    #[test]
    fn a_cut_or_changed_export_is_refused_and_leaves_nothing_behind() {
        let (_temporary, path) = store();
        let text = exported(&path);
        let lines: Vec<&str> = text.split_inclusive('\n').collect();
        let without = |at: usize| [&lines[..at], &lines[at + 1..]].concat().concat();
        let last = lines.len() - 1;
        let bad = [
            String::new(),
            "{}\n".into(),
            text[..text.len() / 2].to_owned(),
            text[..text.len() - 1].to_owned(),
            lines[..last].concat(),
            without(0),
            without(3),
            without(last - 1),
            text.replace("because", "becausf"),
            format!("{text}\n"),
            format!("{}{}{}", lines[..last].concat(), lines[2], lines[last]),
        ];
        for text in bad {
            let (_other, copy) = directory();
            assert!(imported(&copy, &text).is_err());
            let left = fs::read_dir(&copy).map_or(0, Iterator::count);
            assert_eq!(left, 0, "{:?}", fs::read_dir(&copy).map(|d| d.collect::<Vec<_>>()));
            // It does not stand in the way of another attempt.
            drop(sled::open(&copy, SECOND).unwrap());
        }
    }

    #[test]
    fn releases_with_other_copies_of_one_pipeline_are_refused() {
        let (_temporary, path) = store();
        let text = exported(&path);
        let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
        let end = lines.pop().unwrap();
        let second = lines.iter().rposition(|line| line.starts_with("{\"proposal\"")).unwrap();
        let whole = lines.concat();
        lines[second] = lines[second].replacen("\"bake\":3600000", "\"bake\":3600001", 1);
        let changed = lines.concat();
        assert_ne!(changed, whole);
        let sum = |text: &str| crate::store::record::key::hex(&Sha256::digest(text));
        let end = end.replace(&sum(&whole), &sum(&changed));
        let (_other, copy) = directory();
        let error = imported(&copy, &format!("{changed}{end}")).unwrap_err().to_string();
        assert!(error.contains("another copy of web of one revision"), "{error}");
    }

    #[test]
    fn nothing_is_imported_over_a_store() {
        let (_temporary, path) = store();
        let before = contents(&path);
        let text = exported(&path);
        assert!(matches!(imported(&path, &text), Err(Error::Store(StoreError::Foreign { .. }))));
        assert_eq!(contents(&path).1, before.1);
    }
}
