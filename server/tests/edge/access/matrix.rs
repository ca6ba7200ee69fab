//! Every method with every role, and without any credential. The table here is the second statement of
//! who may what; the first is in `access/table.rs` and `access/permission.rs`.

use super::{Guarded, Service, reason};
use crate::server::within;
use prost::Message as _;
use std::collections::BTreeMap;
use tonic::{Code, Request, Status, client::Grpc, codegen::http::uri::PathAndQuery};
use tonic_prost::ProstCodec;

const ROLES: [&str; 5] = ["viewer", "releaser", "approver", "operator", "admin"];

/// Which roles let a method through the gate: `v`iewer, `r`eleaser, `a`pprover, `o`perator, ad`m`in.
/// `*`: whoever has a credential. `-`: no role.
const EXPECTED: &str = "
AccessService/GetIdentity *
FlagService/CreateFlag rm
FlagService/GetFlag vraom
FlagService/ListFlags vraom
FlagService/UpdateFlag rm
AuditService/ListAuditEntries m
AuditService/WatchAuditEntries m
AuditService/GetAuditHead m
StoreService/ExportStore m
NotificationService/ListSinks m
NotificationService/ListDeadLetters m
NotificationService/ReplayDeadLetters m
NotificationService/SendTestNotification m
FlagService/DeleteFlag rm
FlagService/SetKillSwitch om
FlagService/EvaluateFlag vraom
PipelineService/CreatePipeline m
PipelineService/GetPipeline vraom
PipelineService/ListPipelines vraom
PipelineService/UpdatePipeline m
PipelineService/DeletePipeline m
ReleaseService/TriggerRelease rm
ReleaseService/GetRelease vraom
ReleaseService/ListReleases vraom
ReleaseService/ApprovePhase am
ReleaseService/RejectPhase am
ReleaseService/PauseRelease rom
ReleaseService/UnpauseRelease rom
ReleaseService/SkipPhase rom
ReleaseService/OverrideWindow -
ReleaseService/AdjustBake rom
ReleaseService/AbortRelease rom
ReleaseService/FullRollout om
ReleaseService/ReportGuardSignal rom
ReleaseService/WaitRelease vraom
ReleaseService/WatchRelease vraom
ReleaseService/WatchReleases vraom
ReleaseService/ListReleaseEvents vraom
ClockService/Advance m
ClockService/Get *
FlagSyncService/SyncFlags m
FlagSyncService/FetchAllFlags m
FlagSyncService/GetMetadata m
Service/ResolveAll m
Service/ResolveBoolean m
Service/ResolveString m
Service/ResolveFloat m
Service/ResolveInt m
Service/ResolveObject m
Service/EventStream m
";

/// The methods of all services, by full path.
fn methods() -> Vec<String> {
    let files = prost_types::FileDescriptorSet::decode(phasegate_api::DESCRIPTORS).unwrap().file;
    let mut methods = Vec::new();
    for file in &files {
        for service in &file.service {
            for method in &service.method {
                let (package, service) = (file.package(), service.name());
                methods.push(format!("/{package}.{service}/{}", method.name()));
            }
        }
    }
    methods
}

/// Calls a method with an empty message, as far as the headers of its answer.
async fn call(service: Service, path: &str) -> Result<(), Status> {
    let mut grpc = Grpc::new(service);
    grpc.ready().await.unwrap();
    let path: PathAndQuery = path.parse().unwrap();
    let answer = grpc.server_streaming(Request::new(()), path, ProstCodec::<(), ()>::default());
    within(answer).await.map(|_| ())
}

#[tokio::test]
async fn every_method_lets_through_whom_its_row_says_and_nobody_else() {
    let expected: BTreeMap<&str, &str> =
        EXPECTED.split_terminator('\n').filter_map(|line| line.split_once(' ')).collect();
    let policy: String = ROLES
        .iter()
        .map(|role| format!("- principals: ['token:{role}']\n  roles: [{role}]\n"))
        .collect();
    let guarded = Guarded::start(&policy).await;
    ROLES.into_iter().for_each(|role| guarded.tokens.person(role, &[]));
    guarded.tokens.person("stranger", &[]);
    let (nobody, stranger) = (guarded.as_nobody().await, guarded.as_("stranger").await);
    let unknown = guarded.as_("nobody-knows").await;
    let mut clients = Vec::new();
    for role in ROLES {
        clients.push((role, guarded.as_(role).await));
    }
    for path in methods() {
        let (_, short) = path.rsplit_once('.').unwrap();
        let roles = expected.get(short).unwrap_or_else(|| panic!("nothing is said of {path}"));
        for (role, client) in &clients {
            let letter = if *role == "admin" { 'm' } else { role.chars().next().unwrap() };
            let may = *roles == "*" || roles.contains(letter);
            let refused = match call(client.0.clone(), &path).await {
                Ok(()) => false,
                Err(status) if status.code() == Code::Unimplemented => false,
                Err(status) => reason(&status).0 == "PERMISSION_MISSING",
            };
            assert_eq!(refused, !may, "{role} {path}");
        }
        for client in [&nobody, &unknown] {
            let status = call(client.0.clone(), &path).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{path}");
            assert_eq!(reason(&status).0, "UNAUTHENTICATED");
        }
        let stranger = call(stranger.0.clone(), &path).await;
        if *roles == "*" {
            stranger.unwrap();
        } else {
            assert_eq!(stranger.unwrap_err().code(), Code::PermissionDenied, "{path}");
        }
    }
    guarded.server.stop().await;
}

#[tokio::test]
async fn what_has_no_row_is_denied_health_is_open_and_reflection_needs_read() {
    let guarded = Guarded::start("").await;
    guarded.tokens.person("stranger", &[]);
    let root = guarded.as_("root").await;
    let none = call(root.0.clone(), "/phasegate.v1.FlagService/Explode").await.unwrap_err();
    assert_eq!(none.code(), Code::PermissionDenied);
    assert_eq!(reason(&none), ("PERMISSION_MISSING".into(), None));
    let nobody = guarded.as_nobody().await;
    call(nobody.0.clone(), "/grpc.health.v1.Health/Check").await.unwrap();
    let reflection = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let status = call(nobody.0.clone(), reflection).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    let stranger = guarded.as_("stranger").await;
    super::lacks(call(stranger.0, reflection).await, "read");
    call(root.0, reflection).await.unwrap();
    guarded.server.stop().await;
}

#[tokio::test]
async fn whoever_is_refused_at_the_gate_is_on_record() {
    let guarded = Guarded::start("").await;
    guarded.tokens.person("stranger", &[]);
    let path = "/phasegate.v1.FlagService/ListFlags";
    call(guarded.as_nobody().await.0, path).await.unwrap_err();
    call(guarded.as_("stranger").await.0, path).await.unwrap_err();
    call(guarded.as_("root").await.0, path).await.unwrap();
    let refused = guarded.refusals.0.lock().unwrap().clone();
    let told: Vec<_> = refused
        .iter()
        .map(|one| (one.principal.as_ref().map(ToString::to_string), one.reason))
        .collect();
    let stranger = Some("token:stranger".to_owned());
    assert_eq!(told, [(None, "UNAUTHENTICATED"), (stranger, "PERMISSION_MISSING")]);
    assert!(refused.iter().all(|one| one.method == path && one.peer.is_some()), "{refused:?}");
    guarded.server.stop().await;
}

#[tokio::test]
async fn who_authenticates_callers_has_to_say_what_they_may() {
    use phasegate_server::app::{App, ExitCode, Parts};
    let config = crate::server::config();
    let tokens = std::sync::Arc::new(super::Tokens::new());
    let parts = Parts { who: Some(tokens), ..Parts::of(&config) };
    let error = App::bind_with(config, parts).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    let mut config = crate::server::config();
    let dir = tempfile::tempdir().unwrap();
    config.policy = Some(dir.path().join("policy.yaml"));
    let error = App::bind(config.clone()).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config, "there is none");
    std::fs::write(dir.path().join("policy.yaml"), "bindings: [{everyone: true}]").unwrap();
    let error = App::bind(config).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config, "{error}");
}
