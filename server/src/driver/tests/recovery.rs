//! What a restart finds.

use super::*;
use crate::driver::{Driver, Failure, OpenError};
use phasegate_engine::State;

#[test]
fn a_restart_finds_the_state_as_it_was() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.call(pause("r")).unwrap();
    let before = world.handle.state();
    world.restart();
    assert_eq!(world.handle.state(), before);
    assert_eq!(*world.handle.head().borrow(), before.revision());
}

#[test]
fn timers_are_armed_again() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.restart();
    world.advance(HOUR);
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
}

#[test]
fn a_rehearsal_goes_on_where_it_stopped() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.advance(secs(1800));
    world.call(trigger("f", "r")).unwrap();
    world.clock = Arc::new(ManualClock::new(START));
    world.restart();
    assert_eq!(world.handle.now(), START + secs(1800));
}

#[test]
fn a_rehearsal_that_starts_later_holds_nothing() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock = Arc::new(ManualClock::new(START + secs(30 * 86_400)));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
}

/// A store that holds just this.
#[derive(Debug)]
struct Holding(Image);

impl Store for Holding {
    fn load(&mut self) -> Result<Image, StoreError> {
        Ok(self.0.clone())
    }

    fn commit(&mut self, _: Writes<'_>) -> Result<(), StoreError> {
        Err(StoreError::Failed)
    }

    fn audit(&mut self, _: &AuditQuery) -> Result<Vec<AuditEntry>, StoreError> {
        Err(StoreError::Failed)
    }

    fn changes(&mut self, _: &LogQuery) -> Result<Vec<Arc<Change>>, StoreError> {
        Err(StoreError::Failed)
    }

    fn commits(&mut self, _: Revision, _: Revision) -> Result<Vec<LoggedCommit>, StoreError> {
        Err(StoreError::Failed)
    }

    fn request(&mut self, _: RequestPlace) -> Result<Option<RequestRecord>, StoreError> {
        Err(StoreError::Failed)
    }

    fn requests(&mut self, _: Option<&RequestCursor>) -> Result<RequestStretch, StoreError> {
        Err(StoreError::Failed)
    }

    fn compact(&mut self, _: &Compaction) -> Result<Compacted, StoreError> {
        Ok(Compacted::default())
    }

    fn free_space(&self) -> Result<Option<u64>, StoreError> {
        Ok(None)
    }
}

#[test]
fn a_store_that_contradicts_itself_is_not_served() {
    let check = |state: State, oldest: u64| {
        let store_id = StoreId(Uuid::from_u128(1));
        let image = Image {
            store_id,
            oldest: Revision::new(oldest),
            state,
            requests: RequestIndex::default(),
            audit: AuditHead::EMPTY,
            outbox: Vec::new(),
            reminders: Vec::new(),
        };
        let clock = Arc::new(ManualClock::new(START));
        assemble(Box::new(Holding(image)), clock, Config::default()).map(|_| ())
    };
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let state = world.handle.state();
    check(state.clone(), 4).unwrap();
    assert!(matches!(check(state.clone(), 5), Err(OpenError::Inconsistent(_))));
    let restore = |revision| {
        State::restore(
            Revision::new(revision),
            START,
            state.flags().cloned(),
            state.pipelines().cloned(),
            state.releases().cloned(),
        )
    };
    check(restore(3), 0).unwrap();
    assert!(matches!(check(restore(2), 0), Err(OpenError::Inconsistent(_))));
    assert!(matches!(check(restore(1), 0), Err(OpenError::Inconsistent(_))));
}

fn started(world: &World<ManualClock>) -> Driver {
    let store = memory::open(&world.disk, StoreId(Uuid::from_u128(7))).unwrap();
    let store = Controlled { store, controls: Arc::clone(&world.controls) };
    let clock = Arc::new(ManualClock::new(START));
    Driver::start(Box::new(store), clock, Config::default()).unwrap()
}

#[tokio::test]
async fn the_thread_serves_until_it_is_told_to_stop() {
    let world = World::rehearsal().with_pipeline(&[HOUR]);
    let mut driver = started(&world);
    let handle = driver.handle().clone();
    handle.submit(submission(trigger("f", "r"))).await.unwrap();
    let now = handle.advance(HOUR).await.unwrap().unwrap();
    assert_eq!(now, START + HOUR);
    assert_eq!(handle.state().release(&release("r")).unwrap().state(), ReleaseState::Succeeded);

    let mut head = handle.head();
    handle.stop();
    driver.ended().await.unwrap();
    assert!(matches!(handle.submit(submission(kill("f"))).await, Err(Error::Stopped)));
    assert!(head.wait_for(|_| false).await.is_err());
}

#[tokio::test]
async fn a_store_that_fails_ends_the_thread_and_says_so() {
    let world = World::rehearsal().with_pipeline(&[HOUR]);
    let mut driver = started(&world);
    let handle = driver.handle().clone();
    world.controls.fails.store(true, Ordering::SeqCst);
    assert!(matches!(handle.submit(submission(kill("f"))).await, Err(Error::Stopped)));
    assert!(matches!(driver.ended().await, Err(Failure::Store(_))));
    assert!(matches!(handle.submit(submission(kill("f"))).await, Err(Error::Stopped)));
}

#[tokio::test]
async fn many_callers_at_once_all_get_their_answer() {
    let world = World::rehearsal().with_pipeline(&[HOUR]);
    let mut driver = started(&world);
    let handle = driver.handle().clone();
    // More than the queue holds.
    let callers = (0..super::super::inbox::WAITING_MAX + 500).map(|_| {
        let handle = handle.clone();
        tokio::spawn(async move { handle.submit(submission(kill("f"))).await })
    });
    let callers: Vec<_> = callers.collect();
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    handle.stop();
    driver.ended().await.unwrap();
}
