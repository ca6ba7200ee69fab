//! What must hold in a store: checked before it is written and after it is read.
//!
//! [`load`] reads all but the log and stops at the first contradiction; [`verify`] reads everything
//! and collects what it finds. They share every check that both can make.

use super::{
    Error, Image, Record, RequestKey, RequestRecord, StoreId,
    audit::{AuditEntry, AuditHash, AuditHead},
    ledger::{Ledger, stored},
    outbox::{OutboxKey, OutboxRow, Reminder},
    record::{
        ChangeRecord, CommitRecord, Head, NOT_WHOLE, StoredAudit, StoredRequest, Unreadable,
        decode, digest,
        key::{Key, Kind},
        parts,
    },
    tree::{Batch, Direction, Tree},
};
use phasegate_engine::{
    State,
    flag::Flag,
    id::{PipelineId, ReleaseId, Revision},
    pipeline::Pipeline,
    release::{Progress, Proposal, Release, ReleaseState},
    time::Timestamp,
};
use serde::de::DeserializeOwned;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Something in a store that contradicts the rest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The key, as `docs/data.md` writes it.
    pub key: String,
    /// What is wrong there.
    pub problem: String,
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.key, self.problem)
    }
}

impl From<Unreadable> for Finding {
    fn from(unreadable: Unreadable) -> Self {
        Self { key: unreadable.what, problem: unreadable.problem }
    }
}

impl From<Finding> for Error {
    fn from(finding: Finding) -> Self {
        Self::Damaged(finding.to_string())
    }
}

/// What to do about a finding: stop (an error) or note it and go on.
trait Notes {
    fn note(&mut self, finding: Finding) -> Result<(), Error>;

    fn at(&mut self, key: &Key, problem: impl Into<String>) -> Result<(), Error> {
        self.note(Finding { key: key.to_string(), problem: problem.into() })
    }
}

/// Stops at the first finding.
struct Strict;

impl Notes for Strict {
    fn note(&mut self, finding: Finding) -> Result<(), Error> {
        Err(finding.into())
    }
}

/// Whether a commit follows on what is stored, and fits in itself.
pub(super) fn follows(record: &Record, last: Revision, time: Timestamp) -> Result<(), Error> {
    let revision = record.revision;
    let reject = |problem: String| Err(Error::Rejected(format!("revision {revision}: {problem}")));
    if revision != last.next() {
        return reject(format!("the store is at revision {last}"));
    }
    if record.time < time {
        return reject(format!("its time {} is before {time}, that of the last", record.time));
    }
    for change in &record.changes {
        let id = change.release.id();
        if (change.revision, change.time) != (revision, record.time) {
            return reject(format!("its entry about {id} is of revision {}", change.revision));
        }
        let same = |release: &Arc<Release>| {
            Arc::ptr_eq(release, &change.release) || *release == change.release
        };
        if !record.releases.iter().any(same) {
            return reject(format!("it logs {id} but does not store it, or not as logged"));
        }
    }
    for release in &record.releases {
        if release.progress.revision != revision {
            return reject(format!(
                "it stores {} as of revision {}",
                release.id(),
                release.progress.revision
            ));
        }
    }
    Ok(())
}

/// Whether an entry follows on the last one of the audit chain.
pub(super) fn follows_in_chain(entry: &AuditEntry, last: AuditHead) -> Result<(), Error> {
    if (entry.sequence, entry.previous) == (last.sequence + 1, last.hash) {
        return Ok(());
    }
    let (sequence, last) = (entry.sequence, last.sequence);
    Err(Error::Rejected(format!("audit entry {sequence} does not follow on entry {last}")))
}

/// The keys of a batch, for its head.
pub(super) fn keys(batch: &Batch) -> Vec<u8> {
    let mut keys = Vec::new();
    for (key, _) in batch.iter() {
        let length = u16::try_from(key.len()).expect("keys hold one id and some numbers");
        keys.extend(length.to_be_bytes());
        keys.extend(key);
    }
    keys
}

/// CRC-32 of keys with their values, as a batch writes them.
pub(super) fn crc<'a>(writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    for (key, value) in writes {
        add(&mut crc, key, value);
    }
    crc.finalize()
}

fn add(crc: &mut crc32fast::Hasher, key: &[u8], value: Option<&[u8]>) {
    // A length before each keeps apart what would look the same in a row. No value is as long as
    // the mark for none.
    crc.update(&(key.len() as u64).to_be_bytes());
    crc.update(key);
    crc.update(&value.map_or(u64::MAX, |value| value.len() as u64).to_be_bytes());
    crc.update(value.unwrap_or_default());
}

/// Reads all but the log.
pub(super) fn load<T: Tree>(ledger: &Ledger<T>) -> Result<Image, Error> {
    let notes = &mut Strict;
    let (tree, last) = (&ledger.tree, Last { revision: ledger.revision, time: ledger.time });
    check_last_batch(tree, notes)?;
    check_commits(tree, &last, ledger.oldest, notes, |_, _| {})?;
    let resources = read_resources(tree, &last, notes)?;
    let requests = read_requests(tree, notes)?;
    check_audit_end(tree, ledger.audit, notes)?;
    let outbox = read_outbox(tree, notes)?;
    let reminders = read_reminders(tree, &resources.releases, notes)?;
    Ok(Image {
        store_id: ledger.store_id,
        oldest: ledger.oldest,
        state: State::restore(
            last.revision,
            last.time,
            resources.flags,
            resources.pipelines,
            resources.releases,
        ),
        requests,
        audit: ledger.audit,
        outbox,
        reminders,
    })
}

/// What a walk through a whole store found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Identity of the store.
    pub store_id: StoreId,
    /// The last commit.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// Oldest revision whose changes are all in the log.
    pub oldest: Revision,
    /// The newest entry of the audit chain.
    pub audit: AuditHead,
    /// How many there are of each.
    pub counts: Counts,
    /// What contradicts the rest, the first [`FINDINGS_MOST`] of it; empty if the store is sound.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub findings_total: usize,
}

/// How many records of each kind a store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are what they are called")]
pub struct Counts {
    pub flags: usize,
    pub pipelines: usize,
    pub releases: usize,
    pub commits: usize,
    pub changes: usize,
    pub requests: usize,
    pub audit: usize,
    pub outbox: usize,
    pub reminders: usize,
}

/// How many findings are kept. More than a person reads, fewer than would fill the memory if every
/// key of a large store were unreadable.
pub const FINDINGS_MOST: usize = 1000;

#[derive(Default)]
struct Collected {
    findings: Vec<Finding>,
    total: usize,
}

impl Notes for Collected {
    fn note(&mut self, finding: Finding) -> Result<(), Error> {
        self.total += 1;
        if self.findings.len() < FINDINGS_MOST {
            self.findings.push(finding);
        }
        Ok(())
    }
}

/// Reads everything and collects what contradicts the rest.
pub(super) fn verify<T: Tree>(ledger: &Ledger<T>) -> Result<Verified, Error> {
    let mut notes = Collected::default();
    let (tree, last) = (&ledger.tree, Last { revision: ledger.revision, time: ledger.time });
    check_keys(tree, &mut notes)?;
    check_last_batch(tree, &mut notes)?;
    let mut commits = BTreeMap::new();
    check_commits(tree, &last, ledger.oldest, &mut notes, |revision, commit| {
        commits.insert(revision, commit);
    })?;
    let resources = read_resources(tree, &last, &mut notes)?;
    let requests = read_requests(tree, &mut notes)?;
    let changes = check_log(tree, &commits, ledger.oldest, &resources.releases, &mut notes)?;
    let audit = check_audit(tree, ledger.audit, &mut notes)?;
    let outbox = read_outbox(tree, &mut notes)?;
    let reminders = read_reminders(tree, &resources.releases, &mut notes)?;
    Ok(Verified {
        store_id: ledger.store_id,
        revision: last.revision,
        time: last.time,
        oldest: ledger.oldest,
        audit: ledger.audit,
        counts: Counts {
            flags: resources.flags.len(),
            pipelines: resources.pipelines.len(),
            releases: resources.releases.len(),
            commits: commits.len(),
            changes,
            requests: requests.len(),
            audit,
            outbox: outbox.len(),
            reminders: reminders.len(),
        },
        findings: notes.findings,
        findings_total: notes.total,
    })
}

/// The last commit.
struct Last {
    revision: Revision,
    time: Timestamp,
}

/// Whether the last batch is there as it was written.
fn check_last_batch<T: Tree>(tree: &T, notes: &mut impl Notes) -> Result<(), Error> {
    let Some(head) = stored::<_, Head>(tree, &Key::Head)? else {
        return notes.at(&Key::Head, "is missing");
    };
    let mut crc = crc32fast::Hasher::new();
    let mut rest = head.keys.as_slice();
    while let Some((length, after)) = rest.split_first_chunk() {
        let Some((key, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))
        else {
            return notes.at(&Key::Head, "the list of keys is cut off");
        };
        let value = tree.get(key)?;
        add(&mut crc, key, value.as_ref().map(AsRef::as_ref));
        rest = after;
    }
    if crc.finalize() != head.crc {
        return notes.at(&Key::Head, "the last batch is not there as it was written");
    }
    Ok(())
}

/// Whether there is a commit for every revision that the log holds.
fn check_commits<T: Tree>(
    tree: &T,
    last: &Last,
    oldest: Revision,
    notes: &mut impl Notes,
    mut take: impl FnMut(Revision, CommitRecord),
) -> Result<(), Error> {
    let mut expected = oldest.max(Revision::ZERO.next());
    let mut time = Timestamp::EPOCH;
    if oldest > last.revision.next() {
        // Every commit would then be on its way out, and none missing.
        notes.at(&Key::Oldest, format!("is {oldest}, above the head, {}", last.revision))?;
    }
    each(tree, Kind::Commit, notes, |key, commit: CommitRecord, notes| {
        let Key::Commit(revision) = *key else { return Ok(()) };
        if revision > last.revision {
            notes.at(key, format!("is above the head, {}", last.revision))?;
        }
        if commit.time < time {
            notes.at(key, format!("its time {} is before that of an earlier one", commit.time))?;
        }
        time = commit.time;
        // What is below the oldest revision is on its way out.
        if revision >= oldest {
            if revision != expected {
                notes.at(key, format!("the commits from {expected} on are missing before it"))?;
            }
            expected = revision.next();
            take(revision, commit);
        }
        Ok(())
    })?;
    if expected <= last.revision {
        notes.at(&Key::Commit(expected), "is missing, and all after it")?;
    }
    if expected == last.revision.next() && last.revision >= oldest && time != last.time {
        notes.at(&Key::Head, "its time is not that of the last commit")?;
    }
    Ok(())
}

struct Resources {
    flags: Vec<Arc<Flag>>,
    pipelines: Vec<Arc<Pipeline>>,
    releases: Vec<Arc<Release>>,
}

fn read_resources<T: Tree>(
    tree: &T,
    last: &Last,
    notes: &mut impl Notes,
) -> Result<Resources, Error> {
    let mut flags: Vec<Arc<Flag>> = Vec::new();
    each(tree, Kind::Flag, notes, |key, flag: Arc<Flag>, notes| {
        if *key != Key::Flag(flag.id.clone()) {
            notes.at(key, format!("holds another flag, {}", flag.id))?;
        }
        if flag.revision > last.revision {
            notes.at(key, format!("is of revision {}, above the head", flag.revision))?;
        }
        flags.push(flag);
        Ok(())
    })?;
    let mut pipelines: Vec<Arc<Pipeline>> = Vec::new();
    each(tree, Kind::Pipeline, notes, |key, pipeline: Arc<Pipeline>, notes| {
        if *key != Key::Pipeline(pipeline.id.clone()) {
            notes.at(key, format!("holds another pipeline, {}", pipeline.id))?;
        }
        if pipeline.revision > last.revision {
            notes.at(key, format!("is of revision {}, above the head", pipeline.revision))?;
        }
        pipelines.push(pipeline);
        Ok(())
    })?;
    let known: BTreeSet<&PipelineId> = pipelines.iter().map(|pipeline| &pipeline.id).collect();
    for flag in &flags {
        if let Some(pipeline) = flag.pipeline.as_ref().filter(|id| !known.contains(id)) {
            notes.at(&Key::Flag(flag.id.clone()), format!("its pipeline {pipeline} is missing"))?;
        }
    }
    let releases = read_releases(tree, last, &pipelines, notes)?;
    Ok(Resources { flags, pipelines, releases })
}

/// Puts releases together from their two parts.
fn read_releases<T: Tree>(
    tree: &T,
    last: &Last,
    pipelines: &[Arc<Pipeline>],
    notes: &mut impl Notes,
) -> Result<Vec<Arc<Release>>, Error> {
    // Releases along one pipeline share its copy in memory, as they did before the restart.
    let mut copies: BTreeMap<(PipelineId, Revision), Arc<Pipeline>> = BTreeMap::new();
    for pipeline in pipelines {
        copies.insert((pipeline.id.clone(), pipeline.revision), Arc::clone(pipeline));
    }
    let mut proposals: BTreeMap<ReleaseId, Arc<Proposal>> = BTreeMap::new();
    each(tree, Kind::Proposal, notes, |key, mut proposal: Proposal, notes| {
        if *key != Key::Proposal(proposal.id.clone()) {
            notes.at(key, format!("holds another release, {}", proposal.id))?;
        }
        let pipeline = &proposal.pipeline;
        let copy = copies
            .entry((pipeline.id.clone(), pipeline.revision))
            .or_insert_with(|| Arc::clone(pipeline));
        if copy == pipeline {
            proposal.pipeline = Arc::clone(copy);
        } else {
            let pipeline = &pipeline.id;
            notes.at(key, format!("its copy of {pipeline} is not that of the same revision"))?;
        }
        proposals.insert(proposal.id.clone(), Arc::new(proposal));
        Ok(())
    })?;
    let mut releases = Vec::new();
    let mut created = BTreeSet::new();
    each(tree, Kind::Progress, notes, |key, progress: Progress, notes| {
        let Key::Progress(id) = key else { return Ok(()) };
        let Some(proposal) = proposals.remove(id) else {
            return notes.at(key, "has no proposal");
        };
        if progress.revision > last.revision || progress.revision < proposal.created {
            let revision = progress.revision;
            notes.at(key, format!("is of revision {revision}, which is not in its life"))?;
        }
        if progress.phases.len() != proposal.pipeline.template.phases.len() {
            // Such a release would make the engine look for a phase that is not there.
            return notes.at(key, "has not as many phases as its pipeline");
        }
        if !created.insert(proposal.created) {
            notes.at(key, format!("commit {} created another release too", proposal.created))?;
        }
        let release = Release { proposal, progress };
        if !release.is_whole() {
            return notes.at(key, NOT_WHOLE);
        }
        releases.push(Arc::new(release));
        Ok(())
    })?;
    for id in proposals.into_keys() {
        notes.at(&Key::Proposal(id), "has no progress")?;
    }
    Ok(releases)
}

/// Reads requests, oldest first.
fn read_requests<T: Tree>(
    tree: &T,
    notes: &mut impl Notes,
) -> Result<Vec<(RequestKey, RequestRecord)>, Error> {
    let mut requests = BTreeMap::new();
    each(tree, Kind::Request, notes, |key, request: StoredRequest<'_>, notes| {
        let digest = digest(&request.key);
        if *key != Key::Request(digest) {
            notes.at(key, "its digest is not that of the request")?;
        }
        let (request, record) = (request.key.into_owned(), request.record.into_owned());
        requests.insert((record.time, digest), (request, record));
        Ok(())
    })?;
    // So far those of before version 3. Of those there is nothing under their times.
    let (apart, mut indexed) = (requests.len(), 0);
    for entry in parts::scan(tree, Kind::RequestAt.all(), Direction::Up) {
        let read = entry?.and_then(|(key, value)| {
            let value = value.as_ref();
            let request = (!value.is_empty()).then(|| decode::<StoredRequest<'_>>(&key, value));
            Ok((key, request.transpose()?))
        });
        match read {
            Ok((key, Some(request))) => {
                let at = (request.record.time, digest(&request.key));
                if key != Key::RequestAt(at.0, at.1) {
                    notes.at(&key, "its time or its digest is not that of the request")?;
                }
                requests.insert(at, (request.key.into_owned(), request.record.into_owned()));
            }
            Ok((Key::RequestAt(time, digest), None)) if requests.contains_key(&(time, digest)) => {
                indexed += 1;
            }
            Ok((key, None)) => notes.at(&key, "there is no such request")?,
            Err(unreadable) => notes.note(unreadable.into())?,
        }
    }
    if indexed != apart {
        let missing = apart - indexed;
        let problem = format!("{missing} requests are missing from the index of times");
        notes.note(Finding { key: "request-at/".into(), problem })?;
    }
    Ok(requests.into_values().collect())
}

/// Whether the log agrees with the commits, with its index, and with the releases.
fn check_log<T: Tree>(
    tree: &T,
    commits: &BTreeMap<Revision, CommitRecord>,
    oldest: Revision,
    releases: &[Arc<Release>],
    notes: &mut impl Notes,
) -> Result<usize, Error> {
    let releases: BTreeMap<&ReleaseId, &Arc<Release>> =
        releases.iter().map(|release| (release.id(), release)).collect();
    let mut found: BTreeMap<Revision, u32> = BTreeMap::new();
    let mut newest: BTreeMap<ReleaseId, Newest> = BTreeMap::new();
    let mut count = 0;
    each(tree, Kind::Change, notes, |key, change: ChangeRecord<'_>, notes| {
        let Key::Change(revision, id) = key else { return Ok(()) };
        if *revision < oldest {
            return Ok(());
        }
        count += 1;
        *found.entry(*revision).or_default() += 1;
        if change.revision != *revision || change.progress.revision != *revision {
            notes.at(key, "holds what another commit did")?;
        }
        if commits.get(revision).is_none_or(|commit| commit.time != change.time) {
            notes.at(key, "its time is not that of its commit")?;
        }
        if tree.get(&Key::ChangeOf(id.clone(), *revision).bytes())?.is_none() {
            notes.at(key, "is missing from the index of its release")?;
        }
        let Some(release) = releases.get(id) else {
            return notes.at(key, "there is no such release");
        };
        let created = release.proposal.created == *revision;
        let before = newest.get(id).map(|newest| newest.state);
        // The entry before it may be gone; then nothing can be said.
        let fits = match change.before {
            None => created && before.is_none(),
            Some(state) => !created && before.is_none_or(|before| before == state),
        };
        if !fits {
            notes.at(key, "does not follow on the entry of its release before it")?;
        }
        match change.with(Arc::clone(&release.proposal)) {
            Ok(change) => {
                let (state, progress) = (change.release.state(), change.release.progress.clone());
                newest.insert(id.clone(), Newest { state, progress });
                Ok(())
            }
            Err(unreadable) => notes.note(unreadable.into()),
        }
    })?;
    for (revision, commit) in commits {
        let entries = found.remove(revision).unwrap_or_default();
        if entries != commit.changes {
            let problem = format!("{} entries belong in the log, {entries} are", commit.changes);
            notes.at(&Key::Commit(*revision), problem)?;
        }
    }
    for revision in found.into_keys() {
        notes.at(&Key::Commit(revision), "is missing, though the log has entries of it")?;
    }
    for (id, release) in releases {
        let logged = newest.get(id).map(|newest| &newest.progress);
        if release.progress.revision >= oldest && logged != Some(&release.progress) {
            notes.at(&Key::Progress(id.clone()), "is not what its last entry in the log says")?;
        }
    }
    check_log_index(tree, notes)?;
    Ok(count)
}

struct Newest {
    state: ReleaseState,
    progress: Progress,
}

fn check_log_index<T: Tree>(tree: &T, notes: &mut impl Notes) -> Result<(), Error> {
    for entry in tree.scan(Kind::ChangeOf.all(), Direction::Up) {
        match Key::parse(entry?.0.as_ref()) {
            Ok((Key::ChangeOf(id, revision), 0)) => {
                if tree.get(&Key::Change(revision, id.clone()).bytes())?.is_none() {
                    notes.at(&Key::ChangeOf(id, revision), "there is no such entry")?;
                }
            }
            Ok((key, _)) => notes.at(&key, "stands in the middle of the log index")?,
            Err(unreadable) => notes.note(unreadable.into())?,
        }
    }
    Ok(())
}

/// What is said of an end of the audit chain that is not there.
const CHAIN_ENDS: &str = "is missing: the audit chain ends before it";

/// Whether the audit chain ends where it should, with a whole entry.
fn check_audit_end<T: Tree>(
    tree: &T,
    head: AuditHead,
    notes: &mut impl Notes,
) -> Result<(), Error> {
    for entry in tree.scan(Kind::Audit.all(), Direction::Down).take(1) {
        let last = match Key::parse(entry?.0.as_ref()) {
            Ok((Key::Audit(sequence), _)) => sequence,
            Ok((key, _)) => return notes.at(&key, "stands in the middle of the audit chain"),
            Err(unreadable) => return notes.note(unreadable.into()),
        };
        if last > head.sequence {
            notes.at(&Key::Audit(last), format!("is above the last one, {}", head.sequence))?;
        }
    }
    if head.sequence == 0 {
        return Ok(());
    }
    let key = Key::Audit(head.sequence);
    let Some(last) = stored::<_, StoredAudit>(tree, &key)? else {
        return notes.at(&key, CHAIN_ENDS);
    };
    match last.entry(head.sequence) {
        Ok(_) => Ok(()),
        Err(unreadable) => notes.note(unreadable.into()),
    }
}

/// Whether the audit chain is there from its first entry to its last, each following on the one
/// before.
fn check_audit<T: Tree>(tree: &T, head: AuditHead, notes: &mut impl Notes) -> Result<usize, Error> {
    let (mut count, mut expected, mut previous) = (0, 1, Some(AuditHash::NONE));
    each(tree, Kind::Audit, notes, |key, stored: StoredAudit, notes| {
        let Key::Audit(sequence) = *key else { return Ok(()) };
        count += 1;
        if sequence > head.sequence {
            notes.at(key, format!("is above the last one, {}", head.sequence))?;
        }
        if sequence != expected {
            notes.at(key, format!("the entries from {expected} on are missing before it"))?;
            previous = None;
        }
        expected = sequence + 1;
        match stored.entry(sequence) {
            Ok(entry) => {
                if previous.is_some_and(|previous| previous != entry.previous) {
                    notes.at(key, "does not follow on the entry before it")?;
                }
                previous = Some(entry.hash);
                Ok(())
            }
            Err(unreadable) => {
                previous = None;
                notes.note(unreadable.into())
            }
        }
    })?;
    if expected <= head.sequence {
        notes.at(&Key::Audit(expected), CHAIN_ENDS)?;
    }
    Ok(count)
}

/// Reads the outbox, by sink and then in order.
fn read_outbox<T: Tree>(
    tree: &T,
    notes: &mut impl Notes,
) -> Result<Vec<(OutboxKey, OutboxRow)>, Error> {
    let mut rows = Vec::new();
    each(tree, Kind::Outbox, notes, |key, row: OutboxRow, _| {
        let Key::Outbox(sink, sequence) = key else { return Ok(()) };
        rows.push((OutboxKey { sink: sink.clone(), sequence: *sequence }, row));
        Ok(())
    })?;
    Ok(rows)
}

/// Reads what is remembered of reminders.
fn read_reminders<T: Tree>(
    tree: &T,
    releases: &[Arc<Release>],
    notes: &mut impl Notes,
) -> Result<Vec<(ReleaseId, Reminder)>, Error> {
    let known: BTreeSet<&ReleaseId> = releases.iter().map(|release| release.id()).collect();
    let mut reminders = Vec::new();
    each(tree, Kind::Reminder, notes, |key, reminder: Reminder, notes| {
        let Key::Reminder(release) = key else { return Ok(()) };
        if !known.contains(release) {
            notes.at(key, "there is no such release")?;
        }
        reminders.push((release.clone(), reminder));
        Ok(())
    })?;
    Ok(reminders)
}

/// Whether every key is one of this format.
fn check_keys<T: Tree>(tree: &T, notes: &mut impl Notes) -> Result<(), Error> {
    for entry in tree.scan(Vec::new()..vec![u8::MAX], Direction::Up) {
        if let Err(unreadable) = Key::parse(entry?.0.as_ref()) {
            notes.note(unreadable.into())?;
        }
    }
    Ok(())
}

/// Reads all values of one kind.
fn each<T: Tree, V: DeserializeOwned, N: Notes>(
    tree: &T,
    kind: Kind,
    notes: &mut N,
    mut check: impl FnMut(&Key, V, &mut N) -> Result<(), Error>,
) -> Result<(), Error> {
    for entry in parts::scan(tree, kind.all(), Direction::Up) {
        let read = entry?.and_then(|(key, value)| {
            let value = decode(&key, value.as_ref())?;
            Ok((key, value))
        });
        match read {
            Ok((key, value)) => check(&key, value, notes)?,
            Err(unreadable) => notes.note(unreadable.into())?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
