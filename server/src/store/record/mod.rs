//! The bytes of the store: what is written under each key, and how long values are cut.
//!
//! Everything is MessagePack with the names of the fields, so that fields can be added, and bytes
//! read with any tool. Whoever changes a type that is stored changes what is on people's disks: the
//! golden file beside this module shows the difference, and [`FORMAT`] has to grow if an older
//! version could not read it.

pub(super) mod key;
pub(super) mod packs;
pub(super) mod parts;
pub(super) mod proposal;

use super::{
    RequestKey, RequestRecord, StoreId,
    audit::{AuditEntry, AuditHash},
};
use key::{Key, RequestDigest};
use phasegate_engine::{
    event::{Change, ReleaseEvent},
    id::Revision,
    release::{Progress, Proposal, Release, ReleaseState},
    time::Timestamp,
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{
        self, DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor,
        value::MapAccessDeserializer,
    },
};
use sha2::{Digest, Sha256};
use std::{borrow::Cow, fmt, marker::PhantomData, sync::Arc};

/// Version of all that is described here. A store of version 1 holds no audit chain and no outbox, one of
/// version 2 its requests under [`Key::Request`] instead of [`Key::RequestAt`], and one of version 3 no
/// packs, no lists under [`Key::ChangeOf`] and nothing under [`Key::PipelineAt`]. It is one of the later version from the first batch on that
/// brings such a thing. A server that knows only the earlier one must not open it then: it would go on
/// without what it does not know of.
pub(super) const FORMAT: u32 = 4;
/// The oldest version that is read.
pub(super) const FORMAT_OLDEST: u32 = 1;

/// Under [`Key::Format`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Format {
    /// The oldest [`FORMAT`] that describes all that the store holds.
    pub(super) format: u32,
    /// Identity of the store.
    pub(super) store_id: StoreId,
}

/// Under [`Key::Head`], in every batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The last commit; zero if there is none.
    pub(super) revision: Revision,
    /// Its time.
    pub(super) time: Timestamp,
    /// CRC-32 of the rest of the batch.
    pub(super) crc: u32,
    /// Number of the last entry of the audit chain: nothing may be missing at its end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(super) audit: u64,
    /// The keys of the rest of the batch, each behind its length in two bytes. With them the CRC can
    /// be computed again, from what is stored.
    #[serde(with = "binary")]
    pub(super) keys: Vec<u8>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Under [`Key::Audit`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredAudit {
    /// SHA-256 of `json`.
    pub(super) sha256: AuditHash,
    /// The entry, to the byte.
    pub(super) json: Arc<str>,
}

impl StoredAudit {
    /// The entry, if it is the one that belongs under its key and its hash holds.
    pub(super) fn entry(self, sequence: u64) -> Result<AuditEntry, Unreadable> {
        let key = Key::Audit(sequence);
        let entry = AuditEntry::read(self.json).map_err(|error| Unreadable::at(&key, error))?;
        if entry.hash != self.sha256 {
            return Err(Unreadable::at(&key, "its hash is not that of its text"));
        }
        if entry.sequence != sequence {
            let problem = format!("holds another entry, {}", entry.sequence);
            return Err(Unreadable::at(&key, problem));
        }
        Ok(entry)
    }
}

impl From<&AuditEntry> for StoredAudit {
    fn from(entry: &AuditEntry) -> Self {
        Self { sha256: entry.hash, json: Arc::clone(&entry.json) }
    }
}

/// Under [`Key::Oldest`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Oldest {
    /// Oldest revision whose changes are all in the log.
    pub(super) revision: Revision,
}

/// Under [`Key::Commit`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct CommitRecord {
    /// Its time.
    pub(super) time: Timestamp,
    /// How many releases it touched: so many entries the log has of it.
    pub(super) changes: u32,
}

/// Under [`Key::Change`]. The proposal of the release is not repeated here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct ChangeRecord<'a> {
    /// The commit.
    pub(super) revision: Revision,
    /// Its time.
    pub(super) time: Timestamp,
    /// State of the release before the commit; none if the commit created it.
    pub(super) before: Option<ReleaseState>,
    /// What happened to it.
    pub(super) events: Cow<'a, [ReleaseEvent]>,
    /// How far the release had got after the commit.
    pub(super) progress: Cow<'a, Progress>,
    /// The trace of the call that asked for it. Stores from before it was kept have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) trace: Option<Arc<str>>,
}

impl<'a> From<&'a Change> for ChangeRecord<'a> {
    fn from(change: &'a Change) -> Self {
        Self {
            revision: change.revision,
            time: change.time,
            before: change.before,
            events: Cow::Borrowed(&change.events),
            progress: Cow::Borrowed(&change.release.progress),
            trace: change.trace.clone(),
        }
    }
}

impl ChangeRecord<'_> {
    /// Puts the entry together again with the proposal of its release.
    pub(super) fn with(self, proposal: Arc<Proposal>) -> Result<Change, Unreadable> {
        let change = Change {
            revision: self.revision,
            time: self.time,
            before: self.before,
            release: Arc::new(Release { proposal, progress: self.progress.into_owned() }),
            events: self.events.into_owned(),
            trace: self.trace,
        };
        if change.is_whole() {
            return Ok(change);
        }
        let key = Key::Change(change.revision, change.release.id().clone());
        Err(Unreadable::at(&key, NOT_WHOLE))
    }
}

/// How many entries of the log about one release are written into its index at once.
pub(super) const INDEXED_AT_ONCE: usize = 32;

/// Under [`Key::Progress`]; up to version 3 the progress alone.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct StoredProgress<'a> {
    /// How far the release has got.
    pub(super) progress: Cow<'a, Progress>,
    /// The entries of the log about it that are not in its index yet, by their revisions. Writing them here
    /// costs no key of their own, and this value is written with each of them anyway.
    pub(super) log: Vec<Revision>,
}

impl Serialize for StoredProgress<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.progress, &self.log).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for StoredProgress<'_> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (progress, log) = deserializer.deserialize_any(BothForms(PhantomData::<Progress>))?;
        Ok(Self { progress: Cow::Owned(progress), log })
    }
}

/// What of a release is in the log and not in its index, without its progress.
pub(super) struct NotIndexed(pub(super) Vec<Revision>);

impl<'de> Deserialize<'de> for NotIndexed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (_, log) = deserializer.deserialize_any(BothForms(PhantomData::<IgnoredAny>))?;
        Ok(Self(log))
    }
}

/// Reads a progress with what is not indexed, an array of both, or a progress alone, a map.
struct BothForms<P>(PhantomData<P>);

impl<'de, P: Deserialize<'de>> Visitor<'de> for BothForms<P> {
    type Value = (P, Vec<Revision>);

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a progress")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut both: A) -> Result<Self::Value, A::Error> {
        let missing = |place| de::Error::invalid_length(place, &self);
        let progress = both.next_element()?.ok_or_else(|| missing(0))?;
        Ok((progress, both.next_element()?.ok_or_else(|| missing(1))?))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Ok((P::deserialize(MapAccessDeserializer::new(map))?, Vec::new()))
    }
}

/// What is said of a release whose parts do not fit.
pub(super) const NOT_WHOLE: &str = "speaks of a phase or a guard that its pipeline has not";

/// Under [`Key::RequestAt`]; up to version 2 under [`Key::Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredRequest<'a> {
    /// What makes it the same as another.
    pub(super) key: Cow<'a, RequestKey>,
    /// What is remembered of it.
    pub(super) record: Cow<'a, RequestRecord>,
}

/// The digest that stands for a request key in the keys of the store.
pub(super) fn digest(key: &RequestKey) -> RequestDigest {
    let mut hash = Sha256::new();
    for text in [key.principal(), key.rpc(), key.id()] {
        // The length before each text keeps apart what would look the same in a row.
        hash.update((text.len() as u64).to_be_bytes());
        hash.update(text);
    }
    hash.finalize().into()
}

/// Bytes that are not what the store writes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {problem}")]
pub(super) struct Unreadable {
    /// The key, as far as it can be told.
    pub(super) what: String,
    /// What is wrong there.
    pub(super) problem: String,
}

impl Unreadable {
    pub(super) fn at(key: &Key, problem: impl ToString) -> Self {
        Self { what: key.to_string(), problem: problem.to_string() }
    }

    fn key(bytes: &[u8]) -> Self {
        Self { what: bytes.escape_ascii().to_string(), problem: "no key of this format".into() }
    }
}

/// A value as bytes.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    rmp_serde::to_vec_named(value).expect(
        "writing to a Vec does not fail, and no stored type has a Serialize of its own that does",
    )
}

/// Bytes as a value.
pub(super) fn decode<T: DeserializeOwned>(key: &Key, bytes: &[u8]) -> Result<T, Unreadable> {
    rmp_serde::from_slice(bytes).map_err(|error| Unreadable::at(key, error))
}

/// Byte strings: MessagePack has a form for them, text formats get hexadecimal.
pub(super) mod binary {
    use super::key::hex;
    use serde::{Deserializer, Serializer, de};
    use std::{fmt, marker::PhantomData};

    pub(in crate::store) fn serialize<S: Serializer>(
        bytes: impl AsRef<[u8]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&hex(bytes.as_ref()))
        } else {
            serializer.serialize_bytes(bytes.as_ref())
        }
    }

    pub(in crate::store) fn deserialize<'de, D, T>(deserializer: D) -> Result<T, D::Error>
    where
        D: Deserializer<'de>,
        T: TryFrom<Vec<u8>>,
    {
        if deserializer.is_human_readable() {
            deserializer.deserialize_str(Bytes(PhantomData))
        } else {
            deserializer.deserialize_bytes(Bytes(PhantomData))
        }
    }

    struct Bytes<T>(PhantomData<T>);

    impl<T: TryFrom<Vec<u8>>> de::Visitor<'_> for Bytes<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<T, E> {
            bytes.to_vec().try_into().map_err(|_| E::invalid_length(bytes.len(), &self))
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
            let digit = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
            let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(digit).collect();
            let bytes = bytes.ok_or_else(|| E::custom("no hexadecimal"))?;
            self.visit_bytes(&bytes)
        }
    }
}

#[cfg(test)]
mod golden;
