//! What is said before any method is reached: reflection, sizes, deadlines, other protocols.

use crate::server::{Server, config, create_flag, within};
use phasegate_api::v1;
use phasegate_server::config::ClockSource;
use std::collections::{BTreeMap, BTreeSet};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tonic::{Code, Request};
use tonic_reflection::pb;

async fn listed_by_v1(server: &Server) -> BTreeSet<String> {
    use pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let requests = tokio_stream::once(request);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = within(answers.message()).await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    list.service.into_iter().map(|service| service.name).collect()
}

async fn listed_by_v1alpha(server: &Server) -> BTreeSet<String> {
    use pb::v1alpha::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut client = ServerReflectionClient::new(server.channel().await);
    let request = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..Default::default()
    };
    let requests = tokio_stream::once(request);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = within(answers.message()).await.unwrap().unwrap().message_response;
    let Some(MessageResponse::ListServicesResponse(list)) = answer else { panic!("{answer:?}") };
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test]
async fn reflection_lists_exactly_what_is_served() {
    let mut expected: BTreeSet<String> = [
        "flagd.evaluation.v1.Service",
        "flagd.evaluation.v2.Service",
        "flagd.sync.v1.FlagSyncService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
        "phasegate.v1.AuditService",
        "phasegate.v1.AccessService",
        "phasegate.v1.FlagService",
        "phasegate.v1.NotificationService",
        "phasegate.v1.PipelineService",
        "phasegate.v1.ReleaseService",
        "phasegate.v1.StoreService",
    ]
    .map(str::to_owned)
    .into();

    let mut production = config();
    production.clock = ClockSource::System;
    let server = Server::start_with(production).await;
    assert_eq!(listed_by_v1(&server).await, expected);
    assert_eq!(listed_by_v1alpha(&server).await, expected);
    server.stop().await;

    let server = Server::start().await;
    expected.insert("phasegate.rehearsal.v1.ClockService".to_owned());
    assert_eq!(listed_by_v1(&server).await, expected);
    assert_eq!(listed_by_v1alpha(&server).await, expected);
    server.stop().await;
}

#[tokio::test]
async fn a_request_that_is_too_large_is_refused_by_the_transport() {
    let server = Server::start().await;
    let mut request = create_flag("f");
    request.flag.as_mut().unwrap().description = "x".repeat(1 << 20);
    let refused = within(server.flags().await.create_flag(request)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange);
    assert!(refused.details().is_empty(), "it is the transport's, not ours");
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_method_is_unimplemented() {
    let server = Server::start().await;
    let mut grpc = tonic::client::Grpc::new(server.channel().await);
    grpc.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<v1::GetFlagRequest, v1::GetFlagResponse>::default();
    let path = http::uri::PathAndQuery::from_static("/phasegate.v1.NoService/NoMethod");
    let request = Request::new(v1::GetFlagRequest::default());
    let refused = within(grpc.unary(request, path, codec)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    server.stop().await;
}

/// Sends one request over HTTP/1.1, and returns the first line and the body of the answer.
async fn over_http_1(server: &Server, head: &str) -> (String, String) {
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    let request = format!("{head} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    tcp.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    within(tcp.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

#[tokio::test]
async fn a_browser_gets_pages_and_where_there_is_none_a_404() {
    let server = Server::start().await;
    let (status, _) = over_http_1(&server, "GET /").await;
    assert_eq!(status, "HTTP/1.1 307 Temporary Redirect");
    let (status, body) = over_http_1(&server, "GET /releases").await;
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.starts_with("<!DOCTYPE html>"), "{body}");
    let (status, _) = over_http_1(&server, "GET /phasegate.v1.FlagService/GetFlag").await;
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    let (status, _) = over_http_1(&server, "POST /releases").await;
    assert_eq!(status, "HTTP/1.1 403 Forbidden", "it does not come from a page of ours");
    server.stop().await;
}

/// What the server announces in its first frame, by the numbers of RFC 9113.
#[tokio::test]
async fn the_settings_of_http_2_are_those_that_are_documented() {
    let server = Server::start().await;
    let mut tcp = TcpStream::connect(server.address).await.unwrap();
    tcp.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    within(tcp.read_exact(&mut head)).await.unwrap();
    let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    assert_eq!(head[3], 4, "SETTINGS come first");
    let mut payload = vec![0; len as usize];
    within(tcp.read_exact(&mut payload)).await.unwrap();
    let settings: BTreeMap<u16, u32> = payload
        .chunks(6)
        .map(|s| (u16::from_be_bytes([s[0], s[1]]), u32::from_be_bytes([s[2], s[3], s[4], s[5]])))
        .collect();
    assert_eq!(settings.get(&3), Some(&256), "MAX_CONCURRENT_STREAMS: {settings:?}");
    assert_eq!(settings.get(&6), Some(&8192), "MAX_HEADER_LIST_SIZE: {settings:?}");
    drop(tcp);
    server.stop().await;
}

#[tokio::test]
async fn more_connections_than_configured_are_closed() {
    let mut config = config();
    config.edge.connections_max = 1;
    let server = Server::start_with(config).await;
    // The one that `start_with` used may still be closing; a held one is waited for.
    let held = loop {
        let mut held = TcpStream::connect(server.address).await.unwrap();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        if held.write_all(preface).await.is_ok() && within(held.read_u8()).await.is_ok() {
            break held;
        }
    };
    let mut refused = TcpStream::connect(server.address).await.unwrap();
    let read = within(refused.read(&mut [0])).await;
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
    drop(held);
    server.stop().await;
}
