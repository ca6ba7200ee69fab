//! The keys of the one tree.
//!
//! A key is a readable prefix and what identifies the thing, numbers as eight bytes, big-endian, so
//! that the order of the bytes is the order of the things. The table is in `docs/data.md`.

use super::Unreadable;
use phasegate_engine::{
    id::{FlagId, PipelineId, ReleaseId, Revision, SinkId},
    time::Timestamp,
};
use std::{fmt, ops::Range};

/// SHA-256 of a request key: callers choose the texts in it, and a key must be short.
pub(in crate::store) type RequestDigest = [u8; 32];

/// What a key stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum Key {
    /// Version of the format, identity of the store.
    Format,
    /// The last commit, and what proves that the last batch is whole.
    Head,
    /// Where the log begins.
    Oldest,
    /// A flag.
    Flag(FlagId),
    /// A pipeline.
    Pipeline(PipelineId),
    /// A pipeline as it was when a release took a copy of it: the same for all that did.
    PipelineAt(PipelineId, Revision),
    /// The part of a release that never changes.
    Proposal(ReleaseId),
    /// The part that does, as it is now.
    Progress(ReleaseId),
    /// A commit: one for each revision.
    Commit(Revision),
    /// What a commit did to a release: an entry of the log.
    Change(Revision, ReleaseId),
    /// Index: some entries of the log about one release, of which this is the last.
    ChangeOf(ReleaseId, Revision),
    /// A request that must not be done twice.
    Request(RequestDigest),
    /// The same by its time.
    RequestAt(Timestamp, RequestDigest),
    /// An entry of the audit chain.
    Audit(u64),
    /// A notification to a sink.
    Outbox(SinkId, u64),
    /// That somebody was reminded of the approvals of a release.
    Reminder(ReleaseId),
}

const FORMAT: &[u8] = b"meta/format";
const HEAD: &[u8] = b"meta/head";
const OLDEST: &[u8] = b"meta/oldest";
const FLAG: &[u8] = b"flag/";
const PIPELINE: &[u8] = b"pipeline/";
const PIPELINE_AT: &[u8] = b"pipeline-at/";
const PROPOSAL: &[u8] = b"proposal/";
const PROGRESS: &[u8] = b"progress/";
const COMMIT: &[u8] = b"commit/";
const CHANGE: &[u8] = b"log/";
const CHANGE_OF: &[u8] = b"log-of/";
const REQUEST: &[u8] = b"request/";
const REQUEST_AT: &[u8] = b"request-at/";
const AUDIT: &[u8] = b"audit/";
const OUTBOX: &[u8] = b"outbox/";
const REMINDER: &[u8] = b"reminder/";

/// Stands between the key of a value and the number of one of its further parts. It is lower than
/// any byte of an id, so the parts follow their value at once, before any other key.
const PART: u8 = 0;

/// Everything of one kind that lies side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Kind {
    Flag,
    Pipeline,
    PipelineAt,
    Proposal,
    Progress,
    Commit,
    Change,
    ChangeOf,
    Request,
    RequestAt,
    Audit,
    Outbox,
    Reminder,
}

impl Kind {
    /// What all its keys begin with.
    pub(in crate::store) fn prefix(self) -> &'static [u8] {
        match self {
            Self::Flag => FLAG,
            Self::Pipeline => PIPELINE,
            Self::PipelineAt => PIPELINE_AT,
            Self::Proposal => PROPOSAL,
            Self::Progress => PROGRESS,
            Self::Commit => COMMIT,
            Self::Change => CHANGE,
            Self::ChangeOf => CHANGE_OF,
            Self::Request => REQUEST,
            Self::RequestAt => REQUEST_AT,
            Self::Audit => AUDIT,
            Self::Outbox => OUTBOX,
            Self::Reminder => REMINDER,
        }
    }

    /// All keys of this kind.
    pub(in crate::store) fn all(self) -> Range<Vec<u8>> {
        below(self.prefix().to_vec())
    }
}

/// The log entries of the commits from the first revision up to, and without, the second.
pub(in crate::store) fn changes_between(from: Revision, to: Revision) -> Range<Vec<u8>> {
    numbered(CHANGE, from.get())..numbered(CHANGE, to.get())
}

/// The commits from the first revision up to, and without, the second.
pub(in crate::store) fn commits_between(from: Revision, to: Revision) -> Range<Vec<u8>> {
    numbered(COMMIT, from.get())..numbered(COMMIT, to.get())
}

/// The index of one release, from the first revision up to, and without, the second.
pub(in crate::store) fn changes_of_between(
    release: &ReleaseId,
    from: Revision,
    to: Revision,
) -> Range<Vec<u8>> {
    let prefix = of_release(release);
    numbered(&prefix, from.get())..numbered(&prefix, to.get())
}

/// The index of one release from a revision on.
pub(in crate::store) fn changes_of_from(release: &ReleaseId, from: Revision) -> Range<Vec<u8>> {
    let prefix = of_release(release);
    numbered(&prefix, from.get())..below(prefix).end
}

/// The entries of the audit chain from the first number up to, and without, the second.
pub(in crate::store) fn audit_between(from: u64, to: u64) -> Range<Vec<u8>> {
    numbered(AUDIT, from)..numbered(AUDIT, to)
}

/// The requests that were done before a time.
pub(in crate::store) fn requests_before(time: Timestamp) -> Range<Vec<u8>> {
    REQUEST_AT.to_vec()..numbered(REQUEST_AT, millis(time))
}

/// The requests that were done at a time.
pub(in crate::store) fn requests_at(time: Timestamp) -> Range<Vec<u8>> {
    numbered(REQUEST_AT, millis(time))..numbered(REQUEST_AT, millis(time) + 1)
}

/// Where what comes after a value begins, and after its further parts.
pub(in crate::store) fn after(key: &[u8]) -> Vec<u8> {
    [key, &[PART + 1]].concat()
}

impl Key {
    /// The key as it is stored.
    pub(in crate::store) fn bytes(&self) -> Vec<u8> {
        let with = |prefix: &[u8], rest: &[u8]| [prefix, rest].concat();
        match self {
            Self::Format => FORMAT.to_vec(),
            Self::Head => HEAD.to_vec(),
            Self::Oldest => OLDEST.to_vec(),
            Self::Flag(id) => with(FLAG, id.as_str().as_bytes()),
            Self::Pipeline(id) => with(PIPELINE, id.as_str().as_bytes()),
            Self::PipelineAt(id, revision) => {
                numbered(&[PIPELINE_AT, id.as_str().as_bytes(), b"/"].concat(), revision.get())
            }
            Self::Proposal(id) => with(PROPOSAL, id.as_str().as_bytes()),
            Self::Progress(id) => with(PROGRESS, id.as_str().as_bytes()),
            Self::Commit(revision) => numbered(COMMIT, revision.get()),
            Self::Change(revision, id) => {
                with(&numbered(CHANGE, revision.get()), id.as_str().as_bytes())
            }
            Self::ChangeOf(id, revision) => numbered(&of_release(id), revision.get()),
            Self::Request(digest) => with(REQUEST, digest),
            Self::RequestAt(time, digest) => with(&numbered(REQUEST_AT, millis(*time)), digest),
            Self::Audit(sequence) => numbered(AUDIT, *sequence),
            Self::Outbox(sink, sequence) => {
                numbered(&[OUTBOX, sink.as_str().as_bytes(), b"/"].concat(), *sequence)
            }
            Self::Reminder(id) => with(REMINDER, id.as_str().as_bytes()),
        }
    }

    /// The key of a further part of a long value; the first part stands at the key itself.
    pub(in crate::store) fn part(&self, number: u16) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.push(PART);
        bytes.extend(number.to_be_bytes());
        bytes
    }

    /// Reads a stored key: what it stands for, and which part of its value it is, from 0.
    pub(in crate::store) fn parse(bytes: &[u8]) -> Result<(Self, u16), Unreadable> {
        Self::parse_whole(bytes)
            .map(|key| (key, 0))
            .or_else(|| {
                let (whole, [PART, high, low]) = bytes.split_last_chunk()? else { return None };
                Some((Self::parse_whole(whole)?, u16::from_be_bytes([*high, *low])))
            })
            .ok_or_else(|| Unreadable::key(bytes))
    }

    fn parse_whole(bytes: &[u8]) -> Option<Self> {
        if bytes == FORMAT {
            return Some(Self::Format);
        }
        if bytes == HEAD {
            return Some(Self::Head);
        }
        if bytes == OLDEST {
            return Some(Self::Oldest);
        }
        let slash = bytes.iter().position(|byte| *byte == b'/')?;
        let (prefix, rest) = bytes.split_at(slash + 1);
        match prefix {
            FLAG => Some(Self::Flag(id(rest)?)),
            PIPELINE => Some(Self::Pipeline(id(rest)?)),
            PIPELINE_AT => {
                let (rest, number) = rest.split_last_chunk()?;
                Some(Self::PipelineAt(id(rest.strip_suffix(b"/")?)?, revision(*number)?))
            }
            PROPOSAL => Some(Self::Proposal(id(rest)?)),
            PROGRESS => Some(Self::Progress(id(rest)?)),
            COMMIT => Some(Self::Commit(revision(rest.try_into().ok()?)?)),
            CHANGE => {
                let (number, rest) = rest.split_first_chunk()?;
                Some(Self::Change(revision(*number)?, id(rest)?))
            }
            CHANGE_OF => {
                let (rest, number) = rest.split_last_chunk()?;
                Some(Self::ChangeOf(id(rest.strip_suffix(b"/")?)?, revision(*number)?))
            }
            REQUEST => Some(Self::Request(rest.try_into().ok()?)),
            REQUEST_AT => {
                let (number, rest) = rest.split_first_chunk()?;
                let millis = i64::try_from(u64::from_be_bytes(*number)).ok()?;
                let time = Timestamp::from_millis(millis);
                // A later time would stand for the last one, under another key.
                let exactly = (time.as_millis() == millis).then_some(time)?;
                Some(Self::RequestAt(exactly, rest.try_into().ok()?))
            }
            AUDIT => Some(Self::Audit(sequence(rest.try_into().ok()?)?)),
            OUTBOX => {
                let (rest, number) = rest.split_last_chunk()?;
                Some(Self::Outbox(id(rest.strip_suffix(b"/")?)?, sequence(*number)?))
            }
            REMINDER => Some(Self::Reminder(id(rest)?)),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    /// As in `docs/data.md`, with numbers one can read.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Format => f.write_str("meta/format"),
            Self::Head => f.write_str("meta/head"),
            Self::Oldest => f.write_str("meta/oldest"),
            Self::Flag(id) => write!(f, "flag/{id}"),
            Self::Pipeline(id) => write!(f, "pipeline/{id}"),
            Self::PipelineAt(id, revision) => write!(f, "pipeline-at/{id}/{revision}"),
            Self::Proposal(id) => write!(f, "proposal/{id}"),
            Self::Progress(id) => write!(f, "progress/{id}"),
            Self::Commit(revision) => write!(f, "commit/{revision}"),
            Self::Change(revision, id) => write!(f, "log/{revision}/{id}"),
            Self::ChangeOf(id, revision) => write!(f, "log-of/{id}/{revision}"),
            Self::Request(digest) => write!(f, "request/{}", hex(digest)),
            Self::RequestAt(time, digest) => {
                write!(f, "request-at/{}/{}", time.as_millis(), hex(digest))
            }
            Self::Audit(sequence) => write!(f, "audit/{sequence}"),
            Self::Outbox(sink, sequence) => write!(f, "outbox/{sink}/{sequence}"),
            Self::Reminder(id) => write!(f, "reminder/{id}"),
        }
    }
}

/// Lower-case hexadecimal.
pub(in crate::store) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn id<T: std::str::FromStr>(bytes: &[u8]) -> Option<T> {
    std::str::from_utf8(bytes).ok()?.parse().ok()
}

fn revision(number: [u8; 8]) -> Option<Revision> {
    let revision = Revision::new(u64::from_be_bytes(number));
    (revision <= Revision::LAST).then_some(revision)
}

/// Numbers of entries and rows stay below the last revision, so that every number has one above it
/// and all of them fit where JSON has only doubles.
fn sequence(number: [u8; 8]) -> Option<u64> {
    let number = u64::from_be_bytes(number);
    (number <= Revision::LAST.get()).then_some(number)
}

fn millis(time: Timestamp) -> u64 {
    // A timestamp is never before 1970.
    time.as_millis().unsigned_abs()
}

fn numbered(prefix: &[u8], number: u64) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn of_release(id: &ReleaseId) -> Vec<u8> {
    [CHANGE_OF, id.as_str().as_bytes(), b"/"].concat()
}

/// All keys that begin with a prefix. Every prefix ends in `/`, so its successor is easy to name.
fn below(prefix: Vec<u8>) -> Range<Vec<u8>> {
    let mut end = prefix.clone();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    prefix..end
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Vec<Key> {
        let release = |text: &str| ReleaseId::parse(text).unwrap();
        vec![
            Key::Format,
            Key::Head,
            Key::Oldest,
            Key::Flag(FlagId::parse("new_checkout.v2").unwrap()),
            Key::Pipeline(PipelineId::parse("web").unwrap()),
            Key::PipelineAt(PipelineId::parse("web").unwrap(), Revision::new(0x2f00_002f)),
            Key::Proposal(release("r-1")),
            Key::Progress(release("r-1")),
            Key::Commit(Revision::new(0x2f00_002f)),
            Key::Change(Revision::new(0x2f00_002f), release("r-1")),
            Key::ChangeOf(release("r-1"), Revision::new(0x2f00_002f)),
            Key::ChangeOf(release("r-1"), Revision::LAST),
            Key::Request([7; 32]),
            Key::Request([0; 32]),
            Key::RequestAt(Timestamp::from_millis(1_900_000_000_000), [0x2f; 32]),
            Key::Audit(0x2f00_002f),
            Key::Audit(Revision::LAST.get()),
            Key::Outbox(SinkId::parse("on-call").unwrap(), 0x2f00_002f),
            Key::Reminder(release("r-1")),
        ]
    }

    #[test]
    fn a_key_is_read_as_it_was_written() {
        for key in keys() {
            assert_eq!(Key::parse(&key.bytes()).unwrap(), (key.clone(), 0), "{key}");
        }
    }

    #[test]
    fn the_documentation_names_every_key() {
        let documentation = include_str!("../../../../docs/data.md");
        for key in keys() {
            let shown = key.to_string();
            let prefix = match shown.split_once('/') {
                Some(("meta", _)) | None => shown.as_str(),
                Some((prefix, _)) => &shown[..=prefix.len()],
            };
            assert!(documentation.contains(&format!("| `{prefix}`")), "{prefix}");
        }
        assert!(documentation.contains("A value above 4 KiB is cut"));
        assert_eq!(super::super::parts::LONGEST, 4 * 1024);
    }

    #[test]
    fn parts_are_read_as_parts() {
        for key in keys().into_iter().filter(|key| {
            // Values of the others are never long.
            matches!(
                key,
                Key::Flag(_)
                    | Key::Head
                    | Key::Proposal(_)
                    | Key::Change(..)
                    | Key::Audit(_)
                    | Key::Outbox(..)
            )
        }) {
            for number in [1, 255, 256, u16::MAX] {
                assert_eq!(Key::parse(&key.part(number)).unwrap(), (key.clone(), number), "{key}");
            }
        }
    }

    #[test]
    fn bytes_of_no_key_are_refused() {
        for bytes in [
            &b""[..],
            b"flag/",
            b"flag/-",
            b"flags/a",
            b"commit/1234567",
            b"commit/\xff\xff\xff\xff\xff\xff\xff\xff",
            b"log/12345678",
            b"audit/1234567",
            b"audit/\xff\xff\xff\xff\xff\xff\xff\xff",
            b"outbox/on-call12345678",
            b"outbox//12345678",
        ] {
            assert!(Key::parse(bytes).is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn the_parts_of_a_value_stand_before_every_other_key() {
        let key = |id: &str| Key::Progress(ReleaseId::parse(id).unwrap());
        assert!(key("a").bytes() < key("a").part(1));
        assert!(key("a").part(1) < key("a").part(2));
        assert!(key("a").part(u16::MAX) < key("a-b").bytes());
        assert!(key("a").part(u16::MAX) < key("a0").bytes());
    }
}
