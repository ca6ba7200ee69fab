//! What is seen and what may be done, by the labels of flags.

use super::{Guarded, create_flag_of, lacks, missing, reason, trigger_of};
use crate::server::within;
use phasegate_api::v1;
use tonic::{Code, Status};

/// `ann` releases and approves for payments; `eve` looks at everything.
const POLICY: &str = "
- groups: [payments]
  roles: [releaser, approver, operator]
  flags: {labels: {team: payments}}
- principals: ['token:eve']
  roles: [viewer]
";

async fn guarded() -> Guarded {
    let guarded = Guarded::start(POLICY).await;
    guarded.tokens.person("ann", &["payments"]);
    guarded.tokens.person("eve", &[]);
    guarded
}

/// What a client can tell one error from another by.
fn bytes<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String, Vec<u8>) {
    let status = answer.unwrap_err();
    (status.code(), status.message().to_owned(), status.details().to_vec())
}

/// Every call about the flag `web-a` and its release `web-r` that has an answer at once.
async fn calls(guarded: &Guarded, who: &str) -> Vec<(Code, String, Vec<u8>)> {
    let client = guarded.as_(who).await;
    let (mut flags, mut releases) = (client.flags(), client.releases());
    let (flag, name) = (String::from("flags/web-a"), String::from("releases/web-r"));
    let (reason, phase_id) = (String::from("why"), String::from("canary"));
    let update = v1::Flag { name: flag.clone(), description: "x".into(), ..Default::default() };
    let update = v1::UpdateFlagRequest { flag: Some(update), ..Default::default() };
    let evaluate = v1::EvaluateFlagRequest {
        flag: flag.clone(),
        environment: "prod".into(),
        ..Default::default()
    };
    let kill =
        v1::SetKillSwitchRequest { name: flag.clone(), engaged: Some(true), ..Default::default() };
    let delete = v1::DeleteFlagRequest { name: flag.clone(), ..Default::default() };
    let approve = v1::ApprovePhaseRequest {
        name: name.clone(),
        phase_id: phase_id.clone(),
        ..Default::default()
    };
    let reject = v1::RejectPhaseRequest {
        name: name.clone(),
        phase_id: phase_id.clone(),
        reason: reason.clone(),
        ..Default::default()
    };
    let skip = v1::SkipPhaseRequest {
        name: name.clone(),
        phase_id: phase_id.clone(),
        reason: reason.clone(),
        ..Default::default()
    };
    let abort = v1::AbortReleaseRequest {
        name: name.clone(),
        reason: reason.clone(),
        ..Default::default()
    };
    let pause = v1::PauseReleaseRequest { name: name.clone(), ..Default::default() };
    let rollout =
        v1::FullRolloutRequest { name: name.clone(), reason: reason.clone(), ..Default::default() };
    let report = v1::ReportGuardSignalRequest {
        name: name.clone(),
        phase_id,
        guard_id: "errors".into(),
        verdict: v1::GuardVerdict::Pass.into(),
        ..Default::default()
    };
    let wait = v1::WaitReleaseRequest { name: name.clone(), ..Default::default() };
    let events = v1::ListReleaseEventsRequest { parent: name.clone(), ..Default::default() };
    let watch = v1::WatchReleaseRequest { name: name.clone(), ..Default::default() };
    vec![
        bytes(flags.get_flag(v1::GetFlagRequest { name: flag }).await),
        bytes(flags.update_flag(update).await),
        bytes(flags.evaluate_flag(evaluate).await),
        bytes(flags.set_kill_switch(kill).await),
        bytes(flags.delete_flag(delete).await),
        bytes(releases.trigger_release(trigger_of("new", "web-a")).await),
        bytes(releases.get_release(v1::GetReleaseRequest { name }).await),
        bytes(releases.approve_phase(approve).await),
        bytes(releases.reject_phase(reject).await),
        bytes(releases.skip_phase(skip).await),
        bytes(releases.abort_release(abort).await),
        bytes(releases.pause_release(pause).await),
        bytes(releases.full_rollout(rollout).await),
        bytes(releases.report_guard_signal(report).await),
        bytes(releases.wait_release(wait).await),
        bytes(releases.list_release_events(events).await),
        bytes(releases.watch_release(watch).await),
    ]
}

#[tokio::test]
async fn what_may_not_be_seen_is_answered_byte_for_byte_as_what_is_not_there() {
    let (there, not_there) =
        (guarded().await.with_flags().await.with_releases().await, guarded().await);
    let forbidden = calls(&there, "ann").await;
    let missing = calls(&not_there, "ann").await;
    assert_eq!(forbidden, missing);
    assert!(forbidden.iter().all(|(code, ..)| *code == Code::NotFound), "{forbidden:?}");
    there.server.stop().await;
    not_there.server.stop().await;
}

#[tokio::test]
async fn who_sees_and_may_not_act_hears_which_permission_is_missing() {
    let guarded = guarded().await.with_flags().await.with_releases().await;
    let eve = guarded.as_("eve").await;
    let get = v1::GetReleaseRequest { name: "releases/web-r".into() };
    eve.releases().get_release(get).await.unwrap();
    let pause = v1::PauseReleaseRequest { name: "releases/web-r".into(), ..Default::default() };
    lacks(eve.releases().pause_release(pause).await, "pause");

    // Ann may pause some releases, but sees no other once her sight is wider than her hands.
    guarded.tokens.person("both", &["payments"]);
    guarded.rewrite(&format!("{POLICY}- principals: ['token:both']\n  roles: [viewer]\n"));
    let both = guarded.as_("both").await;
    let seen = async {
        loop {
            let get = v1::GetFlagRequest { name: "flags/web-a".into() };
            if both.flags().get_flag(get).await.is_ok() {
                return;
            }
        }
    };
    within(seen).await;
    let pause =
        |id: &str| v1::PauseReleaseRequest { name: format!("releases/{id}"), ..Default::default() };
    lacks(both.releases().pause_release(pause("web-r")).await, "pause");
    both.releases().pause_release(pause("pay-r")).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn lists_and_events_leave_out_what_is_not_seen_and_tokens_still_work() {
    let guarded = guarded().await.with_flags().await.with_releases().await;
    let root = guarded.as_("root").await;
    for n in 0..5 {
        root.flags().create_flag(create_flag_of(&format!("m{n}"), "web")).await.unwrap();
        root.flags().create_flag(create_flag_of(&format!("n{n}"), "payments")).await.unwrap();
    }
    let ann = guarded.as_("ann").await;
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListFlagsRequest { page_size: 2, page_token, ..Default::default() };
        let page = ann.flags().list_flags(request).await.unwrap().into_inner();
        names.extend(page.flags.into_iter().map(|flag| flag.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<_> = (0..5).map(|n| format!("flags/n{n}")).collect();
    assert_eq!(names, [&expected[..], &["flags/pay-a".to_owned()]].concat());

    let list = v1::ListReleasesRequest::default();
    let releases = ann.releases().list_releases(list).await.unwrap().into_inner().releases;
    let names: Vec<_> = releases.iter().map(|release| release.name.as_str()).collect();
    assert_eq!(names, ["releases/pay-r"]);

    for newest_first in [false, true] {
        let (mut events, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListReleaseEventsRequest {
                parent: "releases/-".into(),
                page_size: 1,
                page_token,
                newest_first,
                ..Default::default()
            };
            let page = ann.releases().list_release_events(request).await.unwrap().into_inner();
            events.extend(page.events);
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert!(events.len() > 1, "{events:?}");
        assert!(events.iter().all(|event| event.name.starts_with("releases/pay-r/")), "{events:?}");
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn labels_are_given_only_by_who_manages_the_old_and_the_new() {
    let guarded = guarded().await.with_flags().await;
    let ann = guarded.as_("ann").await;
    lacks(ann.flags().create_flag(create_flag_of("x", "web")).await, "manage_flags");
    let mut bare = create_flag_of("x", "web");
    bare.flag.as_mut().unwrap().labels.clear();
    lacks(ann.flags().create_flag(bare).await, "manage_flags");
    ann.flags().create_flag(create_flag_of("x", "payments")).await.unwrap();
    let relabel = |id: &str, team: &str| {
        let flag = v1::Flag {
            name: format!("flags/{id}"),
            labels: [("team".to_owned(), team.to_owned())].into(),
            ..Default::default()
        };
        v1::UpdateFlagRequest { flag: Some(flag), ..Default::default() }
    };
    lacks(ann.flags().update_flag(relabel("x", "web")).await, "manage_flags");
    missing(ann.flags().update_flag(relabel("web-a", "payments")).await);
    let root = guarded.as_("root").await;
    root.flags().update_flag(relabel("web-a", "payments")).await.unwrap();
    ann.flags().get_flag(v1::GetFlagRequest { name: "flags/web-a".into() }).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_flag_does_not_lose_its_pipeline_to_who_only_manages_flags() {
    let guarded = guarded().await.with_flags().await;
    let ann = guarded.as_("ann").await;
    let along = |pipeline: &str| {
        let flag = v1::Flag {
            name: "flags/pay-a".into(),
            pipeline: pipeline.into(),
            ..Default::default()
        };
        let update_mask = Some(prost_types::FieldMask { paths: vec!["pipeline".into()] });
        v1::UpdateFlagRequest { flag: Some(flag), update_mask, ..Default::default() }
    };
    ann.flags().update_flag(along("pipelines/p")).await.unwrap();
    ann.flags().update_flag(along("pipelines/p")).await.unwrap();
    lacks(ann.flags().update_flag(along("")).await, "manage_pipelines");
    let delete = || v1::DeleteFlagRequest { name: "flags/pay-a".into(), ..Default::default() };
    lacks(ann.flags().delete_flag(delete()).await, "manage_pipelines");

    // What stands in somebody's way is named only if they see it.
    let root = guarded.as_("root").await;
    let delete_p =
        || v1::DeletePipelineRequest { name: "pipelines/p".into(), ..Default::default() };
    let in_use = root.pipelines().delete_pipeline(delete_p()).await.unwrap_err();
    assert_eq!(reason(&in_use).0, "RESOURCE_IN_USE");
    assert!(in_use.message().contains("flags/pay-a"), "{in_use:?}");
    root.flags().update_flag(along("")).await.unwrap();
    ann.flags().delete_flag(delete()).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn a_repetition_shows_nothing_that_has_moved_out_of_sight() {
    let guarded = guarded().await.with_flags().await;
    let ann = guarded.as_("ann").await;
    let describe = || {
        let flag = v1::Flag {
            name: "flags/pay-a".into(),
            description: "ours".into(),
            ..Default::default()
        };
        let request_id = "once".to_owned();
        v1::UpdateFlagRequest { flag: Some(flag), request_id, ..Default::default() }
    };
    ann.flags().update_flag(describe()).await.unwrap();
    ann.flags().update_flag(describe()).await.unwrap();
    let root = guarded.as_("root").await;
    let flag = v1::Flag {
        name: "flags/pay-a".into(),
        labels: [("team".to_owned(), "web".to_owned())].into(),
        ..Default::default()
    };
    let moved = v1::UpdateFlagRequest { flag: Some(flag), ..Default::default() };
    root.flags().update_flag(moved).await.unwrap();
    missing(ann.flags().update_flag(describe()).await);
    guarded.server.stop().await;
}
