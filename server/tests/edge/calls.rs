//! One way through every call that is not a plain action on a release.

use crate::server::{START, Server, create_flag, trigger, within};
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
    server.trigger("r").await;
    let during = flags.evaluate_flag(request).await.unwrap().into_inner();
    assert_eq!(during.value.unwrap().kind, answer(true));
    assert_eq!((&*during.release, &*during.phase_id), ("releases/r", "canary"));
    assert!(during.exposed);
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
