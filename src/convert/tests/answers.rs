//! What releases, flags, plans and evaluations look like on the wire.

use super::{
    sample::*,
    story::{Story, plain},
};
use crate::{
    convert::{self, Detail, list_releases},
    v1,
};
use phasegate_engine::{
    command::Lateness,
    environment::{NamedOnce, Place},
    event::Change,
    id::{EnvironmentId, FlagId, PipelineId, ReleaseId, RuleId},
    plan,
    release::ReleaseState,
    targeting::{
        self, Answer, BasisPoints, Bucketing, Condition, Considered, Context, Explanation, Outcome,
        Salt, Source, TargetingRule, Test, Why,
    },
    time::{Span, Timestamp},
    value::{Object, Value},
};
use v1::{PhaseState, ReleaseState as State};

/// A phase that needs two approvals, one of them by an sre, within an hour.
fn approved(id: &str) -> v1::Phase {
    v1::Phase { approval: Some(approval()), ..plain(id) }
}

/// A phase that may be applied on Saturdays only.
fn on_saturdays(id: &str) -> v1::Phase {
    let weekly = v1::release_windows::Weekly { days: vec!["SAT".to_owned()], ..weekly() };
    let windows = v1::ReleaseWindows {
        time_zone: "UTC".to_owned(),
        weekly: vec![weekly],
        blackouts: Vec::new(),
    };
    v1::Phase { windows: Some(windows), ..plain(id) }
}

/// A phase with a guard that has to pass, and one that need not.
fn guarded(id: &str) -> v1::Phase {
    let optional = v1::Guard { id: "latency".to_owned(), ..Default::default() };
    let guards = vec![v1::Guard { on_fail: 1, ..guard("error-rate") }, optional];
    v1::Phase { guards, ..plain(id) }
}

#[test]
fn a_release_has_everything_that_it_was_triggered_with() {
    let mut story = Story::new(vec![plain("canary")]);
    let mut request = trigger_release();
    let asked = request.release.as_mut().unwrap();
    asked.base_spec_revision = 2;
    asked.labels = [("team".to_owned(), "payments".to_owned())].into();
    asked.description = "CHG-17".to_owned();
    asked.schedule_time = story.at(60);
    let asked = asked.clone();
    story.call("ann", convert::trigger_release(request, fresh()));
    let full = story.wire();
    assert_eq!(full.name, "releases/r1");
    assert_eq!(full.flag, asked.flag);
    assert_eq!(full.pipeline, "pipelines/standard");
    assert_eq!(full.change, asked.change);
    assert_eq!(full.base_spec_revision, 2);
    assert_eq!(full.labels, asked.labels);
    assert_eq!(full.description, asked.description);
    assert_eq!(full.schedule_time, asked.schedule_time);
    assert_eq!(full.state(), State::Pending);
    assert_eq!(full.creator, Some(v1::Actor { engine: false, principal: "ann".to_owned() }));
    assert_eq!((full.revision, full.etag.as_str()), (3, "r3"));
    assert_eq!((full.create_time, full.update_time), (story.at(0), story.at(0)));
    assert_eq!((full.start_time, full.end_time), (None, None));
    assert_eq!(full.current_phase_id, "");
    assert_eq!(full.phases[0].state(), PhaseState::Pending);
    let snapshot = full.pipeline_snapshot.as_ref().unwrap();
    assert_eq!((snapshot.name.as_str(), snapshot.phases.len()), ("pipelines/standard", 1));

    let brief = convert::release_to_wire(&story.release(), Detail::Brief);
    assert_eq!(brief, v1::Release { change: None, pipeline_snapshot: None, ..full });
}

/// The id that the server would make.
fn fresh() -> ReleaseId {
    ReleaseId::parse("fresh").unwrap()
}

#[test]
fn a_phase_that_awaits_approval_says_how_much_is_missing_and_until_when() {
    let mut story = Story::triggered(vec![approved("canary"), approved("rest")]);
    let waiting = story.wire();
    assert_eq!(waiting.state(), State::AwaitingApproval);
    assert_eq!(waiting.current_phase_id, "canary");
    assert_eq!(waiting.start_time, story.at(0));
    let [canary, rest] = waiting.phases.as_slice() else { panic!("{waiting:?}") };
    assert_eq!(canary.state(), PhaseState::AwaitingApproval);
    assert_eq!(canary.approval_expire_time, story.at(3600));
    assert_eq!((canary.enter_time, canary.apply_time), (story.at(0), None));
    assert_eq!((canary.approvals_missing, rest.approvals_missing), (2, 2));
    assert_eq!(rest.approval_expire_time, None);

    story.wait(10);
    story.approve("bob", "canary");
    assert_eq!(story.wire().phases[0].approvals_missing, 1);
    story.pause();
    let paused = story.wire();
    assert_eq!((paused.state(), paused.held_state()), (State::Paused, State::AwaitingApproval));
    assert_eq!(paused.phases[0].state(), PhaseState::AwaitingApproval);
    assert_eq!(paused.phases[0].approval_expire_time, None, "it stands still");
    assert_eq!(paused.phases[0].bake_remaining, None);
}

#[test]
fn the_reviews_of_a_phase_are_the_events_of_the_log() {
    let mut story = Story::triggered(vec![approved("canary")]);
    let mut logged = story.approve("bob", "canary");
    story.wait(5);
    let request = v1::RejectPhaseRequest {
        name: "releases/r1".to_owned(),
        reason: "not today".to_owned(),
        phase_id: "canary".to_owned(),
        ..Default::default()
    };
    logged.extend(story.call("ann", convert::reject_phase(request)));
    let events: Vec<v1::ReleaseEvent> = logged.iter().flat_map(convert::events_to_wire).collect();
    let [recorded, rejected, aborted] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(recorded.event_type(), v1::ReleaseEventType::ApprovalRecorded);
    assert_eq!(aborted.event_type(), v1::ReleaseEventType::Aborted);
    assert_eq!(story.wire().phases[0].reviews, [recorded.clone(), rejected.clone()]);
}

#[test]
fn the_pause_of_a_release_is_the_event_of_the_log() {
    let check = |change: Vec<Change>, story: &Story| {
        let events: Vec<_> = change.iter().flat_map(convert::events_to_wire).collect();
        let paused = events.last().unwrap();
        assert_eq!(paused.event_type(), v1::ReleaseEventType::Paused);
        assert_eq!(story.wire().pause.as_ref(), Some(paused));
        paused.details.clone()
    };
    let mut story = Story::triggered(vec![guarded("canary")]);
    story.wait(20);
    let paused = story.pause();
    assert!(check(paused, &story).is_empty());
    // What is left of the bake may change while it is paused, the event does not.
    let request = v1::AdjustBakeRequest {
        name: "releases/r1".to_owned(),
        reason: "enough".to_owned(),
        phase_id: "canary".to_owned(),
        remaining: seconds(1),
        ..Default::default()
    };
    let pause = story.wire().pause;
    story.call("bob", convert::adjust_bake(request));
    assert_eq!(story.wire().pause, pause);

    let mut story = Story::triggered(vec![guarded("canary")]);
    let paused = story.report("latency", v1::GuardVerdict::Fail);
    assert_eq!(check(paused, &story)["guardId"], "latency");

    let mut story = Story::triggered(vec![plain("canary"), plain("rest")]);
    let paused = story.fire(Lateness::Hold(Span::from_secs(7200)));
    assert_eq!(check(paused, &story)["overdueMs"], "7200000");
    assert_eq!(story.wire().pause.unwrap().actor.unwrap().principal, "", "the engine did it");

    let mut pending = Story::new(vec![plain("canary")]);
    let mut request = trigger_release();
    request.release.as_mut().unwrap().schedule_time = pending.at(60);
    pending.call("ann", convert::trigger_release(request, fresh()));
    let paused = pending.pause();
    check(paused, &pending);
    assert_eq!(pending.wire().held_state(), State::Pending);
}

#[test]
fn the_times_of_a_bake_show_while_it_lasts() {
    let times = |story: &Story| {
        let phase = &story.wire().phases[0];
        (phase.bake_end_time, phase.bake_remaining)
    };
    let mut story = Story::triggered(vec![guarded("canary"), plain("rest")]);
    assert_eq!(story.wire().state(), State::Baking);
    assert_eq!(times(&story), (story.at(300), None));
    assert_eq!(story.wire().phases[1].bake_end_time, None);

    let mut paused = Story::triggered(vec![guarded("canary"), plain("rest")]);
    paused.wait(100);
    paused.pause();
    assert_eq!(times(&paused), (None, seconds(200)));

    // The bake is over, but a guard owes a PASS.
    story.fire(Lateness::Accepted);
    assert_eq!(story.wire().state(), State::Baking);
    assert_eq!(times(&story), (story.at(300), None));
    story.wait(50);
    story.pause();
    assert_eq!(times(&story), (None, seconds(0)));

    let request =
        v1::UnpauseReleaseRequest { name: "releases/r1".to_owned(), ..Default::default() };
    story.call("bob", convert::unpause_release(request));
    story.report("error-rate", v1::GuardVerdict::Pass);
    let done = story.wire();
    assert_eq!(done.phases[0].state(), PhaseState::Succeeded);
    assert_eq!(done.phases[0].end_time, story.at(350));
    assert_eq!(times(&story), (None, None));
}

#[test]
fn guards_stand_in_the_order_of_the_phase() {
    let mut story = Story::triggered(vec![guarded("canary")]);
    story.wait(7);
    story.report("latency", v1::GuardVerdict::Pass);
    let guards = &story.wire().phases[0].guards;
    let silent = v1::GuardStatus { guard_id: "error-rate".to_owned(), ..Default::default() };
    let passed = v1::GuardStatus {
        guard_id: "latency".to_owned(),
        verdict: v1::GuardVerdict::Pass.into(),
        message: "error rate is 7 %".to_owned(),
        report_time: story.at(7),
    };
    assert_eq!(*guards, [silent, passed]);
}

#[test]
fn the_next_opening_shows_while_the_window_is_awaited() {
    let mut story = Story::triggered(vec![on_saturdays("canary")]);
    let waiting = story.wire();
    assert_eq!(waiting.state(), State::AwaitingWindow);
    // Saturday, 2026-01-03T09:00:00Z.
    assert_eq!(waiting.phases[0].window_open_time, story.at(2 * 86_400 + 9 * 3600));
    story.pause();
    assert_eq!(story.wire().phases[0].window_open_time, None);
    assert_eq!(story.wire().held_state(), State::AwaitingWindow);
}

#[test]
fn a_bypass_stays_on_the_phase() {
    let mut story = Story::triggered(vec![on_saturdays("canary")]);
    let request = v1::OverrideWindowRequest {
        name: "releases/r1".to_owned(),
        reason: "hotfix".to_owned(),
        phase_id: "canary".to_owned(),
        ..Default::default()
    };
    assert!(!story.wire().phases[0].bypassed);
    story.call("bob", convert::override_window(request));
    let phase = &story.wire().phases[0];
    assert!(phase.bypassed && phase.applied);
    assert_eq!((phase.apply_time, phase.state()), (story.at(0), PhaseState::Baking));
}

#[test]
fn a_release_that_is_over_says_why_and_since_when() {
    let mut story = Story::triggered(vec![plain("canary"), plain("rest")]);
    story.wait(10);
    let name = "releases/r1".to_owned();
    let reason = "no".to_owned();
    let request = v1::AbortReleaseRequest { name, reason, ..Default::default() };
    story.call("bob", convert::abort_release(request));
    let over = story.wire();
    assert_eq!((over.state(), over.end_reason()), (State::Aborted, v1::EndReason::AbortRequested));
    assert_eq!((over.end_time, over.current_phase_id.as_str()), (story.at(10), ""));
    let states: Vec<PhaseState> = over.phases.iter().map(v1::PhaseStatus::state).collect();
    assert_eq!(states, [PhaseState::Aborted, PhaseState::Cancelled]);
    assert!(!over.phases[0].applied);
    assert_eq!(over.phases[0].bake_end_time, None);
}

#[test]
fn a_flag_says_what_holds_and_who_changes_it() {
    let mut story = Story::triggered(vec![plain("canary")]);
    let flag = |story: &Story, active: bool| {
        let flag = story.state.flag(&FlagId::parse("checkout").unwrap()).unwrap();
        let release = story.release();
        convert::flag_to_wire(flag, active.then(|| release.id()))
    };
    let expected = v1::Flag {
        name: "flags/checkout".to_owned(),
        spec: Some(v1::flag::Spec::FeatureGate(v1::GateSpec::default())),
        pipeline: "pipelines/standard".to_owned(),
        active_release: "releases/r1".to_owned(),
        spec_revision: 2,
        etag: "r2".to_owned(),
        revision: 2,
        update_time: story.at(0),
        ..Default::default()
    };
    assert_eq!(flag(&story, true), expected);

    story.wait(1);
    let request = v1::SetKillSwitchRequest {
        name: "flags/checkout".to_owned(),
        reason: "on fire".to_owned(),
        engaged: Some(true),
        ..Default::default()
    };
    story.call("bob", convert::set_kill_switch(request));
    let killed = v1::Flag {
        killed: true,
        kill_reason: "on fire".to_owned(),
        active_release: String::new(),
        etag: "r4".to_owned(),
        revision: 4,
        update_time: story.at(1),
        ..expected
    };
    assert_eq!(flag(&story, false), killed);
}

#[test]
fn an_evaluation_says_what_why_and_whether_a_release_did_it() {
    let environment = EnvironmentId::parse("prod").unwrap();
    let attributes = Object::new();
    let evaluate = |story: &Story| {
        let flag = story.state.flag(&FlagId::parse("checkout").unwrap()).unwrap();
        let active = story.state.active_release(&flag.id).map(|release| &**release);
        let context = Context { environment: &environment, attributes: &attributes };
        let explanation = targeting::explain(flag, active, &context, Bucketing::V3);
        convert::answer_to_wire(&explanation, active)
    };
    let bool = |truth| Some(value(prost_types::value::Kind::BoolValue(truth)));

    let mut story = Story::triggered(vec![approved("canary")]);
    let settled = v1::EvaluateFlagResponse {
        value: bool(false),
        reason: v1::EvaluationReason::Default.into(),
        release: "releases/r1".to_owned(),
        bucketing: v1::Bucketing::V3.into(),
        ..Default::default()
    };
    assert_eq!(evaluate(&story), settled);

    story.approve("bob", "canary");
    story.approve("cid", "canary");
    let exposed = v1::EvaluateFlagResponse {
        value: bool(true),
        variant: "staff".to_owned(),
        reason: v1::EvaluationReason::TargetingMatch.into(),
        release: "releases/r1".to_owned(),
        exposed: true,
        phase_id: "canary".to_owned(),
        bucketing: v1::Bucketing::V3.into(),
        considered: vec![
            v1::ConsideredRule {
                source: v1::RuleSource::Phase.into(),
                phase_id: "canary".to_owned(),
                rule_id: "all".to_owned(),
                outcome: v1::RuleOutcome::Matched.into(),
                ..Default::default()
            },
            v1::ConsideredRule {
                source: v1::RuleSource::Change.into(),
                rule_id: "staff".to_owned(),
                outcome: v1::RuleOutcome::Matched.into(),
                ..Default::default()
            },
        ],
    };
    assert_eq!(evaluate(&story), exposed);
}

#[test]
fn an_explanation_says_of_each_rule_what_decided_it() {
    let is = |attribute: &str, value: &str| Condition {
        attribute: attribute.into(),
        test: Test::In(vec![value.into()]),
    };
    let rule = TargetingRule {
        id: RuleId::parse("half").unwrap(),
        environments: vec![EnvironmentId::parse("prod").unwrap()],
        conditions: vec![is("tier", "beta"), is("region", "eu")],
        share: BasisPoints::new(5_000).unwrap(),
        bucket_by: "tenant".into(),
    };
    let flag = FlagId::parse("checkout").unwrap();
    let check = |outcome: Outcome, bucket: Option<u32>, expected: v1::ConsideredRule| {
        let (source, salt) = (Source::Settled, Salt::Flag(&flag));
        let considered = vec![Considered { source, rule: &rule, outcome, bucket, salt }];
        let (value, why) = (Value::Bool(false), Why::Default);
        let answer = Answer { value, why, exposed: None };
        let explanation = Explanation { answer, bucketing: Bucketing::V2, considered };
        let wire = convert::answer_to_wire(&explanation, None);
        assert_eq!(wire.bucketing(), v1::Bucketing::V2);
        let source = v1::RuleSource::Settled.into();
        let rule_id = "half".to_owned();
        assert_eq!(wire.considered, [v1::ConsideredRule { source, rule_id, ..expected }]);
    };
    let with = |outcome: v1::RuleOutcome| v1::ConsideredRule {
        outcome: outcome.into(),
        ..Default::default()
    };
    check(Outcome::OtherEnvironments, None, with(v1::RuleOutcome::OtherEnvironments));
    let failed = v1::ConsideredRule {
        condition_index: 1,
        attribute: "region".to_owned(),
        ..with(v1::RuleOutcome::ConditionFailed)
    };
    check(Outcome::ConditionFailed { index: 1 }, None, failed);
    let lacks = v1::ConsideredRule {
        attribute: "tenant".to_owned(),
        ..with(v1::RuleOutcome::LacksAttribute)
    };
    check(Outcome::LacksAttribute, None, lacks);
    let bucket = |number| {
        Some(v1::considered_rule::Bucket {
            number,
            rollout_basis_points: 5_000,
            attribute: "tenant".to_owned(),
            salt: "flags/checkout".to_owned(),
        })
    };
    let outside =
        v1::ConsideredRule { bucket: bucket(7_410), ..with(v1::RuleOutcome::OutsideShare) };
    check(Outcome::OutsideShare, Some(7_410), outside);
    let inside = v1::ConsideredRule { bucket: bucket(0), ..with(v1::RuleOutcome::Matched) };
    check(Outcome::Matched, Some(0), inside);
}

#[test]
fn a_warning_says_which_environments_and_who_names_them() {
    let ids = |ids: &str| ids.split(' ').map(|id| EnvironmentId::parse(id).unwrap()).collect();
    let flag = Place::Flag(FlagId::parse("checkout").unwrap());
    let pipeline = Place::Pipeline(PipelineId::parse("web").unwrap());
    let once = [
        NamedOnce { place: flag, environments: ids("prdo") },
        NamedOnce { place: pipeline, environments: ids("dev test") },
    ];
    let expected = [
        v1::PlanWarning {
            message: "flags/checkout names the environment prdo, and nothing else does: is it \
                      spelt right?"
                .to_owned(),
            environments: vec!["prdo".to_owned()],
            named_by: "flags/checkout".to_owned(),
        },
        v1::PlanWarning {
            message: "pipelines/web names the environments dev, test, and nothing else does: are \
                      they spelt right?"
                .to_owned(),
            environments: vec!["dev".to_owned(), "test".to_owned()],
            named_by: "pipelines/web".to_owned(),
        },
    ];
    assert_eq!(convert::warnings_to_wire(&once), expected);
}

#[test]
fn a_plan_leaves_out_what_no_window_allows() {
    let mut closed = on_saturdays("rest");
    closed.windows.as_mut().unwrap().blackouts = vec![v1::release_windows::Blackout {
        start_time: instant(0, 0),
        end_time: instant(253_402_300_799, 0),
        note: String::new(),
    }];
    let story = Story::triggered(vec![plain("canary"), closed]);
    let template = &story.release().proposal.pipeline.template;
    let plan = convert::plan_to_wire(&plan::plan(template, story.now));
    let expected = [
        v1::PhasePlan {
            phase_id: "canary".to_owned(),
            earliest_apply_time: story.at(0),
            earliest_end_time: story.at(300),
        },
        v1::PhasePlan { phase_id: "rest".to_owned(), ..Default::default() },
    ];
    assert_eq!(plan, expected);
}

#[test]
fn a_filter_ands_its_fields_and_ors_their_values() {
    let mut story = Story::new(vec![plain("canary")]);
    let mut request = trigger_release();
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    request.release.as_mut().unwrap().labels =
        [label("team", "payments"), label("tier", "1")].into();
    story.call("ann", convert::trigger_release(request, fresh()));
    let release = story.release();

    let check = |filter: v1::ReleaseFilter, matches: bool| {
        let request =
            v1::ListReleasesRequest { filter: Some(filter.clone()), ..Default::default() };
        let parsed = list_releases(request).unwrap().filter;
        assert_eq!(parsed.matches(&release), matches, "{filter:?}");
        parsed
    };
    let flags = |names: &[&str]| names.iter().map(ToString::to_string).collect();
    let baking = State::Baking.into();
    let paused = State::Paused.into();
    let any = v1::ReleaseFilter::default;
    check(any(), true);
    check(v1::ReleaseFilter { flags: flags(&["flags/checkout"]), ..any() }, true);
    check(v1::ReleaseFilter { flags: flags(&["flags/a", "flags/checkout"]), ..any() }, true);
    check(v1::ReleaseFilter { flags: flags(&["flags/a"]), ..any() }, false);
    check(v1::ReleaseFilter { pipelines: flags(&["pipelines/standard"]), ..any() }, true);
    check(v1::ReleaseFilter { pipelines: flags(&["pipelines/a"]), ..any() }, false);
    check(v1::ReleaseFilter { states: vec![paused, baking], ..any() }, true);
    check(v1::ReleaseFilter { states: vec![paused], ..any() }, false);
    check(v1::ReleaseFilter { labels: [label("team", "payments")].into(), ..any() }, true);
    let both = [label("team", "payments"), label("tier", "2")];
    check(v1::ReleaseFilter { labels: both.into(), ..any() }, false);
    check(v1::ReleaseFilter { labels: [label("colour", "")].into(), ..any() }, false);
    let mixed =
        v1::ReleaseFilter { flags: flags(&["flags/checkout"]), states: vec![paused], ..any() };
    check(mixed, false);

    let unfinished = check(v1::ReleaseFilter { unfinished_only: true, ..any() }, true);
    assert!(!unfinished.matched(&release, ReleaseState::Succeeded));
    let in_state = check(v1::ReleaseFilter { states: vec![baking], ..any() }, true);
    assert!(in_state.matched(&release, ReleaseState::Baking));
    assert!(!in_state.matched(&release, ReleaseState::Paused));
}

#[test]
fn times_on_the_wire_have_seconds_and_the_rest_in_nanoseconds() {
    let time = convert::timestamp_to_wire(Timestamp::from_millis(1_999));
    assert_eq!((time.seconds, time.nanos), (1, 999_000_000));
    let span = convert::span_to_wire(Span::from_millis(90_001));
    assert_eq!((span.seconds, span.nanos), (90, 1_000_000));
}
