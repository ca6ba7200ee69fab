//! Many who watch: how fast events reach all of them, and what a watcher costs.

use crate::{
    load::histogram,
    process::{Machine, Server},
    subject::by,
};
use bytes::{Buf, Bytes};
use hdrhistogram::Histogram;
use http::uri::PathAndQuery;
use prost::encoding::{WireType, decode_key, decode_varint};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;
use tonic::{
    Status, Streaming,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    transport::Channel,
};

/// Streams of one connection, as a proxy would bring them.
const STREAMS_OF_A_CONNECTION: usize = 100;

/// What is watched, and how an event is told from the rest of what a stream brings.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// `WatchRelease` of one release: a message for each event.
    One,
    /// `WatchReleases`: a message has what has happened meanwhile.
    Many,
    /// etcd's `Watch`: so many watches on one stream.
    Etcd(usize),
}

impl Kind {
    /// The field of the messages that there is one of for each event.
    fn field(self) -> u32 {
        match self {
            Self::One => 4,
            Self::Many => 6,
            Self::Etcd(_) => 11,
        }
    }

    fn watches_of_a_stream(self) -> usize {
        match self {
            Self::One | Self::Many => 1,
            Self::Etcd(watches) => watches,
        }
    }
}

/// How often a field stands in a message, at its top level.
fn occurrences(mut message: Bytes, field: u32) -> u64 {
    let mut found = 0;
    while message.has_remaining() {
        let (number, kind) = decode_key(&mut message).expect("the server sends protobuf");
        found += u64::from(number == field);
        let skipped = match kind {
            WireType::Varint => {
                decode_varint(&mut message).expect("the server sends protobuf");
                0
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::LengthDelimited => {
                decode_varint(&mut message).expect("the server sends protobuf") as usize
            }
            WireType::StartGroup | WireType::EndGroup => panic!("nobody sends groups"),
        };
        message.advance(skipped);
    }
    found
}

/// Messages as bytes: a client that has nothing to do but to count.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buf: &mut EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put(buf, item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buf.copy_to_bytes(buf.remaining())))
    }
}

/// Opens a stream, and waits until what it begins with is there.
async fn open(channel: Channel, kind: Kind, number: usize) -> Result<Streaming<Bytes>, Status> {
    let mut client = Grpc::new(channel);
    client.ready().await.map_err(|_| Status::unavailable("the connection is gone"))?;
    let message = |bytes: Vec<u8>| Bytes::from(bytes);
    let somebody = number / STREAMS_OF_A_CONNECTION;
    match kind {
        Kind::One => {
            let asked = phasegate_api::v1::WatchReleaseRequest {
                name: "releases/r-0".into(),
                ..Default::default()
            };
            let request = by(message(prost::Message::encode_to_vec(&asked)), somebody);
            let path = PathAndQuery::from_static("/phasegate.v1.ReleaseService/WatchRelease");
            Ok(client.server_streaming(request, path, Raw).await?.into_inner())
        }
        Kind::Many => {
            let request = by(Bytes::new(), somebody);
            let path = PathAndQuery::from_static("/phasegate.v1.ReleaseService/WatchReleases");
            let mut stream = client.server_streaming(request, path, Raw).await?.into_inner();
            // Until the initial set is complete: its last message says so.
            const SYNCED: u32 = 5;
            loop {
                let message = stream.message().await?;
                let message = message.ok_or_else(|| Status::aborted("the stream ended"))?;
                if occurrences(message, SYNCED) > 0 {
                    return Ok(stream);
                }
            }
        }
        Kind::Etcd(watches) => {
            use crate::reference::etcd::{WatchCreateRequest, WatchRequest};
            let key = b"releases/r-0".to_vec();
            let create = WatchRequest { create_request: Some(WatchCreateRequest { key }) };
            let create = message(prost::Message::encode_to_vec(&create));
            let requests = futures_util::StreamExt::chain(
                futures_util::stream::iter(vec![create; watches]),
                // The stream stays open.
                futures_util::stream::pending(),
            );
            let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
            let request = tonic::Request::new(requests);
            let mut stream = client.streaming(request, path, Raw).await?.into_inner();
            const CREATED: u32 = 3;
            let mut created = 0;
            while created < watches {
                let message = stream.message().await?;
                let message = message.ok_or_else(|| Status::aborted("the stream ended"))?;
                created += occurrences(message, CREATED) as usize;
            }
            Ok(stream)
        }
    }
}

/// Streams that are open, and read by nobody.
pub(crate) async fn streams(server: &Server, kind: Kind, count: usize) -> Vec<Streaming<Bytes>> {
    let count = count.div_ceil(kind.watches_of_a_stream());
    let mut opened = Vec::new();
    for first in (0..count).step_by(STREAMS_OF_A_CONNECTION) {
        // Those of one connection at a time: a server refuses what comes in larger bursts.
        let channel = server.connect().await;
        let numbers = first..count.min(first + STREAMS_OF_A_CONNECTION);
        let tasks: JoinSet<_> = numbers.map(|number| open(channel.clone(), kind, number)).collect();
        opened.extend(tasks.join_all().await);
    }
    opened.into_iter().map(|stream| stream.expect("there are slots")).collect()
}

/// Watchers that read all they are sent.
#[derive(Debug)]
pub(crate) struct Watchers {
    tasks: JoinSet<()>,
    shared: Arc<Shared>,
    watches: usize,
}

#[derive(Debug)]
struct Shared {
    begun: Instant,
    /// When the event was asked for that is on its way, in nanoseconds since then.
    asked: AtomicU64,
    deliveries: AtomicU64,
    arrived: tokio::sync::Notify,
    latencies: std::sync::Mutex<Histogram<u64>>,
}

impl Watchers {
    pub(crate) async fn open(server: &Server, kind: Kind, count: usize) -> Self {
        let streams = streams(server, kind, count).await;
        let shared = Arc::new(Shared {
            begun: Instant::now(),
            asked: AtomicU64::new(0),
            deliveries: AtomicU64::new(0),
            arrived: tokio::sync::Notify::new(),
            latencies: std::sync::Mutex::new(histogram()),
        });
        let mut tasks = JoinSet::new();
        for mut stream in streams {
            let shared = Arc::clone(&shared);
            tasks.spawn(async move {
                while let Ok(Some(message)) = stream.message().await {
                    let events = occurrences(message, kind.field());
                    if events > 0 {
                        shared.came(events);
                    }
                }
            });
        }
        Self { tasks, shared, watches: count }
    }

    fn deliveries(&self) -> u64 {
        self.shared.deliveries.load(Ordering::Relaxed)
    }

    /// Counts what arrives in a time while somebody else makes the events.
    pub(crate) async fn count(&self, server: &Server, time: Duration) -> Flow {
        let (machine, cpu, since, before) =
            (Machine::now(), server.cpu(), Instant::now(), self.deliveries());
        tokio::time::sleep(time).await;
        Flow {
            deliveries: self.deliveries() - before,
            elapsed: since.elapsed(),
            cpu: server.cpu() - cpu,
            stolen: machine.stolen_since(),
        }
    }

    /// Has events made one at a time, so many, and gives the times from when each was asked for until
    /// each watcher had it, in microseconds.
    pub(crate) async fn paced<F: Future<Output = ()>>(
        &self,
        events: usize,
        mut make: impl FnMut() -> F,
    ) -> Histogram<u64> {
        // What streams begin with has come by now, or comes with the first events, which do not count.
        const NOT_COUNTED: usize = 2;
        for event in 0..events + NOT_COUNTED {
            if event == NOT_COUNTED {
                self.shared.latencies.lock().expect("nobody panics with it").reset();
            }
            let all = self.deliveries() + self.watches as u64;
            let asked = self.shared.begun.elapsed().as_nanos() as u64;
            self.shared.asked.store(asked, Ordering::Relaxed);
            make().await;
            let arrived = async {
                while self.deliveries() < all {
                    self.shared.arrived.notified().await;
                }
            };
            tokio::time::timeout(Duration::from_secs(20), arrived)
                .await
                .expect("every watcher gets every event");
        }
        self.shared.latencies.lock().expect("nobody panics with it").clone()
    }

    /// Ends them, and waits until they are gone.
    pub(crate) async fn close(mut self) {
        self.tasks.shutdown().await;
    }
}

impl Shared {
    fn came(&self, events: u64) {
        let now = self.begun.elapsed().as_nanos() as u64;
        let micros = now.saturating_sub(self.asked.load(Ordering::Relaxed)) / 1000;
        self.latencies.lock().expect("nobody panics with it").saturating_record(micros.max(1));
        self.deliveries.fetch_add(events, Ordering::Relaxed);
        self.arrived.notify_one();
    }
}

/// What arrived in a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Flow {
    deliveries: u64,
    elapsed: Duration,
    cpu: Duration,
    pub(crate) stolen: f64,
}

impl Flow {
    pub(crate) fn per_second(&self) -> f64 {
        self.deliveries as f64 / self.elapsed.as_secs_f64()
    }

    /// Processor time of the server for a delivery, in microseconds.
    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.deliveries.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use phasegate_api::v1;
    use prost::Message as _;

    #[test]
    fn an_event_is_told_from_what_stands_beside_it() {
        let of = |message: Vec<u8>, kind: Kind| occurrences(message.into(), kind.field());
        let bookmark = v1::WatchReleaseResponse { revision: 7, ..Default::default() };
        let release = Some(v1::Release { name: "releases/r".into(), ..Default::default() });
        let event = v1::WatchReleaseResponse { release, ..bookmark.clone() };
        assert_eq!(of(bookmark.encode_to_vec(), Kind::One), 0);
        assert_eq!(of(event.encode_to_vec(), Kind::One), 1);
        let changes = vec![v1::ReleaseChange::default(); 3];
        let many = v1::WatchReleasesResponse { revision: 7, changes, ..Default::default() };
        assert_eq!(of(many.encode_to_vec(), Kind::Many), 3);
    }
}
