//! Sinks against real receivers over loopback, and against hostile ones.

use super::{
    attempt::{Trace, World},
    connect::{self, Resolve},
    event::Event,
    scheduler::{FaultKind, Outcome},
    secret::Secret,
    settings::Sink,
    sign::Keys,
    testing::{SECRET, START, approval_due, settings_from},
};
use phasegate_engine::id::SinkId;
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpListener,
    task::JoinHandle,
};

/// Leads a name to one list of addresses after the other, and stays with the last.
#[derive(Debug)]
struct Leads(Mutex<Vec<Vec<IpAddr>>>);

impl Leads {
    fn to(lists: &[&[&str]]) -> Arc<Self> {
        let addresses = |list: &&[&str]| list.iter().map(|text| text.parse().unwrap()).collect();
        Arc::new(Self(Mutex::new(lists.iter().map(addresses).collect())))
    }
}

impl Resolve for Leads {
    fn resolve(
        &self,
        _: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + '_>> {
        let mut lists = self.0.lock().unwrap();
        let list = if lists.len() > 1 { lists.remove(0) } else { lists[0].clone() };
        Box::pin(async move { Ok(list) })
    }
}

/// A request as a receiver got it.
#[derive(Debug)]
struct Received {
    head: Vec<String>,
    body: Vec<u8>,
}

impl Received {
    fn header(&self, name: &str) -> &str {
        let prefix = format!("{name}: ");
        self.head
            .iter()
            .find_map(|line| line.strip_prefix(&prefix))
            .unwrap_or_else(|| panic!("{name}"))
    }
}

async fn answer(stream: impl AsyncRead + AsyncWrite + Unpin, reply: &str) -> Received {
    let mut stream = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => break,
            text => head.push(text.to_owned()),
        }
    }
    let mut received = Received { head, body: Vec::new() };
    let length = received.header("content-length").parse().unwrap();
    received.body.resize(length, 0);
    stream.read_exact(&mut received.body).await.unwrap();
    stream.write_all(reply.as_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    received
}

/// A receiver that takes one request.
async fn receiver(reply: &'static str) -> (SocketAddr, JoinHandle<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = async move { answer(listener.accept().await.unwrap().0, reply).await };
    (address, tokio::spawn(served))
}

const OK: &str = "HTTP/1.1 204 No Content\r\n\r\n";

fn plain_sink(address: SocketAddr, more: &str) -> (Arc<Sink>, tempfile::TempDir) {
    let port = address.port();
    let (settings, files) = settings_from(&format!(
        "allowed_hosts: [127.0.0.1]\nallowed_ports: [{port}]\nsinks:\n  - id: a\n    webhook:\n      \
         url: http://127.0.0.1:{port}/hook?token=canary\n      secrets: [secret]\n      \
         allow_insecure_loopback: true\n{more}    subscriptions: [{{events: ['*']}}]\n"
    ));
    (settings.sinks[&SinkId::parse("a").unwrap()].clone(), files)
}

async fn send(sink: &Sink, world: &World) -> (Outcome, Vec<String>) {
    let notification = approval_due("r-1");
    let event = Event { notification: &notification, store: &world.store, hop: None };
    let mut trace = Trace::default();
    let outcome = sink.send(&event, START, world, &mut trace).await;
    (outcome, trace.steps().iter().map(|step| step.what.clone()).collect())
}

fn refused(outcome: Outcome) -> String {
    match outcome {
        Outcome::Failed(fault) => {
            assert_eq!(fault.kind, FaultKind::Forbidden, "{fault:?}");
            fault.text
        }
        Outcome::Delivered => panic!("it was delivered"),
    }
}

#[tokio::test]
async fn a_webhook_is_one_signed_post_with_a_cloud_event() {
    let (address, received) = receiver(OK).await;
    let (sink, _files) = plain_sink(address, "      headers: {x-team: web}\n");
    let (outcome, steps) = send(&sink, &World::new("0c7d")).await;
    assert_eq!(outcome, Outcome::Delivered, "{steps:?}");
    let received = received.await.unwrap();
    assert_eq!(received.head[0], "POST /hook?token=canary HTTP/1.1");
    assert_eq!(received.header("host"), address.to_string());
    assert_eq!(received.header("content-type"), "application/cloudevents+json; charset=utf-8");
    assert_eq!(received.header("x-team"), "web");
    assert_eq!(received.header("webhook-id"), "n-r-1");
    assert_eq!(received.header("webhook-timestamp"), "1907668800");
    let mut keys = Keys::default();
    keys.add(&Secret::new(SECRET)).unwrap();
    let signature = keys.sign("n-r-1", 1_907_668_800, &received.body);
    assert_eq!(received.header("webhook-signature"), signature);
    let event: serde_json::Value = serde_json::from_slice(&received.body).unwrap();
    assert_eq!(event["type"], "phasegate.release.approval_due.v1");
    assert_eq!(steps.len(), 4, "{steps:?}");
    assert!(!steps.join("\n").contains("canary"), "{steps:?}");
}

#[tokio::test]
async fn a_redirect_is_a_failure_and_is_not_followed() {
    // Where it points is on the list, and would be connected to if anybody followed.
    let elsewhere = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let reply = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n",
        elsewhere.local_addr().unwrap()
    );
    let (address, received) = receiver(reply.leak()).await;
    let (sink, _files) = plain_sink(address, "");
    let (outcome, _) = send(&sink, &World::new("0c7d")).await;
    let Outcome::Failed(fault) = outcome else { panic!("it was delivered") };
    assert_eq!(fault.text, "answered 307; redirects are not followed");
    received.await.unwrap();
    let nobody = tokio::select! {
        biased;
        _ = elsewhere.accept() => false,
        () = tokio::task::yield_now() => true,
    };
    assert!(nobody);
}

const NAMED: &str = "allowed_hosts: [hooks.example.com, mail.example.com, localhost]
sinks:
  - id: a
    webhook: {url: https://hooks.example.com/, secrets: [secret]}
    subscriptions: [{events: ['*']}]
  - id: m
    email: {server: mail.example.com, from: a@example.com, to: [b@example.com]}
    subscriptions: [{events: ['*']}]
  - id: l
    webhook: {url: https://localhost./, secrets: [secret]}
    subscriptions: [{events: ['*']}]
";

#[tokio::test]
async fn a_name_that_leads_to_an_address_that_is_not_public_is_not_connected_to() {
    let (settings, _files) = settings_from(NAMED);
    for bad in [
        "127.0.0.1",
        "::1",
        "10.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "64:ff9b::7f00:1",
        "fe80::1",
        "224.0.0.1",
    ] {
        for sink in settings.sinks.values() {
            let world = World { resolver: Leads::to(&[&[bad]]), store: "s".into() };
            let (outcome, steps) = send(sink, &world).await;
            assert!(refused(outcome).contains("allowed_networks"), "{bad}");
            assert!(steps.is_empty(), "nothing was connected to: {steps:?}");
        }
        // One among good ones is enough.
        let world = World { resolver: Leads::to(&[&["1.1.1.1", bad]]), store: "s".into() };
        let sink = &settings.sinks[&SinkId::parse("a").unwrap()];
        assert!(refused(send(sink, &world).await.0).contains("allowed_networks"), "{bad}");
    }
}

/// What was judged is what is connected to: the name is asked once for an attempt, and at the next one
/// what it leads to then is judged anew.
#[tokio::test]
async fn a_name_that_is_bound_anew_is_judged_anew() {
    let (settings, _files) = settings_from(NAMED);
    let sink = &settings.sinks[&SinkId::parse("a").unwrap()];
    let super::settings::Channel::Webhook(webhook) = &sink.channel else { panic!("a webhook") };
    let rebinding = Leads::to(&[&["1.1.1.1"], &["127.0.0.1"]]);
    let first = connect::addresses(&webhook.target, &*rebinding).await.unwrap();
    assert_eq!(first, ["1.1.1.1:443".parse().unwrap()]);
    let second = connect::addresses(&webhook.target, &*rebinding).await;
    assert!(matches!(second, Err(connect::Error::Refused(_))), "{second:?}");
    let nothing = connect::addresses(&webhook.target, &*Leads::to(&[&[]])).await;
    assert!(matches!(nothing, Err(connect::Error::NoAddress)), "{nothing:?}");
}

/// An authority of the test's own, and a certificate of it for a name.
fn certificate(name: &str) -> (String, Arc<rustls::ServerConfig>) {
    let authority = rcgen::KeyPair::generate().unwrap();
    let mut parameters = rcgen::CertificateParams::new(Vec::new()).unwrap();
    parameters.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let issued = parameters.self_signed(&authority).unwrap();
    let issuer = rcgen::Issuer::new(parameters, authority);
    let key = rcgen::KeyPair::generate().unwrap();
    let leaf = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap();
    let leaf = leaf.signed_by(&key, &issuer).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![leaf.der().clone()],
            rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    (issued.pem(), Arc::new(config))
}

/// Sends to a receiver with a certificate for a name; trusts it or not.
async fn over_tls(name: &str, trusts: bool) -> (Outcome, Vec<String>) {
    let (authority, config) = certificate(name);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = tokio::spawn(async move {
        let acceptor = tokio_rustls::TlsAcceptor::from(config);
        let stream = acceptor.accept(listener.accept().await.unwrap().0).await.ok()?;
        Some(answer(stream, OK).await)
    });
    let other = certificate(name).0;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ca.pem");
    std::fs::write(&file, if trusts { authority } else { other }).unwrap();
    let (settings, _files) = settings_from(&format!(
        "allowed_hosts: [hooks.example.com]\nallowed_ports: [{port}]\nallowed_networks: [127.0.0.0/8]\n\
         sinks:\n  - id: a\n    webhook:\n      url: https://hooks.example.com:{port}/\n      \
         secrets: [secret]\n      ca_file: {}\n    subscriptions: [{{events: ['*']}}]\n",
        file.display()
    ));
    let world = World { resolver: Leads::to(&[&["127.0.0.1"]]), store: "s".into() };
    let sent = send(settings.sinks.values().next().unwrap(), &world).await;
    assert_eq!(served.await.unwrap().is_some(), sent.0 == Outcome::Delivered);
    sent
}

#[tokio::test]
async fn a_certificate_is_verified_against_the_name_and_the_authorities() {
    let (outcome, steps) = over_tls("hooks.example.com", true).await;
    assert_eq!(outcome, Outcome::Delivered, "{steps:?}");
    assert_eq!(steps[2], "TLS 1.3");
    for (name, trusts) in [("hooks.example.com", false), ("other.example.com", true)] {
        let (outcome, _) = over_tls(name, trusts).await;
        let Outcome::Failed(fault) = outcome else { panic!("{name} was believed") };
        assert!(fault.text.starts_with("TLS failed"), "{}", fault.text);
    }
}

/// A server of mail that takes one message; gives all that it was told.
async fn mail_server(
    greeting: &'static str,
    verdict: &'static str,
) -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = async move {
        let mut stream = BufReader::new(listener.accept().await.unwrap().0);
        stream.write_all(greeting.as_bytes()).await.unwrap();
        let mut told = Vec::new();
        let mut in_message = false;
        loop {
            let mut line = String::new();
            if stream.read_line(&mut line).await.unwrap_or_default() == 0 {
                return told;
            }
            let line = line.trim_end_matches("\r\n").to_owned();
            let reply = match line.split(' ').next().unwrap_or_default() {
                "." if in_message => {
                    in_message = false;
                    verdict
                }
                _ if in_message => "",
                "EHLO" => "250-test\r\n250 8BITMIME\r\n",
                "DATA" => {
                    in_message = true;
                    "354 go on\r\n"
                }
                "QUIT" => "221 bye\r\n",
                _ => "250 fine\r\n",
            };
            told.push(line);
            if stream.write_all(reply.as_bytes()).await.is_err() {
                return told;
            }
        }
    };
    (address, tokio::spawn(served))
}

fn mail_sink(address: SocketAddr, more: &str) -> (Arc<Sink>, tempfile::TempDir) {
    let port = address.port();
    let (settings, files) = settings_from(&format!(
        "allowed_hosts: [127.0.0.1]\nallowed_ports: [{port}]\nallowed_networks: [127.0.0.0/8]\nsinks:\n  - id: m\n    \
         email:\n      server: 127.0.0.1\n      port: {port}\n      from: phasegate@example.com\n      \
         to: [ann@example.com, bob@example.com]\n{more}    subscriptions: [{{events: ['*']}}]\n"
    ));
    (settings.sinks[&SinkId::parse("m").unwrap()].clone(), files)
}

#[tokio::test]
async fn a_mail_goes_to_everybody_on_the_list_and_nobody_else() {
    let (address, told) = mail_server("220 test\r\n", "250 taken\r\n").await;
    let (sink, _files) = mail_sink(address, "      allow_insecure_loopback: true\n");
    let world = World::new("0c7d");
    let mut notification = approval_due("r-1");
    notification.reason =
        "x\r\n.\r\nMAIL FROM:<eve@evil.test>\r\nRCPT TO:<all@example.com>\r\nDATA\r\n".into();
    let event = Event { notification: &notification, store: &world.store, hop: None };
    let mut trace = Trace::default();
    let outcome = sink.send(&event, START, &world, &mut trace).await;
    assert_eq!(outcome, Outcome::Delivered, "{trace:?}");
    let told = told.await.unwrap();
    let commands: Vec<_> = told
        .iter()
        .filter(|line| {
            line.starts_with("MAIL") || line.starts_with("RCPT") || line.starts_with("DATA")
        })
        .map(|line| line.split(" BODY").next().unwrap_or_default())
        .collect();
    let expected = [
        "MAIL FROM:<phasegate@example.com>",
        "RCPT TO:<ann@example.com>",
        "RCPT TO:<bob@example.com>",
        "DATA",
    ];
    assert_eq!(commands, expected, "{told:?}");
    let subject = "Subject: [Phasegate] Approval due: releases/r-1 (flag checkout, phase prod)";
    assert!(told.iter().any(|line| line == subject), "{told:?}");
}

#[tokio::test]
async fn a_mail_server_that_says_no_or_speaks_no_tls_is_a_failure() {
    for (verdict, kind) in
        [("451 later\r\n", FaultKind::Overloaded(None)), ("550 never\r\n", FaultKind::Refused)]
    {
        let (address, _told) = mail_server("220 test\r\n", verdict).await;
        let (sink, _files) = mail_sink(address, "      allow_insecure_loopback: true\n");
        let (outcome, _) = send(&sink, &World::new("s")).await;
        let Outcome::Failed(fault) = outcome else { panic!("{verdict}") };
        assert_eq!(fault.kind, kind, "{fault:?}");
    }
    // It offers no STARTTLS, so nothing is said to it.
    let (address, told) = mail_server("220 test\r\n", "250 taken\r\n").await;
    let (sink, _files) = mail_sink(address, "      tls: starttls\n");
    let (outcome, _) = send(&sink, &World::new("s")).await;
    assert_ne!(outcome, Outcome::Delivered);
    assert!(told.await.unwrap().iter().all(|line| !line.starts_with("MAIL")));
}

/// The table in the document is the code's.
#[test]
fn the_document_lists_every_event_and_every_delay() {
    let document = include_str!("../../../docs/notifications.md");
    for kind in crate::driver::NotificationKind::ALL {
        let row = format!("| `{}` | {} |", kind.name(), super::event::meaning(kind).when);
        assert!(document.contains(&row), "docs/notifications.md has no row\n{row}");
    }
    let rows = document.lines().filter(|line| line.starts_with("| `phasegate.")).count();
    assert_eq!(rows, crate::driver::NotificationKind::ALL.len(), "it has rows of no event");
    for (index, delay) in super::DELAYS.iter().enumerate() {
        let seconds = delay.as_millis() / 1000;
        let words = match seconds {
            0..60 => format!("{seconds} s"),
            60..3600 => format!("{} min", seconds / 60),
            _ => format!("{} h", seconds / 3600),
        };
        let row = format!("| {} | {words} |", index + 2);
        assert!(document.contains(&row), "docs/notifications.md has no row\n{row}");
    }
    for name in super::template::NAMES {
        assert!(document.contains(&format!("`{name}`")), "docs/notifications.md has no {name}");
    }
}
