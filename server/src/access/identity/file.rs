//! The authentication file: who vouches for callers, in YAML. `docs/identity.md` is the same for people.
//!
//! It holds no secrets: of tokens it has hashes, of clients' secrets the names of their files.

use super::{
    Fetch, Kind, ReadError, Readers, Web,
    certificate::{Certificates, Demand, Known},
    fetch, jwt, keys, login, secret, token,
};
use chrono::{DateTime, Utc};
use http::Uri;
use jsonwebtoken::Algorithm;
use phasegate_engine::id::Group;
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    str::FromStr as _,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio_rustls::rustls::pki_types::{CertificateDer, pem::PemObject as _};

/// A token may be so old unless its issuer's entry says otherwise: a lost one is of no use tomorrow.
const MAX_AGE: Duration = Duration::from_secs(24 * 3600);
/// Clocks differ by so much unless an entry says otherwise: what RFC 7519 (section 4.1.4) calls a few
/// minutes at most.
const LEEWAY: Duration = Duration::from_secs(60);
/// More leeway than this makes no clock right.
const LEEWAY_MAX: Duration = Duration::from_secs(300);
/// Names that issuers must not have, because principals of another kind begin so.
const RESERVED: [&str; 7] =
    [token::PRINCIPAL_PREFIX, "anonymous", "spiffe", "urn", "http", "https", "system"];

/// What an authentication file says, checked, with everything that it names read.
#[derive(Debug)]
pub struct Settings {
    pub(super) tokens: Vec<token::Token>,
    pub(super) issuers: Vec<NewIssuer>,
    pub(super) certificates: Option<Certificates>,
    /// Every file that was read for it: what has to be looked at for changes.
    files: Vec<PathBuf>,
}

/// An issuer whose keys nobody follows yet.
#[derive(Debug)]
pub(super) struct NewIssuer {
    pub(super) rules: jwt::Rules,
    pub(super) source: keys::Source,
    pub(super) fetch: Arc<dyn Fetch>,
    /// Whom its address is trusted by, besides the system's authorities.
    pub(super) authorities: Vec<CertificateDer<'static>>,
}

impl Settings {
    /// The authorities that issue client certificates, if there are any, and whether a connection has
    /// to bring one.
    pub fn client_authorities(&self) -> Option<(&[CertificateDer<'static>], Demand)> {
        self.certificates.as_ref().map(|rules| (rules.authorities.as_slice(), rules.demand))
    }

    #[cfg(test)]
    pub(super) fn of(
        tokens: Vec<token::Token>,
        issuers: Vec<NewIssuer>,
        certificates: Option<Certificates>,
    ) -> Self {
        Self { tokens, issuers, certificates, files: Vec::new() }
    }

    /// Every file that was read.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }
}

/// Why an authentication file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It, or a file that it names, cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// It cannot be understood.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What and where.
        problem: String,
    },
    /// One of its values makes no sense.
    #[error("{}: {field}: {problem}", file.display())]
    Wrong {
        /// The file.
        file: PathBuf,
        /// Which value.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    #[serde(default)]
    tokens: Vec<WrittenToken>,
    #[serde(default)]
    oidc: Vec<WrittenIssuer>,
    certificates: Option<WrittenCertificates>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenToken {
    name: String,
    sha256: String,
    #[serde(default = "service")]
    kind: Kind,
    #[serde(default)]
    groups: Vec<String>,
    expires: Option<DateTime<Utc>>,
}

fn service() -> Kind {
    Kind::Service
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenIssuer {
    name: String,
    issuer: String,
    audience: Vec<String>,
    algorithms: Option<Vec<String>>,
    jwks_file: Option<PathBuf>,
    jwks_url: Option<String>,
    ca_file: Option<PathBuf>,
    groups_claim: Option<String>,
    #[serde(default)]
    groups_prefix: String,
    name_claim: Option<String>,
    service_when: Option<WrittenCondition>,
    #[serde(default, deserialize_with = "duration")]
    max_age: Option<Duration>,
    #[serde(default, deserialize_with = "duration")]
    leeway: Option<Duration>,
    login: Option<WrittenLogin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCondition {
    claim: String,
    equals: Option<serde_json::Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenLogin {
    client_id: String,
    client_secret_file: Option<PathBuf>,
    scopes: Option<Vec<String>>,
    public_url: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenCertificates {
    ca_file: PathBuf,
    #[serde(default)]
    required: bool,
    #[serde(default)]
    principals: BTreeMap<String, WrittenPrincipal>,
    trust_domain: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenPrincipal {
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default = "service")]
    kind: Kind,
}

/// A number and one of `s`, `m`, `h`, `d`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let seconds =
        ['s', 'm', 'h', 'd'].iter().zip([1_u64, 60, 3600, 86_400]).find_map(|(unit, each)| {
            text.strip_suffix(*unit)?.parse::<u32>().ok().map(|number| u64::from(number) * each)
        });
    let seconds =
        seconds.ok_or_else(|| D::Error::custom("write a duration such as 60s, 5m, 24h or 7d"))?;
    Ok(Some(Duration::from_secs(seconds)))
}

/// Reads an authentication file, and what it names.
///
/// # Errors
///
/// If anything of it cannot be read, is open to others, or makes no sense: all of it holds, or nothing.
pub fn load(path: &Path) -> Result<Settings, Error> {
    let bytes = secret::read(path, Readers::Anybody)?;
    let malformed = |problem: String| Error::Malformed { file: path.to_owned(), problem };
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is no UTF-8".to_owned()))?;
    let written: Written = serde_saphyr::from_str(&text).map_err(|error| {
        // The first line says what and where; the rest is a drawing of it, with what stands around.
        malformed(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let mut reader = Reader { file: path, files: vec![path.to_owned()] };
    let tokens = reader.tokens(written.tokens)?;
    let issuers = reader.issuers(written.oidc)?;
    let certificates =
        written.certificates.map(|written| reader.certificates(written, &issuers)).transpose()?;
    if tokens.is_empty() && issuers.is_empty() && certificates.is_none() {
        return Err(malformed(
            "it has no tokens, no oidc and no certificates: nobody could call".to_owned(),
        ));
    }
    Ok(Settings { tokens, issuers, certificates, files: reader.files })
}

/// Reads what a file says, and the files that it names.
struct Reader<'a> {
    file: &'a Path,
    files: Vec<PathBuf>,
}

impl Reader<'_> {
    fn wrong(&self, field: impl Into<String>, problem: impl Into<String>) -> Error {
        Error::Wrong { file: self.file.to_owned(), field: field.into(), problem: problem.into() }
    }

    /// A file that is named by this one, from where this one is.
    fn read(&mut self, named: &Path, readers: Readers) -> Result<Vec<u8>, Error> {
        let path = self.file.parent().unwrap_or_else(|| Path::new("")).join(named);
        let bytes = secret::read(&path, readers)?;
        self.files.push(path);
        Ok(bytes)
    }

    fn authorities(
        &mut self,
        field: &str,
        named: &Path,
    ) -> Result<Vec<CertificateDer<'static>>, Error> {
        let bytes = self.read(named, Readers::Anybody)?;
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes).collect();
        match read {
            Ok(authorities) if !authorities.is_empty() => Ok(authorities),
            Ok(_) => Err(self.wrong(field, "the file has no certificate")),
            Err(error) => Err(self.wrong(field, format!("the file is no PEM: {error}"))),
        }
    }

    fn groups(&self, field: &str, names: Vec<String>) -> Result<Vec<Group>, Error> {
        let is_plain = |name: &String| !name.is_empty() && !name.chars().any(char::is_control);
        match names.iter().find(|name| !is_plain(name)) {
            Some(_) => Err(self.wrong(field, "a group has a name of printable characters")),
            None => Ok(names.into_iter().map(Group::new).collect()),
        }
    }

    fn tokens(&self, written: Vec<WrittenToken>) -> Result<Vec<token::Token>, Error> {
        let (mut names, mut digests) = (BTreeSet::new(), BTreeSet::new());
        let mut tokens = Vec::new();
        for (n, written) in written.into_iter().enumerate() {
            let field = |name: &str| format!("tokens[{n}].{name}");
            if !is_name(&written.name, 64, |c| c.is_ascii_alphanumeric() || "-_.@".contains(c)) {
                let problem = "must be 1 to 64 letters, digits, `-`, `_`, `.` or `@`";
                return Err(self.wrong(field("name"), problem));
            }
            let digest = digest(&written.sha256).ok_or_else(|| {
                self.wrong(
                    field("sha256"),
                    "must be 64 hexadecimal digits, as `phasegate token new` prints them",
                )
            })?;
            if !names.insert(written.name.clone()) {
                return Err(self.wrong(field("name"), "another token has this name"));
            }
            if !digests.insert(digest) {
                return Err(self.wrong(field("sha256"), "another token has this hash"));
            }
            let groups = self.groups(&field("groups"), written.groups)?;
            let expires = written.expires.map(SystemTime::from);
            tokens.push(token::Token {
                name: written.name,
                digest,
                kind: written.kind,
                groups,
                expires,
            });
        }
        Ok(tokens)
    }

    fn issuers(&mut self, written: Vec<WrittenIssuer>) -> Result<Vec<NewIssuer>, Error> {
        let mut issuers: Vec<NewIssuer> = Vec::new();
        for (n, written) in written.into_iter().enumerate() {
            let field = |name: &str| format!("oidc[{n}].{name}");
            if issuers.iter().any(|other| other.rules.name == written.name) {
                return Err(self.wrong(field("name"), "another issuer has this name"));
            }
            // Then it would not be clear whose rules hold.
            if issuers.iter().any(|other| other.rules.issuer == written.issuer) {
                return Err(self.wrong(field("issuer"), "another entry has this issuer"));
            }
            issuers.push(self.issuer(field, written)?);
        }
        Ok(issuers)
    }

    fn issuer(
        &mut self,
        field: impl Fn(&str) -> String,
        written: WrittenIssuer,
    ) -> Result<NewIssuer, Error> {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if !is_name(&written.name, 32, is_plain) || RESERVED.contains(&written.name.as_str()) {
            let problem = format!(
                "must be 1 to 32 small letters, digits or `-`, and none of {}",
                RESERVED.join(", ")
            );
            return Err(self.wrong(field("name"), problem));
        }
        let address = |this: &Self, name: &str, text: &str| -> Result<Uri, Error> {
            let wrong = |problem: String| this.wrong(field(name), problem);
            let uri: Uri =
                text.parse().map_err(|_| wrong("must be an https address".to_owned()))?;
            fetch::check(&uri).map_err(|error| wrong(error.to_string()))?;
            Ok(uri)
        };
        address(self, "issuer", &written.issuer)?;
        if written.audience.is_empty() || written.audience.iter().any(String::is_empty) {
            let problem = "must name at least one: tokens for others are not to be taken here";
            return Err(self.wrong(field("audience"), problem));
        }
        let algorithms = match &written.algorithms {
            Some(names) => self.algorithms(&field("algorithms"), names)?,
            None => vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        };
        let source = match (&written.jwks_file, &written.jwks_url) {
            (Some(_), Some(_)) => {
                return Err(
                    self.wrong(field("jwks_url"), "goes with jwks_file in no way: name one")
                );
            }
            (Some(file), None) => {
                let bytes = self.read(file, Readers::Anybody)?;
                let keys = keys::parse(&bytes)
                    .map_err(|problem| self.wrong(field("jwks_file"), problem))?;
                if keys.is_empty() {
                    return Err(self.wrong(field("jwks_file"), "has no public key for signatures"));
                }
                keys::Source::File(keys)
            }
            (None, Some(url)) => keys::Source::Url(address(self, "jwks_url", url)?),
            (None, None) => keys::Source::Discovery,
        };
        let leeway = written.leeway.unwrap_or(LEEWAY);
        if leeway > LEEWAY_MAX {
            return Err(self.wrong(field("leeway"), "must be at most 5m"));
        }
        let authorities = match &written.ca_file {
            Some(file) => self.authorities(&field("ca_file"), file)?,
            None => Vec::new(),
        };
        let login = written.login.map(|login| self.login(&field, login)).transpose()?;
        let rules = jwt::Rules {
            name: written.name,
            issuer: written.issuer,
            audience: written.audience,
            algorithms,
            groups_claim: written.groups_claim.unwrap_or_else(|| "groups".to_owned()),
            groups_prefix: written.groups_prefix,
            name_claim: written.name_claim,
            service_when: written
                .service_when
                .map(|when| jwt::Condition { claim: when.claim, equals: when.equals }),
            max_age: written.max_age.unwrap_or(MAX_AGE),
            leeway,
            login,
        };
        let fetch = Arc::new(Web::new(&authorities));
        Ok(NewIssuer { rules, source, fetch, authorities })
    }

    fn algorithms(&self, field: &str, names: &[String]) -> Result<Vec<Algorithm>, Error> {
        let known = |name: &String| {
            let algorithm = Algorithm::from_str(name).map_err(|_| {
                self.wrong(field, format!("{name:?} is none of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"))
            })?;
            if keys::is_symmetric(algorithm) {
                let problem = format!(
                    "{name} is signed with a secret that both sides have; with public keys anybody could sign"
                );
                return Err(self.wrong(field, problem));
            }
            Ok(algorithm)
        };
        if names.is_empty() {
            return Err(self.wrong(field, "must name at least one"));
        }
        names.iter().map(known).collect()
    }

    fn login(
        &mut self,
        field: impl Fn(&str) -> String,
        written: WrittenLogin,
    ) -> Result<login::Client, Error> {
        if written.client_id.is_empty() {
            return Err(self.wrong(field("login.client_id"), "must not be empty"));
        }
        let secret = match &written.client_secret_file {
            Some(file) => {
                let bytes = self.read(file, Readers::Nobody)?;
                let text = String::from_utf8(bytes).map_err(|_| {
                    self.wrong(field("login.client_secret_file"), "the file is no text")
                })?;
                Some(text.trim_end().to_owned())
            }
            None => None,
        };
        let public_url = written.public_url.trim_end_matches('/').to_owned();
        let is_origin = public_url.parse::<Uri>().is_ok_and(|uri| {
            fetch::check(&uri).is_ok() && uri.path() == "/" && uri.query().is_none()
        });
        if !is_origin {
            let problem = "must be https://HOST, perhaps with a port: where browsers find the page";
            return Err(self.wrong(field("login.public_url"), problem));
        }
        let scopes = written
            .scopes
            .unwrap_or_else(|| ["openid", "profile", "email"].map(str::to_owned).to_vec());
        if !scopes.iter().any(|scope| scope == "openid") {
            return Err(
                self.wrong(field("login.scopes"), "must have openid, or there is no ID token")
            );
        }
        Ok(login::Client { id: written.client_id, secret, scopes, public_url })
    }

    fn certificates(
        &mut self,
        written: WrittenCertificates,
        issuers: &[NewIssuer],
    ) -> Result<Certificates, Error> {
        let authorities = self.authorities("certificates.ca_file", &written.ca_file)?;
        let mut principals = BTreeMap::new();
        for (uri, known) in written.principals {
            let field = format!("certificates.principals[{uri}]");
            let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
            let is_taken = |scheme: &str| issuers.iter().any(|issuer| issuer.rules.name == scheme);
            if scheme.is_none_or(|scheme| scheme == token::PRINCIPAL_PREFIX || is_taken(scheme)) {
                return Err(self.wrong(field, "must be a URI, whose scheme is no issuer's name"));
            }
            let groups = self.groups(&field, known.groups)?;
            principals.insert(uri, Known { groups, kind: known.kind });
        }
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._".contains(c);
        if written.trust_domain.as_ref().is_some_and(|domain| !is_name(domain, 255, is_plain)) {
            let problem = "must be a name such as example.org, without spiffe://";
            return Err(self.wrong("certificates.trust_domain", problem));
        }
        let demand = if written.required { Demand::Required } else { Demand::Optional };
        Ok(Certificates { authorities, demand, principals, trust_domain: written.trust_domain })
    }
}

fn is_name(text: &str, max: usize, allowed: impl Fn(char) -> bool) -> bool {
    (1..=max).contains(&text.len()) && text.chars().all(allowed)
}

fn digest(hexadecimal: &str) -> Option<token::Digest> {
    let mut digest = token::Digest::default();
    let is_digit = |byte: u8| byte.is_ascii_hexdigit();
    if hexadecimal.len() != 2 * digest.len() || !hexadecimal.bytes().all(is_digit) {
        return None;
    }
    for (byte, at) in digest.iter_mut().zip((0..hexadecimal.len()).step_by(2)) {
        *byte = u8::from_str_radix(hexadecimal.get(at..at + 2)?, 16).ok()?;
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

    fn check(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authentication.yaml");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "s3cret\n").unwrap();
        fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
        load(&path).map_err(|error| error.to_string())
    }

    const ISSUER: &str =
        "oidc:\n- name: corp\n  issuer: https://id.example.com\n  audience: [phasegate]\n";

    #[test]
    fn what_is_not_said_has_a_careful_default() {
        let settings = check(ISSUER).unwrap();
        let rules = &settings.issuers[0].rules;
        assert_eq!(rules.algorithms, [Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!((rules.max_age, rules.leeway), (MAX_AGE, LEEWAY));
        assert!(matches!(settings.issuers[0].source, keys::Source::Discovery));
        let hash = "ab".repeat(32);
        let settings = check(&format!("tokens:\n- name: ci\n  sha256: {hash}\n")).unwrap();
        assert_eq!(settings.tokens[0].kind, Kind::Service);
    }

    #[test]
    fn the_example_is_a_good_file() {
        let example = include_str!("../../../../examples/access/authentication.yaml");
        let settings = check(example).unwrap();
        assert_eq!(settings.tokens[0].digest, token::digest("example"));
        assert_eq!(settings.issuers.len(), 1);
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_name() {
        for (text, part) in [
            (String::new(), "nobody could call"),
            ("tokens: []\nextra: 1".to_owned(), "extra"),
            (format!("{ISSUER}  algorithms: [HS256]"), "oidc[0].algorithms: HS256"),
            (format!("{ISSUER}  algorithms: [none]"), "oidc[0].algorithms"),
            (format!("{ISSUER}  algorithms: []"), "oidc[0].algorithms"),
            (format!("{ISSUER}  leeway: 1h"), "oidc[0].leeway"),
            (format!("{ISSUER}  leeway: 60"), "line 5"),
            (format!("{ISSUER}  jwks_url: http://id.example.com"), "oidc[0].jwks_url"),
            (format!("{ISSUER}  ca_file: none"), "cannot read"),
            (ISSUER.replace("https", "http"), "oidc[0].issuer"),
            (ISSUER.replace("[phasegate]", "[]"), "oidc[0].audience"),
            (ISSUER.replace("corp", "token"), "oidc[0].name"),
            (ISSUER.replace("corp", "spiffe"), "oidc[0].name"),
            (format!("{ISSUER}{}", &ISSUER[6..]), "oidc[1].name"),
            ("tokens:\n- name: ci\n  sha256: abc\n".to_owned(), "tokens[0].sha256"),
            ("tokens:\n- name: ci\n  token: abc\n".to_owned(), "line"),
            ("certificates:\n  ca_file: secret\n".to_owned(), "certificates.ca_file"),
            (
                format!("{ISSUER}  login: {{client_id: x, public_url: 'https://a.example/x'}}"),
                "oidc[0].login.public_url",
            ),
        ] {
            let refused = check(&text).map(|_| ()).unwrap_err();
            assert!(refused.contains(part), "{text}\n{refused}");
        }
    }

    #[test]
    fn the_secret_of_a_client_is_read_and_never_shown() {
        let login =
            "  login: {client_id: x, client_secret_file: secret, public_url: 'https://a.example/'}";
        let settings = check(&format!("{ISSUER}{login}")).unwrap();
        let client = settings.issuers[0].rules.login.as_ref().unwrap();
        assert_eq!(client.secret.as_deref(), Some("s3cret"));
        assert_eq!(client.public_url, "https://a.example");
        assert!(!format!("{settings:?}").contains("s3cret"));
        assert_eq!(settings.files().len(), 2);
    }
}
