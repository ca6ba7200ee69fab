//! When timers fire, and when they do not.

use super::*;
use phasegate_engine::{
    event::TimerRecord,
    pipeline::{ApprovalRequirement, SelfApproval},
    release::{EndReason, PauseCause, Stage},
    window::{Blackout, ReleaseWindows},
};

fn phase_of<C: Clock>(world: &World<C>, id: &str) -> Option<usize> {
    world.release(id).current().map(|phase| phase.get())
}

fn overdue<C: Clock>(world: &World<C>, id: &str) -> Option<Span> {
    match &world.release(id).progress.stage {
        Stage::Paused { by, .. } => match by.cause {
            PauseCause::Overdue(late) => Some(late),
            PauseCause::Requested | PauseCause::Guard(_) => None,
        },
        Stage::Pending | Stage::Running { .. } | Stage::Over { .. } => None,
    }
}

/// The releases whose phases succeeded, with the timer that did it, in the order of the log.
fn ended_bakes<C: Clock>(world: &mut World<C>) -> Vec<(String, TimerRecord)> {
    let mut ended = Vec::new();
    for (_, _, release, happened) in world.history() {
        for happened in happened {
            if let Happened::PhaseSucceeded { timer: Some(timer), .. } = happened {
                ended.push((release.clone(), timer));
            }
        }
    }
    ended
}

#[test]
fn a_bake_ends_when_the_clock_says_so() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.advance(Span::from_millis(HOUR.as_millis() - 1));
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.advance(Span::from_millis(1));
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn a_bake_ends_within_the_second_on_a_real_clock() {
    let mut world = World::real().with_pipeline(&[secs(5), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.run_seconds(4);
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.run_seconds(1);
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn the_writer_sleeps_until_the_next_deadline_but_never_longer_than_a_second() {
    let mut world = World::real().with_pipeline(&[Span::from_millis(1_300)]);
    assert_eq!(world.writer.wait(), Wait::AtMost(Duration::from_secs(1)));
    world.call(trigger("f", "r")).unwrap();
    assert_eq!(world.writer.wait(), Wait::AtMost(Duration::from_secs(1)));
    world.run_seconds(1);
    let Wait::AtMost(rest) = world.writer.wait() else { panic!("it sleeps") };
    assert!(rest <= Duration::from_millis(300), "{rest:?}");
    world.clock.run(Span::from_millis(300));
    assert_eq!(world.writer.wait(), Wait::No);
}

#[test]
fn under_a_manual_clock_the_writer_waits_for_nothing_but_messages() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    assert_eq!(world.writer.wait(), Wait::ForMessage);
}

#[test]
fn advancing_goes_from_deadline_to_deadline_and_nothing_is_late() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let now = world.advance(secs(5 * 3600));
    assert_eq!(now, START + secs(5 * 3600));
    assert_eq!(world.handle.now(), now);
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
    let on_time = [1, 2, 3].map(|hour| {
        let scheduled_for = START + secs(hour * 3600);
        ("r".to_owned(), TimerRecord { scheduled_for, late: Span::ZERO })
    });
    assert_eq!(ended_bakes(&mut world), on_time);
    let times: Vec<_> = world.history().into_iter().map(|(_, time, _, _)| time).collect();
    let expected = [0, 1, 2, 3].map(|hour| START + secs(hour * 3600));
    assert_eq!(times, expected);
}

#[test]
fn what_is_queued_behind_an_advance_happens_after_it_and_what_is_before_it_before() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR]);
    let (first, _before) = message(submission(trigger("f", "r")));
    let (reply, _advanced) = oneshot::channel();
    let (last, mut after) = message(submission(pause("r")));
    world.turn([first, Message::Advance { by: HOUR, reply }, last]).unwrap();
    assert_eq!(after.try_recv().unwrap().unwrap().now, START + HOUR);
    let times: Vec<_> = world.history().into_iter().map(|(_, time, _, _)| time).collect();
    assert_eq!(times, [START, START + HOUR, START + HOUR]);
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn what_is_due_at_one_instant_shares_one_durable_write() {
    let mut world = World::rehearsal();
    for id in ["a", "b", "c"] {
        world.add_flag(id, &[HOUR]);
        world.call(trigger(id, &format!("r-{id}"))).unwrap();
    }
    world.advance(HOUR);
    assert_eq!(world.controls.commits.lock().unwrap().last().map(Vec::len), Some(3));
}

#[test]
fn a_due_timer_comes_before_a_call_about_its_flag() {
    let mut world = World::real().with_pipeline(&[secs(5), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(5));
    let done = world.call(pause("r")).unwrap();
    let paused = done.state.release(&release("r")).unwrap();
    assert_eq!(paused.current().map(|phase| phase.get()), Some(1));
    let skip = Action::SkipPhase {
        release: release("r"),
        expected: Expected::Anything,
        phase: phase_id(0),
        approvals: phasegate_engine::command::Gate::Respect,
    };
    assert!(matches!(world.call(skip), Err(Error::Refused(_))));
}

#[test]
fn a_due_timer_comes_before_a_call_that_is_only_validated_and_before_a_refused_one() {
    let mut world = World::real().with_pipeline(&[secs(5), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(5));
    let validate = Submission { mode: Mode::ValidateOnly, ..submission(unpause("r")) };
    assert!(matches!(world.submit(validate), Err(Error::Refused(_))));
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn a_pause_keeps_what_is_left_of_the_bake_across_a_restart() {
    let mut world = World::rehearsal().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.advance(secs(1200));
    world.call(pause("r")).unwrap();
    world.advance(secs(7200));
    world.restart();
    assert_eq!(world.state_of("r"), ReleaseState::Paused);
    world.call(unpause("r")).unwrap();
    world.advance(Span::from_millis(2_400_000 - 1));
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.advance(Span::from_millis(1));
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn timers_that_were_due_while_the_server_was_down_fire_in_the_order_of_their_deadlines() {
    let mut world = World::real();
    for (id, minutes) in [("a", 30), ("b", 10), ("c", 20), ("d", 20)] {
        world.add_flag(id, &[secs(minutes * 60), HOUR]);
        world.call(trigger(id, &format!("r-{id}"))).unwrap();
    }
    world.clock.run(secs(2400));
    world.restart();
    world.turn([]).unwrap();
    let fired = ["r-b", "r-c", "r-d", "r-a"].into_iter().zip([10, 20, 20, 30]);
    let fired: Vec<_> = fired
        .map(|(id, minutes)| {
            let scheduled_for = START + secs(minutes * 60);
            let late = Span::from_millis(2_400_000 - i64::from(minutes) * 60_000);
            (id.to_owned(), TimerRecord { scheduled_for, late })
        })
        .collect();
    assert_eq!(ended_bakes(&mut world), fired);
    // The next bake begins when the server is back.
    assert_eq!(phase_of(&world, "r-b"), Some(1));
    world.turn([]).unwrap();
    assert_eq!(world.handle.metrics().timers_fired.get(), 4);
}

#[test]
fn a_start_that_waits_for_its_turn_lets_no_timer_of_its_flag_jump_the_queue() {
    let mut world = World::real();
    world.add_flag("a", &[secs(1800), HOUR]);
    world.add_flag("b", &[secs(1200), HOUR]);
    world.call(trigger("a", "r-a")).unwrap();
    let waits = trigger_at("a", "r-waits", Some(START + secs(60)));
    let conflict_policy = ConflictPolicy::Queue;
    world.call(Action::TriggerRelease(Trigger { conflict_policy, ..waits })).unwrap();
    world.call(trigger("b", "r-b")).unwrap();
    world.clock.run(secs(2400));
    world.restart();
    world.turn([]).unwrap();
    let fired: Vec<_> = ended_bakes(&mut world).into_iter().map(|(id, _)| id).collect();
    assert_eq!(fired, ["r-b", "r-a"]);
}

#[test]
fn a_timer_that_was_due_for_more_than_an_hour_holds_its_release_for_a_person() {
    let mut world = World::real().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(2 * 3600 + 1));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(overdue(&world, "r"), Some(secs(3601)));
    assert_eq!(world.handle.metrics().timers_held.get(), 1);
    world.call(unpause("r")).unwrap();
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn a_timer_that_was_due_for_an_hour_fires() {
    let mut world = World::real().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(2 * 3600));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(phase_of(&world, "r"), Some(1));
    assert_eq!(world.handle.metrics().timers_held.get(), 0);
}

#[test]
fn a_call_does_not_get_round_the_hold() {
    let mut world = World::real().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(3 * 3600));
    world.restart();
    let refused = world.call(pause("r")).unwrap_err();
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    assert_eq!(overdue(&world, "r"), Some(secs(7200)));
}

#[test]
fn with_a_limit_of_zero_no_timer_holds_its_release() {
    let mut config = Config::default();
    config.timers.hold_if_late_by = Span::ZERO;
    let mut world = World::new(MachineClock::new(), config).with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(90 * 86_400));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn approvals_that_ran_out_long_ago_are_not_held() {
    let mut world = World::real();
    let mut template = template(&[HOUR]);
    template.phases[0].approval = Some(ApprovalRequirement {
        min_approvals: 1,
        quotas: Vec::new(),
        reviewer_groups: Vec::new(),
        self_approval: SelfApproval::Forbidden,
        expiry: Some(HOUR),
    });
    add_flag_along(&mut world, template);
    world.call(trigger("f", "r")).unwrap();
    world.clock.run(secs(86_400));
    world.restart();
    world.turn([]).unwrap();
    assert_eq!(world.release("r").end_reason(), Some(EndReason::ApprovalExpired));
}

fn add_flag_along<C: Clock>(world: &mut World<C>, template: Template) {
    let pipeline = PipelineId::parse("p").unwrap();
    let template = Arc::new(template);
    world.call(Action::CreatePipeline { pipeline: pipeline.clone(), template }).unwrap();
    let description = "".into();
    let (flag, spec, pipeline) = (flag("f"), spec(false), Some(pipeline));
    world
        .call(Action::CreateFlag { flag, description, spec, pipeline, labels: BTreeMap::new() })
        .unwrap();
}

#[test]
fn after_a_long_suspend_a_timer_holds_its_release_like_after_a_restart() {
    let mut world = World::real().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.run_seconds(10);
    world.clock.suspend(secs(3 * 3600));
    world.turn([]).unwrap();
    assert_eq!(overdue(&world, "r"), Some(secs(2 * 3600 + 10)));
}

#[test]
fn after_a_short_suspend_a_timer_fires_late() {
    let mut world = World::real().with_pipeline(&[HOUR, HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.suspend(secs(3600 + 600));
    world.turn([]).unwrap();
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn a_large_step_ahead_withholds_timers_for_half_a_minute() {
    let mut world = World::real().with_pipeline(&[secs(90), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.step(120_000);
    world.turn([]).unwrap();
    world.run_seconds(29);
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.run_seconds(1);
    assert_eq!(phase_of(&world, "r"), Some(1));
    assert_eq!(world.handle.metrics().clock_steps.get(), 1);
}

#[test]
fn a_step_ahead_that_is_taken_back_in_time_ends_no_bake() {
    let mut world = World::real().with_pipeline(&[secs(90), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.step(3 * 3_600_000);
    world.turn([]).unwrap();
    world.run_seconds(10);
    world.clock.step(-3 * 3_600_000);
    world.turn([]).unwrap();
    world.run_seconds(79);
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.run_seconds(1);
    assert_eq!(phase_of(&world, "r"), Some(1));
    assert_eq!(overdue(&world, "r"), None);
}

#[test]
fn a_step_back_makes_deadlines_later_and_arms_nothing_anew() {
    let mut world = World::real().with_pipeline(&[secs(90), HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let armed = world.release("r");
    world.clock.step(-600_000);
    world.turn([]).unwrap();
    world.run_seconds(689);
    assert_eq!(world.release("r"), armed);
    world.run_seconds(1);
    assert_eq!(phase_of(&world, "r"), Some(1));
    let [(_, timer)] = &ended_bakes(&mut world)[..] else { panic!("one bake ended") };
    assert_eq!(*timer, TimerRecord { scheduled_for: START + secs(90), late: Span::ZERO });
}

#[test]
fn a_start_is_not_forgotten_if_its_flag_becomes_free_while_the_clock_is_behind() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    let scheduled = trigger_at("f", "s", Some(START + secs(60)));
    world.call(Action::TriggerRelease(scheduled)).unwrap();
    world.run_seconds(70);
    assert_eq!(world.state_of("s"), ReleaseState::Pending, "its turn has not come");
    world.clock.step(-30_000);
    world.call(abort("r")).unwrap();
    world.run_seconds(19);
    assert_eq!(world.state_of("s"), ReleaseState::Pending, "its time has not come again");
    world.run_seconds(1);
    assert_eq!(world.state_of("s"), ReleaseState::Baking);
}

#[test]
fn event_times_never_go_back() {
    let mut world = World::real().with_pipeline(&[HOUR]);
    world.call(trigger("f", "r")).unwrap();
    world.clock.step(-600_000);
    world.call(pause("r")).unwrap();
    let times: Vec<_> = world.history().into_iter().map(|(_, time, _, _)| time).collect();
    assert_eq!(times, [START, START]);
}

#[test]
fn a_clock_behind_the_last_commit_serves_calls_but_fires_nothing_until_it_caught_up() {
    let mut world = World::real();
    world.add_flag("f", &[HOUR, HOUR]);
    world.add_flag("g", &[secs(60), HOUR]);
    world.clock.step(-3_600_000);
    world.turn([]).unwrap();
    world.call(trigger("g", "r")).unwrap();
    world.clock.step(3_600_000);
    world.call(trigger("f", "s")).unwrap();
    world.clock.step(-3_500_000);
    world.restart();
    // Its deadline is past by this clock, but the clock itself is wrong.
    world.run_seconds(10);
    assert_eq!(phase_of(&world, "r"), Some(0));
    world.call(kill("f")).unwrap();
    world.run_seconds(3_490);
    assert_eq!(phase_of(&world, "r"), Some(1));
}

#[test]
fn overdue_timers_fire_with_a_limited_rate_and_calls_do_not_wait_for_them() {
    let mut world = World::real();
    for index in 0..250 {
        world.add_flag(&format!("f{index}"), &[HOUR, HOUR]);
        world.call(trigger(&format!("f{index}"), &format!("r{index}"))).unwrap();
    }
    world.clock.run(secs(3600 + 60));
    world.restart();
    let (last, mut answer) = message(submission(pause("r249")));
    world.turn([last]).unwrap();
    let done = answer.try_recv().unwrap().unwrap();
    let first_commit = world.controls.commits.lock().unwrap().last().cloned().unwrap();
    // Its own timer, the call, and then the first second's share of the others.
    assert_eq!(first_commit.len(), 2 + 200);
    assert_eq!(done.state.revision(), first_commit[1]);
    assert_eq!(world.handle.metrics().timers_overdue.get(), 49);
    world.run_seconds(1);
    assert_eq!(world.handle.metrics().timers_overdue.get(), 0);
    assert_eq!(world.handle.metrics().timers_fired.get(), 250);
}

#[test]
fn a_window_without_an_opening_in_sight_is_looked_at_every_day() {
    let mut config = Config::default();
    config.retention.events = secs(1000 * 86_400);
    let mut world = World::new(ManualClock::new(START), config);
    let mut template = template(&[HOUR]);
    let opens = START + secs(400 * 86_400);
    template.phases[0].windows = Some(ReleaseWindows {
        zone: "UTC".parse().unwrap(),
        weekly: Vec::new(),
        blackouts: vec![Blackout {
            start: Timestamp::from_millis(START.as_millis() - 1),
            end: opens,
            note: "".into(),
        }],
    });
    add_flag_along(&mut world, template);
    world.call(trigger("f", "r")).unwrap();
    world.advance(secs(33 * 86_400));
    assert_eq!(world.history().len(), 1);
    world.advance(secs(3 * 86_400));
    let rescheduled = world.history().into_iter().any(|(_, _, _, happened)| {
        happened.iter().any(|happened| {
            matches!(happened, Happened::WindowRescheduled { opens: Some(at), .. } if *at == opens)
        })
    });
    assert!(rescheduled);
    world.advance(secs(365 * 86_400));
    assert_eq!(world.release("r").progress.phases[0].apply_time, Some(opens));
}

#[test]
fn a_scheduled_release_waits_its_turn_without_keeping_the_writer_busy() {
    let mut world = World::rehearsal().with_pipeline(&[secs(7200)]);
    world.call(trigger("f", "r")).unwrap();
    let scheduled = trigger_at("f", "s", Some(START + HOUR));
    world.call(Action::TriggerRelease(scheduled)).unwrap();
    world.advance(HOUR);
    assert_eq!(world.state_of("s"), ReleaseState::Pending);
    assert_eq!(world.writer.wait(), Wait::ForMessage);
    world.advance(HOUR);
    assert_eq!(world.state_of("r"), ReleaseState::Succeeded);
    assert_eq!(world.release("s").end_reason(), None);
    assert_ne!(world.state_of("s"), ReleaseState::Pending);
}
