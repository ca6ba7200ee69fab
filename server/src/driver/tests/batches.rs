//! Commit, then publish, then answer.

use super::*;

#[test]
fn an_answer_has_the_state_after_the_call() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let done = world.call(trigger("f", "r")).unwrap();
    assert_eq!(done.state.release(&release("r")).unwrap().state(), ReleaseState::Baking);
    assert_eq!(done.state, world.handle.state());
    assert_eq!(done.state.revision(), *world.handle.head().borrow());
    assert_eq!(done.now, START);
}

#[test]
fn calls_that_wait_together_share_one_durable_write() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let calls = [pause("r"), unpause("r"), pause("r")].map(|action| message(submission(action)));
    let (messages, answers): (Vec<_>, Vec<_>) = calls.into_iter().unzip();
    world.turn(messages).unwrap();
    let committed = world.controls.commits.lock().unwrap().last().cloned().unwrap();
    assert_eq!(committed, [4, 5, 6].map(Revision::new));
    let revisions = answers.into_iter().map(|mut answer| {
        let done = answer.try_recv().unwrap().unwrap();
        done.state.revision().get()
    });
    assert_eq!(revisions.collect::<Vec<_>>(), [4, 5, 6]);
}

#[test]
fn nothing_is_published_or_answered_before_the_commit_not_even_a_refusal() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let (first, accepted) = message(submission(pause("r")));
    let (second, refused) = message(submission(pause("r")));
    let answers = Arc::new(Mutex::new((accepted, refused)));
    let seen = Arc::new(Mutex::new(Vec::new()));
    let probe = {
        let (handle, answers, seen) = (world.handle.clone(), answers.clone(), seen.clone());
        move || {
            let (accepted, refused) = &mut *answers.lock().unwrap();
            assert!(accepted.try_recv().is_err());
            assert!(refused.try_recv().is_err());
            seen.lock().unwrap().push((handle.state().revision(), *handle.head().borrow()));
        }
    };
    *world.controls.during_commit.lock().unwrap() = Some(Probe(Box::new(probe)));
    world.turn([first, second]).unwrap();
    assert_eq!(*seen.lock().unwrap(), [(Revision::new(3), Revision::new(3))]);
    let (accepted, refused) = &mut *answers.lock().unwrap();
    assert!(accepted.try_recv().unwrap().is_ok());
    assert!(matches!(refused.try_recv().unwrap(), Err(Error::Refused(_))));
}

#[test]
fn a_refused_call_changes_nothing() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let (before, commits) = (world.handle.state(), world.controls.commits.lock().unwrap().len());
    let error = world.call(unpause("r")).unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(world.handle.state(), before);
    assert_eq!(world.controls.commits.lock().unwrap().len(), commits);
    assert_eq!(world.handle.metrics().refusals.total(), 1);
}

#[test]
fn validating_answers_as_if_done_and_commits_nothing() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    let before = world.handle.state();
    let validate = Submission { mode: Mode::ValidateOnly, ..submission(trigger("f", "r")) };
    let done = world.submit(validate.clone()).unwrap();
    assert_eq!(done.state.release(&release("r")).unwrap().state(), ReleaseState::Baking);
    assert_eq!(world.handle.state(), before);

    world.call(trigger("f", "r")).unwrap();
    assert!(matches!(world.submit(validate), Err(Error::Refused(_))));
}

#[test]
fn a_store_that_fails_stops_everything_and_nothing_is_published() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let before = world.handle.state();
    world.controls.fails.store(true, Ordering::SeqCst);
    let (first, mut accepted) = message(submission(pause("r")));
    let (second, mut refused) = message(submission(pause("r")));
    assert!(world.turn([first, second]).is_err());
    assert!(accepted.try_recv().is_err());
    assert!(refused.try_recv().is_err());
    assert_eq!(world.handle.state(), before);
    assert_eq!(*world.handle.head().borrow(), before.revision());
}

#[test]
fn a_nearly_full_disk_refuses_calls_and_holds_timers_until_there_is_space() {
    let mut world = World::real().with_pipeline(&[secs(5), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.controls.free.store(1 << 20, Ordering::SeqCst);
    world.run_seconds(10);
    assert_eq!(world.release("r").current().unwrap().get(), 0);
    assert!(matches!(world.call(pause("r")), Err(Error::DiskFull)));

    world.controls.free.store(1 << 30, Ordering::SeqCst);
    world.run_seconds(1);
    assert_eq!(world.release("r").current().unwrap().get(), 1);
    world.call(pause("r")).unwrap();
}

#[test]
fn free_space_is_looked_at_once_a_second_at_most() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.run_seconds(2);
    world.controls.free.store(0, Ordering::SeqCst);
    world.clock.run(Span::from_millis(999));
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(Span::from_millis(1));
    assert!(matches!(world.call(pause("r")), Err(Error::DiskFull)));
}

#[test]
fn a_batch_ends_when_it_is_large_and_what_is_left_follows() {
    let mut world = World::rehearsal();
    let text: Arc<str> = "x".repeat(100_000).into();
    let calls = (0..8).map(|index| {
        let mut template = template(&[HOUR]);
        template.description = Arc::clone(&text);
        let pipeline = PipelineId::parse(&format!("p{index}")).unwrap();
        message(submission(Action::CreatePipeline { pipeline, template: Arc::new(template) }))
    });
    let (messages, answers): (Vec<_>, Vec<_>) = calls.unzip();
    world.turn(messages).unwrap();
    for mut answer in answers {
        answer.try_recv().unwrap().unwrap();
    }
    let sizes: Vec<usize> = world.controls.commits.lock().unwrap().iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 3, 2]);
}

#[test]
fn what_was_queued_before_a_stop_is_done_and_what_came_after_is_not() {
    let mut world = World::rehearsal();
    world.add_flag("f", &[HOUR]);
    let (before, mut done) = message(submission(kill("f")));
    let (after, mut dropped) = message(submission(trigger("f", "r")));
    world.turn([before, Message::Stop, after]).unwrap();
    assert!(done.try_recv().unwrap().is_ok());
    assert!(dropped.try_recv().is_err());
}
