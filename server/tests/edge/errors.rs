//! Each kind of error as a client decodes it. The whole table is tested beside it, in `status`.

use crate::server::{Server, create_flag, trigger, within};
use phasegate_api::v1;
use std::collections::BTreeMap;
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

/// Code, reason and metadata of an error, of which there is exactly one ErrorInfo.
fn check(status: Status, code: Code, reason: &str, metadata: &[(&str, &str)]) {
    assert_eq!(status.code(), code, "{status:?}");
    let infos = status.get_error_details_vec();
    let infos = infos.iter().filter(|d| matches!(d, tonic_types::ErrorDetail::ErrorInfo(_)));
    assert_eq!(infos.count(), 1);
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.domain.as_str(), info.reason.as_str()), ("phasegate.v1", reason));
    let found: BTreeMap<_, _> =
        info.metadata.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for (key, value) in metadata {
        assert_eq!(found.get(key), Some(value), "{reason}: {found:?}");
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named() {
    let server = Server::start().await;
    let request = v1::GetReleaseRequest { name: "releases/none".into() };
    let error = server.releases().await.get_release(request).await.unwrap_err();
    check(error, Code::NotFound, "RESOURCE_NOT_FOUND", &[("resource", "releases/none")]);
    let request = v1::GetFlagRequest { name: "flags/none".into() };
    let error = server.flags().await.get_flag(request).await.unwrap_err();
    check(error, Code::NotFound, "RESOURCE_NOT_FOUND", &[("resource", "flags/none")]);
    let request = v1::GetPipelineRequest { name: "pipelines/none".into() };
    let error = server.pipelines().await.get_pipeline(request).await.unwrap_err();
    check(error, Code::NotFound, "RESOURCE_NOT_FOUND", &[("resource", "pipelines/none")]);
    server.stop().await;
}

#[tokio::test]
async fn all_violations_come_at_once_those_of_the_metadata_first() {
    let server = Server::start().await;
    let mut request = Request::new(create_flag("no good id"));
    request.get_mut().flag.as_mut().unwrap().description = "x".repeat(1025);
    request.metadata_mut().insert("phasegate-principal", "".parse().unwrap());
    let error = server.flags().await.create_flag(request).await.unwrap_err();
    let violations = error.get_details_bad_request().unwrap().field_violations;
    let fields: Vec<_> = violations.iter().map(|violation| violation.field.as_str()).collect();
    assert_eq!(fields[0], "metadata.phasegate-principal");
    assert!(fields.contains(&"flag_id") && fields.contains(&"flag.description"), "{fields:?}");
    check(error, Code::InvalidArgument, "INVALID_FIELD", &[]);
    server.stop().await;
}

#[tokio::test]
async fn a_missing_reason_is_asked_for_after_invalid_fields() {
    let server = Server::start().await;
    let request = v1::AbortReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let error = server.releases().await.abort_release(request.clone()).await.unwrap_err();
    check(error, Code::InvalidArgument, "REASON_REQUIRED", &[]);
    let mut request = Request::new(request);
    request.metadata_mut().insert("phasegate-principal", "".parse().unwrap());
    let error = server.releases().await.abort_release(request).await.unwrap_err();
    check(error, Code::InvalidArgument, "INVALID_FIELD", &[]);
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_about_a_release_is_a_failed_precondition_with_its_standing() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let paused = server.pause("r").await;
    let request = v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let error = server.releases().await.pause_release(request).await.unwrap_err();
    let precondition = error.get_details_precondition_failure().unwrap().violations.remove(0);
    assert_eq!((&*precondition.r#type, &*precondition.subject), ("ALREADY_PAUSED", "releases/r"));
    let revision = paused.revision.to_string();
    let standing = [
        ("release", "releases/r"),
        ("state", "PAUSED"),
        ("heldState", "BAKING"),
        ("phaseId", "canary"),
        ("revision", &*revision),
    ];
    check(error, Code::FailedPrecondition, "ALREADY_PAUSED", &standing);
    server.stop().await;
}

#[tokio::test]
async fn a_taken_id_and_an_active_release_are_named() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let error = server.releases().await.trigger_release(trigger("r")).await.unwrap_err();
    check(error, Code::AlreadyExists, "RESOURCE_EXISTS", &[("resource", "releases/r")]);
    let error = server.releases().await.trigger_release(trigger("s")).await.unwrap_err();
    let active = [("activeRelease", "releases/r")];
    check(error, Code::FailedPrecondition, "ACTIVE_RELEASE_EXISTS", &active);
    server.stop().await;
}

#[tokio::test]
async fn a_request_id_is_the_callers_and_stands_for_one_payload() {
    let server = Server::start().await;
    let call = async |principal: &'static str, flag: &str| {
        let mut request = Request::new(create_flag(flag));
        request.get_mut().request_id = "once".into();
        request.metadata_mut().insert("phasegate-principal", principal.parse().unwrap());
        within(server.flags().await.create_flag(request)).await
    };
    let first = call("ann", "a").await.unwrap().into_inner();
    let again = call("ann", "a").await.unwrap().into_inner();
    assert_eq!(first, again);
    let error = call("ann", "b").await.unwrap_err();
    check(error, Code::InvalidArgument, "REQUEST_ID_REUSED", &[]);
    call("bob", "b").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_page_token_of_another_listing_is_refused() {
    let server = Server::start().await;
    let request = v1::ListFlagsRequest { page_token: "whatever".into(), ..Default::default() };
    let error = server.flags().await.list_flags(request).await.unwrap_err();
    check(error, Code::InvalidArgument, "INVALID_PAGE_TOKEN", &[]);
    server.stop().await;
}
