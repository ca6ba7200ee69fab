//! Who calls: tokens over a real socket, and the files that say whose they are.

use crate::{
    authority::{Authority, Files},
    browser::Browser,
    server::{Server, config, create_flag, create_pipeline, trigger, within},
};
use phasegate_api::v1;
use phasegate_server::{
    access::identity::{Unauthenticated, fresh},
    app::{App, ExitCode, Parts},
};
use tonic::{Code, Request, Status, metadata::MetadataValue};

/// A fresh token, and its entry of the file.
pub(crate) fn entry(name: &str, more: &str) -> (String, String) {
    let fresh = fresh().unwrap();
    (fresh.token, format!("- {{name: {name}, sha256: {}{more}}}\n", fresh.sha256))
}

/// A request with these headers.
fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().append(*name, MetadataValue::try_from(*value).unwrap());
    }
    request
}

async fn call(server: &Server, headers: &[(&'static str, &str)]) -> Result<(), Status> {
    let request = with(v1::ListFlagsRequest::default(), headers);
    server.flags().await.list_flags(request).await.map(|_| ())
}

#[tokio::test]
async fn a_call_is_made_by_whom_the_token_names_and_not_by_whom_the_metadata_names() {
    let (token, entry) = entry("deploy", ", groups: [ci]");
    let files = Files::new();
    let server = Server::start_with(files.config(&format!("tokens:\n{entry}"))).await;
    let bearer = format!("Bearer {token}");
    let claims = [("authorization", bearer.as_str()), ("phasegate-principal", "root")];
    let refused = call(&server, &claims).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied, "it takes act_as to be somebody else");
    let says = [("authorization", bearer.as_str())];
    let (mut flags, mut pipelines) = (server.flags().await, server.pipelines().await);
    pipelines.create_pipeline(with(create_pipeline(), &says)).await.unwrap();
    flags.create_flag(with(create_flag("checkout"), &says)).await.unwrap();
    let mut releases = server.releases().await;
    let triggered = releases.trigger_release(with(trigger("r"), &says)).await.unwrap();
    let release = triggered.into_inner().release.unwrap();
    assert_eq!(release.creator.unwrap().principal, "token:deploy");
    server.stop().await;
}

#[tokio::test]
async fn bad_credentials_are_refused_with_one_text_and_none_with_another() {
    let (good, entry_good) = entry("good", "");
    let (expired, entry_expired) = entry("expired", ", expires: 2020-01-01T00:00:00Z");
    let files = Files::new();
    let written = format!("tokens:\n{entry_good}{entry_expired}");
    let server = Server::start_with(files.config(&written)).await;
    let good = format!("Bearer {good}");
    assert!(call(&server, &[("authorization", &good)]).await.is_ok());
    let none = call(&server, &[]).await.unwrap_err();
    assert_eq!(none.code(), Code::Unauthenticated);
    assert_ne!(none.message(), Unauthenticated::TEXT);
    let believed = call(&server, &[("phasegate-principal", "ann")]).await.unwrap_err();
    assert_eq!(believed.code(), Code::Unauthenticated, "nobody is believed any more");
    let unknown = format!("Bearer {}", fresh().unwrap().token);
    let expired = format!("Bearer {expired}");
    let unsigned = "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJyb290In0.";
    for bad in [
        &[("authorization", unknown.as_str())][..],
        &[("authorization", expired.as_str())],
        &[("authorization", "Basic cm9vdDo=")],
        &[("authorization", unsigned)],
        &[("authorization", good.as_str()), ("authorization", good.as_str())],
    ] {
        let refused = call(&server, bad).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated);
        assert_eq!(refused.message(), Unauthenticated::TEXT);
    }
    server.stop().await;
}

#[tokio::test]
async fn tokens_change_without_a_restart_and_a_bad_file_changes_nothing() {
    let ((old, entry_old), (new, entry_new)) = (entry("old", ""), entry("new", ""));
    let files = Files::new();
    let server = Server::start_with(files.config(&format!("tokens:\n{entry_old}"))).await;
    let (old, new) = (format!("Bearer {old}"), format!("Bearer {new}"));
    assert!(call(&server, &[("authorization", &new)]).await.is_err());
    files.write("authentication.yaml", &format!("tokens:\n{entry_new}"));
    within(async { while call(&server, &[("authorization", &new)]).await.is_err() {} }).await;
    let revoked = call(&server, &[("authorization", &old)]).await.unwrap_err();
    assert_eq!(revoked.code(), Code::Unauthenticated);
    // What is refused is not taken, not even in part; what comes after it is.
    files.write("authentication.yaml", &format!("tokens:\n{entry_old}oops: 1\n"));
    files.write_as("authentication.yaml", &format!("tokens:\n{entry_old}"), 0o666);
    assert!(call(&server, &[("authorization", &new)]).await.is_ok());
    files.write("authentication.yaml", &format!("tokens:\n{entry_new}{entry_old}"));
    within(async { while call(&server, &[("authorization", &old)]).await.is_err() {} }).await;
    assert!(call(&server, &[("authorization", &new)]).await.is_ok());
    server.stop().await;
}

#[tokio::test]
async fn applications_show_their_token_over_http_too() {
    let (token, entry) = entry("shop", "");
    let files = Files::new();
    let mut config = files.config(&format!("tokens:\n{entry}"));
    config.delivery.environments = vec!["prod".parse().unwrap()];
    config.delivery.origins = vec!["https://app.example.com".to_owned()];
    let server = Server::start_with(config).await;
    let anybody = Browser::new(&server);
    let known = Browser::new(&server).with(&format!("authorization: Bearer {token}"));
    let wrong = Browser::new(&server).with("authorization: Bearer pgt_x");
    let json = "flagd-selector: flagSetId=prod\r\n";
    for path in ["/ofrep/v1/evaluate/flags", "/environments/prod/ofrep/v1/evaluate/flags"] {
        let line = format!("POST {path}");
        assert_eq!(known.send(&line, json, "{}").await.status, 200, "{path}");
        for browser in [&anybody, &wrong] {
            let page = browser.send(&line, json, "{}").await;
            assert_eq!(page.status, 401, "{path}");
            assert_eq!(page.header("www-authenticate"), Some("Bearer"));
        }
    }
    let asks = "origin: https://app.example.com\r\naccess-control-request-method: POST\r\n\
                access-control-request-headers: authorization\r\n";
    let preflight = anybody.send("OPTIONS /ofrep/v1/evaluate/flags", asks, "").await;
    assert_eq!(preflight.status, 200);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    server.stop().await;
}

#[tokio::test]
async fn files_that_are_open_to_others_or_make_no_sense_have_their_exit_code() {
    let (_, entry) = entry("a", "");
    let good = format!("tokens:\n{entry}");
    let authority = Authority::new();
    let check = async |name: &str, text: &str, mode: u32| {
        let files = Files::new();
        let mut config = files.config(&good);
        config.tls = Some(files.write_server(&authority.server()));
        files.write("ca.pem", &authority.pem());
        files.write_as(name, text, mode);
        App::bind(config).await.map(|_| ()).map_err(|error| error.exit_code())
    };
    assert_eq!(check("authentication.yaml", &good, 0o644).await, Ok(()));
    let other = authority.server();
    for (name, text, mode) in [
        ("authentication.yaml", good.as_str(), 0o666),
        ("authentication.yaml", "tokens: [", 0o600),
        ("authentication.yaml", "certificates: {ca_file: none.pem}", 0o600),
        ("server.key", &other.key, 0o640),
        ("server.key", &other.key, 0o600),
        ("server.key", "no key", 0o600),
        ("server.pem", &authority.pem()[..40], 0o600),
    ] {
        assert_eq!(check(name, text, mode).await, Err(ExitCode::Config), "{name} {mode:o}");
    }
    // Certificates of clients come with TLS or not at all.
    let files = Files::new();
    files.write("ca.pem", &authority.pem());
    let config = files.config("certificates: {ca_file: ca.pem}");
    let refused = App::bind(config).await.map(|_| ()).map_err(|error| error.exit_code());
    assert_eq!(refused, Err(ExitCode::Config));
}

#[tokio::test]
async fn a_network_is_not_served_without_tls_and_authentication() {
    let mut open = config();
    open.listen = "0.0.0.0:0".parse().unwrap();
    let parts = Parts::of(&open);
    let error = App::bind_with(open, parts).await.unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::Config);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    for part in
        ["0.0.0.0", "no TLS", "not authenticated", "--insecure-allow-plaintext-unauthenticated"]
    {
        assert!(cause.contains(part), "{cause}");
    }
}
