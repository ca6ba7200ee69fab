//! The audit chain, over a real socket.

use crate::server::{Server, create_flag, trigger, within};
use phasegate_api::v1::{self, audit_entry::Act};
use phasegate_server::store::{audit::AuditHead, chain};
use tonic::{Code, Request};

async fn entries(server: &Server, filter: v1::ListAuditEntriesRequest) -> Vec<v1::AuditEntry> {
    server.audit().await.list_audit_entries(filter).await.unwrap().into_inner().entries
}

fn call(entry: &v1::AuditEntry) -> &v1::AuditedCall {
    match &entry.act {
        Some(Act::Call(call)) => call,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn entries_are_listed_newest_first_by_what_is_asked_in_pages() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut releases = server.releases().await;
    releases.trigger_release(trigger("r")).await.unwrap();
    let pause = v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let mut by_bob = Request::new(pause.clone());
    by_bob.metadata_mut().insert("phasegate-principal", "bob".parse().unwrap());
    releases.pause_release(by_bob).await.unwrap();
    releases.pause_release(pause).await.unwrap_err();
    let all = entries(&server, v1::ListAuditEntriesRequest::default()).await;
    let methods: Vec<&str> = all.iter().map(|entry| &*call(entry).method).collect();
    let expected =
        ["PauseRelease", "PauseRelease", "TriggerRelease", "CreateFlag", "CreatePipeline"];
    assert_eq!(methods, expected);
    assert_eq!(call(&all[0]).refusal, "ALREADY_PAUSED");
    assert_eq!(call(&all[0]).outcome(), v1::AuditOutcome::Refused);
    assert!(call(&all[1]).revision > 0);
    assert!(call(&all[1]).peer.starts_with("127.0.0.1:"));
    let of = |filter| async { entries(&server, filter).await.len() };
    let by = |principal: &str| v1::ListAuditEntriesRequest {
        principal: principal.into(),
        ..Default::default()
    };
    assert_eq!(of(by("bob")).await, 1);
    assert_eq!(of(by("nobody")).await, 0);
    let about = |resource: &str| v1::ListAuditEntriesRequest {
        resource: resource.into(),
        ..Default::default()
    };
    assert_eq!(of(about("releases/r")).await, 3);
    let accepted = v1::ListAuditEntriesRequest {
        outcome: v1::AuditOutcome::Accepted.into(),
        ..about("releases/r")
    };
    assert_eq!(of(accepted).await, 2);
    let method = v1::ListAuditEntriesRequest { method: "CreateFlag".into(), ..Default::default() };
    assert_eq!(of(method).await, 1);
    let late = v1::ListAuditEntriesRequest {
        start_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..Default::default()
    };
    assert_eq!(of(late).await, 0);

    let mut audit = server.audit().await;
    let mut request = v1::ListAuditEntriesRequest { page_size: 2, ..Default::default() };
    let mut paged = Vec::new();
    loop {
        let page = audit.list_audit_entries(request.clone()).await.unwrap().into_inner();
        assert!(page.entries.len() <= 2);
        paged.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(paged, all);
    server.stop().await;
}

#[tokio::test]
async fn the_bytes_that_are_handed_out_are_the_chain() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut all = entries(&server, v1::ListAuditEntriesRequest::default()).await;
    all.reverse();
    let export: String =
        all.iter().map(|entry| format!("{} {}\n", entry.hash, entry.json)).collect();
    let end = chain::verify(&mut export.as_bytes(), AuditHead::EMPTY, None).unwrap();
    let head = server.audit().await.get_audit_head(v1::GetAuditHeadRequest {}).await;
    let head = head.unwrap().into_inner();
    assert_eq!((head.sequence, head.hash), (2, end.hash.to_string()));
    assert_eq!(all[1].previous_hash, all[0].hash);
    server.stop().await;
}

#[tokio::test]
async fn the_chain_is_followed_from_where_it_is_told_and_ends_with_the_server() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut audit = server.audit().await;
    let watch = v1::WatchAuditEntriesRequest { after_sequence: 1, ..Default::default() };
    let mut stream = audit.watch_audit_entries(watch).await.unwrap().into_inner();
    let first = within(stream.message()).await.unwrap().unwrap();
    assert_eq!((first.sequence, first.entry.unwrap().sequence), (2, 2));
    server.flags().await.create_flag(create_flag("g")).await.unwrap();
    let next = within(stream.message()).await.unwrap().unwrap();
    assert_eq!(next.sequence, 3);
    assert_eq!(call(&next.entry.unwrap()).resource, "flags/g");
    let ahead = v1::WatchAuditEntriesRequest { after_sequence: 4, ..Default::default() };
    let refused = audit.watch_audit_entries(ahead).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    let foreign = v1::WatchAuditEntriesRequest { after_sequence: 1, store_id: "other".into() };
    let refused = audit.watch_audit_entries(foreign).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let stopping = tokio::spawn(server.stop());
    let end = within(stream.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    within(stopping).await.unwrap();
}

#[tokio::test]
async fn what_cannot_be_parsed_is_on_record() {
    let server = Server::start().await;
    let wrong = v1::PauseReleaseRequest { name: "no name".into(), ..Default::default() };
    server.releases().await.pause_release(wrong).await.unwrap_err();
    let dry = v1::CreateFlagRequest { validate_only: true, ..Default::default() };
    server.flags().await.create_flag(dry).await.unwrap_err();
    // A note waits for nobody, and is taken before what comes after it.
    let all = entries(&server, v1::ListAuditEntriesRequest::default()).await;
    let [entry] = &all[..] else { panic!("{all:?}") };
    assert_eq!(call(entry).method, "PauseRelease");
    assert_eq!(call(entry).refusal, "INVALID_FIELD");
    server.stop().await;
}
