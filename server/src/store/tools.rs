//! What `phasegate store` does to a store that no server has open: verify, export, import. Export and
//! import are there for any [`Tree`] too.
//!
//! An export is text, one JSON object a line: a header, every record, and a trailer with the number
//! of lines and a checksum, without which it is worth nothing. It does not depend on sled. An
//! imported store has another identity, so that watchers of the old one begin anew.
//!
//! All functions block.

use super::{
    Counts, Error as StoreError, Finding, Store as _, StoreId, Verified, Writes,
    audit::{Act, AuditEntry},
    check,
    ledger::{Ledger, put_audit, put_change, put_commit, put_request},
    outbox::{OutboxRow, Reminder},
    record::{
        ChangeRecord, CommitRecord, FORMAT, FORMAT_OLDEST, Oldest, StoredAudit, StoredRequest,
        decode, encode,
        key::{Key, Kind, hex},
        parts,
    },
    sled,
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::{
    flag::Flag,
    id::{ReleaseId, Revision, SinkId},
    pipeline::Pipeline,
    release::{Progress, Proposal},
    time::Timestamp,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use std::{
    io::{self, BufRead, Read, Write},
    path::Path,
    sync::Arc,
};

/// Version of the text.
const EXPORT: u32 = 1;

/// The longest line that is read. The longest record, a proposal with two specs of 512 KiB in which
/// every character is escaped, stays below.
const LINE_BYTES_MOST: u64 = 16 * 1024 * 1024;

/// How many keys an import writes in one batch. Large enough that the barriers do not count.
const KEYS_PER_BATCH: usize = 4096;

/// How many records lie between two reports of how far it has got.
const RECORDS_PER_REPORT: usize = 1000;

/// Why a tool did not do what it should.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store could not be opened, read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The export could not be read.
    #[error("the export cannot be read")]
    Read(#[source] io::Error),
    /// The export could not be written.
    #[error("the export cannot be written")]
    Write(#[source] io::Error),
    /// The text is no export, or one of another version.
    #[error("line {line} of the export: {problem}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
    /// The text ends too early.
    #[error("the export ends after {lines} lines without its last one: it was cut off")]
    CutOff {
        /// Lines that are there.
        lines: u64,
    },
    /// The text is not as it was written.
    #[error("the export was changed: its checksum does not hold")]
    Changed,
    /// The store contradicts itself.
    #[error("the store is not sound: {} findings, the first: {first}", verified.findings_total)]
    Unsound {
        /// The first finding.
        first: Finding,
        /// All that was found.
        verified: Box<Verified>,
    },
}

/// Is told now and then how many records were done.
pub type Report<'a> = &'a mut dyn FnMut(&Counts);

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

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line<'a> {
    /// The first.
    Export(Header),
    Pipeline(Pipeline),
    Flag(Flag),
    Proposal(Proposal),
    Progress(ProgressLine),
    Commit(CommitLine),
    Change(ChangeLine<'a>),
    Request(StoredRequest<'a>),
    /// To the byte, as a text in the text: the hash is of these bytes.
    Audit(Arc<str>),
    Outbox(OutboxLine),
    Reminder(ReminderLine),
    /// The last.
    End(Trailer),
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    /// [`EXPORT`].
    version: u32,
    /// Format of the store that it was taken from.
    format: u32,
    /// Its identity.
    store_id: StoreId,
    /// Its last commit.
    revision: Revision,
    /// Time of that.
    time: Timestamp,
    /// Where its log begins.
    oldest: Revision,
}

#[derive(Debug, Serialize, Deserialize)]
struct ProgressLine {
    release: ReleaseId,
    progress: Progress,
}

#[derive(Debug, Serialize, Deserialize)]
struct CommitLine {
    revision: Revision,
    commit: CommitRecord,
}

#[derive(Debug, Serialize, Deserialize)]
struct ChangeLine<'a> {
    release: ReleaseId,
    change: ChangeRecord<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OutboxLine {
    sink: SinkId,
    sequence: u64,
    row: OutboxRow,
}

#[derive(Debug, Serialize, Deserialize)]
struct ReminderLine {
    release: ReleaseId,
    reminder: Reminder,
}

#[derive(Debug, Serialize, Deserialize)]
struct Trailer {
    /// Lines before this one.
    lines: u64,
    /// SHA-256 of them, line ends included, in hexadecimal.
    sha256: String,
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
    let mut writer = LineWriter::new(out);
    writer.write(&Line::Export(Header {
        version: EXPORT,
        format: store.format,
        store_id: verified.store_id,
        revision: verified.revision,
        time: verified.time,
        oldest: verified.oldest,
    }))?;
    let tree = &store.tree;
    export_kind(tree, Kind::Pipeline, &mut writer, report, |_, value| Some(Line::Pipeline(value)))?;
    export_kind(tree, Kind::Flag, &mut writer, report, |_, value| Some(Line::Flag(value)))?;
    export_kind(tree, Kind::Proposal, &mut writer, report, |_, value| Some(Line::Proposal(value)))?;
    export_kind(tree, Kind::Progress, &mut writer, report, |key, progress| {
        let Key::Progress(release) = key else { return None };
        Some(Line::Progress(ProgressLine { release, progress }))
    })?;
    // What is below the oldest revision is on its way out of the store.
    export_kind(tree, Kind::Commit, &mut writer, report, |key, commit| {
        let Key::Commit(revision) = key else { return None };
        let line = CommitLine { revision, commit };
        (revision >= verified.oldest).then_some(Line::Commit(line))
    })?;
    export_kind(tree, Kind::Change, &mut writer, report, |key, change| {
        let Key::Change(revision, release) = key else { return None };
        let line = ChangeLine { release, change };
        (revision >= verified.oldest).then_some(Line::Change(line))
    })?;
    export_kind(tree, Kind::Request, &mut writer, report, |_, value| Some(Line::Request(value)))?;
    export_kind(tree, Kind::Audit, &mut writer, report, |_, entry: StoredAudit| {
        Some(Line::Audit(entry.json))
    })?;
    export_kind(tree, Kind::Outbox, &mut writer, report, |key, row| {
        let Key::Outbox(sink, sequence) = key else { return None };
        Some(Line::Outbox(OutboxLine { sink, sequence, row }))
    })?;
    export_kind(tree, Kind::Reminder, &mut writer, report, |key, reminder| {
        let Key::Reminder(release) = key else { return None };
        Some(Line::Reminder(ReminderLine { release, reminder }))
    })?;
    writer.finish()
}

fn export_kind<'a, T: Tree, V: DeserializeOwned>(
    tree: &T,
    kind: Kind,
    writer: &mut LineWriter<'_>,
    report: Report<'_>,
    line: impl Fn(Key, V) -> Option<Line<'a>>,
) -> Result<(), Error> {
    for entry in parts::scan(tree, kind.all(), Direction::Up) {
        let (key, value) = entry?.map_err(StoreError::from)?;
        let value = decode(&key, value.as_ref()).map_err(StoreError::from)?;
        if let Some(line) = line(key, value) {
            writer.write(&line)?;
            writer.counted.count(&line, report);
        }
    }
    Ok(())
}

struct LineWriter<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    lines: u64,
    counted: Counted,
}

impl<'a> LineWriter<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out, hash: Sha256::new(), lines: 0, counted: Counted::default() }
    }

    fn write(&mut self, line: &Line<'_>) -> Result<(), Error> {
        let mut text = serde_json::to_vec(line).map_err(|error| Error::Write(error.into()))?;
        text.push(b'\n');
        self.hash.update(&text);
        self.lines += 1;
        self.out.write_all(&text).map_err(Error::Write)
    }

    fn finish(mut self) -> Result<(), Error> {
        let sha256 = hex(&std::mem::take(&mut self.hash).finalize());
        self.write(&Line::End(Trailer { lines: self.lines, sha256 }))?;
        self.out.flush().map_err(Error::Write)
    }
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
    let (header, lines) = begin(from)?;
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
    let (header, lines) = begin(from)?;
    let counts = read_records(store, &header, lines, now, report)?;
    complete(store.verify()?, counts)
}

/// Reads the first line.
fn begin(from: &mut dyn BufRead) -> Result<(Header, LineReader<'_>), Error> {
    let mut lines = LineReader::new(from);
    let Line::Export(header) = lines.next()? else {
        return Err(lines.problem("an export begins with another line"));
    };
    if header.version != EXPORT || !(FORMAT_OLDEST..=FORMAT).contains(&header.format) {
        return Err(lines.problem("it was written by another version"));
    }
    Ok((header, lines))
}

/// What came of an import, if it is sound and all that was in the text.
fn complete(verified: Verified, counts: Counts) -> Result<Verified, Error> {
    let verified = sound(verified)?;
    if verified.counts != counts {
        // A record stood there twice.
        return Err(Error::Changed);
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
                parts::insert(&mut batch, &Key::Proposal(proposal.id.clone()), encode(&proposal));
            }
            Line::Progress(ProgressLine { release, progress }) => {
                parts::insert(&mut batch, &Key::Progress(release), encode(&progress));
            }
            Line::Commit(CommitLine { revision, commit }) => {
                put_commit(&mut batch, revision, commit);
            }
            Line::Change(ChangeLine { release, change }) => {
                put_change(&mut batch, &release, &change);
            }
            Line::Request(request) => put_request(&mut batch, &store.tree, &request)?,
            Line::Audit(json) => {
                let entry = AuditEntry::read(json).map_err(|error| lines.problem(error))?;
                check::follows_in_chain(&entry, audit).map_err(|error| lines.problem(error))?;
                audit = entry.head();
                put_audit(&mut batch, &entry);
            }
            Line::Outbox(OutboxLine { sink, sequence, row }) => {
                parts::insert(&mut batch, &Key::Outbox(sink, sequence), encode(&row));
            }
            Line::Reminder(ReminderLine { release, reminder }) => {
                parts::insert(&mut batch, &Key::Reminder(release), encode(&reminder));
            }
            Line::Export(_) => return Err(lines.problem("a second header")),
            Line::End(trailer) => {
                lines.check_end(&trailer)?;
                break;
            }
        }
        if batch.len() >= KEYS_PER_BATCH {
            let batch = std::mem::take(&mut batch);
            store.write_with_audit(batch, header.revision, header.time, audit)?;
        }
    }
    store.write_with_audit(batch, header.revision, header.time, audit)?;
    store.oldest = header.oldest;
    let act = Act::Imported { from: header.store_id, revision: header.revision };
    let imported = [AuditEntry::after(store.audit, now, store.store_id, act)];
    store.commit(Writes { audit: &imported, ..Writes::default() })?;
    counted.counts.audit += 1;
    Ok(counted.counts)
}

struct LineReader<'a> {
    from: &'a mut dyn BufRead,
    /// Of all lines before the last that was read.
    hash: Sha256,
    last: Vec<u8>,
    lines: u64,
}

impl<'a> LineReader<'a> {
    fn new(from: &'a mut dyn BufRead) -> Self {
        Self { from, hash: Sha256::new(), last: Vec::new(), lines: 0 }
    }

    fn next(&mut self) -> Result<Line<'static>, Error> {
        self.hash.update(&self.last);
        self.last.clear();
        (&mut *self.from)
            .take(LINE_BYTES_MOST)
            .read_until(b'\n', &mut self.last)
            .map_err(Error::Read)?;
        if self.last.last() != Some(&b'\n') && (self.last.len() as u64) < LINE_BYTES_MOST {
            return Err(Error::CutOff { lines: self.lines });
        }
        self.lines += 1;
        serde_json::from_slice(&self.last).map_err(|error| self.problem(error))
    }

    fn problem(&self, problem: impl ToString) -> Error {
        Error::Line { line: self.lines, problem: problem.to_string() }
    }

    /// The trailer was read last: whether it holds, and is the end.
    fn check_end(self, trailer: &Trailer) -> Result<(), Error> {
        let at_end = self.from.fill_buf().map_err(Error::Read)?.is_empty();
        let as_written = hex(&self.hash.finalize()) == trailer.sha256;
        if at_end && as_written && trailer.lines + 1 == self.lines {
            Ok(())
        } else {
            Err(Error::Changed)
        }
    }
}

/// Counts records, and reports now and then.
#[derive(Debug, Default)]
struct Counted {
    counts: Counts,
    since_report: usize,
}

impl Counted {
    fn count(&mut self, line: &Line<'_>, report: Report<'_>) {
        let counts = &mut self.counts;
        match line {
            Line::Export(_) | Line::Proposal(_) | Line::End(_) => return,
            Line::Pipeline(_) => counts.pipelines += 1,
            Line::Flag(_) => counts.flags += 1,
            Line::Progress(_) => counts.releases += 1,
            Line::Commit(_) => counts.commits += 1,
            Line::Change(_) => counts.changes += 1,
            Line::Request(_) => counts.requests += 1,
            Line::Audit(_) => counts.audit += 1,
            Line::Outbox(_) => counts.outbox += 1,
            Line::Reminder(_) => counts.reminders += 1,
        }
        self.since_report += 1;
        if self.since_report == RECORDS_PER_REPORT {
            self.since_report = 0;
            report(counts);
        }
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
        let mut history = History::full();
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
    fn nothing_is_imported_over_a_store() {
        let (_temporary, path) = store();
        let before = contents(&path);
        let text = exported(&path);
        assert!(matches!(imported(&path, &text), Err(Error::Store(StoreError::Foreign { .. }))));
        assert_eq!(contents(&path).1, before.1);
    }
}
