//! Stopping: streams first, then calls, then what is left.

use crate::server::{Server, config, create_flag, within};
use phasegate_api::v1;
use std::time::Duration;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt as _;

#[tokio::test]
async fn a_server_that_stops_says_not_serving_ends_streams_and_closes() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("r").await;
    let address = server.address;
    let request = HealthCheckRequest { service: "phasegate.v1.ReleaseService".into() };
    let mut health = server.health().await.watch(request).await.unwrap().into_inner();
    assert_eq!(within(health.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);

    let mut releases = server.releases().await;
    let request = v1::WatchReleaseRequest { name: "releases/r".into(), ..Default::default() };
    let mut watch = releases.watch_release(request).await.unwrap().into_inner();
    within(watch.message()).await.unwrap().unwrap();
    let request = v1::WaitReleaseRequest {
        name: "releases/r".into(),
        until_over: true,
        ..Default::default()
    };
    let waiting = tokio::spawn(async move { releases.wait_release(request).await });
    let ended = server.ask_to_stop();
    let status = within(health.message()).await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    for end in
        [within(watch.message()).await.unwrap_err(), within(waiting).await.unwrap().unwrap_err()]
    {
        assert_eq!(end.code(), Code::Unavailable, "{end:?}");
        let details = end.get_error_details();
        assert_eq!(details.error_info().unwrap().reason, "SERVER_DRAINING");
        assert!(details.retry_info().is_some());
    }
    assert!(within(health.message()).await.unwrap().is_none(), "health ends, too");
    within(ended).await.unwrap().unwrap();
    let refused = tokio::net::TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn during_the_notice_everything_is_still_served() {
    let mut config = config();
    config.drain.notice = Duration::from_secs(2);
    let server = Server::start_with(config).await;
    let mut flags = server.flags().await;
    let mut health = server.health().await;
    let request = HealthCheckRequest { service: String::new() };
    let mut statuses = health.watch(request).await.unwrap().into_inner();
    within(statuses.message()).await.unwrap().unwrap();
    let ended = server.ask_to_stop();
    let status = within(statuses.message()).await.unwrap().unwrap().status();
    assert_eq!(status, ServingStatus::NotServing);
    flags.create_flag(create_flag("f")).await.unwrap();
    // Nobody is left to be kind to, so the notice ends early.
    drop((flags, health, statuses));
    within(ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn what_does_not_end_by_itself_is_dropped_at_the_limit() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    };
    let mut config = config();
    config.drain.limit = Duration::from_millis(50);
    let server = Server::start_with(config).await;
    // A stream that only its client ends.
    let mut reflection = ServerReflectionClient::new(server.channel().await);
    let requests = tokio_stream::pending::<ServerReflectionRequest>();
    let mut stream = reflection.server_reflection_info(requests).await.unwrap().into_inner();
    // A peer that has connected and says nothing.
    let _silent = tokio::net::TcpStream::connect(server.address).await.unwrap();
    within(server.ask_to_stop()).await.unwrap().unwrap();
    assert!(within(stream.message()).await.is_err());
}
