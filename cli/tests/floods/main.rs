//! The program against clients that are hostile or broken: it stays under a stated amount of memory
//! and goes on answering whoever behaves. The limits are listed in `docs/operating.md`.
//!
//! Each flood is sent by hand over bare sockets, because no client library would do it. The figures
//! are printed (`--nocapture`); how long an answer took is never asserted.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod http2;
#[path = "../process/mod.rs"]
mod process;
mod server;

use http2::{
    CANCEL, CONTINUATION, Connection, DATA, END_HEADERS, ENHANCE_YOUR_CALM, GOAWAY, HEADERS,
    RST_STREAM, call, frame, message,
};
use phasegate_api::v1;
use prost::Message as _;
use rustix::process::{Resource, getrlimit, setrlimit};
use server::{Server, tell, within};
use std::time::Duration;
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};

/// A flood may cost the server no more than this, watchers apart: a few connections are full.
const GROWTH_MAX: u64 = 64 << 20;
/// So much may 10,000 watchers cost that never read.
const STUCK_WATCHERS_MAX: u64 = 200 << 20;

const GET_FLAG: &str = "/phasegate.v1.FlagService/GetFlag";
const WATCH_RELEASES: &str = "/phasegate.v1.ReleaseService/WatchReleases";

fn grown(server: &Server, before: u64) -> u64 {
    server.resident().saturating_sub(before)
}

/// Rapid reset, CVE-2023-44487.
#[tokio::test]
async fn ten_thousand_resets_end_their_connection_and_nothing_else() {
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let before = server.resident();
    let mut flood = Connection::open(server.address).await;
    let block = call(GET_FLAG, "mallory");
    let mut sent = 0;
    for _ in 0..10_000 {
        let stream = flood.next_stream();
        let mut frames = frame(HEADERS, END_HEADERS, stream, &block);
        frames.extend(frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes()));
        if flood.send(&frames).await.is_err() {
            break;
        }
        sent += 1;
    }
    let answered = healthy.ask().await;
    // The connection may break before the reason is read.
    let error = within(flood.end()).await;
    assert!(error.is_none_or(|error| error == ENHANCE_YOUR_CALM), "{error:?}");
    assert!(grown(&server, before) < GROWTH_MAX);
    tell(&format!("{sent} resets"), before, server.resident(), answered);
}

/// CONTINUATION flood, VU#421644.
#[tokio::test]
async fn headers_without_end_are_not_collected() {
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let before = server.resident();
    let mut flood = Connection::open(server.address).await;
    let stream = flood.next_stream();
    flood.send(&frame(HEADERS, 0, stream, &call(GET_FLAG, "mallory"))).await.unwrap();
    // A field of 4000 bytes: its length has two bytes behind the prefix of seven bits.
    let mut field = vec![0, 1, b'x', 0x7f];
    field.extend([0xa1, 0x1e]);
    field.extend([b'y'; 4000]);
    let more = frame(CONTINUATION, 0, stream, &field);
    let mut sent = 0;
    // 400 MB, if it took them.
    for _ in 0..100_000 {
        if flood.send(&more).await.is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 100_000, "it took them all");
    let answered = healthy.ask().await;
    assert!(grown(&server, before) < GROWTH_MAX);
    tell(&format!("{sent} continuations"), before, server.resident(), answered);
}

/// RUSTSEC-2026-0258.
#[tokio::test]
async fn frames_with_nothing_in_them_cost_nothing() {
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let before = server.resident();
    let mut flood = Connection::open(server.address).await;
    let stream = flood.next_stream();
    flood.send(&frame(HEADERS, END_HEADERS, stream, &call(GET_FLAG, "mallory"))).await.unwrap();
    let empty = frame(DATA, 0, stream, &[]).repeat(100);
    let mut sent = 0;
    for _ in 0..10_000 {
        if flood.send(&empty).await.is_err() {
            break;
        }
        sent += 100;
    }
    let answered = healthy.ask().await;
    assert!(grown(&server, before) < GROWTH_MAX);
    tell(&format!("{sent} empty frames"), before, server.resident(), answered);
}

#[tokio::test]
async fn a_body_of_one_byte_a_second_is_given_up() {
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let before = server.resident();
    let mut flood = Connection::open(server.address).await;
    let body = message(&vec![b'x'; 4000]);
    let mut open = Vec::new();
    for _ in 0..100 {
        let stream = flood.next_stream();
        let block = call(GET_FLAG, "mallory");
        flood.send(&frame(HEADERS, END_HEADERS, stream, &block)).await.unwrap();
        open.push(stream);
    }
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    let mut at = 0;
    let ended = within(async {
        loop {
            tokio::select! {
                _ = seconds.tick() => {
                    for stream in &open {
                        let byte = frame(DATA, 0, *stream, &body[at..=at]);
                        if flood.send(&byte).await.is_err() {
                            return;
                        }
                    }
                    at += 1;
                }
                received = flood.receive() => match received {
                    // The answer: that it took too long.
                    Some(frame) if frame.kind == HEADERS => {
                        open.retain(|stream| *stream != frame.stream);
                        if open.is_empty() {
                            return;
                        }
                    }
                    Some(_) => {}
                    None => return,
                },
            }
        }
    });
    let (answered, ()) = tokio::join!(healthy.ask(), ended);
    assert!(at > 5, "it was patient at first");
    healthy.ask().await;
    assert!(grown(&server, before) < GROWTH_MAX);
    tell(&format!("100 bodies for {at} s"), before, server.resident(), answered);
}

#[tokio::test]
async fn five_thousand_connections_that_ask_for_nothing_are_closed() {
    // As many sockets, here and there: the child inherits the limit.
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let before = server.resident();
    let mut closed = JoinSet::new();
    for _ in 0..5000 {
        let mut idle = TcpStream::connect(server.address).await.unwrap();
        closed.spawn(async move {
            // Until the server closes it, whatever it says before.
            while idle.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {}
        });
    }
    let answered = healthy.ask().await;
    let during = server.resident();
    within(async { while closed.join_next().await.is_some() {} }).await;
    assert!(during.saturating_sub(before) < GROWTH_MAX);
    let mut late = server.healthy().await;
    late.ask().await;
    tell("5000 idle connections", before, during, answered);
}

/// Everybody watches all releases, and nobody reads.
#[tokio::test]
async fn ten_thousand_watchers_that_never_read_have_a_bound() {
    const CONNECTIONS: usize = 100;
    const WATCHES: usize = 100;
    /// Each is some 1 KiB for each watcher: far more than their windows take.
    const CHANGES: usize = 200;
    let server = Server::start();
    let mut healthy = server.healthy().await;
    let mut releases = server.with_release().await;
    let before = server.resident();
    let request = message(&v1::WatchReleasesRequest::default().encode_to_vec());
    let mut floods = Vec::new();
    for number in 0..CONNECTIONS {
        let mut flood = Connection::open(server.address).await;
        let block = call(WATCH_RELEASES, &format!("mallory-{number}"));
        for _ in 0..WATCHES {
            let stream = flood.next_stream();
            let mut frames = frame(HEADERS, END_HEADERS, stream, &block);
            // The end of the request, and of what this client does.
            frames.extend(frame(DATA, 1, stream, &request));
            flood.send(&frames).await.unwrap();
        }
        floods.push(flood);
    }
    let name = "releases/r".to_owned();
    let mut most = 0;
    for _ in 0..CHANGES / 2 {
        let reason = "r".repeat(500);
        let (pause, unpause) = (
            v1::PauseReleaseRequest { name: name.clone(), reason, ..Default::default() },
            v1::UnpauseReleaseRequest { name: name.clone(), ..Default::default() },
        );
        within(releases.pause_release(pause)).await.unwrap();
        within(releases.unpause_release(unpause)).await.unwrap();
        most = most.max(server.resident());
    }
    let answered = healthy.ask().await;
    most = most.max(server.resident());
    assert!(most - before < STUCK_WATCHERS_MAX, "{} MiB", (most - before) >> 20);
    // They are open, or were ended for not reading: the answer to each has begun.
    let first = within(floods[0].receive()).await.unwrap();
    assert_ne!(first.kind, GOAWAY);
    tell("10000 stuck watchers", before, most, answered);
}
