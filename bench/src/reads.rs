//! Reads of one release: beside an echo that answers as many bytes, and beside etcd's linearizable get.

use crate::{
    Round,
    actions::report,
    load::{self, Pace, Times},
    process::Server,
    reference::etcd,
    subject,
    table::Results,
};

async fn read(server: &Server, in_flight: usize, times: Times) -> load::Outcome {
    load::run(server, subject::readers(server, in_flight).await, Pace::Closed, times).await
}

/// One round of everything.
pub(crate) async fn round(round: &Round, results: &mut Results) {
    let times = round.times;
    let ours = Server::phasegate(["--data".as_ref(), round.directory("store").as_os_str()]);
    let bare = Server::bare(round.samples());
    subject::fill(&ours, 256).await;
    for in_flight in [1, 16, 64, 256] {
        let reads = read(&ours, in_flight, times).await;
        let echo = read(&bare, in_flight, times).await;
        report(&format!("reads, {in_flight} in flight"), &reads);
        report(&format!("echo, {in_flight} in flight"), &echo);
        let id = format!("reads/{in_flight}");
        if in_flight == 1 {
            results.add(&format!("{id}/echo"), reads.ms(50.0), echo.ms(50.0));
            continue;
        }
        results.add(&format!("{id}/echo"), reads.per_second(), echo.per_second());
        results.add(&format!("{id}/cpu"), reads.cpu_us(), echo.cpu_us());
        if in_flight == 64
            && let Some(etcd) = Server::etcd(&round.directory("etcd"))
        {
            for mut putter in etcd::putters(&etcd, in_flight, 500).await {
                load::Worker::call(&mut putter).await.expect("it takes a value");
            }
            let getters = etcd::getters(&etcd, in_flight).await;
            let theirs = load::run(&etcd, getters, Pace::Closed, times).await;
            report("gets of etcd, 64 in flight", &theirs);
            results.add(&format!("{id}/etcd"), reads.per_second(), theirs.per_second());
        }
    }
}
