//! Requests that were done and must not be done again. A busy day brings millions, so of each there is in
//! memory no more than where it stands in the store.

use super::record::{
    digest,
    key::{Key, RequestDigest},
};
use imbl::OrdMap;
use phasegate_engine::{
    id::{FlagId, PipelineId, Principal, ReleaseId, RequestId},
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, sync::Arc};

/// What makes a request the same as another: who asked, the name of the RPC, and the id they gave.
///
/// The three are one text: as texts of their own they would take three times the memory.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey {
    text: Arc<str>,
    /// Where the RPC begins, after the principal.
    rpc: u32,
    /// Where the id begins.
    id: u32,
}

impl RequestKey {
    /// Of its parts; the RPC for example `PauseRelease`.
    pub fn new(principal: &Principal, rpc: &str, id: &RequestId) -> Self {
        Self::of(principal.as_str(), rpc, id.as_str())
    }

    fn of(principal: &str, rpc: &str, id: &str) -> Self {
        let place =
            |length| u32::try_from(length).expect("a request has a MiB at most, a value 256");
        Self {
            text: [principal, rpc, id].concat().into(),
            rpc: place(principal.len()),
            id: place(principal.len() + rpc.len()),
        }
    }

    /// Who asked.
    pub fn principal(&self) -> &str {
        &self.text[..self.rpc as usize]
    }

    /// Name of the RPC.
    pub fn rpc(&self) -> &str {
        &self.text[self.rpc as usize..self.id as usize]
    }

    /// The id they gave.
    pub fn id(&self) -> &str {
        &self.text[self.id as usize..]
    }
}

impl fmt::Debug for RequestKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} {:?}", self.principal(), self.rpc(), self.id())
    }
}

/// As it is stored.
#[derive(Serialize, Deserialize)]
#[serde(rename = "RequestKey")]
struct Parts<T> {
    principal: T,
    rpc: T,
    id: T,
}

impl Serialize for RequestKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let parts = Parts { principal: self.principal(), rpc: self.rpc(), id: self.id() };
        parts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RequestKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<String>::deserialize(deserializer)?;
        Ok(Self::of(&parts.principal, &parts.rpc, &parts.id))
    }
}

/// What is remembered of a request that succeeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestRecord {
    /// SHA-256 of the request without its id.
    #[serde(with = "super::record::binary")]
    pub payload: [u8; 32],
    /// When it was done.
    pub time: Timestamp,
    /// What it was about, for the answer to a repetition.
    pub subject: Subject,
}

/// Where a request stands in the store.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestPlace {
    pub(super) time: Timestamp,
    pub(super) digest: RequestDigest,
}

impl RequestPlace {
    /// Of a request that was done at this time.
    pub fn of(key: &RequestKey, time: Timestamp) -> Self {
        Self { time, digest: digest(key) }
    }

    /// Whether the index would take the one for the other.
    pub(super) fn looks_like(&self, other: &Self) -> bool {
        self.time == other.time && half(&self.digest) == half(&other.digest)
    }

    /// The key that it stands under, by itself or in a pack.
    pub(super) fn key(&self) -> Key {
        Key::RequestAt(self.time, self.digest)
    }
}

impl fmt::Debug for RequestPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key().fmt(f)
    }
}

/// Half of the digest of a key. Of two with the same half the index has the later one: whoever makes the 2^64
/// digests that it takes to find two such ids, and uses both, may have the first done again, which was theirs.
type Half = [u8; 16];

fn half(digest: &RequestDigest) -> Half {
    std::array::from_fn(|place| digest[place])
}

/// Which requests were done, and when. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestIndex {
    times: OrdMap<Half, Timestamp>,
    forgotten: u64,
}

impl RequestIndex {
    /// Adds one. If there is one with its key, the later of the two stays.
    pub fn add(&mut self, place: RequestPlace) {
        let time = self.times.entry(half(&place.digest)).or_insert(place.time);
        *time = place.time.max(*time);
    }

    /// Where the request with this key stands, if it was done.
    pub fn find(&self, key: &RequestKey) -> Option<RequestPlace> {
        let digest = digest(key);
        let time = *self.times.get(&half(&digest))?;
        Some(RequestPlace { time, digest })
    }

    /// Whether it has the request that stands here.
    pub fn has(&self, place: RequestPlace) -> bool {
        self.times.get(&half(&place.digest)) == Some(&place.time)
    }

    /// Takes out the request that stands here.
    pub fn forget(&mut self, place: RequestPlace) {
        if self.has(place) {
            self.times.remove(&half(&place.digest));
            self.forgotten += 1;
        }
    }

    /// How many were taken out.
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }
}

/// Some of the requests, as they stand side by side.
#[derive(Clone, Debug, Default)]
pub struct RequestStretch {
    /// They.
    pub requests: Vec<(RequestKey, RequestRecord)>,
    /// How far they reach; none if no more follow.
    pub end: Option<RequestCursor>,
}

/// How far requests were read: the first key of the last pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestCursor(pub(super) Vec<u8>);

/// The resource that a request was about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Subject {
    /// A flag.
    Flag(FlagId),
    /// A pipeline.
    Pipeline(PipelineId),
    /// A release.
    Release(ReleaseId),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(principal: &str, rpc: &str, id: &str) -> RequestKey {
        RequestKey::new(&Principal::new(principal), rpc, &RequestId::new(id))
    }

    #[test]
    fn a_key_has_the_parts_that_it_was_made_of() {
        let key = key("ada@example.com", "PauseRelease", "q-1");
        assert_eq!(
            (key.principal(), key.rpc(), key.id()),
            ("ada@example.com", "PauseRelease", "q-1")
        );
    }

    #[test]
    fn keys_of_one_text_with_other_parts_are_not_the_same() {
        let keys =
            [key("ab", "c", "d"), key("a", "bc", "d"), key("a", "b", "cd"), key("", "ab", "cd")];
        for (place, one) in keys.iter().enumerate() {
            assert!(keys[place + 1..].iter().all(|other| one != other && one.cmp(other).is_ne()));
        }
    }
}
