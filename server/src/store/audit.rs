//! The entries of the audit chain: who asked for what, and what came of it.
//!
//! An entry is one JSON object in one line, as bytes. Each names the SHA-256 of the bytes of the one
//! before it, so that nobody can change, remove or insert one without changing all that follow. The
//! bytes are what counts: they are written once and never made again from the values in them.

use super::{StoreId, record};
use phasegate_engine::{
    id::{Group, Principal, RequestId, Revision},
    time::Timestamp,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, sync::Arc};

/// SHA-256 of the bytes of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuditHash(pub [u8; 32]);

impl AuditHash {
    /// What stands in the first entry, before which there is none.
    pub const NONE: Self = Self([0; 32]);

    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// From 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        let digit = |at: usize| match digits[at] {
            digit @ b'0'..=b'9' => Some(digit - b'0'),
            digit @ b'a'..=b'f' => Some(digit - b'a' + 10),
            _ => None,
        };
        if digits.len() != 64 {
            return None;
        }
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = (digit(2 * at)? << 4) | digit(2 * at + 1)?;
        }
        Some(Self(bytes))
    }
}

impl std::fmt::Display for AuditHash {
    /// As `sha256sum` writes it.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl std::fmt::Debug for AuditHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl Serialize for AuditHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        record::binary::serialize(self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for AuditHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        record::binary::deserialize(deserializer).map(Self)
    }
}

/// The newest entry: its number and its hash. Whoever keeps both elsewhere can tell later that
/// nothing up to there was touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// Number of the newest entry; zero if there is none.
    pub sequence: u64,
    /// Its hash.
    pub hash: AuditHash,
}

impl AuditHead {
    /// Of a chain without entries.
    pub const EMPTY: Self = Self { sequence: 0, hash: AuditHash::NONE };
}

/// An entry as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    /// Its number, from 1, without a gap.
    pub sequence: u64,
    /// Hash of the entry before it.
    pub previous: AuditHash,
    /// Hash of `json`.
    pub hash: AuditHash,
    /// Its bytes: one JSON object, without a line end.
    pub json: Arc<str>,
}

impl AuditEntry {
    /// Makes the entry that follows on `head`.
    pub fn after(head: AuditHead, time: Timestamp, store: StoreId, act: Act) -> Self {
        let content =
            AuditContent { sequence: head.sequence + 1, time, store, previous: head.hash, act };
        let json = serde_json::to_string(&content).expect(
            "writing to a String does not fail, and no map in there has other keys than texts",
        );
        Self {
            sequence: content.sequence,
            previous: head.hash,
            hash: AuditHash::of(json.as_bytes()),
            json: json.into(),
        }
    }

    /// Takes an entry from its bytes.
    pub fn read(json: Arc<str>) -> Result<Self, serde_json::Error> {
        let Frame { sequence, previous } = serde_json::from_str(&json)?;
        Ok(Self { sequence, previous, hash: AuditHash::of(json.as_bytes()), json })
    }

    /// What it says.
    pub fn content(&self) -> Result<AuditContent, serde_json::Error> {
        serde_json::from_str(&self.json)
    }

    /// The head of a chain that ends with it.
    pub fn head(&self) -> AuditHead {
        AuditHead { sequence: self.sequence, hash: self.hash }
    }
}

/// The part of an entry that makes the chain; whatever a later version writes has it.
#[derive(Deserialize)]
struct Frame {
    sequence: u64,
    previous: AuditHash,
}

/// What an entry says. The order of the fields is that of the bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditContent {
    /// Number of the entry.
    pub sequence: u64,
    /// When it was written; when a call was judged.
    #[serde(with = "rfc3339")]
    pub time: Timestamp,
    /// The store that wrote it. An imported chain keeps the id of the one it came from.
    #[serde(serialize_with = "as_text", deserialize_with = "store_id")]
    pub store: StoreId,
    /// Hash of the entry before it.
    pub previous: AuditHash,
    /// What happened.
    #[serde(flatten)]
    pub act: Act,
}

/// What an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Act {
    /// Somebody asked for a change.
    Call(Box<AuditedCall>),
    /// Refusals that got no entry of their own, because there were too many.
    Suppressed(Suppressed),
    /// The store was made from an export, and what stands before this came with it.
    Imported {
        /// The store that was exported.
        #[serde(serialize_with = "as_text", deserialize_with = "store_id")]
        from: StoreId,
        /// Its last commit.
        revision: Revision,
    },
}

/// A call that asks for a change. Whatever the caller did not give is left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditedCall {
    /// The RPC, for example `PauseRelease`.
    pub method: Arc<str>,
    /// The resource that it was about, for example `releases/r-1`; empty if none was named.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub resource: Arc<str>,
    /// For whom it was asked; `anonymous` if unknown.
    pub principal: Principal,
    /// Who asked, if that is somebody else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authenticated: Option<Principal>,
    /// How the server knows who asked, for example `mtls`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vouched: Option<Arc<str>>,
    /// Where the call came from, as address and port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Arc<str>>,
    /// Their groups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<Group>,
    /// The id that makes the call safe to repeat.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<RequestId>,
    /// The trace that the call belongs to: a `traceparent` of W3C Trace Context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Arc<str>>,
    /// Text that the caller gave.
    #[serde(default, skip_serializing_if = "is_empty")]
    pub reason: Arc<str>,
    /// A summary of what was asked, for example the phase. Never a spec.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub asked: BTreeMap<Arc<str>, Arc<str>>,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was done.
    Accepted {
        /// The commit that did it; left out if nothing had to change.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
    },
    /// It was refused.
    Refused {
        /// Why: the reason of `google.rpc.ErrorInfo`.
        reason: Arc<str>,
    },
}

/// Refusals that were only counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suppressed {
    /// Whose; left out if it is not known whose, or if there were too many to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<Principal>,
    /// Where they came from, if they were anonymous.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<Arc<str>>,
    /// Why they were refused; left out if there were too many to tell apart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Arc<str>>,
    /// How many.
    pub count: u64,
}

fn is_empty(text: &Arc<str>) -> bool {
    text.is_empty()
}

fn as_text<S: Serializer>(id: &StoreId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}

fn store_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<StoreId, D::Error> {
    let text = Arc::<str>::deserialize(deserializer)?;
    text.parse().map(StoreId).map_err(de::Error::custom)
}

mod rfc3339 {
    use super::*;

    pub(super) fn serialize<S: Serializer>(
        time: &Timestamp,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_str(time)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Timestamp, D::Error> {
        let text = Arc::<str>::deserialize(deserializer)?;
        Timestamp::parse(&text).ok_or_else(|| de::Error::custom("no time with milliseconds in UTC"))
    }
}
