//! Notifications, from a release to a receiver, and the service that looks at them.

use crate::server::{Server, config, within};
use phasegate_api::{
    rehearsal::AdvanceRequest,
    v1::{self, SinkState, notification_service_client::NotificationServiceClient as Client},
};
use phasegate_server::app::{App, Error, ExitCode};
use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpListener,
    sync::mpsc,
};
use tonic::{Code, transport::Channel};

/// A receiver that answers with these, one after the other, and then with the last; and the bodies that
/// it was sent.
async fn receiver(replies: &'static [&'static str]) -> (u16, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (tell, bodies) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        for number in 0.. {
            let Ok((stream, _)) = listener.accept().await else { return };
            let mut stream = BufReader::new(stream);
            let mut length = 0;
            loop {
                let mut line = String::new();
                stream.read_line(&mut line).await.unwrap();
                if let Some(text) = line.trim_end().strip_prefix("content-length: ") {
                    length = text.parse().unwrap();
                }
                if line.trim_end().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.unwrap();
            let reply = replies.get(number).or_else(|| replies.last()).unwrap();
            let head = format!("HTTP/1.1 {reply}\r\ncontent-length: 0\r\n\r\n");
            stream.write_all(head.as_bytes()).await.unwrap();
            if tell.send(String::from_utf8(body).unwrap()).is_err() {
                return;
            }
        }
    });
    (port, bodies)
}

/// A file with one sink that leads to this port.
fn file(dir: &Path, port: u16) -> std::path::PathBuf {
    fs::write(dir.join("secret"), "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
    fs::set_permissions(dir.join("secret"), fs::Permissions::from_mode(0o600)).unwrap();
    let text = format!(
        "allowed_hosts: [127.0.0.1]\nallowed_ports: [{port}]\nsinks:\n  - id: ops\n    webhook:\n      \
         url: http://127.0.0.1:{port}/hook?token=canary\n      secrets: [secret]\n      \
         allow_insecure_loopback: true\n    subscriptions: [{{events: ['phasegate.release.started.v1']}}]\n"
    );
    let path = dir.join("notifications.yaml");
    fs::write(&path, text).unwrap();
    path
}

async fn client(server: &Server) -> Client<Channel> {
    Client::new(server.channel().await)
}

async fn sink(client: &mut Client<Channel>) -> v1::Sink {
    let sinks = client.list_sinks(v1::ListSinksRequest {}).await.unwrap().into_inner().sinks;
    let [sink] = &sinks[..] else { panic!("{sinks:?}") };
    sink.clone()
}

/// Asks again as soon as it was answered.
async fn until(client: &mut Client<Channel>, what: impl Fn(&v1::Sink) -> bool) -> v1::Sink {
    within(async {
        loop {
            let sink = sink(client).await;
            if what(&sink) {
                return sink;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

async fn serve(port: u16, dir: &Path) -> Server {
    let mut config = config();
    config.notifications = Some(file(dir, port));
    Server::start_with(config).await
}

#[tokio::test]
async fn what_a_receiver_refuses_comes_again_by_the_server_s_clock() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut bodies) = receiver(&["500 No", "204 Yes"]).await;
    let server = serve(port, dir.path()).await.with_flag_and_pipeline().await;
    server.trigger("r-1").await;
    let first = within(bodies.recv()).await.unwrap();
    let mut client = client(&server).await;
    let failed = until(&mut client, |sink| sink.failed == 1 && !sink.last_error.is_empty()).await;
    assert_eq!((&*failed.last_error, failed.pending), ("answered 500", 1));
    assert_eq!(failed.address, format!("http://127.0.0.1:{port}/hook"));
    assert_eq!(failed.state(), SinkState::Open);
    let duration = Some(prost_types::Duration { seconds: 7, nanos: 0 });
    server.clock().await.advance(AdvanceRequest { duration }).await.unwrap();
    assert_eq!(within(bodies.recv()).await.unwrap(), first, "the same, with the same id");
    let done = until(&mut client, |sink| sink.delivered == 1).await;
    assert_eq!((done.pending, done.dead), (0, 0));
    server.stop().await;
}

#[tokio::test]
async fn what_was_given_up_is_listed_and_sent_again_with_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut bodies) = receiver(&["410 Gone"]).await;
    let server = serve(port, dir.path()).await.with_flag_and_pipeline().await;
    server.trigger("r-1").await;
    let body: serde_json::Value =
        serde_json::from_str(&within(bodies.recv()).await.unwrap()).unwrap();
    let mut client = client(&server).await;
    let gone = until(&mut client, |sink| sink.dead == 1).await;
    assert_eq!(gone.state(), SinkState::Gone);
    let list = v1::ListDeadLettersRequest { sink: "ops".into(), ..Default::default() };
    let page = client.list_dead_letters(list.clone()).await.unwrap().into_inner();
    assert_eq!(page.next_page_token, "");
    let [letter] = &page.dead_letters[..] else { panic!("{page:?}") };
    assert_eq!(letter.id, body["id"].as_str().unwrap());
    assert_eq!(letter.r#type, "phasegate.release.started.v1");
    assert_eq!((&*letter.release, letter.attempts), ("releases/r-1", 1));
    // While the receiver is gone it is given up again, and nobody is asked.
    let replay = v1::ReplayDeadLettersRequest {
        sink: "ops".into(),
        ids: vec![letter.id.clone(), "another".into()],
        all: false,
    };
    let replayed = client.replay_dead_letters(replay).await.unwrap().into_inner();
    assert_eq!(replayed.replayed, 1);
    until(&mut client, |sink| sink.dead == 1).await;
    assert!(bodies.try_recv().is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_test_says_its_steps_and_is_beside_the_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let (port, mut bodies) = receiver(&["204 Yes", "302 Found"]).await;
    let server = serve(port, dir.path()).await;
    let mut client = client(&server).await;
    let request = v1::SendTestNotificationRequest { sink: "ops".into() };
    let report = client.send_test_notification(request.clone()).await.unwrap().into_inner();
    assert!(report.delivered, "{report:?}");
    assert!(report.steps.len() > 2, "{report:?}");
    assert!(within(bodies.recv()).await.unwrap().contains("phasegate.test.v1"));
    let report = client.send_test_notification(request).await.unwrap().into_inner();
    assert!(!report.delivered);
    assert_eq!(report.error, "answered 302; redirects are not followed");
    assert!(!format!("{report:?}").contains("canary"));
    let sink = sink(&mut client).await;
    assert_eq!((sink.pending, sink.dead, sink.delivered), (0, 0, 0));
    server.stop().await;
}

#[tokio::test]
async fn requests_about_no_sink_or_about_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (port, _bodies) = receiver(&["204 Yes"]).await;
    let with = serve(port, dir.path()).await;
    // A server without a file has no sinks.
    let without = Server::start().await;
    let mut client_without = client(&without).await;
    let none = client_without.list_sinks(v1::ListSinksRequest {}).await.unwrap().into_inner();
    assert_eq!(none.sinks, []);
    for client in [&mut client(&with).await, &mut client_without] {
        for (sink, code) in [
            ("nobody", Code::NotFound),
            ("", Code::InvalidArgument),
            ("A b", Code::InvalidArgument),
        ] {
            let request = v1::SendTestNotificationRequest { sink: sink.into() };
            assert_eq!(client.send_test_notification(request).await.unwrap_err().code(), code);
            let request = v1::ListDeadLettersRequest { sink: sink.into(), ..Default::default() };
            assert_eq!(client.list_dead_letters(request).await.unwrap_err().code(), code);
            let request =
                v1::ReplayDeadLettersRequest { sink: sink.into(), all: true, ..Default::default() };
            assert_eq!(client.replay_dead_letters(request).await.unwrap_err().code(), code);
        }
    }
    let mut client = client(&with).await;
    let request = |page_size, page_token: &str| v1::ListDeadLettersRequest {
        sink: "ops".into(),
        page_size,
        page_token: page_token.into(),
    };
    for request in [request(-1, ""), request(0, "x")] {
        let error = client.list_dead_letters(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    for (ids, all) in [(vec![], false), (vec!["a".to_owned()], true)] {
        let request = v1::ReplayDeadLettersRequest { sink: "ops".into(), ids, all };
        let error = client.replay_dead_letters(request).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    }
    with.stop().await;
    without.stop().await;
}

#[tokio::test]
async fn a_server_does_not_start_with_a_file_that_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notifications.yaml");
    fs::write(&path, "sinks: [{id: ops}]\n").unwrap();
    let mut config = config();
    config.notifications = Some(path);
    let error = App::bind(config).await.unwrap_err();
    assert!(matches!(error, Error::Notifications(_)), "{error:?}");
    assert_eq!(error.exit_code(), ExitCode::Config);
}
