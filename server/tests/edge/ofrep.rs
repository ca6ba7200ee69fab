//! OFREP over a real socket.

use crate::{
    browser::{Browser, Page},
    server::{Server, config, create_flag, within},
};
use phasegate_api::v1 as api;
use serde_json::{Value as Json, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::TcpStream,
};

const ALL: &str = "/environments/prod/ofrep/v1/evaluate/flags";

async fn server() -> Server {
    let mut config = config();
    config.delivery.environments = vec!["prod".parse().unwrap()];
    config.delivery.origins = vec!["https://app.example.com".to_owned()];
    Server::start_with(config).await.with_flag_and_pipeline().await
}

async fn ask(server: &Server, path: &str, headers: &str, body: &str) -> Page {
    Browser::new(server).send(&format!("POST {path}"), headers, body).await
}

fn json_of(page: &Page) -> Json {
    assert!(page.header("content-type").unwrap().starts_with("application/json"), "{page:?}");
    serde_json::from_str(&page.body).unwrap()
}

#[tokio::test]
async fn one_flag_is_answered_with_everything_that_providers_read() {
    let server = server().await;
    server.trigger("r").await;
    let path = format!("{ALL}/checkout");
    let page = ask(&server, &path, "", r#"{"context":{"targetingKey":"a"}}"#).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        json_of(&page),
        json!({
            "key": "checkout",
            "value": true,
            "variant": "on",
            "reason": "STATIC",
            "metadata": {
                "bucketing": "v3", "flagSetId": "prod", "phase": "canary", "release": "r", "revision": 2,
            },
        })
    );
    server.stop().await;
}

#[tokio::test]
async fn a_context_may_be_absent_and_the_environment_may_be_in_the_header() {
    let server = server().await;
    let path = "/ofrep/v1/evaluate/flags/checkout";
    for body in ["", "{}", r#"{"context":null}"#, r#"{"context":{}}"#] {
        let page = ask(&server, path, "flagd-selector: flagSetId=prod\r\n", body).await;
        assert_eq!((page.status, &json_of(&page)["value"]), (200, &json!(false)), "{body}");
    }
    let page = ask(&server, path, "", "").await;
    assert_eq!((page.status, &json_of(&page)["errorCode"]), (400, &json!("GENERAL")));
    assert!(page.body.contains("flagSetId=ENVIRONMENT"), "it says how to select: {}", page.body);
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_answered_says_why_in_the_words_of_the_protocol() {
    let server = server().await;
    let deep = format!(r#"{{"context":{{"a":{}1{}}}}}"#, "[".repeat(100), "]".repeat(100));
    let large = format!(r#"{{"context":{{"a":"{}"}}}}"#, "x".repeat(70_000));
    let huge = format!(r#"{{"context":{{"a":"{}"}}}}"#, "x".repeat(1 << 20));
    let checkout = format!("{ALL}/checkout");
    let cases = [
        (format!("{ALL}/none"), "", 404, "FLAG_NOT_FOUND"),
        (format!("{ALL}/a/b"), "", 404, "FLAG_NOT_FOUND"),
        (format!("{ALL}/a%2Fb"), "", 404, "FLAG_NOT_FOUND"),
        (format!("{ALL}/%3Cscript%3E"), "", 404, "FLAG_NOT_FOUND"),
        (checkout.clone(), "{", 400, "PARSE_ERROR"),
        (checkout.clone(), "[]", 400, "PARSE_ERROR"),
        (checkout.clone(), r#"{"context":"ann"}"#, 400, "INVALID_CONTEXT"),
        (checkout.clone(), r#"{"context":[1]}"#, 400, "INVALID_CONTEXT"),
        (checkout.clone(), &deep, 400, "INVALID_CONTEXT"),
        (checkout.clone(), &large, 400, "INVALID_CONTEXT"),
        (checkout.clone(), &huge, 413, "INVALID_CONTEXT"),
        (ALL.to_owned(), &large, 400, "INVALID_CONTEXT"),
        (ALL.replace("prod", "nowhere"), "", 404, "GENERAL"),
        (ALL.replace("prod", "No-Where"), "", 400, "GENERAL"),
    ];
    for (path, body, status, code) in cases {
        let page = ask(&server, &path, "", body).await;
        let answer = json_of(&page);
        assert_eq!(
            (page.status, &answer["errorCode"]),
            (status, &json!(code)),
            "{path} {body:.40}"
        );
        assert!(!answer["errorDetails"].as_str().unwrap().is_empty());
    }
    server.stop().await;
}

#[tokio::test]
async fn all_flags_have_a_tag_that_changes_just_with_the_answers() {
    let server = server().await;
    server.flags().await.create_flag(create_flag("other")).await.unwrap();
    let first = ask(&server, ALL, "", "").await;
    let tag = first.header("etag").unwrap().to_owned();
    let body = json_of(&first);
    let keys: Vec<_> = body["flags"].as_array().unwrap().iter().map(|f| f["key"].clone()).collect();
    assert_eq!(keys, ["checkout", "other"]);
    assert_eq!(
        body["eventStreams"][0]["endpoint"]["requestUri"],
        "/environments/prod/ofrep/v1/events"
    );

    let known = format!("if-none-match: {tag}\r\n");
    let again = ask(&server, ALL, &known, r#"{"context":{"targetingKey":"somebody else"}}"#).await;
    assert_eq!((again.status, again.body.as_str()), (304, ""));
    assert_eq!(again.header("etag"), Some(&*tag));

    server.trigger("r").await;
    let changed = ask(&server, ALL, &known, "").await;
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(&*tag));
    server.abort("r").await;
    assert_eq!(ask(&server, ALL, &known, "").await.status, 304, "everything is as it was");
    server.stop().await;
}

/// The data of the events of a stream.
struct Events(Lines<BufReader<TcpStream>>);

impl Events {
    async fn open(server: &Server, headers: &str) -> Self {
        let mut tcp = TcpStream::connect(server.address).await.unwrap();
        let request = format!(
            "GET /environments/prod/ofrep/v1/events HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n"
        );
        tcp.write_all(request.as_bytes()).await.unwrap();
        Self(BufReader::new(tcp).lines())
    }

    async fn next(&mut self) -> Json {
        loop {
            let line = within(self.0.next_line()).await.unwrap().expect("the stream goes on");
            if let Some(data) = line.strip_prefix("data: ") {
                return serde_json::from_str(data).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn an_event_asks_to_fetch_again_at_once_and_whenever_flags_change() {
    let server = server().await;
    let mut events = Events::open(&server, "").await;
    let first = events.next().await;
    assert_eq!(first["type"], "refetchEvaluation");
    server.trigger("r").await;
    let second = events.next().await;
    assert_ne!(second["etag"], first["etag"]);
    // Who comes back and has missed nothing is not asked to.
    let id = second["etag"].as_str().unwrap();
    let mut resumed = Events::open(&server, &format!("last-event-id: {id}\r\n")).await;
    server.abort("r").await;
    let third = resumed.next().await;
    assert_eq!(third["etag"], first["etag"]);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_a_configured_origin_are_let_in_and_others_learn_nothing() {
    let server = server().await;
    let at = |origin: &str| format!("origin: {origin}\r\n");
    let page = ask(&server, ALL, &at("https://app.example.com"), "").await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("access-control-allow-origin"), Some("https://app.example.com"));
    assert!(page.header("access-control-expose-headers").unwrap().contains("etag"));
    for foreign in
        ["https://evil.example", "https://app.example.com.evil.example", "null", "http://localhost"]
    {
        let page = ask(&server, ALL, &at(foreign), "").await;
        assert_eq!(page.status, 403, "{foreign}");
        assert_eq!(page.header("access-control-allow-origin"), None);
        assert!(!page.body.contains("checkout"));
    }
    let preflight = "origin: https://app.example.com\r\naccess-control-request-method: POST\r\n\
                     access-control-request-headers: content-type,if-none-match\r\n";
    let page = Browser::new(&server).send(&format!("OPTIONS {ALL}"), preflight, "").await;
    assert_eq!(page.status, 200);
    assert!(page.header("access-control-allow-methods").unwrap().contains("POST"));
    server.stop().await;
}

#[tokio::test]
async fn a_killed_config_answers_its_default_and_numbers_keep_their_form() {
    let server = server().await;
    let value: prost_types::Struct = {
        let number =
            |n| prost_types::Value { kind: Some(prost_types::value::Kind::NumberValue(n)) };
        let fields = [("limit".to_owned(), number(10.0)), ("ratio".to_owned(), number(0.1))];
        prost_types::Struct { fields: fields.into() }
    };
    let mut flag = create_flag("limits");
    let spec = api::ConfigSpec { default_value: Some(value), ..Default::default() };
    flag.flag.as_mut().unwrap().spec = Some(api::flag::Spec::DynamicConfig(spec));
    server.flags().await.create_flag(flag).await.unwrap();
    let kill = api::SetKillSwitchRequest {
        name: "flags/limits".into(),
        engaged: Some(true),
        ..Default::default()
    };
    server.flags().await.set_kill_switch(kill).await.unwrap();
    let page = ask(&server, &format!("{ALL}/limits"), "", "").await;
    assert!(page.body.contains(r#""value":{"limit":10,"ratio":0.1}"#), "{}", page.body);
    assert_eq!(json_of(&page)["metadata"]["killed"], true);
    server.stop().await;
}
