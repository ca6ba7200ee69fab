//! The past is kept for a time.

use super::*;
use crate::store::Order;

fn whole_log<C: Clock>(world: &World<C>) -> LogQuery {
    LogQuery {
        after: Revision::new(world.handle.oldest().get().saturating_sub(1)),
        up_to: world.handle.state().revision(),
        release: None,
        order: Order::OldestFirst,
        limit: usize::MAX,
    }
}

#[test]
fn events_are_removed_after_a_week_and_the_release_stays() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.advance(HOUR);
    world.advance(secs(7 * 86_400 - 3600));
    assert_eq!(world.handle.oldest(), Revision::ZERO);
    world.advance(Span::from_millis(1));
    let entries = world.read(whole_log(&world)).unwrap();
    let left: Vec<_> = entries.iter().map(|entry| entry.change.time).collect();
    assert_eq!(left, [START + HOUR]);
    assert_eq!(world.handle.oldest(), Revision::new(4));
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
    assert_eq!(world.handle.metrics().changes_removed.get(), 1);
    world.restart();
    assert_eq!(world.handle.oldest(), Revision::new(4));
}

#[test]
fn a_real_clock_cleans_up_every_minute() {
    let mut config = Config::default();
    config.retention.events = secs(10);
    let mut world = World::new(MachineClock::new(), config).with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.run_seconds(59);
    assert_eq!(world.handle.oldest(), Revision::ZERO);
    world.run_seconds(1);
    assert_eq!(world.handle.oldest(), Revision::new(4));
}

#[test]
fn what_is_too_much_for_one_step_follows_in_the_next_ones() {
    let mut config = Config::default();
    config.retention.step = 2;
    let mut world = World::new(ManualClock::new(START), config).with_pipeline(&[secs(90 * 86_400)]);
    world.call(trigger("f", "r")).unwrap();
    for _ in 0..5 {
        world.call(pause("r")).unwrap();
        world.call(unpause("r")).unwrap();
    }
    world.advance(secs(8 * 86_400));
    assert_eq!(world.handle.metrics().changes_removed.get(), 11);
    assert_eq!(world.writer.wait(), Wait::ForMessage);
}

#[test]
fn a_clock_that_jumped_ahead_removes_nothing_while_it_is_not_trusted() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.run_seconds(59);
    world.clock.step(30 * 86_400_000);
    world.run_seconds(20);
    assert_eq!(world.handle.oldest(), Revision::ZERO);
    world.clock.step(-30 * 86_400_000);
    world.run_seconds(120);
    assert_eq!(world.handle.oldest(), Revision::ZERO);
}
