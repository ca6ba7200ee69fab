//! gRPC-Web over a real socket: which pages may call, and that a call is one like any other.

use crate::{
    access::Guarded,
    browser::{Browser, Page},
    server::{Server, config},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use phasegate_api::v1 as api;
use phasegate_server::config::Config;
use prost::Message as _;

const GET_FLAG: &str = "/phasegate.v1.FlagService/GetFlag";
const OURS: &str = "origin: https://app.example.com\r\n";
const MARK: &str = "x-grpc-web: 1\r\n";
const CALL: &str = "content-type: application/grpc-web-text+proto\r\n\
                    accept: application/grpc-web-text+proto\r\n";

fn web_config() -> Config {
    let mut config = config();
    config.edge.grpc_web_origins = vec!["https://app.example.com".to_owned()];
    config
}

async fn server() -> Server {
    Server::start_with(web_config()).await.with_flag_and_pipeline().await
}

/// A message as gRPC-Web has it in text: a flag, its length, its bytes, in base64.
fn framed(message: &impl prost::Message) -> String {
    let bytes = message.encode_to_vec();
    let length = u32::try_from(bytes.len()).unwrap().to_be_bytes();
    STANDARD.encode([&[0][..], &length, &bytes].concat())
}

fn get(name: &str) -> String {
    framed(&api::GetFlagRequest { name: name.to_owned() })
}

/// The message of an answer, if there is one, and its trailers.
fn answer(page: &Page) -> (Option<Vec<u8>>, String) {
    let mut text = String::new();
    let mut rest = page.body.as_str();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        text.push_str(&after[..size]);
        rest = &after[size + 2..];
    }
    // Each part is padded by itself.
    let parts = text.split_inclusive('=').flat_map(|part| match part {
        "=" => Vec::new(),
        part => STANDARD.decode(format!("{part:=<0$}", part.len().next_multiple_of(4))).unwrap(),
    });
    let mut bytes = parts.collect::<Vec<u8>>();
    let mut message = None;
    while bytes.len() >= 5 {
        let length = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
        let rest = bytes.split_off(5 + length);
        let (is_trailers, body) = (bytes[0] & 0x80 != 0, bytes.split_off(5));
        if is_trailers {
            return (message, String::from_utf8(body).unwrap());
        }
        message = Some(body);
        bytes = rest;
    }
    (message, String::new())
}

async fn call(server: &Server, headers: &str, body: &str) -> Page {
    Browser::new(server).send(&format!("POST {GET_FLAG}"), headers, body).await
}

#[tokio::test]
async fn a_page_of_a_named_origin_makes_a_call_like_any_other() {
    let server = server().await;
    let page = call(&server, &format!("{OURS}{MARK}{CALL}"), &get("flags/checkout")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(page.header("access-control-allow-credentials"), None, "cookies count for nothing");
    let (message, trailers) = answer(&page);
    let flag = api::GetFlagResponse::decode(&*message.unwrap()).unwrap().flag.unwrap();
    assert_eq!(flag.name, "flags/checkout");
    assert!(trailers.contains("grpc-status:0"), "{trailers}");
    server.stop().await;
}

#[tokio::test]
async fn a_refusal_reaches_the_page_with_its_details() {
    let server = server().await;
    let page = call(&server, &format!("{OURS}{MARK}{CALL}"), &get("flags/none")).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("grpc-status"), Some("5"), "{page:?}");
    assert!(page.header("grpc-status-details-bin").is_some());
    let exposed = page.header("access-control-expose-headers").unwrap();
    for name in ["grpc-status", "grpc-message", "grpc-status-details-bin"] {
        assert!(exposed.contains(name), "{exposed}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_asks_first_and_hears_what_it_may_send() {
    let server = server().await;
    let ask = |origin: &str| {
        format!(
            "{origin}access-control-request-method: POST\r\n\
             access-control-request-headers: authorization,content-type,x-grpc-web\r\n"
        )
    };
    let options = format!("OPTIONS {GET_FLAG}");
    let page = Browser::new(&server).send(&options, &ask(OURS), "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert_eq!(page.header("access-control-allow-methods"), Some("POST"));
    let allowed = page.header("access-control-allow-headers").unwrap();
    for name in ["authorization", "grpc-timeout", "x-grpc-web"] {
        assert!(allowed.contains(name), "{allowed}");
    }
    let foreign = ask("origin: https://evil.example\r\n");
    let page = Browser::new(&server).send(&options, &foreign, "").await;
    assert_eq!((page.status, page.header("access-control-allow-origin")), (403, None));
    server.stop().await;
}

#[tokio::test]
async fn what_is_not_a_call_of_a_named_page_learns_nothing() {
    let server = server().await;
    let at = |origin: &str| format!("origin: {origin}\r\n{MARK}{CALL}");
    let cases = [
        at("https://evil.example"),
        at("https://app.example.com.evil.example"),
        at("http://app.example.com"),
        at("null"),
        // No page can leave the mark away and be let through by CORS; a form can.
        format!("{OURS}{CALL}"),
        // A name that somebody else points here.
        format!("host: rebound.example\r\n{OURS}{MARK}{CALL}"),
    ];
    for headers in cases {
        let browser = match headers.split_once("\r\n") {
            Some((host, _)) if host.starts_with("host:") => Browser::new(&server).with(host),
            _ => Browser::new(&server),
        };
        let headers = headers.replace("host: rebound.example\r\n", "");
        let page =
            browser.send(&format!("POST {GET_FLAG}"), &headers, &get("flags/checkout")).await;
        assert_eq!(page.status, 403, "{headers}");
        assert_eq!(page.header("access-control-allow-origin"), None, "{headers}");
        assert!(!page.body.contains("checkout"));
    }
    for method in ["GET", "PUT", "DELETE"] {
        let headers = format!("{OURS}{MARK}{CALL}");
        let page = Browser::new(&server).send(&format!("{method} {GET_FLAG}"), &headers, "").await;
        assert_eq!(page.status, 405, "{method}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_program_that_is_no_page_may_call_too() {
    let server = server().await;
    let page = call(&server, &format!("{MARK}{CALL}"), &get("flags/checkout")).await;
    let (message, _) = answer(&page);
    assert!(message.is_some(), "{page:?}");
    server.stop().await;
}

#[tokio::test]
async fn nothing_of_it_is_served_unless_an_origin_is_named() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    for headers in [format!("{OURS}{MARK}{CALL}"), format!("{MARK}{CALL}")] {
        let page = call(&server, &headers, &get("flags/checkout")).await;
        assert_eq!(page.status, 403, "the pages take no changes from elsewhere");
        assert_eq!(page.header("access-control-allow-origin"), None);
    }
    server.stop().await;
}

#[tokio::test]
async fn the_gate_asks_a_page_for_a_credential_as_it_does_anybody() {
    let guarded = Guarded::start_with(web_config(), "").await.with_flags().await;
    let server = guarded.server;
    let page = call(&server, &format!("{OURS}{MARK}{CALL}"), &get("flags/pay-a")).await;
    assert_eq!(page.header("grpc-status"), Some("16"), "{page:?}");
    // Cookies are not looked at.
    let cookie = format!("{OURS}{MARK}{CALL}cookie: phasegate-principal=ann\r\n");
    let page = call(&server, &cookie, &get("flags/pay-a")).await;
    assert_eq!(page.header("grpc-status"), Some("16"), "{page:?}");
    let root = format!("{OURS}{MARK}{CALL}authorization: Bearer root\r\n");
    let (message, _) = answer(&call(&server, &root, &get("flags/pay-a")).await);
    assert!(message.is_some());
    server.stop().await;
}
