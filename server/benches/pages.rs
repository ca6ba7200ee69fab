//! Pages beside the RPC that reads the same, in the same run: what a store with many releases costs a
//! viewer.
//!
//! `cargo bench -p phasegate-server --bench pages`. The machine matters, so compare a page with the
//! baseline of the same run: `ListReleases` of as many releases as a page of the list shows.

use axum::body::{Body, to_bytes};
use criterion::{BenchmarkId, Criterion};
use http::{Request, header};
use phasegate_api::v1::{
    self, flag_service_server::FlagService as _, pipeline_service_server::PipelineService as _,
    release_service_server::ReleaseService as _,
};
use phasegate_engine::{targeting::Bucketing, time::Timestamp};
use phasegate_server::{
    clock::ManualClock,
    delivery::{self, Delivery},
    driver::{self, Driver, FlagSets, StoreId},
    grpc::Api,
    store::memory::{self, Disk},
    watch::{self, Watches},
    web::Site,
};
use std::{hint::black_box, sync::Arc, time::Duration};
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

const START: Timestamp = Timestamp::from_millis(1_907_690_400_000);
/// How many releases a page of the list shows.
const PAGE: i32 = 50;

fn main() {
    let runtime = Runtime::new().expect("a runtime starts");
    let mut criterion = Criterion::default().configure_from_args().sample_size(20);
    for releases in [100, 10_000] {
        // Kept to the end, or the writer stops.
        let (_driver, api) = runtime.block_on(filled(releases));
        let delivery = Delivery::new(api.clone(), delivery::Config::default(), Duration::ZERO);
        let site = Site::new(delivery, &[]);
        let mut group = criterion.benchmark_group(format!("{releases} releases"));
        let list = || v1::ListReleasesRequest { page_size: PAGE, ..Default::default() };
        group.bench_function(BenchmarkId::from_parameter("ListReleases, the baseline"), |bench| {
            bench.iter(|| {
                let answer = api.list_releases(tonic::Request::new(list()));
                black_box(runtime.block_on(answer).expect("it lists"))
            });
        });
        for path in [
            "/releases",
            "/releases?state=all&page=100",
            "/releases?text=no-such-text",
            "/releases/r-0",
            "/flags",
            "/flags/f-0",
        ] {
            group.bench_function(BenchmarkId::from_parameter(path), |bench| {
                bench.iter(|| black_box(runtime.block_on(page(&site, path))));
            });
        }
        group.finish();
    }
    criterion.final_summary();
}

/// The length of a page.
async fn page(site: &Site, path: &str) -> usize {
    let request = Request::builder().uri(path).header(header::HOST, "localhost");
    let request = request.body(Body::empty()).expect("a path makes a request");
    let Ok(response) = site.clone().routes().oneshot(request).await;
    assert!(response.status().is_success(), "{path}: {}", response.status());
    to_bytes(response.into_body(), usize::MAX).await.expect("a page has an end").len()
}

/// A store with so many flags, each with a release that bakes.
async fn filled(releases: usize) -> (Driver, Api) {
    let store = memory::open(&Disk::new(), StoreId::fresh()).expect("a new store opens");
    let clock = Arc::new(ManualClock::new(START));
    // More flags than fit into one message of 4 MiB.
    let config = driver::Config { flag_sets: FlagSets { bytes_max: None }, ..Default::default() };
    let driver = Driver::start(Box::new(store), clock, config);
    let driver = driver.expect("an empty store is read");
    let api = Api::new(Bucketing::default());
    let watches = Watches::new(driver.handle().clone(), watch::Config::default());
    api.open(driver.handle().clone(), watches);
    let everyone = v1::TargetingRule { id: "all".into(), ..Default::default() };
    let phase = |id: &str| v1::Phase {
        id: id.into(),
        rules: vec![everyone.clone()],
        bake_duration: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
        ..Default::default()
    };
    let phases = ["one", "two", "three", "four"].map(phase).to_vec();
    let pipeline = v1::Pipeline { phases, ..Default::default() };
    let request = v1::CreatePipelineRequest {
        pipeline_id: "p".into(),
        pipeline: Some(pipeline),
        ..Default::default()
    };
    api.create_pipeline(tonic::Request::new(request)).await.expect("it is sound");
    for n in 0..releases {
        let spec = v1::flag::Spec::FeatureGate(v1::GateSpec::default());
        let flag =
            v1::Flag { spec: Some(spec), pipeline: "pipelines/p".into(), ..Default::default() };
        let flag_id = format!("f-{n}");
        let request = v1::CreateFlagRequest { flag_id, flag: Some(flag), ..Default::default() };
        api.create_flag(tonic::Request::new(request)).await.expect("it is sound");
        let on = v1::GateSpec { default_value: true, ..Default::default() };
        let release = v1::Release {
            flag: format!("flags/f-{n}"),
            description: format!("Turn number {n} on"),
            change: Some(v1::release::Change::FeatureGate(on)),
            ..Default::default()
        };
        let request = v1::TriggerReleaseRequest {
            release_id: format!("r-{n}"),
            release: Some(release),
            ..Default::default()
        };
        api.trigger_release(tonic::Request::new(request)).await.expect("the flag is free");
    }
    (driver, api)
}
