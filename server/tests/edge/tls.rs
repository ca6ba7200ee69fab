//! TLS, and clients that are known by their certificates.

use crate::{
    authority::{Authority, Issued, Secured},
    identity::entry,
    server::within,
};
use phasegate_api::v1::{self, flag_service_client::FlagServiceClient};
use phasegate_server::access::identity::Unauthenticated;
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, pem::PemObject as _},
    },
};
use tonic::{Code, Status, transport::Channel};

const WEB: &str = "spiffe://test.example/web";

async fn list(channel: &Channel) -> Result<(), Status> {
    let mut flags = FlagServiceClient::new(channel.clone());
    flags.list_flags(v1::ListFlagsRequest::default()).await.map(|_| ())
}

/// What becomes of a call with a certificate: a connection that fails is as good as a refusal, since
/// with TLS 1.3 a client learns only at its first bytes that its certificate was not taken.
async fn call(secured: &Secured, certificate: Option<&Issued>) -> Result<(), Status> {
    match secured.channel(certificate).await {
        Ok(channel) => list(&channel).await,
        Err(error) => Err(Status::unavailable(error.to_string())),
    }
}

#[tokio::test]
async fn a_client_certificate_is_known_by_its_uri_and_by_nothing_else() {
    let secured = Secured::start("certificates: {ca_file: CA, trust_domain: test.example}", |_| {});
    let secured = secured.await;
    let web = secured.authority.client(&[WEB]);
    let channel = secured.channel(Some(&web)).await.unwrap();
    secured.serves(&channel).await;
    list(&channel).await.unwrap();

    let nobody = call(&secured, None).await.unwrap_err();
    assert_eq!(nobody.code(), Code::Unauthenticated);
    let no_san = secured.authority.client(&[]);
    let two = secured.authority.client(&[WEB, "spiffe://test.example/root"]);
    let elsewhere = secured.authority.client(&["spiffe://other.example/web"]);
    for bad in [no_san, two, elsewhere] {
        let refused = call(&secured, Some(&bad)).await.unwrap_err();
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::Unauthenticated, Unauthenticated::TEXT)
        );
    }
    // These do not even get a connection.
    let expired = secured.authority.expired_client(WEB);
    let of_another = Authority::new().client(&[WEB]);
    for bad in [expired, of_another] {
        let refused = call(&secured, Some(&bad)).await.unwrap_err();
        assert_ne!(refused.code(), Code::Unauthenticated, "{refused}");
    }
    secured.server.stop().await;
}

#[tokio::test]
async fn a_certificate_that_is_required_is_required_of_everybody() {
    let (token, entry) = entry("a", "");
    let written = format!("tokens:\n{entry}certificates: {{ca_file: CA, required: true}}");
    let secured = Secured::start(&written, |_| {}).await;
    let web = secured.authority.client(&[WEB]);
    let channel = secured.channel(Some(&web)).await.unwrap();
    secured.serves(&channel).await;
    list(&channel).await.unwrap();
    let mut request = tonic::Request::new(v1::ListFlagsRequest::default());
    let bearer = format!("Bearer {token}").parse().unwrap();
    request.metadata_mut().insert("authorization", bearer);
    let by_token = match secured.channel(None).await {
        Ok(channel) => FlagServiceClient::new(channel).list_flags(request).await.map(|_| ()),
        Err(error) => Err(Status::unavailable(error.to_string())),
    };
    assert_ne!(by_token.unwrap_err().code(), Code::Unauthenticated, "there is no connection");
    secured.server.stop().await;
}

#[tokio::test]
async fn a_stalled_handshake_is_closed_and_holds_nobody_up() {
    let (_, entry) = entry("a", "");
    let secured = Secured::start(&format!("tokens:\n{entry}"), |config| {
        config.handshake_max = Duration::from_millis(500);
    })
    .await;
    let mut stalled = Vec::new();
    for n in 0..20 {
        let mut tcp = TcpStream::connect(secured.server.address).await.unwrap();
        // Some say nothing at all, some begin and go no further.
        if n % 2 == 0 {
            tcp.write_all(&[0x16, 0x03, 0x01, 0x02, 0x00, 0x01]).await.unwrap();
        }
        stalled.push(tcp);
    }
    let channel = secured.channel(None).await.unwrap();
    secured.serves(&channel).await;
    for mut tcp in stalled {
        let mut rest = Vec::new();
        // Closed in whatever way: what matters is that it ends.
        let _ = within(tcp.read_to_end(&mut rest)).await;
    }
    secured.server.stop().await;
}

/// A connection of TLS, and the certificate that the server shows.
async fn shown(secured: &Secured, alpn: &[u8]) -> (TlsStream<TcpStream>, CertificateDer<'static>) {
    let mut roots = RootCertStore::empty();
    let authority = secured.authority.pem();
    roots.add(CertificateDer::from_pem_slice(authority.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![alpn.to_vec()];
    let tcp = TcpStream::connect(secured.server.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let tls = within(connector.connect("localhost".try_into().unwrap(), tcp)).await.unwrap();
    let certificate = tls.get_ref().1.peer_certificates().unwrap()[0].clone();
    (tls, certificate)
}

#[tokio::test]
async fn another_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let (_, entry) = entry("a", "");
    let secured = Secured::start(&format!("tokens:\n{entry}"), |_| {}).await;
    let (_, first) = shown(&secured, b"h2").await;
    secured.files.write("server.key", "no key");
    assert_eq!(shown(&secured, b"h2").await.1, first);
    let next = secured.authority.server();
    secured.files.write_server(&next);
    let next = CertificateDer::from_pem_slice(next.certificate.as_bytes()).unwrap();
    within(async { while shown(&secured, b"h2").await.1 != next {} }).await;
    secured.server.stop().await;
}

#[tokio::test]
async fn over_tls_the_session_is_a_host_cookie() {
    let (token, entry) = entry("a", ", kind: person");
    let secured = Secured::start(&format!("tokens:\n{entry}"), |_| {}).await;
    secured.serves(&secured.channel(None).await.unwrap()).await;
    let (mut tls, _) = shown(&secured, b"http/1.1").await;
    let form = format!("token={token}&next=%2Fflags");
    let request = format!(
        "POST /login HTTP/1.1\r\nhost: localhost\r\nsec-fetch-site: same-origin\r\nconnection: close\r\n\
         content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{form}",
        form.len()
    );
    tls.write_all(request.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    let _ = within(tls.read_to_end(&mut answer)).await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 303") && answer.contains("location: /flags"), "{answer}");
    let cookie = answer.lines().find(|line| line.starts_with("set-cookie: ")).unwrap();
    assert!(cookie.starts_with("set-cookie: __Host-phasegate="), "{cookie}");
    for part in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
        assert!(cookie.contains(part), "{cookie}");
    }
    assert!(!cookie.contains("Domain"), "{cookie}");
    secured.server.stop().await;
}
