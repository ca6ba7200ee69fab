//! Messages of watches as bytes, encoded once and shared by all who watch.
//!
//! Protobuf allows the fields of a message in any order, and a message may be put together from
//! pieces. What an entry of the log says is the same for every watcher, so it is encoded by whoever
//! comes first and kept with the entry ([`Entry::wire`]); only `revision`, `store_id` and
//! `server_time` are encoded for each stream. A client sees no difference, and a test proves it.

use crate::{
    driver::StoreId,
    watch::{Entry, Fate, ReleaseItem, ReleasesItem},
};
use bytes::{BufMut, Bytes};
use phasegate_api::{
    convert::{self, Detail},
    v1::{ReleaseChange, WatchReleaseResponse, WatchReleasesResponse},
};
use phasegate_engine::{id::Revision, release::Release, time::Timestamp};
use prost::{
    Message,
    encoding::{self, WireType, decode_varint, encode_key, encode_varint},
};
use std::{marker::PhantomData, sync::Arc};
use tonic::{
    Status,
    codec::{BufferSettings, Codec, EncodeBuf, Encoder},
};
use tonic_prost::ProstCodec;
use uuid::fmt::Hyphenated;

/// A message to be sent.
pub(super) trait Frame: Send + 'static {
    /// What a client decodes it to.
    type Message: Message + Default;

    /// All of it as one message, sharing nothing.
    fn message(&self) -> Self::Message;

    /// Writes it, with what is shared.
    fn write(&self, buf: &mut impl BufMut);
}

/// What is encoded for each stream, of both kinds of message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stamp {
    /// Identity of the store.
    pub store_id: StoreId,
    /// The server's clock.
    pub now: Timestamp,
}

impl Stamp {
    /// The head of a message of either kind, whose fields have the same numbers.
    fn write(&self, revision: Revision, buf: &mut impl BufMut) {
        if revision > Revision::ZERO {
            encoding::int64::encode(field::REVISION, &convert::revision_to_wire(revision), buf);
        }
        let mut text = [0; Hyphenated::LENGTH];
        let text = self.store_id.0.hyphenated().encode_lower(&mut text);
        encode_key(field::STORE_ID, WireType::LengthDelimited, buf);
        encode_varint(text.len() as u64, buf);
        buf.put_slice(text.as_bytes());
        encoding::message::encode(field::SERVER_TIME, &convert::timestamp_to_wire(self.now), buf);
    }
}

/// A message of WatchRelease.
#[derive(Debug)]
pub(super) struct ReleaseFrame {
    pub stamp: Stamp,
    pub item: ReleaseItem,
}

impl ReleaseFrame {
    /// What a bookmark has, and every other message too.
    fn head(&self, revision: Revision) -> WatchReleaseResponse {
        WatchReleaseResponse {
            revision: convert::revision_to_wire(revision),
            store_id: self.stamp.store_id.to_string(),
            server_time: Some(convert::timestamp_to_wire(self.stamp.now)),
            release: None,
            events: Vec::new(),
        }
    }
}

impl Frame for ReleaseFrame {
    type Message = WatchReleaseResponse;

    fn message(&self) -> WatchReleaseResponse {
        match &self.item {
            ReleaseItem::Snapshot { release, revision } => WatchReleaseResponse {
                release: Some(convert::release_to_wire(release, Detail::Full)),
                ..self.head(*revision)
            },
            ReleaseItem::Change(entry) => WatchReleaseResponse {
                release: Some(convert::release_to_wire(&entry.change.release, Detail::Brief)),
                events: convert::events_to_wire(&entry.change),
                ..self.head(entry.change.revision)
            },
            ReleaseItem::Bookmark(revision) => self.head(*revision),
        }
    }

    fn write(&self, buf: &mut impl BufMut) {
        match &self.item {
            ReleaseItem::Change(entry) => {
                self.stamp.write(entry.change.revision, buf);
                buf.put_slice(shared(entry));
            }
            ReleaseItem::Snapshot { .. } | ReleaseItem::Bookmark(_) => {
                self.message().encode_raw(buf);
            }
        }
    }
}

/// A message of WatchReleases.
#[derive(Debug)]
pub(super) struct ReleasesFrame {
    pub stamp: Stamp,
    pub item: ReleasesItem,
}

impl ReleasesFrame {
    /// What a bookmark has, and every other message too.
    fn head(&self, revision: Revision) -> WatchReleasesResponse {
        WatchReleasesResponse {
            revision: convert::revision_to_wire(revision),
            store_id: self.stamp.store_id.to_string(),
            server_time: Some(convert::timestamp_to_wire(self.stamp.now)),
            initial: Vec::new(),
            synced: false,
            changes: Vec::new(),
        }
    }
}

impl Frame for ReleasesFrame {
    type Message = WatchReleasesResponse;

    fn message(&self) -> WatchReleasesResponse {
        let brief = |release: &Arc<Release>| convert::release_to_wire(release, Detail::Brief);
        match &self.item {
            // No revision before the set is complete: a broken one is begun anew.
            ReleasesItem::Initial(releases) => WatchReleasesResponse {
                initial: releases.iter().map(brief).collect(),
                ..self.head(Revision::ZERO)
            },
            ReleasesItem::Synced(revision) => {
                WatchReleasesResponse { synced: true, ..self.head(*revision) }
            }
            ReleasesItem::Changes { revision, changes } => {
                let change = |(entry, fate): &(Arc<Entry>, Fate)| ReleaseChange {
                    release: Some(brief(&entry.change.release)),
                    events: convert::events_to_wire(&entry.change),
                    removed: *fate == Fate::Removed,
                };
                let changes = changes.iter().map(change).collect();
                WatchReleasesResponse { changes, ..self.head(*revision) }
            }
            ReleasesItem::Bookmark(revision) => self.head(*revision),
        }
    }

    fn write(&self, buf: &mut impl BufMut) {
        match &self.item {
            ReleasesItem::Changes { revision, changes } => {
                self.stamp.write(*revision, buf);
                for (entry, fate) in changes {
                    write_change(entry, *fate, buf);
                }
            }
            ReleasesItem::Initial(_) | ReleasesItem::Synced(_) | ReleasesItem::Bookmark(_) => {
                self.message().encode_raw(buf);
            }
        }
    }
}

/// Numbers of the fields that are put together by hand. The test that compares with prost's own
/// encoding knows if one of them is wrong.
mod field {
    /// `WatchReleaseResponse`.
    pub(super) mod response {
        pub(in super::super) const RELEASE: u32 = 4;
        pub(in super::super) const EVENTS: u32 = 5;
    }
    /// `ReleaseChange`.
    pub(super) mod change {
        pub(in super::super) const RELEASE: u32 = 1;
        pub(in super::super) const EVENTS: u32 = 2;
        pub(in super::super) const REMOVED: u32 = 3;
    }
    /// `WatchReleasesResponse`.
    pub(super) const CHANGES: u32 = 6;
    /// Of both.
    pub(super) const REVISION: u32 = 1;
    pub(super) const STORE_ID: u32 = 2;
    pub(super) const SERVER_TIME: u32 = 3;
}

/// The fields `release` and `events` of `WatchReleaseResponse`, encoded once.
fn shared(entry: &Entry) -> &Bytes {
    entry.wire.get_or_init(|| {
        let message = WatchReleaseResponse {
            release: Some(convert::release_to_wire(&entry.change.release, Detail::Brief)),
            events: convert::events_to_wire(&entry.change),
            ..WatchReleaseResponse::default()
        };
        message.encode_to_vec().into()
    })
}

/// One of `changes` of `WatchReleasesResponse`: the shared bytes, whose two fields have other
/// numbers there but keys of the same length.
fn write_change(entry: &Entry, fate: Fate, buf: &mut impl BufMut) {
    const REMOVED_LEN: usize = 2;
    let shared = shared(entry);
    let removed = match fate {
        Fate::Kept => 0,
        Fate::Removed => REMOVED_LEN,
    };
    encode_key(field::CHANGES, WireType::LengthDelimited, buf);
    encode_varint((shared.len() + removed) as u64, buf);
    renumber(shared, buf);
    if removed > 0 {
        encoding::bool::encode(field::change::REMOVED, &true, buf);
    }
}

/// Copies fields of `WatchReleaseResponse` as those of `ReleaseChange`.
fn renumber(shared: &[u8], buf: &mut impl BufMut) {
    const RELEASE: u8 = key(field::response::RELEASE);
    const EVENTS: u8 = key(field::response::EVENTS);
    let mut rest = shared;
    while let Some((first, mut after_key)) = rest.split_first() {
        let number = match *first {
            RELEASE => field::change::RELEASE,
            EVENTS => field::change::EVENTS,
            other => unreachable!("`shared` writes two fields, and {other} is the key of neither"),
        };
        let len = decode_varint(&mut after_key).expect("`shared` wrote a length after each key");
        let (value, after) = after_key.split_at(len as usize);
        encode_key(number, WireType::LengthDelimited, buf);
        encode_varint(len, buf);
        buf.put_slice(value);
        rest = after;
    }
}

/// The key of a field with a length, below 16: one byte.
const fn key(number: u32) -> u8 {
    (number << 3 | 2) as u8
}

/// A codec that decodes as prost does, and encodes frames.
#[derive(Debug)]
pub(super) struct FrameCodec<F, R>(PhantomData<fn() -> (F, R)>);

impl<F, R> FrameCodec<F, R> {
    pub(super) fn new() -> Self {
        Self(PhantomData)
    }
}

/// An idle stream keeps its buffer, so it begins small and grows with the first message.
const BUFFER_BYTES: usize = 512;
/// Messages that are ready together are sent together, up to this: tonic's default.
const YIELD_BYTES: usize = 32 << 10;

impl<F: Frame, R: Message + Default + 'static> Codec for FrameCodec<F, R> {
    type Encode = F;
    type Decode = R;
    type Encoder = FrameEncoder<F>;
    type Decoder = <ProstCodec<R, R> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        FrameEncoder(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<R, R>::default().decoder()
    }
}

/// Encodes frames.
#[derive(Debug)]
pub(super) struct FrameEncoder<F>(PhantomData<fn() -> F>);

impl<F: Frame> Encoder for FrameEncoder<F> {
    type Item = F;
    type Error = Status;

    fn encode(&mut self, frame: F, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        frame.write(buf);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(BUFFER_BYTES, YIELD_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phasegate_api::{convert::Parsed, v1};
    use phasegate_engine::{
        Command, State, apply,
        command::{Call, Caller},
        decide,
        event::changes,
        id::{Principal, ReleaseId},
    };
    use uuid::Uuid;

    /// The log of a flag, a pipeline, and a release that was triggered, paused and aborted.
    fn log() -> Vec<Arc<Entry>> {
        let gate = |default_value| v1::GateSpec { default_value, ..Default::default() };
        let flag =
            v1::Flag { spec: Some(v1::flag::Spec::FeatureGate(gate(false))), ..Default::default() };
        let rule = v1::TargetingRule { id: "all".into(), ..Default::default() };
        let phase = v1::Phase {
            id: "canary".into(),
            rules: vec![rule],
            bake_duration: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let pipeline = v1::Pipeline { phases: vec![phase], ..Default::default() };
        let release = v1::Release {
            flag: "flags/f".into(),
            pipeline: "pipelines/p".into(),
            change: Some(v1::release::Change::FeatureGate(gate(true))),
            labels: [("team".to_owned(), "växjö".to_owned())].into(),
            ..Default::default()
        };
        let name = || "releases/r".to_owned();
        let reason = || "because".to_owned();
        let requests = [
            convert::create_flag(v1::CreateFlagRequest {
                flag_id: "f".into(),
                flag: Some(flag),
                ..Default::default()
            }),
            convert::create_pipeline(v1::CreatePipelineRequest {
                pipeline_id: "p".into(),
                pipeline: Some(pipeline),
                ..Default::default()
            }),
            convert::trigger_release(
                v1::TriggerReleaseRequest { release: Some(release), ..Default::default() },
                ReleaseId::parse("r").unwrap(),
            ),
            convert::pause_release(v1::PauseReleaseRequest {
                name: name(),
                reason: reason(),
                ..Default::default()
            }),
            convert::abort_release(v1::AbortReleaseRequest {
                name: name(),
                reason: reason(),
                ..Default::default()
            }),
        ];
        let mut state = State::default();
        let mut log = Vec::new();
        for (second, request) in requests.into_iter().enumerate() {
            let Parsed { action, request_id, reason, .. } = request.unwrap();
            let caller = Caller { principal: Principal::new("ann"), groups: Vec::new() };
            let call = Command::Call(Call { caller, request_id, reason, action });
            let now = Timestamp::from_millis(1_907_776_800_000 + 1000 * second as i64);
            let commit = decide(&state, &call, now).unwrap().unwrap();
            let before = state.clone();
            apply(&mut state, &commit);
            log.extend(
                changes(&before, &state, &commit).into_iter().map(|c| Arc::new(Entry::new(c))),
            );
        }
        assert_eq!(log.len(), 3, "triggered, paused, aborted");
        log
    }

    fn stamp() -> Stamp {
        Stamp { store_id: StoreId(Uuid::nil()), now: Timestamp::from_millis(1_907_776_900_001) }
    }

    /// What a client decodes must be what prost would have encoded.
    fn check<F: Frame<Message: PartialEq + std::fmt::Debug>>(frame: &F) -> F::Message {
        let mut shared = Vec::new();
        frame.write(&mut shared);
        let alone = frame.message();
        assert_eq!(F::Message::decode(&*shared).as_ref(), Ok(&alone));
        assert_eq!(shared.len(), alone.encoded_len(), "nothing is sent twice");
        alone
    }

    #[test]
    fn every_message_of_a_release_is_decoded_as_if_nothing_were_shared() {
        let frame = |item| ReleaseFrame { stamp: stamp(), item };
        for entry in log() {
            for _stream in 0..2 {
                let message = check(&frame(ReleaseItem::Change(Arc::clone(&entry))));
                assert!(message.release.is_some() && !message.events.is_empty());
            }
            let release = Arc::clone(&entry.change.release);
            let message =
                check(&frame(ReleaseItem::Snapshot { release, revision: Revision::new(9) }));
            assert!(message.release.unwrap().pipeline_snapshot.is_some());
        }
        assert_eq!(check(&frame(ReleaseItem::Bookmark(Revision::new(7)))).release, None);
    }

    #[test]
    fn every_message_of_many_releases_is_decoded_as_if_nothing_were_shared() {
        let frame = |item| ReleasesFrame { stamp: stamp(), item };
        let log = log();
        let fates = [Fate::Kept, Fate::Kept, Fate::Removed];
        let changes: Vec<_> = log.iter().cloned().zip(fates).collect();
        for count in 0..=changes.len() {
            let changes = changes[..count].to_vec();
            let message =
                check(&frame(ReleasesItem::Changes { revision: Revision::new(9), changes }));
            assert_eq!(message.changes.len(), count);
        }
        let releases = log.iter().map(|entry| Arc::clone(&entry.change.release)).collect();
        assert_eq!(check(&frame(ReleasesItem::Initial(releases))).revision, 0);
        assert!(check(&frame(ReleasesItem::Synced(Revision::new(9)))).synced);
        check(&frame(ReleasesItem::Bookmark(Revision::new(9))));
    }

    #[test]
    fn what_is_shared_is_encoded_once() {
        let entry = log().remove(0);
        let first = shared(&entry).as_ptr();
        assert_eq!(first, shared(&entry).as_ptr());
    }
}
