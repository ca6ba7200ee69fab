//! A request with an id is done once.

use super::*;
use crate::store::Subject;

#[test]
fn a_repeated_request_does_nothing_and_answers_as_of_now() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    world.call(unpause("r")).unwrap();
    let before = world.handle.state();
    let done = world.submit(with_id(pause("r"), "one", 1)).unwrap();
    assert_eq!(done.subject, Subject::Release(release("r")));
    assert_eq!(done.state, before);
    assert_eq!(world.handle.state(), before);
    assert_eq!(world.handle.metrics().replays.get(), 1);
}

#[test]
fn a_repeated_request_does_nothing_after_a_restart_either() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    world.call(unpause("r")).unwrap();
    world.restart();
    let before = world.handle.state();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    assert_eq!(world.handle.state(), before);
}

#[test]
fn a_request_that_cannot_be_read_any_more_ends_the_writer_and_is_not_done_again() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    world.call(unpause("r")).unwrap();
    let before = world.handle.state();
    world.controls.loses_requests.store(true, Ordering::SeqCst);
    let (repeated, mut answer) = message(with_id(pause("r"), "one", 1));
    world.turn([repeated]).unwrap_err();
    assert!(answer.try_recv().is_err());
    assert_eq!(world.handle.state(), before);
}

#[test]
fn what_is_remembered_of_a_request_is_as_old_as_its_commit_though_the_clock_went_back() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let head = world.handle.state().time();
    world.clock.step(-10_000);
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    assert_eq!(world.handle.state().time(), head);
    world.restart();
    let mut store = memory::open(&world.disk, StoreId::fresh()).unwrap();
    let requests = store.requests(None).unwrap().requests;
    assert_eq!(requests.iter().map(|(_, record)| record.time).collect::<Vec<_>>(), [head]);
}

#[test]
fn a_repeated_trigger_is_answered_with_the_release_that_the_first_one_made() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.submit(with_id(trigger("f", "first-id"), "one", 1)).unwrap();
    let done = world.submit(with_id(trigger("f", "second-id"), "one", 1)).unwrap();
    assert_eq!(done.subject, Subject::Release(release("first-id")));
    assert!(done.state.release(&release("second-id")).is_none());
}

#[test]
fn of_two_at_once_the_second_is_a_repetition_and_both_hear_when_it_is_durable() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let (first, mut one) = message(with_id(pause("r"), "one", 1));
    let (second, mut two) = message(with_id(pause("r"), "one", 1));
    world.turn([first, second]).unwrap();
    let (one, two) = (one.try_recv().unwrap().unwrap(), two.try_recv().unwrap().unwrap());
    assert_eq!(one.state, two.state);
    assert_eq!(world.controls.commits.lock().unwrap().last().map(Vec::len), Some(1));
}

#[test]
fn the_same_id_with_another_payload_is_refused() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    let before = world.handle.state();
    let error = world.submit(with_id(pause("r"), "one", 2)).unwrap_err();
    assert!(matches!(error, Error::RequestIdReused), "{error}");
    assert_eq!(world.handle.state(), before);
}

#[test]
fn the_same_id_from_another_caller_or_for_another_rpc_is_another_request() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    let mut other_caller = with_id(pause("r"), "one", 1);
    other_caller.call.caller.principal = Principal::new("bob");
    assert!(matches!(world.submit(other_caller), Err(Error::Refused(_))));
    let other_rpc = Submission { rpc: "Other", ..with_id(pause("r"), "one", 1) };
    assert!(matches!(world.submit(other_rpc), Err(Error::Refused(_))));
}

#[test]
fn a_refused_request_is_not_remembered() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    assert!(world.submit(with_id(unpause("r"), "one", 1)).is_err());
    world.call(pause("r")).unwrap();
    world.submit(with_id(unpause("r"), "one", 1)).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Baking);
}

#[test]
fn a_validated_request_is_not_remembered() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let validated = Submission { mode: Mode::ValidateOnly, ..with_id(trigger("f", "r"), "one", 1) };
    world.submit(validated).unwrap();
    world.submit(with_id(trigger("f", "r"), "one", 2)).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Baking);
}

#[test]
fn a_request_that_changed_nothing_is_remembered_too() {
    let describe = |text: &str| Action::UpdateFlag {
        flag: flag("f"),
        expected: Expected::Anything,
        change: phasegate_engine::command::FlagChange {
            description: Some(text.into()),
            ..Default::default()
        },
    };
    let described =
        |world: &World<_>| world.handle.state().flag(&flag("f")).unwrap().description.to_string();
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    // The description is empty already.
    world.submit(with_id(describe(""), "one", 1)).unwrap();
    world.call(describe("new")).unwrap();
    world.restart();
    world.submit(with_id(describe(""), "one", 1)).unwrap();
    assert_eq!(described(&world), "new");
}

#[test]
fn a_request_is_forgotten_after_a_day() {
    let mut world = World::rehearsal().with_pipeline(&[secs(90 * 86_400)]);
    world.call(trigger("f", "r")).unwrap();
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    world.call(unpause("r")).unwrap();
    world.advance(secs(86_400));
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Baking);
    world.advance(Span::from_millis(1));
    world.submit(with_id(pause("r"), "one", 1)).unwrap();
    assert_eq!(world.state_of("r"), ReleaseState::Paused);
}
