//! Watches: how many events reach how many in a second, how soon one event reaches all, and what a
//! watch costs that has nothing to do, or is not read.

use crate::{
    Round,
    fanout::{Flow, Kind, Watchers, streams},
    load::{self, Pace, Worker},
    process::Server,
    reference::etcd,
    subject,
    table::Results,
};
use phasegate_api::v1::release_service_client::ReleaseServiceClient;
use std::{sync::Arc, time::Duration};
use tokio::{sync::Mutex, task::JoinSet};

/// Who makes events at a time when as many are wanted as there can be.
const MAKERS: usize = 16;

/// Somebody who makes events.
trait Maker: Worker {}
impl<W: Worker> Maker for W {}

/// Makes events, as many as go, while others watch; and counts what arrives.
async fn flat_out<M: Maker>(
    server: &Server,
    kind: Kind,
    count: usize,
    makers: Vec<M>,
    time: Duration,
) -> Flow {
    let watchers = Watchers::open(server, kind, count).await;
    let mut making = JoinSet::new();
    for mut maker in makers {
        making.spawn(async move { while maker.call().await.is_ok() {} });
    }
    watchers.count(server, time / 4).await;
    let flow = watchers.count(server, time).await;
    making.shutdown().await;
    watchers.close().await;
    flow
}

fn report(what: &str, flow: &Flow) {
    println!(
        "  {what}: {:.0} deliveries/s, {:.2} us of the server's CPU each, {:.1}% stolen",
        flow.per_second(),
        flow.cpu_us(),
        flow.stolen * 100.0
    );
}

/// Makes the events of a bare publisher.
struct Publisher(ReleaseServiceClient<tonic::transport::Channel>);

impl Worker for Publisher {
    async fn call(&mut self) -> Result<(), tonic::Status> {
        let pause = subject::pause("releases/r-0", String::new());
        self.0.pause_release(subject::by(pause, 0)).await?;
        Ok(())
    }
}

fn fresh(round: &Round) -> Server {
    Server::phasegate(["--data".as_ref(), round.directory("store").as_os_str()])
}

/// One round of everything.
pub(crate) async fn round(round: &Round, results: &mut Results) {
    let time = round.times.measured;
    let mut ours_1000 = None;
    for count in [100, 1000] {
        let ours = fresh(round);
        subject::fill(&ours, 1).await;
        let makers = subject::adjusters(&ours, MAKERS).await;
        let flow = flat_out(&ours, Kind::One, count, makers, time).await;
        report(&format!("{count} streams of WatchRelease"), &flow);
        drop(ours);
        let bare = Server::bare(round.samples());
        let channel = bare.connect().await;
        let publisher = |_| Publisher(ReleaseServiceClient::new(channel.clone()));
        let makers = (0..MAKERS).map(publisher).collect();
        let theirs = flat_out(&bare, Kind::One, count, makers, time).await;
        report(&format!("{count} streams of a bare publisher"), &theirs);
        let id = format!("watch/{count}");
        results.add(&format!("{id}/bare"), flow.per_second(), theirs.per_second());
        results.add(&format!("{id}/cpu"), flow.cpu_us(), theirs.cpu_us());
        results.alone(&format!("{id}/rate"), flow.per_second());
        ours_1000 = Some(flow);
    }
    let ours = fresh(round);
    subject::fill(&ours, MAKERS).await;
    let makers = subject::actors(&ours, MAKERS, 0).await;
    let batched = flat_out(&ours, Kind::Many, 1000, makers, time).await;
    report("1000 streams of WatchReleases", &batched);
    drop(ours);

    if let Some(etcd) = Server::etcd(&round.directory("etcd")) {
        let makers = same_key(&etcd, MAKERS).await;
        let own = flat_out(&etcd, Kind::Etcd(1), 1000, makers, time).await;
        report("1000 watches of etcd on streams of their own", &own);
        let makers = same_key(&etcd, MAKERS).await;
        let shared = flat_out(&etcd, Kind::Etcd(125), 1000, makers, time).await;
        report("1000 watches of etcd on 8 streams", &shared);
        if let Some(ours) = ours_1000 {
            results.add("watch/1000/etcd", ours.per_second(), own.per_second());
        }
        results.add("watch/1000/batched", batched.per_second(), shared.per_second());
    }
}

/// All put the key that is watched.
async fn same_key(etcd: &Server, count: usize) -> Vec<etcd::Putter> {
    let mut putters = Vec::new();
    for _ in 0..count {
        putters.extend(etcd::putters(etcd, 1, 500).await);
    }
    putters
}

/// One event at a time: when it has reached all.
pub(crate) async fn paced(round: &Round, results: &mut Results) {
    for (count, events) in [(1000, 300), (10_000, 30)] {
        let ours = fresh(round);
        subject::fill(&ours, 1).await;
        let actor = one(subject::actors(&ours, 1, 0).await);
        let watchers = Watchers::open(&ours, Kind::One, count).await;
        let times = watchers.paced(events, || call(&actor)).await;
        watchers.close().await;
        drop(ours);

        let bare = Server::bare(round.samples());
        let publisher = one(vec![Publisher(ReleaseServiceClient::new(bare.connect().await))]);
        let watchers = Watchers::open(&bare, Kind::One, count).await;
        let theirs = watchers.paced(events, || call(&publisher)).await;
        watchers.close().await;
        let of = |times: &hdrhistogram::Histogram<u64>, percentile: f64| {
            times.value_at_percentile(percentile) as f64 / 1e3
        };
        for percentile in [50.0, 99.0] {
            results.add(
                &format!("watch/paced/{count}/p{percentile}/bare"),
                of(&times, percentile),
                of(&theirs, percentile),
            );
        }
        if count == 1000 {
            results.add("watch/paced/1000/p50", of(&times, 50.0), of(&theirs, 50.0));
        } else {
            results.add("watch/paced/10000/p99", of(&times, 99.0), of(&theirs, 99.0));
        }
        if count == 1000
            && let Some(etcd) = Server::etcd(&round.directory("etcd"))
        {
            let putter = one(etcd::putters(&etcd, 1, 500).await);
            let watchers = Watchers::open(&etcd, Kind::Etcd(1), count).await;
            let theirs = watchers.paced(events, || call(&putter)).await;
            watchers.close().await;
            results.add("watch/paced/1000/p99", of(&times, 99.0), of(&theirs, 99.0));
        }
    }
}

fn one<W>(mut workers: Vec<W>) -> Arc<Mutex<W>> {
    Arc::new(Mutex::new(workers.remove(0)))
}

fn call<W: Worker>(worker: &Arc<Mutex<W>>) -> impl Future<Output = ()> + use<W> {
    let worker = Arc::clone(worker);
    async move { worker.lock().await.call().await.expect("the server does it") }
}

/// How cost grows with the number of those who watch one release: ten events a second, whoever watches.
pub(crate) async fn watchers(round: &Round, results: &mut Results) {
    const EVENTS: f64 = 10.0;
    for count in [1, 10, 100, 1000, 10_000] {
        let ours = fresh(round);
        subject::fill(&ours, 1).await;
        let before = ours.resident();
        let watchers = Watchers::open(&ours, Kind::One, count).await;
        let maker = subject::actors(&ours, 1, 0).await;
        let outcome = load::run(&ours, maker, Pace::Open(EVENTS), round.times).await;
        let id = format!("watchers/{count}");
        results.alone(&format!("{id}/cpu"), outcome.cpu_us() / 1e3);
        results.alone(&format!("{id}/action"), outcome.ms(50.0));
        results
            .alone(&format!("{id}/resident"), ours.resident().saturating_sub(before) as f64 / 1e6);
        watchers.close().await;
    }
}

/// One round of what watches cost in memory.
pub(crate) async fn memory(round: &Round, results: &mut Results) {
    const MANY: usize = 10_000;
    let grown = |server: &Server, before: u64| server.resident().saturating_sub(before) as f64;

    let ours = fresh(round);
    subject::fill(&ours, 1 + 64).await;
    let act = || async {
        let actors = subject::actors(&ours, 64, 1).await;
        load::run(&ours, actors, Pace::Closed, round.times).await
    };
    let alone = act().await;
    let before = ours.resident();
    let open = streams(&ours, Kind::One, MANY).await;
    let idle = grown(&ours, before);
    let beside = act().await;
    results.add("watch/others", beside.per_second(), alone.per_second());
    results.alone("memory/watches", idle / 1e6);
    // They are open, and never read: what comes now stays with the server or in the windows.
    let mut actor = subject::actors(&ours, 1, 0).await.remove(0);
    for _ in 0..200 {
        actor.call().await.expect("the server does it");
    }
    results.alone("memory/stuck", grown(&ours, before) / 1e6);
    drop((open, ours));

    let bare = Server::bare(round.samples());
    let before = bare.resident();
    let open = streams(&bare, Kind::One, MANY).await;
    results.add(
        "memory/watch",
        idle / MANY as f64 / 1024.0,
        grown(&bare, before) / MANY as f64 / 1024.0,
    );
    let mut publisher = Publisher(ReleaseServiceClient::new(bare.connect().await));
    for _ in 0..60 {
        publisher.call().await.expect("queues hold more");
    }
    results.alone("memory/stuck/bare", grown(&bare, before) / 1e6);
    drop((open, bare));

    if let Some(etcd) = Server::etcd(&round.directory("etcd")) {
        drop(etcd.connect().await);
        let before = etcd.resident();
        let open = streams(&etcd, Kind::Etcd(1), 1000).await;
        let theirs = grown(&etcd, before) / 1000.0 / 1024.0;
        results.add("memory/watch/etcd", idle / MANY as f64 / 1024.0, theirs);
        drop(open);
    }
}
