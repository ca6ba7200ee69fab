//! Approvals, what goes round them, and acting as somebody else.

use super::{Guarded, lacks, reason, trigger_of};
use phasegate_api::v1;
use tonic::Code;

const POLICY: &str = "
- groups: [team]
  roles: [releaser, approver, operator]
- principals: ['token:breaker']
  roles: [operator]
  permissions: [bypass_approval, override_windows]
- principals: ['token:bot']
  roles: [approver]
- principals: ['token:trusted-bot']
  roles: [approver]
  permissions: [approve_as_service]
- principals: ['token:portal']
  permissions: [act_as]
- principals: ['token:boss']
  roles: [releaser, approver]
  permissions: [act_as]
";

/// With a release `r` of `pay-a` that awaits two approvals.
async fn guarded() -> Guarded {
    let guarded = Guarded::start(POLICY).await;
    for name in ["ann", "bob", "cleo"] {
        guarded.tokens.person(name, &["team"]);
    }
    guarded.tokens.person("breaker", &[]);
    guarded.tokens.person("boss", &[]);
    for name in ["bot", "trusted-bot", "portal"] {
        guarded.tokens.service(name);
    }
    let guarded = guarded.with_flags().await;
    let root = guarded.as_("root").await;
    let approval = v1::ApprovalRequirement { min_approvals: 2, ..Default::default() };
    let mut pipeline = crate::server::create_pipeline().pipeline.unwrap();
    pipeline.name = "pipelines/p".into();
    pipeline.phases[0].approval = Some(approval);
    let update = v1::UpdatePipelineRequest { pipeline: Some(pipeline), ..Default::default() };
    root.pipelines().update_pipeline(update).await.unwrap();
    guarded
}

async fn triggered_by(guarded: &Guarded, who: &str) {
    let client = guarded.as_(who).await;
    client.releases().trigger_release(trigger_of("r", "pay-a")).await.unwrap();
}

fn approve() -> v1::ApprovePhaseRequest {
    v1::ApprovePhaseRequest {
        name: "releases/r".into(),
        phase_id: "canary".into(),
        ..Default::default()
    }
}

fn skip(bypass_approval: bool) -> v1::SkipPhaseRequest {
    v1::SkipPhaseRequest {
        name: "releases/r".into(),
        phase_id: "canary".into(),
        reason: "it burns".into(),
        bypass_approval,
        ..Default::default()
    }
}

fn acting(token: &str, principal: &str, groups: &str) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("authorization", format!("Bearer {token}")),
        ("phasegate-principal", principal.to_owned()),
    ];
    if !groups.is_empty() {
        headers.push(("phasegate-groups", groups.to_owned()));
    }
    headers
}

#[tokio::test]
async fn a_service_account_approves_only_if_the_policy_says_so_by_name() {
    let guarded = guarded().await;
    triggered_by(&guarded, "ann").await;
    let own = guarded.as_("ann").await.releases().approve_phase(approve()).await.unwrap_err();
    assert_eq!(reason(&own).0, "SELF_APPROVAL");
    let bot = guarded.as_("bot").await;
    lacks(bot.releases().approve_phase(approve()).await, "approve_as_service");
    let trusted = guarded.as_("trusted-bot").await;
    trusted.releases().approve_phase(approve()).await.unwrap();
    let bob = guarded.as_("bob").await.releases().approve_phase(approve()).await.unwrap();
    let release = bob.into_inner().release.unwrap();
    assert_eq!(release.state(), v1::ReleaseState::Baking, "two are enough");
    guarded.server.stop().await;
}

#[tokio::test]
async fn going_round_approvals_and_windows_takes_permissions_that_no_role_has() {
    let guarded = guarded().await;
    triggered_by(&guarded, "ann").await;
    let bob = guarded.as_("bob").await;
    lacks(bob.releases().skip_phase(skip(true)).await, "bypass_approval");
    let pending = bob.releases().skip_phase(skip(false)).await.unwrap_err();
    assert_eq!(reason(&pending).0, "APPROVAL_PENDING");
    let rollout = |bypass_approval, override_windows| v1::FullRolloutRequest {
        name: "releases/r".into(),
        reason: "it burns".into(),
        bypass_approval,
        override_windows,
        ..Default::default()
    };
    lacks(bob.releases().full_rollout(rollout(true, false)).await, "bypass_approval");
    lacks(bob.releases().full_rollout(rollout(false, true)).await, "override_windows");
    let window = v1::OverrideWindowRequest {
        name: "releases/r".into(),
        phase_id: "canary".into(),
        reason: "it burns".into(),
        ..Default::default()
    };
    lacks(bob.releases().override_window(window.clone()).await, "override_windows");
    let breaker = guarded.as_("breaker").await;
    let early = breaker.releases().override_window(window).await.unwrap_err();
    assert_eq!(reason(&early).0, "PHASE_NOT_AWAITING_WINDOW");
    breaker.releases().full_rollout(rollout(true, true)).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn stopping_needs_no_approval_and_is_open_to_who_is_on_call() {
    let guarded = guarded().await;
    triggered_by(&guarded, "ann").await;
    let breaker = guarded.as_("breaker").await;
    let pause = v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() };
    breaker.releases().pause_release(pause).await.unwrap();
    let abort = v1::AbortReleaseRequest {
        name: "releases/r".into(),
        reason: "enough".into(),
        ..Default::default()
    };
    breaker.releases().abort_release(abort).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn who_acts_as_somebody_has_their_permissions_and_no_others() {
    let guarded = guarded().await;
    let as_ann = guarded.with(acting("portal", "token:ann", "team")).await;
    let release = as_ann.releases().trigger_release(trigger_of("r", "pay-a")).await.unwrap();
    let creator = release.into_inner().release.unwrap().creator.unwrap();
    assert_eq!(creator.principal, "token:ann");
    let told = as_ann.access().get_identity(v1::GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!((&*told.principal, &*told.authenticated), ("token:ann", "token:portal"));
    assert!(told.permissions.iter().all(|granted| granted.permission != "act_as"), "{told:?}");

    let as_nobody_known = guarded.with(acting("portal", "token:dora", "")).await;
    let list = v1::ListFlagsRequest::default();
    lacks(as_nobody_known.flags().list_flags(list.clone()).await, "read");
    let itself = guarded.as_("portal").await;
    lacks(itself.flags().list_flags(list.clone()).await, "read");
    // Not again: the boss may act as others, and whoever acts as the boss may not.
    let as_boss = guarded.with(acting("portal", "token:boss", "")).await;
    let boss = as_boss.access().get_identity(v1::GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!(boss.principal, "token:boss");
    // Without the permission the keys are refused, whatever they say.
    for principal in ["token:bob", "token:root"] {
        let ann = guarded.with(acting("ann", principal, "")).await;
        lacks(ann.flags().list_flags(list.clone()).await, "act_as");
    }
    let mut only_groups = acting("portal", "", "team");
    only_groups.remove(1);
    let refused = guarded.with(only_groups).await.flags().list_flags(list).await.unwrap_err();
    assert_eq!((refused.code(), &*reason(&refused).0), (Code::InvalidArgument, "INVALID_FIELD"));
    guarded.server.stop().await;
}

#[tokio::test]
async fn nobody_is_two_pairs_of_eyes() {
    let guarded = guarded().await;
    // The boss asks for it in Ann's name, and cannot approve: not as the boss, not as Bob.
    let as_ann = guarded.with(acting("boss", "token:ann", "team")).await;
    as_ann.releases().trigger_release(trigger_of("r", "pay-a")).await.unwrap();
    let boss = guarded.as_("boss").await;
    lacks(boss.releases().approve_phase(approve()).await, "approve_as_service");
    let as_bob = guarded.with(acting("boss", "token:bob", "team")).await;
    lacks(as_bob.releases().approve_phase(approve()).await, "approve_as_service");
    let as_ann = as_ann.releases().approve_phase(approve()).await;
    lacks(as_ann, "approve_as_service");
    let cleo = guarded.as_("cleo").await;
    cleo.releases().approve_phase(approve()).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn people_can_see_what_they_may() {
    let guarded = guarded().await;
    let ann = guarded.as_("ann").await;
    let told = ann.access().get_identity(v1::GetIdentityRequest {}).await.unwrap().into_inner();
    assert_eq!((&*told.principal, &*told.display_name), ("token:ann", "ann"));
    assert_eq!(told.groups, ["team"]);
    let roles: Vec<_> = told.roles.iter().map(|role| role.role.as_str()).collect();
    assert_eq!(roles, ["approver", "operator", "releaser"]);
    let trigger = told.permissions.iter().find(|granted| granted.permission == "trigger").unwrap();
    assert!(trigger.scopes.iter().any(|scope| scope.labels.is_empty()), "everywhere");
    assert!(!told.open && !told.service_account && told.expire_time.is_none());
    guarded.server.stop().await;

    let open = crate::server::Server::start().await;
    let mut access = v1::access_service_client::AccessServiceClient::new(open.channel().await);
    let told = access.get_identity(v1::GetIdentityRequest {}).await.unwrap().into_inner();
    assert!(told.open && told.principal == "anonymous");
    open.stop().await;
}
