//! An issuer for tests: keys that are made when they are needed, and tokens signed with them.

use super::{
    fetch::{Fetch, FetchError},
    jwt::Rules,
    keys::{self, Asked, Keys, Source},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, StatusCode};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

pub(super) const ISSUER: &str = "https://id.example.com";
/// Seconds since 1970 in tests.
pub(super) const NOW: u64 = 1_900_000_000;

pub(super) fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Signs with ES256.
pub(super) struct Signer {
    id: &'static str,
    pair: KeyPair,
}

impl Signer {
    pub(super) fn new(id: &'static str) -> Self {
        Self { id, pair: KeyPair::generate().unwrap() }
    }

    /// The point of its public key, uncompressed.
    pub(super) fn public(&self) -> &[u8] {
        self.pair.der_bytes()
    }

    pub(super) fn jwk(&self) -> Value {
        let (x, y) = self.public()[1..].split_at(32);
        let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
        json!({ "kty": "EC", "crv": "P-256", "use": "sig", "kid": self.id, "x": x, "y": y })
    }

    pub(super) fn header(&self) -> Header {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.id.to_owned());
        header
    }

    pub(super) fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.header(), claims)
    }

    pub(super) fn sign_as(&self, header: &Header, claims: &Value) -> String {
        let key = EncodingKey::from_ec_der(&self.pair.serialize_der());
        jsonwebtoken::encode(header, claims, &key).unwrap()
    }
}

/// The set of some keys, as an issuer serves it.
pub(super) fn set(signers: &[&Signer]) -> String {
    let keys: Vec<Value> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// Keys that are there.
pub(super) fn keys(signers: &[&Signer]) -> Keys {
    let source = Source::File(keys::parse(set(signers).as_bytes()).unwrap());
    let fetch = Arc::new(Scripted::default());
    Keys::follow(Asked { issuer: ISSUER.to_owned(), source, logs_in: false, fetch }, || {})
}

/// A good token's claims.
pub(super) fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "phasegate", "sub": "u-1", "iat": NOW - 10, "exp": NOW + 600,
        "email": "ann@example.com", "groups": ["sre", "web"],
    })
}

/// The same, with some of them otherwise; null takes one away.
pub(super) fn with(changes: Value) -> Value {
    let mut claims = claims();
    let all = claims.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        all.insert(name.clone(), value.clone());
        if value.is_null() {
            all.remove(name);
        }
    }
    claims
}

pub(super) fn rules() -> Rules {
    Rules {
        name: "corp".to_owned(),
        issuer: ISSUER.to_owned(),
        audience: vec!["phasegate".to_owned(), "other".to_owned()],
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        groups_claim: "groups".to_owned(),
        groups_prefix: String::new(),
        name_claim: None,
        service_when: None,
        max_age: Duration::from_secs(24 * 3600),
        leeway: Duration::from_secs(60),
        login: None,
    }
}

/// Answers as it is told, and counts.
#[derive(Debug, Default)]
pub(super) struct Scripted {
    answers: Mutex<BTreeMap<String, String>>,
    asked: Mutex<Vec<String>>,
}

impl Scripted {
    /// From here on this address answers this.
    pub(super) fn answer(&self, address: &str, text: impl Into<String>) {
        self.answers.lock().unwrap().insert(address.to_owned(), text.into());
    }

    /// From here on nothing is answered.
    pub(super) fn fail(&self) {
        self.answers.lock().unwrap().clear();
    }

    pub(super) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

impl Fetch for Scripted {
    fn send(&self, request: Request<String>) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        let address = request.uri().to_string();
        let answer = self.answers.lock().unwrap().get(&address).cloned();
        self.asked.lock().unwrap().push(address);
        Box::pin(async {
            answer.map(Bytes::from).ok_or(FetchError::Status(StatusCode::SERVICE_UNAVAILABLE))
        })
    }
}
