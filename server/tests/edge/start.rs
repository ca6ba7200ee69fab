//! Starting: the address first, then recovery behind it.

use crate::server::{Server, config, create_flag, within};
use phasegate_server::{
    app::{App, Error, ExitCode, OpenStore, Parts},
    config::ClockSource,
    store,
};
use std::sync::mpsc;
use tonic::Code;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};
use tonic_types::StatusExt as _;

/// Every name that health knows.
const HEALTH_NAMES: &[&str] = &[
    "",
    "phasegate.v1.AuditService",
    "phasegate.v1.FlagService",
    "phasegate.v1.PipelineService",
    "phasegate.v1.ReleaseService",
    "phasegate.v1.NotificationService",
    "phasegate.v1.StoreService",
    "phasegate.rehearsal.v1.ClockService",
];

async fn health(server: &Server, service: &str) -> Option<ServingStatus> {
    let request = HealthCheckRequest { service: service.into() };
    server.health().await.check(request).await.ok().map(|answer| answer.into_inner().status())
}

#[tokio::test]
async fn until_recovery_is_over_the_server_answers_but_does_not_serve() {
    let (server, go_on) = Server::start_held().await;

    for name in HEALTH_NAMES {
        assert_eq!(health(&server, name).await, Some(ServingStatus::NotServing), "{name}");
    }
    let refused = server.flags().await.create_flag(create_flag("f")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().reason, "STORE_READ_ONLY");
    assert!(details.retry_info().unwrap().retry_delay.is_some());

    go_on.send(()).unwrap();
    server.serves().await;
    for name in HEALTH_NAMES {
        assert_eq!(health(&server, name).await, Some(ServingStatus::Serving), "{name}");
    }
    assert_eq!(health(&server, "phasegate.v1.Unknown").await, None);
    server.flags().await.create_flag(create_flag("f")).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_server_can_be_stopped_while_it_recovers() {
    let config = config();
    let (never, wait) = mpsc::channel::<()>();
    let open_store: OpenStore = Box::new(move || {
        let _ = wait.recv();
        Err(store::Error::Damaged("nobody sees this".into()))
    });
    let parts = Parts { open_store, ..Parts::of(&config) };
    let server = Server::start_unready(config, parts).await;
    server.stop().await;
    drop(never);
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_has_its_exit_code() {
    let check = async |error: fn() -> store::Error| {
        let config = config();
        let open_store: OpenStore = Box::new(move || Err(error()));
        let parts = Parts { open_store, ..Parts::of(&config) };
        let server = Server::start_unready(config, parts).await;
        server.ended().await.unwrap_err().exit_code()
    };
    let locked = || store::Error::Locked { dir: "data".into(), holder: "process 1".into() };
    let foreign = || store::Error::Foreign { dir: "data".into(), problem: "a cat".into() };
    let io = || store::Error::Io { doing: "opening".into(), source: std::io::Error::other("no") };
    assert_eq!(check(locked).await, ExitCode::InUse);
    assert_eq!(check(foreign).await, ExitCode::Config);
    assert_eq!(check(|| store::Error::Damaged("x".into())).await, ExitCode::Damaged);
    assert_eq!(check(io).await, ExitCode::Io);
    assert_eq!(check(|| store::Error::Full(std::io::Error::other("no"))).await, ExitCode::NoSpace);
}

#[tokio::test]
async fn a_refused_configuration_and_a_taken_port_have_their_exit_codes() {
    let mut open = config();
    open.listen = "0.0.0.0:0".parse().unwrap();
    let error = App::bind(open).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
    assert!(format!("{error}: {cause}").contains("0.0.0.0"), "{error}: {cause}");

    let first = App::bind(config()).await.unwrap();
    let mut second = config();
    second.listen = first.local_addr();
    let error = App::bind(second).await.unwrap_err();
    assert!(matches!(error, Error::Listen { .. }), "{error}");
    assert_eq!(error.exit_code(), ExitCode::Unavailable);
}

#[tokio::test]
async fn without_a_manual_clock_nothing_moves_time() {
    let mut config = config();
    config.clock = ClockSource::System;
    let server = Server::start_with(config).await;
    let get = phasegate_api::rehearsal::GetRequest {};
    let refused = within(server.clock().await.get(get)).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unimplemented);
    assert_eq!(health(&server, "phasegate.rehearsal.v1.ClockService").await, None);
    server.stop().await;
}
