//! One way through every call that is not a plain action on a release.

use crate::server::{START, Server, create_flag, create_pipeline, trigger, within};
use phasegate_api::{rehearsal, v1};
use tonic::{Code, Request};

fn seconds(seconds: i64) -> Option<prost_types::Duration> {
    Some(prost_types::Duration { seconds, nanos: 0 })
}

#[tokio::test]
async fn a_flag_is_created_read_changed_killed_and_deleted() {
    let server = Server::start().await;
    let mut flags = server.flags().await;
    let created = flags.create_flag(create_flag("f")).await.unwrap().into_inner().flag.unwrap();
    let name = created.name.clone();
    let get = v1::GetFlagRequest { name: name.clone() };
    let read = flags.get_flag(get.clone()).await.unwrap().into_inner().flag.unwrap();
    assert_eq!(read, created);

    let change = v1::Flag { description: "new".into(), ..created.clone() };
    let update = v1::UpdateFlagRequest { flag: Some(change), ..Default::default() };
    let updated = flags.update_flag(update).await.unwrap().into_inner().flag.unwrap();
    assert_eq!(updated.description, "new");
    assert!(updated.revision > created.revision);

    let kill = v1::SetKillSwitchRequest {
        name: name.clone(),
        engaged: Some(true),
        reason: "on fire".into(),
        ..Default::default()
    };
    let killed = flags.set_kill_switch(kill).await.unwrap().into_inner().flag.unwrap();
    assert!(killed.killed);
    assert_eq!(killed.kill_reason, "on fire");

    let delete = v1::DeleteFlagRequest { name, ..Default::default() };
    flags.delete_flag(delete).await.unwrap();
    assert_eq!(flags.get_flag(get).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_pipeline_is_read_changed_and_deleted() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut pipelines = server.pipelines().await;
    let get = v1::GetPipelineRequest { name: "pipelines/p".into() };
    let read = pipelines.get_pipeline(get.clone()).await.unwrap().into_inner().pipeline.unwrap();
    let change = v1::Pipeline { description: "new".into(), ..read.clone() };
    let update = v1::UpdatePipelineRequest { pipeline: Some(change), ..Default::default() };
    let updated = pipelines.update_pipeline(update).await.unwrap().into_inner().pipeline.unwrap();
    assert_eq!((&*updated.description, &updated.phases), ("new", &read.phases));
    let delete = v1::DeletePipelineRequest { name: read.name, ..Default::default() };
    pipelines.delete_pipeline(delete).await.unwrap();
    assert_eq!(pipelines.get_pipeline(get).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_trigger_that_only_validates_answers_with_a_plan_and_commits_nothing() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut releases = server.releases().await;
    let request = v1::TriggerReleaseRequest { validate_only: true, ..trigger("r") };
    let answer = releases.trigger_release(request).await.unwrap().into_inner();
    let [canary] = answer.plan.as_slice() else { panic!("{:?}", answer.plan) };
    assert_eq!(canary.phase_id, "canary");
    let start = START.as_millis() / 1000;
    assert_eq!(canary.earliest_apply_time.as_ref().unwrap().seconds, start);
    assert_eq!(canary.earliest_end_time.as_ref().unwrap().seconds, start + 3600);
    assert!(answer.release.unwrap().pipeline_snapshot.is_some());
    let get = v1::GetReleaseRequest { name: "releases/r".into() };
    assert_eq!(releases.get_release(get).await.unwrap_err().code(), Code::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn a_release_without_an_id_gets_one_and_a_repeated_trigger_answers_with_the_same() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut releases = server.releases().await;
    let request = v1::TriggerReleaseRequest { request_id: "once".into(), ..trigger("") };
    let first = releases.trigger_release(request.clone()).await.unwrap().into_inner();
    let name = first.release.as_ref().unwrap().name.clone();
    assert!(name.starts_with("releases/r-"), "{name}");
    let again = releases.trigger_release(request).await.unwrap().into_inner();
    assert_eq!(again.release.unwrap().name, name);
    let get = v1::GetReleaseRequest { name };
    let read = releases.get_release(get).await.unwrap().into_inner();
    assert!(read.release.unwrap().change.is_some());
    server.stop().await;
}

#[tokio::test]
async fn an_evaluation_says_which_release_and_phase_answered() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut flags = server.flags().await;
    let request = v1::EvaluateFlagRequest {
        flag: "flags/checkout".into(),
        environment: "prod".into(),
        context: None,
    };
    let before = flags.evaluate_flag(request.clone()).await.unwrap().into_inner();
    let answer = |boolean| Some(prost_types::value::Kind::BoolValue(boolean));
    assert_eq!(before.value.unwrap().kind, answer(false));
    assert!(before.considered.is_empty(), "there is no rule");
    server.trigger("r").await;
    let during = flags.evaluate_flag(request).await.unwrap().into_inner();
    assert_eq!(during.value.as_ref().unwrap().kind, answer(true));
    assert_eq!((&*during.release, &*during.phase_id), ("releases/r", "canary"));
    assert!(during.exposed);
    let [asked] = &during.considered[..] else { panic!("{:?}", during.considered) };
    assert_eq!((&*asked.phase_id, &*asked.rule_id), ("canary", "everyone"));
    assert_eq!(asked.source(), v1::RuleSource::Phase);
    assert_eq!(asked.outcome(), v1::RuleOutcome::Matched);
    assert_eq!(during.bucketing(), v1::Bucketing::V3);
    server.stop().await;
}

/// A rule for one environment.
fn rule_in(environment: &str) -> v1::TargetingRule {
    v1::TargetingRule {
        id: "one".into(),
        environments: vec![environment.into()],
        ..Default::default()
    }
}

fn gate_in(environment: &str) -> v1::GateSpec {
    let rule = v1::gate_spec::Rule { targeting: Some(rule_in(environment)), value: true };
    v1::GateSpec { rules: vec![rule], default_value: false }
}

/// Who names what alone: `flags/f: prdo`.
fn lone(warnings: &[v1::PlanWarning]) -> Vec<String> {
    let shown = |warning: &v1::PlanWarning| {
        format!("{}: {}", warning.named_by, warning.environments.join(" "))
    };
    warnings.iter().map(shown).collect()
}

#[tokio::test]
async fn a_call_that_only_validates_warns_of_environments_that_nothing_else_names() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let (mut flags, mut pipelines) = (server.flags().await, server.pipelines().await);
    let mut releases = server.releases().await;
    let spec = |environment| Some(v1::flag::Spec::FeatureGate(gate_in(environment)));

    let mut create = create_flag("new");
    create.flag.as_mut().unwrap().spec = spec("prod");
    create.validate_only = true;
    let planned = flags.create_flag(create.clone()).await.unwrap().into_inner();
    assert_eq!(lone(&planned.warnings), ["flags/new: prod"]);
    create.validate_only = false;
    let created = flags.create_flag(create).await.unwrap().into_inner();
    assert!(created.warnings.is_empty(), "what is done is not warned of");

    let mut pipeline = create_pipeline().pipeline.unwrap();
    pipeline.name = "pipelines/p".into();
    pipeline.phases[0].rules = vec![rule_in("prod")];
    pipeline.exempt_environments = vec!["dev".into()];
    let update = v1::UpdatePipelineRequest {
        pipeline: Some(pipeline.clone()),
        validate_only: true,
        ..Default::default()
    };
    let planned = pipelines.update_pipeline(update.clone()).await.unwrap().into_inner();
    assert_eq!(lone(&planned.warnings), ["pipelines/p: dev"], "the flag names prod as well");
    let update = v1::UpdatePipelineRequest { validate_only: false, ..update };
    pipelines.update_pipeline(update).await.unwrap();
    let create = v1::CreatePipelineRequest {
        pipeline_id: "q".into(),
        pipeline: Some(v1::Pipeline { name: String::new(), ..pipeline }),
        validate_only: true,
        ..Default::default()
    };
    let planned = pipelines.create_pipeline(create).await.unwrap().into_inner();
    assert_eq!(lone(&planned.warnings), [""; 0], "two pipelines name dev then");

    let flag = v1::Flag { name: "flags/new".into(), spec: spec("prdo"), ..Default::default() };
    let flag = Some(flag);
    let update = v1::UpdateFlagRequest { flag, validate_only: true, ..Default::default() };
    let planned = flags.update_flag(update).await.unwrap().into_inner();
    assert_eq!(lone(&planned.warnings), ["flags/new: prdo"]);

    let mut request = v1::TriggerReleaseRequest { validate_only: true, ..trigger("r") };
    let change = v1::release::Change::FeatureGate(gate_in("prdo"));
    request.release.as_mut().unwrap().change = Some(change);
    let planned = releases.trigger_release(request.clone()).await.unwrap().into_inner();
    assert_eq!(lone(&planned.warnings), ["flags/checkout: prdo"]);
    let message = &planned.warnings[0].message;
    assert!(message.starts_with("flags/checkout names the environment prdo"), "{message}");
    request.validate_only = false;
    let done = releases.trigger_release(request).await.unwrap().into_inner();
    assert!(done.warnings.is_empty());
    server.stop().await;
}

#[tokio::test]
async fn a_wait_ends_with_a_change_with_the_end_or_with_its_time() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let triggered = server.trigger("r").await;
    let mut releases = server.releases().await;
    let at_once = v1::WaitReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let answer = within(releases.wait_release(at_once.clone())).await.unwrap().into_inner();
    assert!(answer.satisfied);
    assert_eq!(answer.release.unwrap().revision, triggered.revision);

    let after = v1::WaitReleaseRequest { after_revision: triggered.revision, ..at_once.clone() };
    let no_time = v1::WaitReleaseRequest { max_wait: seconds(0), ..after.clone() };
    let answer = within(releases.wait_release(no_time)).await.unwrap().into_inner();
    assert!(!answer.satisfied);
    assert!(answer.release.is_some());

    let mut waiting = releases.clone();
    let waiting = tokio::spawn(async move { waiting.wait_release(after).await });
    let paused = server.pause("r").await;
    let answer = within(waiting).await.unwrap().unwrap().into_inner();
    assert!(answer.satisfied);
    assert_eq!(answer.release.unwrap().revision, paused.revision);

    let until_over = v1::WaitReleaseRequest { until_over: true, ..at_once };
    let mut waiting = releases.clone();
    let waiting = tokio::spawn(async move { waiting.wait_release(until_over).await });
    server.abort("r").await;
    let answer = within(waiting).await.unwrap().unwrap().into_inner();
    assert!(answer.satisfied && answer.release.unwrap().end_time.is_some());
    server.stop().await;
}

#[tokio::test]
async fn a_rehearsal_moves_time_and_with_it_releases() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let mut clock = server.clock().await;
    let advance = rehearsal::AdvanceRequest { duration: seconds(3600) };
    let now = within(clock.advance(advance)).await.unwrap().into_inner().now.unwrap();
    assert_eq!(now.seconds, START.as_millis() / 1000 + 3600);
    let got = clock.get(rehearsal::GetRequest {}).await.unwrap().into_inner().now.unwrap();
    assert_eq!(got, now);
    let get = v1::GetReleaseRequest { name: "releases/r".into() };
    let release = server.releases().await.get_release(get).await.unwrap().into_inner().release;
    assert_eq!(release.unwrap().state(), v1::ReleaseState::Succeeded);

    let backwards = rehearsal::AdvanceRequest { duration: seconds(-1) };
    let refused = within(clock.advance(backwards)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn the_caller_of_the_metadata_is_the_actor_of_the_log() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut request = Request::new(trigger("r"));
    request.metadata_mut().insert("phasegate-principal", "ann".parse().unwrap());
    let release = server.releases().await.trigger_release(request).await.unwrap().into_inner();
    assert_eq!(release.release.unwrap().creator.unwrap().principal, "ann");
    let paused = server.pause("r").await;
    assert_eq!(paused.pause.unwrap().actor.unwrap().principal, "anonymous");
    server.stop().await;
}
