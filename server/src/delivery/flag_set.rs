//! All flags of an environment as one text of flagd JSON, and what differs between two of them.
//!
//! A set is compiled from the state alone, so it is the same after a restart. What was compiled for
//! a flag is kept with the flag and the release that it was compiled from, and is taken over by the
//! next set unless one of the two has changed.

use bytes::{BufMut as _, Bytes, BytesMut};
use phasegate_api::{convert, flagd::sync::SyncFlagsResponse};
use phasegate_engine::{
    State, environment,
    flag::Flag,
    flagd,
    id::{EnvironmentId, FlagId, Revision},
    release::Release,
    targeting::Bucketing,
    time::Timestamp,
    value::{Object, Value},
};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// Whose flags.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    /// Those of one environment.
    Of(EnvironmentId),
    /// What they answer in any environment, these and those that flags and pipelines name: to know
    /// what has changed, not to be sent.
    Any(Vec<EnvironmentId>),
}

/// The flags of a scope as of a revision.
#[derive(Debug)]
pub(super) struct FlagSet {
    /// The commit with which they became so.
    pub revision: Revision,
    /// Its time.
    pub time: Timestamp,
    /// Tells sets apart: equal for equal flags.
    pub etag: String,
    flags: BTreeMap<FlagId, Compiled>,
    /// The set as a message of gRPC, with its prefix; empty for [`Scope::Any`].
    frame: Bytes,
    /// The part of it that is JSON.
    json: Bytes,
}

#[derive(Clone, Debug)]
struct Compiled {
    flag: Arc<Flag>,
    active: Option<Arc<Release>>,
    json: Arc<str>,
}

impl Compiled {
    fn is_of(&self, flag: &Arc<Flag>, active: Option<&Arc<Release>>) -> bool {
        let same_release = match (&self.active, active) {
            (None, None) => true,
            (Some(ours), Some(theirs)) => Arc::ptr_eq(ours, theirs),
            (None, Some(_)) | (Some(_), None) => false,
        };
        Arc::ptr_eq(&self.flag, flag) && same_release
    }
}

impl FlagSet {
    /// Compiles the flags of a scope. The set before, if it is at hand, spares work; if nothing
    /// differs from it, it is what comes back.
    pub(super) fn compile(
        state: &State,
        scope: &Scope,
        bucketing: Bucketing,
        before: Option<&Arc<Self>>,
    ) -> Arc<Self> {
        let mut flags = BTreeMap::new();
        let mut differs = before.is_none_or(|before| before.flags.len() != state.flags().count());
        let any: Vec<EnvironmentId> = match scope {
            Scope::Of(_) => Vec::new(),
            Scope::Any(more) => {
                let mut all = environment::environments(state);
                all.extend(more.iter().cloned());
                all.into_iter().collect()
            }
        };
        for flag in state.flags() {
            let active = state.active_release(&flag.id);
            let old = before.and_then(|before| before.flags.get(&flag.id));
            let compiled = match old {
                Some(old) if old.is_of(flag, active) => old.clone(),
                Some(_) | None => {
                    let define = |environment| {
                        flagd::definition(flag, active.map(|release| &**release), environment)
                    };
                    let json: String = match scope {
                        Scope::Of(environment) => define(environment),
                        Scope::Any(_) => any.iter().map(define).collect(),
                    };
                    // The same text is shared, so that two sets are compared without reading it.
                    let same = old.filter(|old| *old.json == *json);
                    differs |= same.is_none();
                    let json = same.map_or_else(|| json.into(), |old| Arc::clone(&old.json));
                    Compiled { flag: Arc::clone(flag), active: active.map(Arc::clone), json }
                }
            };
            flags.insert(flag.id.clone(), compiled);
        }
        match before {
            Some(before) if !differs => Arc::clone(before),
            Some(_) | None => Arc::new(Self::new(state, scope, bucketing, flags)),
        }
    }

    fn new(
        state: &State,
        scope: &Scope,
        bucketing: Bucketing,
        flags: BTreeMap<FlagId, Compiled>,
    ) -> Self {
        let json = match scope {
            Scope::Of(environment) => join(environment, bucketing, &flags),
            Scope::Any(_) => String::new(),
        };
        let mut hash = Sha256::new();
        for (id, compiled) in &flags {
            hash.update(id.as_str());
            hash.update([0]);
            hash.update(&*compiled.json);
            hash.update([0]);
        }
        let mut etag = String::with_capacity(32);
        for byte in &hash.finalize()[..16] {
            let _ = write!(etag, "{byte:02x}");
        }
        let (frame, json) = match scope {
            Scope::Of(environment) => frame(environment, json),
            Scope::Any(_) => (Bytes::new(), Bytes::new()),
        };
        Self { revision: state.revision(), time: state.time(), etag, flags, frame, json }
    }

    /// The set as flagd JSON.
    pub(super) fn json(&self) -> &str {
        std::str::from_utf8(&self.json).expect("it was encoded from a String")
    }

    /// Bytes of the JSON.
    pub(super) fn bytes(&self) -> usize {
        self.json.len()
    }

    /// The message of SyncFlags that carries it, with the prefix of gRPC; shared, not copied.
    pub(super) fn frame(&self) -> Bytes {
        self.frame.clone()
    }

    /// Every flag.
    pub(super) fn ids(&self) -> impl Iterator<Item = &FlagId> {
        self.flags.keys()
    }

    /// Flags that are not the same in both, those that are in one only among them.
    pub(super) fn changed_since<'a>(&'a self, before: &'a Self) -> Vec<&'a FlagId> {
        let is_other = |(id, now): &(&FlagId, &Compiled)| {
            before.flags.get(*id).is_none_or(|old| !Arc::ptr_eq(&old.json, &now.json))
        };
        let changed = self.flags.iter().filter(is_other).map(|(id, _)| id);
        let gone = before.flags.keys().filter(|id| !self.flags.contains_key(*id));
        changed.chain(gone).collect()
    }
}

/// What a set says of itself, over every protocol: flat, and the same until the server is started
/// otherwise, because providers mix it into the metadata of each flag.
pub(super) fn metadata(environment: &EnvironmentId, bucketing: Bucketing) -> Object {
    Object::from([
        ("bucketing".into(), Value::String(bucketing.as_str().into())),
        ("flagSetId".into(), Value::String(environment.as_str().into())),
    ])
}

fn join(
    environment: &EnvironmentId,
    bucketing: Bucketing,
    flags: &BTreeMap<FlagId, Compiled>,
) -> String {
    let bytes: usize = flags.iter().map(|(id, flag)| id.as_str().len() + flag.json.len() + 4).sum();
    let mut json = String::with_capacity(bytes + 128);
    json.push_str("{\"flags\":{");
    for (index, (id, flag)) in flags.iter().enumerate() {
        if index > 0 {
            json.push(',');
        }
        // The ids of flags need no escape.
        let _ = write!(json, "\"{id}\":{}", flag.json);
    }
    json.push_str("},\"metadata\":");
    json.push_str(&flagd::object_to_json(&metadata(environment, bucketing)).to_string());
    json.push('}');
    json
}

/// The message, and the part of it that is the JSON.
fn frame(environment: &EnvironmentId, json: String) -> (Bytes, Bytes) {
    const PREFIX: usize = 5;
    let context =
        Object::from([(Arc::from("environment"), Value::String(environment.as_str().into()))]);
    let len = json.len();
    let message = SyncFlagsResponse {
        flag_configuration: json,
        sync_context: Some(convert::object_to_wire(&context)),
    };
    let bytes = message.encoded_len();
    let mut frame = BytesMut::with_capacity(PREFIX + bytes);
    // Not compressed, and the length: gRPC's prefix.
    frame.put_u8(0);
    // Sets above some MiB are not sent; the length fits.
    frame.put_u32(u32::try_from(bytes).unwrap_or(u32::MAX));
    message.encode_raw(&mut frame);
    let frame = frame.freeze();
    // The first field is the JSON: one byte of key, then its length.
    let start = PREFIX + 1 + prost::encoding::encoded_len_varint(len as u64);
    let json = frame.slice(start..start + len);
    (frame, json)
}
