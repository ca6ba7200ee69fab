//! What the port shows besides the API: reflection, health, a hint for browsers.

use crate::world::server;
use futures_util::StreamExt as _;
use harness::TestServer;
use tonic_reflection::pb::{v1, v1alpha};

async fn services_v1(server: &TestServer) -> Vec<String> {
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(
            String::new(),
        )),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(server.channel());
    let requests = futures_util::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("not a list: {answer:?}")
    };
    list.service.into_iter().map(|service| service.name).collect()
}

#[tokio::test]
async fn reflection_lists_what_is_served_in_both_versions() {
    let server = server().await;
    let services = services_v1(&server).await;
    for name in [
        "phasegate.v1.AuditService",
        "phasegate.v1.FlagService",
        "phasegate.v1.NotificationService",
        "phasegate.v1.PipelineService",
        "phasegate.v1.ReleaseService",
        "phasegate.rehearsal.v1.ClockService",
    ] {
        assert!(services.iter().any(|service| service == name), "{name} in {services:?}");
    }
    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(
            v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
                "phasegate.v1.ReleaseService".into(),
            ),
        ),
    };
    let mut client =
        v1alpha::server_reflection_client::ServerReflectionClient::new(server.channel());
    let requests = futures_util::stream::iter([request]);
    let mut answers = client.server_reflection_info(requests).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    assert!(
        matches!(
            answer,
            v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)
        ),
        "{answer:?}"
    );
    server.stop().await;
}

#[tokio::test]
async fn each_service_has_its_health() {
    let server = server().await;
    let mut health = tonic_health::pb::health_client::HealthClient::new(server.channel());
    for service in ["", "phasegate.v1.FlagService", "phasegate.v1.ReleaseService"] {
        let request = tonic_health::pb::HealthCheckRequest { service: service.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(
            status,
            tonic_health::pb::health_check_response::ServingStatus::Serving,
            "{service:?}"
        );
    }
    server.stop().await;
}
