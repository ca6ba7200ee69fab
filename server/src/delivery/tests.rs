//! The hub, on a virtual clock and without sockets: who gets which set, when, and what it costs.

use super::{
    Config, Delivery,
    flag_set::Scope,
    hub::{Follower, Purpose},
    refusal::Refusal,
};
use crate::{
    clock::ManualClock,
    driver::{self, Driver, StoreId},
    grpc::Api,
    store::memory::{self, Disk},
    watch::{self, Watches},
};
use phasegate_api::v1::{self, flag_service_server::FlagService as _};
use phasegate_engine::{targeting::Bucketing, time::Timestamp};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, timeout};

/// Longer than any pause, shorter than a stream lives.
const A_WHILE: Duration = Duration::from_secs(10);

struct World {
    driver: Driver,
    api: Api,
    delivery: Delivery,
}

impl World {
    fn new(change: impl FnOnce(&mut Config)) -> Self {
        let store = memory::open(&Disk::new(), StoreId::fresh()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
        let driver = Driver::start(Box::new(store), clock, driver::Config::default()).unwrap();
        let api = Api::new(Bucketing::default());
        let watches = Watches::new(driver.handle().clone(), watch::Config::default());
        api.open(driver.handle().clone(), watches);
        let environments = vec!["prod".parse().unwrap(), "dev".parse().unwrap()];
        let mut config = Config { environments, ..Config::default() };
        change(&mut config);
        let delivery = Delivery::new(api.clone(), config, Duration::from_secs(5));
        Self { driver, api, delivery }
    }

    fn follow(&self, environment: &str) -> Result<Follower, Refusal> {
        let scope = Scope::Of(environment.parse().unwrap());
        self.delivery.hub.follow(scope, Purpose::Sets)
    }

    async fn create_flag(&self, id: &str) {
        let spec = v1::flag::Spec::FeatureGate(v1::GateSpec::default());
        let flag = v1::Flag { spec: Some(spec), ..Default::default() };
        let request =
            v1::CreateFlagRequest { flag_id: id.into(), flag: Some(flag), ..Default::default() };
        self.api.create_flag(tonic::Request::new(request)).await.unwrap();
    }
}

/// How many flags the next set has.
async fn flags(follower: &mut Follower) -> usize {
    let set = timeout(A_WHILE, follower.next()).await.expect("a set comes").unwrap();
    let json: serde_json::Value = serde_json::from_str(set.json()).unwrap();
    json["flags"].as_object().unwrap().len()
}

#[tokio::test(start_paused = true)]
async fn a_slow_follower_gets_the_newest_set_and_none_in_between() {
    let world = World::new(|_| ());
    let mut slow = world.follow("prod").unwrap();
    let mut quick = world.follow("prod").unwrap();
    assert_eq!((flags(&mut slow).await, flags(&mut quick).await), (0, 0));
    for n in 1..=20 {
        world.create_flag(&format!("f-{n}")).await;
        assert_eq!(flags(&mut quick).await, n);
    }
    assert_eq!(flags(&mut slow).await, 20);
    assert!(timeout(A_WHILE, slow.next()).await.is_err(), "there is nothing else to read");
}

#[tokio::test(start_paused = true)]
async fn a_burst_becomes_one_set_after_a_pause() {
    let world = World::new(|config| config.pause = Duration::from_secs(1));
    let mut follower = world.follow("prod").unwrap();
    assert_eq!(flags(&mut follower).await, 0);
    // On a thread of its own that is waited for, so that no virtual time passes meanwhile.
    let create = |ids: Vec<String>| {
        std::thread::scope(|scope| {
            let burst = scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                runtime.block_on(async {
                    for id in ids {
                        world.create_flag(&id).await;
                    }
                });
            });
            burst.join().unwrap();
        });
    };
    create(vec!["first".to_owned()]);
    assert_eq!(flags(&mut follower).await, 1, "the first change is not held up");
    let began = Instant::now();
    create((0..50).map(|n| format!("f-{n}")).collect());
    assert_eq!(flags(&mut follower).await, 51);
    assert!(began.elapsed() >= Duration::from_millis(900) && began.elapsed() < A_WHILE);
}

#[tokio::test(start_paused = true)]
async fn followers_of_an_environment_share_one_set_and_the_page_counts_them() {
    let world = World::new(|_| ());
    let mut followers: Vec<Follower> = (0..3).map(|_| world.follow("prod").unwrap()).collect();
    let mut sets = Vec::new();
    for follower in &mut followers {
        sets.push(follower.next().await.unwrap());
    }
    assert!(sets.windows(2).all(|pair| Arc::ptr_eq(&pair[0], &pair[1])));
    world.create_flag("f").await;
    let newest = followers[0].next().await.unwrap().revision;
    let following = world.delivery.following();
    assert_eq!(following.len(), 1, "nobody follows dev");
    assert_eq!((following[0].streams, following[0].up_to_date), (3, 1));
    assert_eq!((following[0].newest, following[0].oldest), (newest, sets[0].revision));
    drop(followers);
    assert!(world.delivery.following().is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_one_environment_is_sent_says_its_name_and_not_another() {
    let world = World::new(|_| ());
    let (mut prod, mut dev) = (world.follow("prod").unwrap(), world.follow("dev").unwrap());
    let (prod, dev) = (prod.next().await.unwrap(), dev.next().await.unwrap());
    assert!(prod.json().contains(r#""flagSetId":"prod""#));
    assert!(dev.json().contains(r#""flagSetId":"dev""#));
    assert_eq!(world.delivery.hub.newest(&"dev".parse().unwrap()).unwrap().json(), dev.json());
}

#[tokio::test(start_paused = true)]
async fn when_the_server_stops_followers_end_each_at_a_time_of_its_own() {
    let world = World::new(|_| ());
    let mut followers: Vec<Follower> = (0..20).map(|_| world.follow("prod").unwrap()).collect();
    for follower in &mut followers {
        follower.next().await.unwrap();
    }
    let began = Instant::now();
    world.api.drain();
    let ends = followers.into_iter().map(|mut follower| async move {
        assert!(matches!(follower.next().await, Err(Refusal::Draining)));
        began.elapsed()
    });
    let ends = futures_util::future::join_all(ends).await;
    let (first, last) = (ends.iter().min().unwrap(), ends.iter().max().unwrap());
    assert!(*last <= Duration::from_secs(6) && *last - *first > Duration::from_secs(1), "{ends:?}");
    assert!(matches!(world.follow("prod"), Err(Refusal::Draining)));
}

#[tokio::test(start_paused = true)]
async fn when_the_writer_is_gone_followers_end() {
    let mut world = World::new(|_| ());
    let mut follower = world.follow("prod").unwrap();
    follower.next().await.unwrap();
    world.driver.handle().stop();
    world.driver.ended().await.unwrap();
    assert!(matches!(follower.next().await, Err(Refusal::Draining)));
}

#[tokio::test(start_paused = true)]
async fn a_set_that_is_too_large_is_not_sent_and_the_last_one_stays() {
    let world = World::new(|config| config.set_bytes_max = 400);
    let mut follower = world.follow("prod").unwrap();
    assert_eq!(flags(&mut follower).await, 0);
    world.create_flag("first").await;
    assert_eq!(flags(&mut follower).await, 1);
    for n in 0..5 {
        world.create_flag(&format!("f-{n}")).await;
    }
    while let Ok(set) = timeout(A_WHILE, follower.next()).await {
        assert!(set.unwrap().bytes() <= 400);
    }
    let refused = world.delivery.hub.newest(&"prod".parse().unwrap()).unwrap_err();
    assert!(matches!(refused, Refusal::TooLarge { max: 400, .. }), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn before_the_store_is_read_nothing_is_followed() {
    let api = Api::new(Bucketing::default());
    let delivery = Delivery::new(api, Config::default(), Duration::ZERO);
    let scope = Scope::Of("prod".parse().unwrap());
    assert!(matches!(delivery.hub.follow(scope, Purpose::Sets), Err(Refusal::Starting)));
    assert!(matches!(delivery.hub.newest(&"prod".parse().unwrap()), Err(Refusal::Starting)));
}
