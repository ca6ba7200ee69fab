//! JWTs of OIDC issuers (RFC 7519, with the advice of RFC 8725).
//!
//! The order is: length, shape, algorithm, issuer, key, signature, and then what it says. Until the
//! signature is verified nothing of it is used but to find the key.

use super::{
    Identity, Kind, Unauthenticated, Vouched,
    keys::{self, Keys},
    login::Client,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, Validation, errors::ErrorKind};
use phasegate_engine::id::{Group, Principal};
use serde_json::{Map, Value};
use std::{
    str::FromStr as _,
    time::{Duration, SystemTime},
};

/// Longer tokens are not looked at. (HTTP/2 carries 8 KiB of headers anyway.)
pub(super) const TOKEN_BYTES_MAX: usize = 16 << 10;
/// OpenID Connect Core 1.0, section 2.
const SUBJECT_BYTES_MAX: usize = 255;
/// Entra writes 200 groups into a token, and then none.
const GROUPS_MAX: usize = 256;
const GROUP_BYTES_MAX: usize = 256;
/// What is shown to people.
const NAME_CHARS_MAX: usize = 100;

/// What is believed of an issuer.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    /// What its principals begin with.
    pub(super) name: String,
    /// `iss`, to the letter.
    pub(super) issuer: String,
    /// `aud` has to have one of these.
    pub(super) audience: Vec<String>,
    pub(super) algorithms: Vec<Algorithm>,
    pub(super) groups_claim: String,
    pub(super) groups_prefix: String,
    pub(super) name_claim: Option<String>,
    pub(super) service_when: Option<Condition>,
    pub(super) max_age: Duration,
    pub(super) leeway: Duration,
    /// How people log in at the page with it.
    pub(super) login: Option<Client>,
}

/// What a claim has to be.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Condition {
    pub(super) claim: String,
    /// None: it has to be there.
    pub(super) equals: Option<Value>,
}

impl Condition {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        match (claims.get(&self.claim), &self.equals) {
            (None | Some(Value::Null), _) => false,
            (Some(_), None) => true,
            (Some(found), Some(wanted)) => found == wanted,
        }
    }
}

/// For what a token is looked at.
#[derive(Clone, Copy, Debug)]
pub(super) enum Use<'a> {
    /// A call.
    Bearer,
    /// The end of a login: it has to be for this client and for this login.
    Login { client: &'a str, nonce: &'a str },
}

/// True for what looks like a JWT, so that nothing else is taken for one.
pub(super) fn is_jwt(token: &str) -> bool {
    token.bytes().filter(|byte| *byte == b'.').count() == 2
}

/// Who issued a token, before anything of it is verified: only to find the one who can.
pub(super) fn claimed_issuer(token: &str) -> Result<String, Unauthenticated> {
    #[derive(serde::Deserialize)]
    struct Claims {
        iss: Option<String>,
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Unauthenticated::TooLong(TOKEN_BYTES_MAX));
    }
    let payload = token.split('.').nth(1).unwrap_or_default();
    let claims: Claims = decoded(payload, "the claims cannot be read")?;
    claims.iss.ok_or(Unauthenticated::MissingClaim("iss"))
}

fn decoded<T: serde::de::DeserializeOwned>(
    part: &str,
    problem: &'static str,
) -> Result<T, Unauthenticated> {
    let malformed = || Unauthenticated::Malformed(problem);
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| malformed())?;
    serde_json::from_slice(&bytes).map_err(|_| malformed())
}

/// How a token says that it is signed.
#[derive(serde::Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    typ: Option<String>,
    crit: Option<Value>,
}

/// Verifies a token of this issuer, and says who it is.
pub(super) fn verify(
    rules: &Rules,
    keys: &Keys,
    token: &str,
    used: Use<'_>,
    now: SystemTime,
) -> Result<Identity, Unauthenticated> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(Unauthenticated::TooLong(TOKEN_BYTES_MAX));
    }
    if !is_jwt(token) {
        return Err(Unauthenticated::Malformed("it has not three parts"));
    }
    let header: Header =
        decoded(token.split('.').next().unwrap_or_default(), "the header cannot be read")?;
    if header.crit.is_some() {
        return Err(Unauthenticated::Malformed("it has extensions that are critical"));
    }
    // RFC 8725, section 3.11: a token for something else is not one for this.
    let is_of_type = header.typ.as_deref().is_none_or(|of| {
        let of = of.strip_prefix("application/").unwrap_or(of);
        of.eq_ignore_ascii_case("jwt") || of.eq_ignore_ascii_case("at+jwt")
    });
    if !is_of_type {
        return Err(Unauthenticated::Malformed("it is of another type"));
    }
    let algorithm = Algorithm::from_str(&header.alg)
        .ok()
        .filter(|algorithm| rules.algorithms.contains(algorithm) && !keys::is_symmetric(*algorithm))
        .ok_or(Unauthenticated::AlgorithmNotAllowed)?;
    let key = keys.find(header.kid.as_deref(), algorithm).ok_or(Unauthenticated::UnknownKey)?;

    let audience = match used {
        Use::Bearer => rules.audience.clone(),
        Use::Login { client, .. } => vec![client.to_owned()],
    };
    let mut validation = Validation::new(algorithm);
    validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
    validation.set_issuer(&[&rules.issuer]);
    validation.set_audience(&audience);
    // Times are compared here: by the clock of the server, and with the leeway of the issuer.
    validation.validate_exp = false;
    validation.validate_nbf = false;
    let verified = jsonwebtoken::decode::<Map<String, Value>>(token, &key, &validation)
        .map_err(|error| translated(error.kind()))?;
    let claims = verified.claims;

    let until = in_time(rules, &claims, now)?;
    if let Use::Login { client, nonce } = used {
        let is_ours =
            |name: &str, wanted: &str| claims.get(name).and_then(Value::as_str) == Some(wanted);
        if !is_ours("nonce", nonce) {
            return Err(Unauthenticated::WrongNonce);
        }
        // OpenID Connect Core 1.0, section 3.1.3.7, points 4 and 5.
        let several = claims.get("aud").and_then(Value::as_array).is_some_and(|aud| aud.len() > 1);
        if (several || claims.contains_key("azp")) && !is_ours("azp", client) {
            return Err(Unauthenticated::WrongAudience);
        }
    }
    Ok(Identity {
        principal: principal(rules, &claims)?,
        name: name(rules, &claims),
        groups: groups(rules, &claims)?,
        kind: match &rules.service_when {
            Some(condition) if condition.holds(&claims) => Kind::Service,
            Some(_) | None => Kind::Person,
        },
        until: Some(until),
        vouched: Vouched::Jwt,
    })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all others are about a form that is wrong")]
fn translated(error: &ErrorKind) -> Unauthenticated {
    match error {
        ErrorKind::InvalidSignature => Unauthenticated::BadSignature,
        ErrorKind::InvalidAudience => Unauthenticated::WrongAudience,
        ErrorKind::InvalidIssuer => Unauthenticated::WrongIssuer,
        ErrorKind::InvalidAlgorithm | ErrorKind::UnsupportedAlgorithm => {
            Unauthenticated::AlgorithmNotAllowed
        }
        ErrorKind::MissingRequiredClaim(claim) => match claim.as_str() {
            "sub" => Unauthenticated::NoSubject,
            "exp" => Unauthenticated::MissingClaim("exp"),
            "iss" => Unauthenticated::MissingClaim("iss"),
            _ => Unauthenticated::MissingClaim("aud"),
        },
        _ => Unauthenticated::Malformed("it cannot be read"),
    }
}

/// Compares its times with now; when it ends, leeway included.
fn in_time(
    rules: &Rules,
    claims: &Map<String, Value>,
    now: SystemTime,
) -> Result<SystemTime, Unauthenticated> {
    let malformed = || Unauthenticated::Malformed("one of its times is no time");
    let time = |name: &str| -> Result<Option<SystemTime>, Unauthenticated> {
        let Some(value) = claims.get(name).filter(|value| !value.is_null()) else {
            return Ok(None);
        };
        let seconds = value.as_f64().ok_or_else(malformed)?;
        let since = Duration::try_from_secs_f64(seconds).map_err(|_| malformed())?;
        SystemTime::UNIX_EPOCH.checked_add(since).map(Some).ok_or_else(malformed)
    };
    let later = |time: SystemTime, by: Duration| time.checked_add(by).ok_or_else(malformed);
    let expires = time("exp")?.ok_or(Unauthenticated::MissingClaim("exp"))?;
    let until = later(expires, rules.leeway)?;
    if until <= now {
        return Err(Unauthenticated::Expired);
    }
    let soon = later(now, rules.leeway)?;
    let issued = time("iat")?;
    if time("nbf")?.is_some_and(|from| from > soon) || issued.is_some_and(|from| from > soon) {
        return Err(Unauthenticated::NotYetValid);
    }
    // Without `iat` its age is not known, but it must not be able to become too old either.
    let oldest = match issued {
        Some(issued) => later(later(issued, rules.max_age)?, rules.leeway)?,
        None if expires <= later(soon, rules.max_age)? => until,
        None => return Err(Unauthenticated::MissingClaim("iat")),
    };
    if oldest <= now {
        return Err(Unauthenticated::TooOld(rules.max_age));
    }
    Ok(until.min(oldest))
}

fn principal(rules: &Rules, claims: &Map<String, Value>) -> Result<Principal, Unauthenticated> {
    let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
    let is_printable = |byte: u8| matches!(byte, b' '..=b'~');
    match subject.len() {
        0 => Err(Unauthenticated::NoSubject),
        1..=SUBJECT_BYTES_MAX if subject.bytes().all(is_printable) => {
            Ok(Principal::new(format!("{}:{subject}", rules.name)))
        }
        _ => Err(Unauthenticated::Malformed("its subject is too long or not printable ASCII")),
    }
}

fn name(rules: &Rules, claims: &Map<String, Value>) -> Option<String> {
    let given = match &rules.name_claim {
        Some(claim) => claims.get(claim),
        None => ["email", "preferred_username", "name"].iter().find_map(|claim| claims.get(*claim)),
    };
    let name: String =
        given?.as_str()?.chars().filter(|c| !c.is_control()).take(NAME_CHARS_MAX).collect();
    Some(name).filter(|name| !name.is_empty())
}

fn groups(rules: &Rules, claims: &Map<String, Value>) -> Result<Vec<Group>, Unauthenticated> {
    // Half of the groups would be worse than none: what is not understood is refused.
    let malformed = || Unauthenticated::Malformed("its groups are no list of names");
    let names: Vec<&str> = match claims.get(&rules.groups_claim) {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) if many.len() <= GROUPS_MAX => many
            .iter()
            .map(|group| group.as_str().ok_or_else(malformed))
            .collect::<Result<_, _>>()?,
        Some(Value::Array(_) | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(malformed());
        }
    };
    let mut groups = Vec::new();
    for name in names {
        if name.is_empty() || name.len() > GROUP_BYTES_MAX || name.chars().any(char::is_control) {
            return Err(malformed());
        }
        let group = Group::new(format!("{}{name}", rules.groups_prefix));
        if !groups.contains(&group) {
            groups.push(group);
        }
    }
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{ISSUER, NOW, Signer, at, claims, keys, rules, with},
        *,
    };
    use jsonwebtoken::{EncodingKey, Header as Signed};
    use serde_json::json;

    fn check_with(rules: &Rules, claims: Value) -> Result<Identity, Unauthenticated> {
        let signer = Signer::new("k1");
        verify(rules, &keys(&[&signer]), &signer.sign(&claims), Use::Bearer, at(NOW))
    }

    fn check(changes: Value) -> Result<Identity, Unauthenticated> {
        check_with(&rules(), with(changes))
    }

    #[test]
    fn a_good_token_says_who_it_is() {
        let identity = check(json!({})).unwrap();
        assert_eq!(identity.principal, Principal::new("corp:u-1"));
        assert_eq!(identity.name.as_deref(), Some("ann@example.com"));
        assert_eq!(identity.groups, [Group::new("sre"), Group::new("web")]);
        assert_eq!((identity.kind, identity.vouched), (Kind::Person, Vouched::Jwt));
        assert_eq!(identity.until, Some(at(NOW + 600 + 60)), "its end, and the leeway");
    }

    #[test]
    fn an_expired_token_is_refused() {
        assert!(check(json!({ "exp": NOW - 59 })).is_ok(), "clocks differ by a minute");
        assert_eq!(check(json!({ "exp": NOW - 60 })), Err(Unauthenticated::Expired));
        assert_eq!(check(json!({ "exp": 0 })), Err(Unauthenticated::Expired));
    }

    #[test]
    fn a_token_that_is_not_valid_yet_is_refused() {
        for claim in ["nbf", "iat"] {
            assert!(check(json!({ claim: NOW + 60 })).is_ok(), "clocks differ by a minute");
            assert_eq!(check(json!({ claim: NOW + 61 })), Err(Unauthenticated::NotYetValid));
        }
    }

    #[test]
    fn a_token_that_was_issued_too_long_ago_is_refused() {
        let day = 24 * 3600;
        assert!(check(json!({ "iat": NOW - day, "exp": NOW + day })).is_ok());
        let old = check(json!({ "iat": NOW - day - 60, "exp": NOW + day }));
        assert_eq!(old, Err(Unauthenticated::TooOld(Duration::from_secs(day))));
        // Without iat nobody knows, so it has to end soon.
        assert!(check(json!({ "iat": null, "exp": NOW + day })).is_ok());
        let ageless = check(json!({ "iat": null, "exp": NOW + day + 61 }));
        assert_eq!(ageless, Err(Unauthenticated::MissingClaim("iat")));
        // What ends first counts for streams, too.
        let until = check(json!({ "exp": NOW + 10 * day })).unwrap().until;
        assert_eq!(until, Some(at(NOW - 10 + day + 60)));
    }

    #[test]
    fn a_token_for_another_audience_is_refused() {
        for bad in [json!("grafana"), json!([]), json!(["grafana"]), json!("Phasegate")] {
            let refused = check(json!({ "aud": bad }));
            assert_eq!(refused, Err(Unauthenticated::WrongAudience), "{bad}");
        }
        assert_eq!(check(json!({ "aud": null })), Err(Unauthenticated::MissingClaim("aud")));
    }

    #[test]
    fn an_audience_may_be_a_list_that_has_ours() {
        assert!(check(json!({ "aud": ["grafana", "phasegate"] })).is_ok());
        assert!(check(json!({ "aud": "other" })).is_ok());
    }

    #[test]
    fn a_token_of_another_issuer_is_refused() {
        for bad in [json!("https://id.example.com/"), json!("https://evil.example")] {
            let refused = check(json!({ "iss": bad }));
            assert_eq!(refused, Err(Unauthenticated::WrongIssuer), "{bad}");
        }
        assert_eq!(check(json!({ "iss": null })), Err(Unauthenticated::MissingClaim("iss")));
        let signer = Signer::new("k1");
        let several = signer.sign(&with(json!({ "iss": [ISSUER, "https://evil.example"] })));
        assert!(claimed_issuer(&several).is_err());
    }

    #[test]
    fn a_token_without_subject_is_refused() {
        for bad in [Value::Null, json!("")] {
            assert_eq!(check(json!({ "sub": bad })), Err(Unauthenticated::NoSubject), "{bad}");
        }
        for bad in [json!("a\nb"), json!("ä"), json!("x".repeat(256))] {
            let refused = check(json!({ "sub": bad }));
            assert!(matches!(refused, Err(Unauthenticated::Malformed(_))), "{refused:?}");
        }
        assert!(check(json!({ "sub": 1 })).is_err());
    }

    fn encoded(value: &Value) -> String {
        URL_SAFE_NO_PAD.encode(value.to_string())
    }

    #[test]
    fn a_token_with_algorithm_none_is_refused() {
        let signer = Signer::new("k1");
        let keys = keys(&[&signer]);
        for name in ["none", "None", "NONE", ""] {
            for signature in ["", "AA"] {
                let header = encoded(&json!({ "alg": name, "kid": "k1" }));
                let token = format!("{header}.{}.{signature}", encoded(&claims()));
                let refused = verify(&rules(), &keys, &token, Use::Bearer, at(NOW));
                assert_eq!(refused, Err(Unauthenticated::AlgorithmNotAllowed), "{name}");
            }
        }
    }

    #[test]
    fn a_token_signed_with_the_public_key_as_a_secret_is_refused() {
        let signer = Signer::new("k1");
        let mut header = Signed::new(Algorithm::HS256);
        header.kid = Some("k1".to_owned());
        let as_text = signer.jwk().to_string();
        // Whatever form of the public key a careless verifier could take for the secret.
        for secret in [signer.public(), as_text.as_bytes()] {
            let key = EncodingKey::from_secret(secret);
            let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
            let mut rules = rules();
            for allowed in [false, true] {
                if allowed {
                    // Not even if somebody had got it past the file.
                    rules.algorithms.push(Algorithm::HS256);
                }
                let refused = verify(&rules, &keys(&[&signer]), &token, Use::Bearer, at(NOW));
                assert_eq!(refused, Err(Unauthenticated::AlgorithmNotAllowed));
            }
        }
    }

    #[test]
    fn a_token_that_is_changed_or_signed_by_another_is_refused() {
        let (signer, other) = (Signer::new("k1"), Signer::new("k1"));
        let keys = keys(&[&signer]);
        let check = |token: &str| verify(&rules(), &keys, token, Use::Bearer, at(NOW));
        assert_eq!(check(&other.sign(&claims())), Err(Unauthenticated::BadSignature));
        let token = signer.sign(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let forged = encoded(&with(json!({ "sub": "root" })));
        let forged = format!("{}.{forged}.{}", parts[0], parts[2]);
        assert_eq!(check(&forged), Err(Unauthenticated::BadSignature));
        let unsigned = format!("{}.{}.", parts[0], parts[1]);
        assert_eq!(check(&unsigned), Err(Unauthenticated::BadSignature));
    }

    #[test]
    fn a_header_that_asks_for_more_is_refused() {
        let signer = Signer::new("k1");
        let keys = keys(&[&signer]);
        let check = |change: &dyn Fn(&mut Signed)| {
            let mut header = signer.header();
            change(&mut header);
            let token = signer.sign_as(&header, &claims());
            verify(&rules(), &keys, &token, Use::Bearer, at(NOW)).map(|_| ())
        };
        assert_eq!(check(&|header| header.typ = Some("at+JWT".into())), Ok(()));
        assert_eq!(check(&|header| header.typ = None), Ok(()));
        assert_eq!(check(&|header| header.kid = None), Ok(()), "there is one key only");
        let malformed = |checked| matches!(checked, Err(Unauthenticated::Malformed(_)));
        assert!(malformed(check(&|header| header.typ = Some("logout+jwt".into()))));
        assert!(malformed(check(&|header| header.crit = Some(vec!["exp".into()]))));
        let other = check(&|header| header.kid = Some("k2".into()));
        assert_eq!(other, Err(Unauthenticated::UnknownKey));
    }

    #[test]
    fn a_token_over_16_kib_is_not_looked_at() {
        let refused = check(json!({ "padding": "x".repeat(TOKEN_BYTES_MAX) }));
        assert_eq!(refused, Err(Unauthenticated::TooLong(TOKEN_BYTES_MAX)));
        let garbage = "x".repeat(TOKEN_BYTES_MAX + 1);
        assert_eq!(claimed_issuer(&garbage), Err(Unauthenticated::TooLong(TOKEN_BYTES_MAX)));
    }

    #[test]
    fn groups_are_a_list_of_names_or_nothing_at_all() {
        let groups = |groups| check(json!({ "groups": groups })).map(|found| found.groups.len());
        assert_eq!(groups(json!(["a", "b", "a"])), Ok(2));
        assert_eq!(groups(json!("a")), Ok(1));
        assert_eq!(groups(Value::Null), Ok(0));
        let many: Vec<String> = (0..257).map(|n| n.to_string()).collect();
        for bad in [json!([1]), json!([""]), json!({}), json!(["x".repeat(257)]), json!(many)] {
            assert!(groups(bad.clone()).is_err(), "{bad}");
        }
        let rules = Rules { groups_prefix: "corp/".to_owned(), ..rules() };
        let prefixed = check_with(&rules, claims()).unwrap().groups;
        assert_eq!(prefixed[0], Group::new("corp/sre"));
    }

    #[test]
    fn a_claim_tells_programs_from_people() {
        let kind = |equals: Option<Value>, found: Value| {
            let service_when = Some(Condition { claim: "typ".to_owned(), equals });
            check_with(&Rules { service_when, ..rules() }, with(json!({ "typ": found })))
                .unwrap()
                .kind
        };
        assert_eq!(kind(Some(json!("robot")), json!("robot")), Kind::Service);
        assert_eq!(kind(Some(json!("robot")), json!("human")), Kind::Person);
        assert_eq!(kind(Some(json!(true)), json!(true)), Kind::Service);
        assert_eq!(kind(None, json!("anything")), Kind::Service);
        assert_eq!(kind(None, Value::Null), Kind::Person);
    }

    #[test]
    fn the_token_of_a_login_is_for_this_client_and_this_login() {
        let signer = Signer::new("k1");
        let keys = keys(&[&signer]);
        let check = |changes: Value| {
            let used = Use::Login { client: "page", nonce: "n-1" };
            let token = signer.sign(&with(changes));
            verify(&rules(), &keys, &token, used, at(NOW)).map(|identity| identity.principal)
        };
        let same = Principal::new("corp:u-1");
        assert_eq!(check(json!({ "aud": "page", "nonce": "n-1" })), Ok(same));
        let wrong = check(json!({ "aud": "page", "nonce": "n-2" }));
        assert_eq!(wrong, Err(Unauthenticated::WrongNonce));
        let none = check(json!({ "aud": "page" }));
        assert_eq!(none, Err(Unauthenticated::WrongNonce));
        for (aud, azp) in [
            (json!("phasegate"), Value::Null),
            (json!(["page", "other"]), Value::Null),
            (json!(["page", "other"]), json!("other")),
            (json!("page"), json!("other")),
        ] {
            let refused = check(json!({ "aud": aud, "azp": azp, "nonce": "n-1" }));
            assert_eq!(refused, Err(Unauthenticated::WrongAudience), "{aud} {azp}");
        }
    }
}
