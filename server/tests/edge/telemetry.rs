//! What a server tells of itself: metrics over a socket, probes, and the trace of a call in what comes of
//! it.

use crate::server::{START, Server, config, within};
use phasegate_api::v1::{self, audit_entry::Act};
use phasegate_server::{
    app::{App, Error, Parts},
    config::{Config, Telemetry},
};
use std::{net::SocketAddr, sync::mpsc};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn with_metrics() -> Config {
    let listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Config { telemetry: Telemetry { listen, ..Telemetry::default() }, ..config() }
}

/// Asks for a path as a browser or Prometheus does; gives the status, and all of the answer.
async fn ask(address: SocketAddr, path: &str, host: &str) -> (u16, String) {
    let talk = async {
        let mut tcp = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        tcp.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = within(talk).await;
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("{answer}")), answer)
}

/// The value of a series.
async fn value(server: &Server, series: &str) -> f64 {
    let (status, text) = ask(server.metrics.unwrap(), "/metrics", "127.0.0.1").await;
    assert_eq!(status, 200, "{text}");
    let lines = || text.lines().filter_map(|line| line.rsplit_once(' '));
    let found = lines().find(|(name, _)| *name == series);
    let (_, value) = found.unwrap_or_else(|| panic!("{series}: {text}"));
    value.trim().parse().unwrap()
}

#[tokio::test]
async fn a_pause_moves_the_counters_that_are_scraped() {
    let server = Server::start_with(with_metrics()).await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let paused = "phasegate_release_transitions_total{phasegate_event_type=\"PAUSED\"}";
    let refused = "phasegate_refusals_total{error_type=\"ALREADY_PAUSED\"}";
    let baking = "phasegate_releases{phasegate_release_state=\"baking\"}";
    let held = "phasegate_releases{phasegate_release_state=\"held\"}";
    for (series, expected) in [(paused, 0.0), (refused, 0.0), (baking, 1.0), (held, 0.0)] {
        assert_eq!(value(&server, series).await, expected, "{series}");
    }
    server.pause("r").await;
    let again = v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() };
    server.releases().await.pause_release(again).await.unwrap_err();
    for (series, expected) in [(paused, 1.0), (refused, 1.0), (baking, 0.0), (held, 1.0)] {
        assert_eq!(value(&server, series).await, expected, "{series}");
    }
    let calls = |code: &str| {
        format!(
            "rpc_server_call_duration_seconds_count{{rpc_system_name=\"grpc\",\
             rpc_method=\"phasegate.v1.ReleaseService/PauseRelease\",\
             rpc_response_status_code=\"{code}\"}}"
        )
    };
    assert_eq!(value(&server, &calls("OK")).await, 1.0);
    assert_eq!(value(&server, &calls("FAILED_PRECONDITION")).await, 1.0);
    assert_eq!(value(&server, "phasegate_store_writable").await, 1.0);
    assert!(value(&server, "phasegate_store_revision").await >= 4.0);
    let _held = server.channel().await;
    assert!(value(&server, "phasegate_connections").await >= 1.0);
    server.stop().await;
}

#[tokio::test]
async fn watches_that_are_open_are_counted_and_do_not_lag() {
    let server = Server::start_with(with_metrics()).await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let request = v1::WatchReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let watch = server.releases().await.watch_release(request).await.unwrap();
    let mut watch = watch.into_inner();
    within(watch.message()).await.unwrap().unwrap();
    assert_eq!(value(&server, "phasegate_watch_streams").await, 1.0);
    server.pause("r").await;
    within(watch.message()).await.unwrap().unwrap();
    assert!(value(&server, "phasegate_watch_lag").await <= 1.0);
    server.stop().await;
}

#[tokio::test]
async fn probes_say_how_far_the_server_is() {
    let config = with_metrics();
    let parts = Parts::of(&config);
    let (go_on, wait) = mpsc::channel::<()>();
    let open = parts.open_store;
    let parts = Parts {
        open_store: Box::new(move || {
            wait.recv().unwrap();
            open()
        }),
        ..parts
    };
    let server = Server::start_unready(config, parts).await;
    let address = server.metrics.unwrap();
    assert_eq!(ask(address, "/livez", "localhost").await.0, 200);
    let (status, text) = ask(address, "/readyz", "localhost").await;
    assert!(status == 503 && text.contains("reads its store"), "{text}");
    assert_eq!(ask(address, "/metrics", "localhost").await.0, 200);
    go_on.send(()).unwrap();
    server.serves().await;
    assert_eq!(ask(address, "/readyz", "localhost").await.0, 200);
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_on_a_port_of_their_own_and_for_who_asks_by_address() {
    let server = Server::start_with(with_metrics()).await;
    let (port, metrics) = (server.address, server.metrics.unwrap());
    for path in ["/metrics", "/livez", "/readyz"] {
        assert_eq!(ask(port, path, "localhost").await.0, 404, "{path}");
        assert_eq!(ask(metrics, path, "rebound.example").await.0, 421, "{path}");
    }
    assert_eq!(ask(metrics, "/releases", "localhost").await.0, 404);
    server.stop().await;
}

#[tokio::test]
async fn metrics_are_not_shown_to_a_network_unless_that_is_asked_for() {
    let mut config = with_metrics();
    config.telemetry.listen = Some("0.0.0.0:0".parse().unwrap());
    let refused = App::bind(config).await.map(|_| ()).unwrap_err();
    assert!(matches!(refused, Error::Config(_)), "{refused:?}");
}

#[tokio::test]
async fn the_names_of_things_and_people_are_in_no_metric() {
    let server = Server::start_with(with_metrics()).await.with_flag_and_pipeline().await;
    let mut trigger = Request::new(crate::server::trigger("canary-release"));
    trigger.metadata_mut().insert("phasegate-principal", "canary-person".parse().unwrap());
    server.releases().await.trigger_release(trigger).await.unwrap();
    let mut unknown = server.releases().await;
    let missing = v1::GetReleaseRequest { name: "releases/canary-missing".into() };
    unknown.get_release(missing).await.unwrap_err();
    let (_, text) = ask(server.metrics.unwrap(), "/metrics", "localhost").await;
    for name in ["canary", "checkout", "127.0.0.1"] {
        assert!(!text.contains(name), "{text}");
    }
    server.stop().await;
}

/// Pauses a release with this header, and gives the traces of the event and of the audit entry.
async fn traces(header: Option<&str>) -> (Option<String>, String) {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let pause = v1::PauseReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let mut pause = Request::new(pause);
    if let Some(header) = header {
        pause.metadata_mut().insert("traceparent", header.parse().unwrap());
    }
    server.releases().await.pause_release(pause).await.unwrap();
    let list = v1::ListReleaseEventsRequest {
        parent: "releases/r".into(),
        newest_first: true,
        ..Default::default()
    };
    let listed = server.releases().await.list_release_events(list).await.unwrap().into_inner();
    let newest = &listed.events[0];
    assert_eq!(newest.event_type(), v1::ReleaseEventType::Paused);
    let entries = v1::ListAuditEntriesRequest { page_size: 1, ..Default::default() };
    let entries = server.audit().await.list_audit_entries(entries).await.unwrap().into_inner();
    let Some(Act::Call(call)) = &entries.entries[0].act else { panic!("{entries:?}") };
    assert_eq!(call.method, "PauseRelease");
    let found = (newest.details.get("traceparent").cloned(), call.traceparent.clone());
    server.stop().await;
    found
}

#[tokio::test]
async fn the_trace_of_a_call_is_in_its_event_and_on_record() {
    assert_eq!(traces(Some(TRACE)).await, (Some(TRACE.into()), TRACE.into()));
}

#[tokio::test]
async fn a_trace_that_makes_no_sense_is_as_if_there_were_none() {
    for header in [None, Some("00-nonsense"), Some(&TRACE[..54])] {
        assert_eq!(traces(header).await, (None, String::new()), "{header:?}");
    }
}

#[tokio::test]
async fn what_a_timer_did_belongs_to_no_trace() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    let mut trigger = Request::new(crate::server::trigger("r"));
    trigger.metadata_mut().insert("traceparent", TRACE.parse().unwrap());
    server.releases().await.trigger_release(trigger).await.unwrap();
    let hours = Some(prost_types::Duration { seconds: 7200, nanos: 0 });
    let advance = phasegate_api::rehearsal::AdvanceRequest { duration: hours };
    server.clock().await.advance(advance).await.unwrap();
    let list = v1::ListReleaseEventsRequest { parent: "releases/r".into(), ..Default::default() };
    let listed = server.releases().await.list_release_events(list).await.unwrap().into_inner();
    assert!(listed.events.len() > 3, "since {START}: {listed:?}");
    for event in listed.events {
        let is_by_engine = event.actor.as_ref().unwrap().engine;
        assert_eq!(event.details.contains_key("traceparent"), !is_by_engine, "{event:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_method_that_is_not_there_is_counted_as_other() {
    let server = Server::start_with(with_metrics()).await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetFlagRequest, v1::GetFlagResponse>::default();
    let path = "/canary.v1.Service/Method".parse().unwrap();
    let answer = grpc.unary(Request::new(v1::GetFlagRequest::default()), path, codec).await;
    assert_eq!(answer.unwrap_err().code(), Code::Unimplemented);
    let series = "rpc_server_call_duration_seconds_count{rpc_system_name=\"grpc\",\
                  rpc_method=\"_OTHER\",rpc_response_status_code=\"UNIMPLEMENTED\"}";
    assert_eq!(value(&server, series).await, 1.0);
    server.stop().await;
}
