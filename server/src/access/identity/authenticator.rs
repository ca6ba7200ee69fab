//! The authenticator: asks whoever an authentication file names.

use super::{
    Authenticate, Credentials, Fetch, Identity, Unauthenticated, bearer,
    certificate::Certificates,
    file::Settings,
    jwt::{self, Rules},
    keys::{Asked, Keys, Source},
    token::{self, Token},
};
use crate::clock::Clock;
use arc_swap::ArcSwap;
use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::watch;

/// Knows callers by static tokens, by JWTs, and by certificates.
#[derive(Debug)]
pub struct Authenticator {
    known: ArcSwap<Known>,
    clock: Arc<dyn Clock>,
    generation: watch::Sender<u64>,
}

/// Who vouches, as of one reading of the file.
#[derive(Debug)]
pub(super) struct Known {
    tokens: Vec<Token>,
    pub(super) issuers: Vec<Issuer>,
    certificates: Option<Certificates>,
}

/// An issuer, with the keys that it has now.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) rules: Rules,
    pub(super) keys: Arc<Keys>,
    pub(super) fetch: Arc<dyn Fetch>,
    /// Where the keys come from, in words: while it stays, so do they.
    origin: String,
}

impl Authenticator {
    /// Begins to fetch keys, behind. Credentials are judged by the system's clock even where releases
    /// follow another.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn start(settings: Settings, clock: Arc<dyn Clock>) -> Self {
        let generation = watch::Sender::new(0);
        let known = ArcSwap::from_pointee(known(settings, &[], &generation));
        Self { known, clock, generation }
    }

    /// Goes by other settings from here on. Issuers whose keys come from where they came from keep them.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn replace(&self, settings: Settings) {
        let new = known(settings, &self.known.load().issuers, &self.generation);
        self.known.store(Arc::new(new));
        self.generation.send_modify(|generation| *generation += 1);
    }

    pub(super) fn known(&self) -> Arc<Known> {
        self.known.load_full()
    }

    pub(super) fn now(&self) -> SystemTime {
        // Before 1970 nothing is valid, and nothing has expired.
        let since = u64::try_from(self.clock.now().as_millis()).unwrap_or_default();
        SystemTime::UNIX_EPOCH + Duration::from_millis(since)
    }

    fn by_bearer(&self, token: &str) -> Result<Identity, Unauthenticated> {
        if token.len() > jwt::TOKEN_BYTES_MAX {
            return Err(Unauthenticated::TooLong(jwt::TOKEN_BYTES_MAX));
        }
        let known = self.known.load();
        if !jwt::is_jwt(token) {
            return token::find(&known.tokens, token, self.now());
        }
        let claimed = jwt::claimed_issuer(token)?;
        let found = known.issuers.iter().find(|issuer| issuer.rules.issuer == claimed);
        let issuer = found.ok_or(Unauthenticated::WrongIssuer)?;
        jwt::verify(&issuer.rules, &issuer.keys, token, jwt::Use::Bearer, self.now())
    }
}

fn known(settings: Settings, old: &[Issuer], generation: &watch::Sender<u64>) -> Known {
    let Settings { tokens, issuers, certificates, .. } = settings;
    let issuers = issuers.into_iter().map(|new| {
        let logs_in = new.rules.login.is_some();
        let origin = match &new.source {
            // Read anew with the settings, so never the old ones.
            Source::File(_) => None,
            Source::Url(uri) => {
                Some(format!("{} {uri} {logs_in} {:?}", new.rules.issuer, new.authorities))
            }
            Source::Discovery => {
                Some(format!("{} {logs_in} {:?}", new.rules.issuer, new.authorities))
            }
        };
        let kept = old.iter().find(|old| origin.as_ref() == Some(&old.origin));
        let keys = kept.map(|old| Arc::clone(&old.keys)).unwrap_or_else(|| {
            let generation = generation.clone();
            let asked = Asked {
                issuer: new.rules.issuer.clone(),
                source: new.source,
                logs_in,
                fetch: Arc::clone(&new.fetch),
            };
            let changed = move || generation.send_modify(|generation| *generation += 1);
            Arc::new(Keys::follow(asked, changed))
        });
        Issuer { rules: new.rules, keys, fetch: new.fetch, origin: origin.unwrap_or_default() }
    });
    Known { tokens, issuers: issuers.collect(), certificates }
}

impl Authenticate for Authenticator {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated> {
        if let Some(token) = bearer(credentials.headers)? {
            return self.by_bearer(token).map(Some);
        }
        let Some(certificate) = credentials.certificate else { return Ok(None) };
        let known = self.known.load();
        let rules = known.certificates.as_ref().ok_or(Unauthenticated::CertificatesNotUsed)?;
        let taken = |scheme: &str| {
            scheme.eq_ignore_ascii_case(token::PRINCIPAL_PREFIX)
                || known.issuers.iter().any(|issuer| issuer.rules.name.eq_ignore_ascii_case(scheme))
        };
        rules.identify(certificate, taken, self.now()).map(Some)
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            ClientCertificate, Kind,
            certificate::Demand,
            file::NewIssuer,
            keys,
            testing::{NOW, Scripted, Signer, claims, rules, set},
        },
        *,
    };
    use crate::clock::ManualClock;
    use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
    use phasegate_engine::time::Timestamp;

    fn settings(tokens: &[&str], signer: &Signer) -> Settings {
        let token = |text: &&str| Token {
            name: text.trim_start_matches(token::PREFIX).to_owned(),
            digest: token::digest(text),
            kind: Kind::Service,
            groups: Vec::new(),
            expires: None,
        };
        let source = Source::File(keys::parse(set(&[signer]).as_bytes()).unwrap());
        let fetch = Arc::new(Scripted::default());
        let issuer = NewIssuer { rules: rules(), source, fetch, authorities: Vec::new() };
        let certificates = Certificates {
            authorities: Vec::new(),
            demand: Demand::Optional,
            principals: [].into(),
            trust_domain: None,
        };
        Settings::of(tokens.iter().map(token).collect(), vec![issuer], Some(certificates))
    }

    fn start(settings: Settings) -> Authenticator {
        let now = Timestamp::from_millis(i64::try_from(NOW).unwrap() * 1000);
        Authenticator::start(settings, Arc::new(ManualClock::new(now)))
    }

    fn check(
        authenticator: &Authenticator,
        headers: &[&str],
        certificate: Option<&ClientCertificate>,
    ) -> Result<Option<String>, Unauthenticated> {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        let found = authenticator.authenticate(&Credentials { headers: &map, certificate })?;
        Ok(found.map(|identity| identity.principal.to_string()))
    }

    #[test]
    fn who_brings_nothing_is_nobody_and_who_brings_something_bad_is_an_error() {
        let signer = Signer::new("k1");
        let authenticator = start(settings(&["pgt_a"], &signer));
        let check = |headers: &[&str]| check(&authenticator, headers, None);
        assert_eq!(check(&[]), Ok(None));
        assert_eq!(check(&["Bearer pgt_a"]), Ok(Some("token:a".to_owned())));
        assert_eq!(check(&["bearer  pgt_a"]), Ok(Some("token:a".to_owned())));
        let jwt = format!("Bearer {}", signer.sign(&claims()));
        assert_eq!(check(&[&jwt]), Ok(Some("corp:u-1".to_owned())));
        assert_eq!(check(&["Bearer pgt_b"]), Err(Unauthenticated::UnknownToken));
        for bad in ["", "Bearer", "Bearer ", "Basic YTpi", "pgt_a", "Bearer a.b.c", "Bearer .."] {
            assert!(matches!(check(&[bad]), Err(Unauthenticated::Malformed(_))), "{bad}");
        }
        let long = format!("Bearer {}", "x".repeat(jwt::TOKEN_BYTES_MAX + 1));
        assert_eq!(check(&[&long]), Err(Unauthenticated::TooLong(jwt::TOKEN_BYTES_MAX)));
    }

    #[test]
    fn two_authorization_headers_are_refused() {
        let authenticator = start(settings(&["pgt_a"], &Signer::new("k1")));
        for second in ["Bearer pgt_a", "Bearer pgt_b", "Basic x"] {
            let refused = check(&authenticator, &["Bearer pgt_a", second], None);
            assert_eq!(refused, Err(Unauthenticated::SeveralCredentials));
        }
    }

    #[test]
    fn a_bearer_token_decides_before_a_certificate() {
        let authenticator = start(settings(&["pgt_a"], &Signer::new("k1")));
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(NOW + 1);
        let certificate =
            ClientCertificate { uris: vec!["spiffe://x.example/a".into()], not_after };
        let check = |headers: &[&str]| check(&authenticator, headers, Some(&certificate));
        assert_eq!(check(&[]), Ok(Some("spiffe://x.example/a".to_owned())));
        assert_eq!(check(&["Bearer pgt_a"]), Ok(Some("token:a".to_owned())));
        assert_eq!(check(&["Bearer pgt_b"]), Err(Unauthenticated::UnknownToken));
    }

    #[test]
    fn other_settings_hold_at_once_and_are_told() {
        let signer = Signer::new("k1");
        let authenticator = start(settings(&["pgt_a"], &signer));
        let mut generation = authenticator.generation();
        generation.mark_unchanged();
        authenticator.replace(settings(&["pgt_b"], &signer));
        assert!(generation.has_changed().unwrap());
        let gone = check(&authenticator, &["Bearer pgt_a"], None);
        assert_eq!(gone, Err(Unauthenticated::UnknownToken));
        let new = check(&authenticator, &["Bearer pgt_b"], None);
        assert_eq!(new, Ok(Some("token:b".to_owned())));
    }
}
