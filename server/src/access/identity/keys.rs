//! The keys of an issuer (JWKS, RFC 7517), and how they are kept fresh.
//!
//! A task of its own asks for them every ten minutes, and when somebody has brought a token of a key
//! that is not known, but then at most once a minute. Whoever brings such a token is refused meanwhile:
//! nothing waits for the network, and a thousand forged key ids cost one request. Keys that are there
//! stay when the issuer cannot be reached.

use super::{
    fetch::{self, Fetch, FetchError},
    login::Endpoints,
};
use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Uri};
use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey,
    jwk::{AlgorithmParameters, Jwk, KeyAlgorithm, PublicKeyUse},
};
use std::{str::FromStr as _, sync::Arc, time::Duration};
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Keys are asked for so often.
const INTERVAL: Duration = Duration::from_secs(600);
/// At least so much lies between two requests, however many unknown keys come.
const PAUSE_MIN: Duration = Duration::from_secs(60);
/// While there are no keys yet it is tried again after this, then after twice as long, up to
/// [`PAUSE_MIN`].
const PAUSE_FIRST: Duration = Duration::from_secs(2);
/// More keys than any issuer has.
const KEYS_MAX: usize = 100;

/// One public key.
#[derive(Clone, Debug)]
pub(super) struct Key {
    id: Option<String>,
    /// What it signs with, if the set says so.
    algorithm: Option<Algorithm>,
    decoding: DecodingKey,
}

/// Reads a set of keys. What is not for signatures, is a shared secret, or is of a kind that nobody here
/// knows is left out, as RFC 7517 (section 5) has it.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<Key>, String> {
    #[derive(serde::Deserialize)]
    struct Set {
        keys: Vec<serde_json::Value>,
    }
    let set: Set = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if set.keys.len() > KEYS_MAX {
        return Err(format!("more than {KEYS_MAX} keys"));
    }
    Ok(set.keys.into_iter().filter_map(key).collect())
}

fn key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    match &jwk.algorithm {
        AlgorithmParameters::RSA(_)
        | AlgorithmParameters::EllipticCurve(_)
        | AlgorithmParameters::OctetKeyPair(_) => {}
        // A secret that anybody can read.
        AlgorithmParameters::OctetKey(_) | AlgorithmParameters::Other(_) | _ => return None,
    }
    if jwk.common.public_key_use.as_ref().is_some_and(|of| *of != PublicKeyUse::Signature) {
        return None;
    }
    let algorithm = match jwk.common.key_algorithm.as_ref().map(KeyAlgorithm::to_string) {
        Some(name) => Some(Algorithm::from_str(&name).ok()?),
        None => None,
    };
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    Some(Key { id: jwk.common.key_id, algorithm, decoding })
}

/// Where the keys of an issuer come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// A file, which was read with the settings.
    File(Vec<Key>),
    /// This address.
    Url(Uri),
    /// The address that the issuer names (OpenID Connect Discovery 1.0).
    Discovery,
}

/// The keys of an issuer, as they are now. Dropping it ends the task that keeps them fresh.
#[derive(Debug)]
pub(super) struct Keys {
    shared: Arc<Shared>,
    _following: Option<DropGuard>,
}

#[derive(Debug)]
struct Shared {
    keys: ArcSwap<Vec<Key>>,
    endpoints: ArcSwap<Option<Endpoints>>,
    /// Somebody has brought a key that is not known.
    wanted: Notify,
}

/// What has to be known to ask an issuer.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) issuer: String,
    pub(super) source: Source,
    /// Whether the addresses of its login are wanted.
    pub(super) logs_in: bool,
    pub(super) fetch: Arc<dyn Fetch>,
}

impl Keys {
    /// Has the keys of a file; asks for all others, behind. `changed` is called when they are others
    /// than before.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub(super) fn follow(asked: Asked, changed: impl Fn() + Send + Sync + 'static) -> Self {
        let (keys, is_complete) = match &asked.source {
            Source::File(keys) => (keys.clone(), !asked.logs_in),
            Source::Url(_) | Source::Discovery => (Vec::new(), false),
        };
        let shared = Arc::new(Shared {
            keys: ArcSwap::from_pointee(keys),
            endpoints: ArcSwap::from_pointee(None),
            wanted: Notify::new(),
        });
        if is_complete {
            return Self { shared, _following: None };
        }
        let stop = CancellationToken::new();
        let task = Arc::clone(&shared).keep_fresh(asked, changed);
        tokio::spawn(stop.clone().run_until_cancelled_owned(task));
        Self { shared, _following: Some(stop.drop_guard()) }
    }

    /// The key for a token, by what its header says. None asks for fresh ones, behind.
    pub(super) fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<DecodingKey> {
        let keys = self.shared.keys.load();
        let mut fitting = keys.iter().filter(|key| {
            key.decoding.family() == algorithm.family()
                && key.algorithm.is_none_or(|of| of == algorithm)
                && (id.is_none() || key.id.as_deref() == id)
        });
        let found = fitting.next();
        // Without an id there must be no choice.
        if found.is_none() || (id.is_none() && fitting.next().is_some()) {
            self.shared.wanted.notify_one();
            return None;
        }
        found.map(|key| key.decoding.clone())
    }

    /// Where the issuer logs people in, if that is known yet.
    pub(super) fn endpoints(&self) -> Option<Endpoints> {
        Option::clone(&self.shared.endpoints.load())
    }
}

impl Shared {
    async fn keep_fresh(self: Arc<Self>, asked: Asked, changed: impl Fn()) {
        let mut pause = PAUSE_FIRST;
        loop {
            let began = Instant::now();
            let next = match self.refresh(&asked).await {
                Ok(Refreshed::Same) => INTERVAL,
                Ok(Refreshed::Changed) => {
                    tracing::info!(issuer = asked.issuer, "has the keys of the issuer");
                    changed();
                    INTERVAL
                }
                Err(error) => {
                    tracing::warn!(issuer = asked.issuer, %error, "cannot fetch the keys of the issuer");
                    let next = pause;
                    pause = (pause * 2).min(PAUSE_MIN);
                    next
                }
            };
            tokio::select! {
                () = tokio::time::sleep_until(began + next) => {}
                () = self.wanted.notified() => {
                    tokio::time::sleep_until(began + next.min(PAUSE_MIN)).await;
                }
            }
        }
    }

    async fn refresh(&self, asked: &Asked) -> Result<Refreshed, FetchError> {
        let mut source = match &asked.source {
            Source::Url(uri) => Some(uri.clone()),
            Source::File(_) | Source::Discovery => None,
        };
        if asked.logs_in || matches!(asked.source, Source::Discovery) {
            let found = Discovered::of(asked).await?;
            if matches!(asked.source, Source::Discovery) {
                source = Some(found.jwks_uri);
            }
            self.endpoints.store(Arc::new(found.endpoints));
        }
        let Some(uri) = source else { return Ok(Refreshed::Same) };
        let keys = parse(&get(asked, uri).await?).map_err(FetchError::Answer)?;
        if keys.is_empty() {
            return Err(FetchError::Answer("it has no key that can be used".to_owned()));
        }
        let ids = |keys: &[Key]| -> Vec<_> {
            keys.iter().map(|key| (key.id.clone(), format!("{:?}", key.algorithm))).collect()
        };
        let same = ids(&keys) == ids(&self.keys.load());
        self.keys.store(Arc::new(keys));
        Ok(if same { Refreshed::Same } else { Refreshed::Changed })
    }
}

enum Refreshed {
    Same,
    Changed,
}

/// What an issuer says of itself.
struct Discovered {
    jwks_uri: Uri,
    endpoints: Option<Endpoints>,
}

impl Discovered {
    async fn of(asked: &Asked) -> Result<Self, FetchError> {
        #[derive(serde::Deserialize)]
        struct Document {
            issuer: String,
            jwks_uri: String,
            authorization_endpoint: Option<String>,
            token_endpoint: Option<String>,
            code_challenge_methods_supported: Option<Vec<String>>,
        }
        let address =
            format!("{}/.well-known/openid-configuration", asked.issuer.trim_end_matches('/'));
        let wrong = |text: &str| FetchError::Answer(text.to_owned());
        let uri = address.parse().map_err(|_| FetchError::Address(address.clone()))?;
        let document: Document = serde_json::from_slice(&get(asked, uri).await?)
            .map_err(|error| FetchError::Answer(error.to_string()))?;
        // OpenID Connect Discovery 1.0, section 4.3: or one issuer could speak for another.
        if document.issuer != asked.issuer {
            return Err(wrong("its discovery document is another issuer's"));
        }
        let parsed = |text: &str| -> Result<Uri, FetchError> {
            let uri: Uri = text.parse().map_err(|_| FetchError::Address(text.to_owned()))?;
            fetch::check(&uri)?;
            Ok(uri)
        };
        let endpoints = match (&document.authorization_endpoint, &document.token_endpoint) {
            (Some(authorization), Some(token)) => Some(Endpoints {
                authorization: parsed(authorization)?,
                token: parsed(token)?,
                // Not said is not denied: some issuers have it and do not say so.
                has_pkce: document
                    .code_challenge_methods_supported
                    .is_none_or(|methods| methods.iter().any(|method| method == "S256")),
            }),
            _ => None,
        };
        Ok(Self { jwks_uri: parsed(&document.jwks_uri)?, endpoints })
    }
}

async fn get(asked: &Asked, uri: Uri) -> Result<Bytes, FetchError> {
    let request = Request::get(uri).body(String::new());
    let request = request.map_err(|error| FetchError::Answer(error.to_string()))?;
    asked.fetch.send(request).await
}

/// Whether it is a shared secret's algorithm, which a public key must never be used for.
pub(super) fn is_symmetric(algorithm: Algorithm) -> bool {
    algorithm.family() == AlgorithmFamily::Hmac
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{ISSUER, Scripted, Signer, set},
        *,
    };
    use std::sync::atomic::{AtomicUsize, Ordering};

    const URL: &str = "https://id.example.com/keys";

    /// Lets the task do what it can, without any time passing.
    async fn settle() {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    }

    fn follow(source: Source, fetch: &Arc<Scripted>) -> (Keys, Arc<AtomicUsize>) {
        let changes = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&changes);
        let fetch: Arc<dyn Fetch> = fetch.clone();
        let asked = Asked { issuer: ISSUER.to_owned(), source, logs_in: false, fetch };
        let changed = move || {
            count.fetch_add(1, Ordering::Relaxed);
        };
        (Keys::follow(asked, changed), changes)
    }

    fn has(keys: &Keys, id: &str) -> bool {
        keys.find(Some(id), Algorithm::ES256).is_some()
    }

    #[tokio::test(start_paused = true)]
    async fn forged_key_ids_cost_one_request_a_minute() {
        let fetch = Arc::new(Scripted::default());
        fetch.answer(URL, set(&[&Signer::new("k1")]));
        let (keys, changes) = follow(Source::Url(URL.parse().unwrap()), &fetch);
        settle().await;
        assert_eq!(fetch.asked(), 1);
        for minute in 1..=5 {
            for n in 0..1000 {
                assert!(!has(&keys, &format!("forged-{n}")));
            }
            settle().await;
            assert_eq!(fetch.asked(), minute, "nothing is asked at once");
            tokio::time::advance(PAUSE_MIN).await;
            settle().await;
            assert_eq!(fetch.asked(), minute + 1);
        }
        assert_eq!(changes.load(Ordering::Relaxed), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_key_is_known_within_a_minute_and_keys_stay_when_nobody_answers() {
        let fetch = Arc::new(Scripted::default());
        fetch.answer(URL, set(&[&Signer::new("k1")]));
        let (keys, changes) = follow(Source::Url(URL.parse().unwrap()), &fetch);
        settle().await;
        fetch.answer(URL, set(&[&Signer::new("k1"), &Signer::new("k2")]));
        assert!(has(&keys, "k1") && !has(&keys, "k2"));
        settle().await;
        tokio::time::advance(PAUSE_MIN).await;
        settle().await;
        assert!(has(&keys, "k1") && has(&keys, "k2"));
        assert_eq!(changes.load(Ordering::Relaxed), 2);

        fetch.fail();
        tokio::time::advance(INTERVAL).await;
        settle().await;
        assert_eq!(fetch.asked(), 3);
        assert!(has(&keys, "k2"));
        fetch.answer(URL, r#"{"keys": []}"#);
        tokio::time::advance(PAUSE_MIN).await;
        settle().await;
        assert!(has(&keys, "k2"), "a set without keys is no set");
        drop(keys);
        settle().await;
        let asked = fetch.asked();
        tokio::time::advance(INTERVAL * 2).await;
        settle().await;
        assert_eq!(fetch.asked(), asked, "nobody asks for who is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn an_issuer_that_cannot_be_reached_at_first_is_asked_again_soon() {
        let fetch = Arc::new(Scripted::default());
        let (keys, _) = follow(Source::Url(URL.parse().unwrap()), &fetch);
        settle().await;
        assert_eq!(fetch.asked(), 1);
        fetch.answer(URL, set(&[&Signer::new("k1")]));
        assert!(!has(&keys, "k1"), "who calls meanwhile does not make it later");
        settle().await;
        tokio::time::advance(PAUSE_FIRST).await;
        settle().await;
        assert!(has(&keys, "k1"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_keys_are_where_the_issuer_s_own_document_says() {
        let document = format!("{ISSUER}/.well-known/openid-configuration");
        let says = |issuer: &str, jwks: &str| {
            serde_json::json!({ "issuer": issuer, "jwks_uri": jwks }).to_string()
        };
        for (issuer, jwks, good) in [
            (ISSUER, URL, true),
            ("https://evil.example", URL, false),
            (ISSUER, "http://id.example.com/keys", false),
        ] {
            let fetch = Arc::new(Scripted::default());
            fetch.answer(&document, says(issuer, jwks));
            fetch.answer(jwks, set(&[&Signer::new("k1")]));
            let (keys, _) = follow(Source::Discovery, &fetch);
            settle().await;
            assert_eq!(has(&keys, "k1"), good, "{issuer} {jwks}");
        }
    }

    #[test]
    fn of_a_set_only_public_keys_for_signatures_are_taken() {
        let signer = Signer::new("k1");
        let mut for_encryption = signer.jwk();
        for_encryption["use"] = "enc".into();
        let secret =
            serde_json::json!({ "kty": "oct", "kid": "k1", "k": "c2VjcmV0", "alg": "HS256" });
        let odd = serde_json::json!({ "kty": "new", "kid": "k3" });
        let set = serde_json::json!({ "keys": [for_encryption, secret, odd, signer.jwk()] });
        let keys = parse(set.to_string().as_bytes()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].decoding.family(), AlgorithmFamily::Ec);
        assert!(parse(b"[]").is_err());
        let many: Vec<_> = (0..=KEYS_MAX).map(|_| signer.jwk()).collect();
        assert!(parse(serde_json::json!({ "keys": many }).to_string().as_bytes()).is_err());
    }
}
