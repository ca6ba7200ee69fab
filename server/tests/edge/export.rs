//! The store as text, over a real socket.

use crate::{
    access::{Guarded, reason},
    server::{START, Server, create_flag, trigger, within},
};
use phasegate_api::v1::{
    self, ExportStoreRequest, ExportStoreResponse, StoreSnapshot, audit_entry::Act,
    export_store_response::Part, store_service_client::StoreServiceClient,
};
use phasegate_server::store::{
    Store as _, StoreId,
    memory::{self, Disk},
    tools,
};
use sha2::{Digest as _, Sha256};
use tonic::{Code, Streaming};

async fn begin(server: &Server) -> (StoreSnapshot, Streaming<ExportStoreResponse>) {
    let mut store = StoreServiceClient::new(server.channel().await);
    let mut messages = store.export_store(ExportStoreRequest {}).await.unwrap().into_inner();
    let first = within(messages.message()).await.unwrap().unwrap();
    let Some(Part::Snapshot(snapshot)) = first.part else { panic!("{first:?}") };
    (snapshot, messages)
}

/// A text that no buffer on the way takes whole: whoever does not read holds it up.
async fn fill(server: &Server) {
    let mut flags = server.flags().await;
    for n in 0..60 {
        let mut create = create_flag(&format!("large-{n}"));
        let text = prost_types::value::Kind::StringValue("x".repeat(60_000));
        let config = v1::ConfigSpec {
            default_value: Some(prost_types::Struct {
                fields: [("text".to_owned(), prost_types::Value { kind: Some(text) })].into(),
            }),
            ..Default::default()
        };
        create.flag.as_mut().unwrap().spec = Some(v1::flag::Spec::DynamicConfig(config));
        flags.create_flag(create).await.unwrap();
    }
}

#[tokio::test]
async fn the_text_is_whole_and_makes_the_same_store_again() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    fill(&server).await;
    let (snapshot, mut messages) = begin(&server).await;
    let (mut text, mut end) = (Vec::new(), None);
    while let Some(message) = within(messages.message()).await.unwrap() {
        assert!(end.is_none(), "nothing comes behind the end");
        match message.part.unwrap() {
            Part::Text(piece) => {
                assert!(piece.len() <= 1 << 20);
                text.extend(piece);
            }
            Part::End(is) => end = Some(is),
            Part::Snapshot(again) => panic!("{again:?}"),
        }
    }
    let end = end.unwrap();
    assert_eq!(usize::try_from(end.bytes).unwrap(), text.len());
    let sum: String = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(end.sha256, sum);

    let mut store = memory::open(&Disk::new(), StoreId::fresh()).unwrap();
    tools::import_into(&mut store, &mut &*text, START, &mut |_| {}).unwrap();
    let image = store.load().unwrap();
    assert_eq!(image.state.revision().get(), u64::try_from(snapshot.revision).unwrap());
    assert_eq!((image.state.flags().count(), image.state.releases().count()), (61, 1));
    assert_eq!(tools::inspect(&mut &*text).unwrap().store_id.to_string(), snapshot.store_id);

    let list = v1::ListAuditEntriesRequest { method: "ExportStore".into(), ..Default::default() };
    let entries = server.audit().await.list_audit_entries(list).await.unwrap().into_inner().entries;
    assert_eq!(entries.len(), 1);
    let Some(Act::Call(call)) = &entries[0].act else { panic!("{entries:?}") };
    assert_eq!(call.outcome(), v1::AuditOutcome::Accepted);
    server.stop().await;
}

#[tokio::test]
async fn there_are_two_at_a_time_and_calls_go_on_meanwhile() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    fill(&server).await;
    let (first, second) = (begin(&server).await, begin(&server).await);
    let mut store = StoreServiceClient::new(server.channel().await);
    let refused = within(store.export_store(ExportStoreRequest {})).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).0.as_str()),
        (Code::ResourceExhausted, "OVERLOADED")
    );
    server.releases().await.trigger_release(trigger("r")).await.unwrap();
    drop((first, second));
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_ends_it_without_an_end() {
    let server = Server::start().await;
    fill(&server).await;
    let (_, mut messages) = begin(&server).await;
    let stopped = server.ask_to_stop();
    let status = loop {
        match within(messages.message()).await {
            Ok(Some(message)) => assert!(!matches!(message.part, Some(Part::End(_)))),
            Ok(None) => panic!("the stream ended with OK"),
            Err(status) => break status,
        }
    };
    assert_eq!((status.code(), reason(&status).0.as_str()), (Code::Unavailable, "SERVER_DRAINING"));
    within(stopped).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_job_that_makes_backups_needs_nothing_else() {
    let guarded =
        Guarded::start("- principals: ['token:backup']\n  permissions: [back_up]\n").await;
    guarded.tokens.service("backup");
    let job = guarded.as_("backup").await;
    let mut store = StoreServiceClient::new(job.0.clone());
    let mut messages = store.export_store(ExportStoreRequest {}).await.unwrap().into_inner();
    let mut last = None;
    while let Some(message) = within(messages.message()).await.unwrap() {
        last = message.part;
    }
    assert!(matches!(last, Some(Part::End(_))));
    guarded.server.stop().await;
}
