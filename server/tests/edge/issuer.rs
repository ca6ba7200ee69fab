//! A small OIDC issuer: discovery, keys, and the authorization code flow with PKCE, over a socket.

use axum::{
    Form, Json, Router,
    body::{Body, to_bytes},
    extract::{Query, State},
    http::{Request, StatusCode},
    response::{IntoResponse as _, Redirect, Response},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};
use tower::ServiceExt as _;

/// What is to go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// It says that it has no S256.
    NoPkce,
    /// It puts another login's nonce into its tokens.
    Nonce,
    /// Its tokens are for another client.
    Audience,
}

/// A running issuer.
pub(crate) struct Issuer {
    pub(crate) address: String,
    it: Arc<It>,
    _serving: JoinHandle<()>,
}

struct It {
    address: String,
    key: KeyPair,
    fault: Fault,
    /// What was asked for, by code.
    codes: Mutex<HashMap<String, HashMap<String, String>>>,
}

impl Issuer {
    pub(crate) async fn start(fault: Fault) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (key, codes) = (KeyPair::generate().unwrap(), Mutex::default());
        let it = Arc::new(It { address: address.clone(), key, fault, codes });
        let routes = Router::new()
            .route("/.well-known/openid-configuration", get(discovery))
            .route("/keys", get(keys))
            .route("/authorize", get(authorize))
            .route("/token", post(token))
            .with_state(Arc::clone(&it));
        let serving = tokio::spawn(serve(listener, routes));
        Self { address, it, _serving: serving }
    }

    /// Its entry of the authentication file; `page` is where browsers find the page.
    pub(crate) fn entry(&self, page: &str) -> String {
        format!(
            "oidc:\n- name: corp\n  issuer: {}\n  audience: [api]\n  login: {{client_id: page, public_url: '{page}'}}\n",
            self.address
        )
    }

    /// A token for calls.
    pub(crate) fn bearer(&self) -> String {
        format!("Bearer {}", self.it.signed("api", Value::Null))
    }
}

/// As much of HTTP/1.1 as its callers use: one request to a connection.
async fn serve(listener: TcpListener, routes: Router) {
    while let Ok((tcp, _)) = listener.accept().await {
        tokio::spawn(answer(tcp, routes.clone()));
    }
}

async fn answer(tcp: TcpStream, routes: Router) -> Option<()> {
    let mut tcp = BufReader::new(tcp);
    let mut line = String::new();
    tcp.read_line(&mut line).await.ok()?;
    let mut words = line.split(' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    let mut length = 0;
    loop {
        let mut line = String::new();
        tcp.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim().split_once(':') else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse().ok()?;
        }
        request = request.header(name, value.trim());
    }
    let mut body = vec![0; length];
    tcp.read_exact(&mut body).await.ok()?;
    let Ok(response) = routes.oneshot(request.body(Body::from(body)).ok()?).await;
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.ok()?;
    let mut head = format!("HTTP/1.1 {} -\r\nconnection: close\r\n", parts.status.as_u16());
    for (name, value) in &parts.headers {
        if name != "content-length" {
            head.push_str(&format!("{name}: {}\r\n", value.to_str().ok()?));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    tcp.write_all(head.as_bytes()).await.ok()?;
    tcp.write_all(&body).await.ok()
}

impl It {
    fn signed(&self, audience: &str, nonce: Value) -> String {
        #[allow(clippy::disallowed_methods, reason = "an issuer of a test has a clock of its own")]
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let claims = json!({
            "iss": self.address, "sub": "u-1", "aud": audience, "iat": now, "exp": now + 600,
            "email": "ann@example.com", "groups": ["sre"], "nonce": nonce,
        });
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some("k1".to_owned());
        let key = EncodingKey::from_ec_der(self.key.serialized_der());
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

async fn discovery(State(it): State<Arc<It>>) -> Json<Value> {
    let methods = if it.fault == Fault::NoPkce { "plain" } else { "S256" };
    let at = |path: &str| format!("{}/{path}", it.address);
    Json(json!({
        "issuer": it.address, "jwks_uri": at("keys"), "authorization_endpoint": at("authorize"),
        "token_endpoint": at("token"), "code_challenge_methods_supported": [methods],
    }))
}

async fn keys(State(it): State<Arc<It>>) -> Json<Value> {
    let (x, y) = it.key.der_bytes()[1..].split_at(32);
    let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
    Json(json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "x": x, "y": y }] }))
}

/// Everybody is signed in here already.
async fn authorize(
    State(it): State<Arc<It>>,
    Query(asked): Query<HashMap<String, String>>,
) -> Redirect {
    assert_eq!(asked["response_type"], "code");
    assert_eq!(asked["code_challenge_method"], "S256");
    assert!(asked["scope"].split(' ').any(|scope| scope == "openid"));
    let back = format!("{}?code=c-1&state={}", asked["redirect_uri"], asked["state"]);
    it.codes.lock().unwrap().insert("c-1".to_owned(), asked);
    Redirect::to(&back)
}

async fn token(State(it): State<Arc<It>>, Form(sent): Form<HashMap<String, String>>) -> Response {
    let asked = sent.get("code").and_then(|code| it.codes.lock().unwrap().remove(code));
    let Some(asked) = asked else { return StatusCode::BAD_REQUEST.into_response() };
    let verifier = sent.get("code_verifier").map(String::as_str).unwrap_or_default();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(verifier));
    let is_same = |name: &str| sent.get(name) == asked.get(name);
    if challenge != asked["code_challenge"] || !is_same("redirect_uri") || !is_same("client_id") {
        return StatusCode::BAD_REQUEST.into_response();
    }
    let nonce = if it.fault == Fault::Nonce { "another" } else { &asked["nonce"] };
    let audience = if it.fault == Fault::Audience { "another" } else { &asked["client_id"] };
    Json(json!({ "id_token": it.signed(audience, json!(nonce)) })).into_response()
}
