//! Credentials: headers that should hold a bearer token, and bytes that should be a certificate.
//!
//! Nothing panics. Who brings no header is nobody; who brings one is known, or refused, and never
//! nobody. Only the one token that is listed is good.

use crate::input::{Input, Seed};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use phasegate_server::{
    access::identity::{Authenticate as _, Authenticator, ClientCertificate, Credentials, file},
    clock::SystemClock,
};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    sync::{Arc, LazyLock},
};

/// The token of the file below.
const GOOD: &str = "example";

static AUTHENTICATOR: LazyLock<Authenticator> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("phasegate-credentials-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder can be made");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file can be written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("it is ours");
        path
    };
    // Any point will do: nothing is signed with it.
    let coordinate = "A".repeat(43);
    write(
        "keys.json",
        &format!(
            r#"{{"keys":[{{"kty":"EC","crv":"P-256","kid":"k1","x":"{coordinate}","y":"{coordinate}"}}]}}"#
        ),
    );
    let path = write(
        "authentication.yaml",
        "tokens:\n- {name: a, sha256: 50d858e0985ecc7f60418aaf0cc5ab587f42c2570a884095a9e8ccacd0f6545c}\n\
         oidc:\n- {name: corp, issuer: 'https://id.example.com', audience: [phasegate], jwks_file: keys.json}\n",
    );
    let authenticator = start(&path);
    // What was read is not needed any more.
    fs::remove_dir_all(&folder).expect("it is ours");
    authenticator
});

fn start(path: &Path) -> Authenticator {
    let settings = file::load(path).expect("the file is sound");
    Authenticator::start(settings, Arc::new(SystemClock))
}

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let mut headers = HeaderMap::new();
    let count = input.byte().unwrap_or_default() % 3;
    for _ in 0..count {
        let Some(bytes) = input.bytes() else { break };
        // What is no header at all never gets here.
        let Ok(value) = HeaderValue::from_bytes(bytes) else { return };
        headers.append(AUTHORIZATION, value);
    }
    let certificate = ClientCertificate::parse(&input.rest().into()).ok();
    let credentials = Credentials { headers: &headers, certificate: certificate.as_ref() };
    let found = AUTHENTICATOR.authenticate(&credentials);
    match found {
        Ok(None) => assert!(headers.is_empty() && certificate.is_none(), "{headers:?} is nobody"),
        Ok(Some(identity)) => {
            assert_eq!(identity.principal.as_str(), "token:a");
            let only = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
            assert!(only.is_some_and(|value| value.trim_end().ends_with(GOOD)), "{only:?}");
        }
        Err(_) => assert!(!headers.is_empty() || certificate.is_some()),
    }
}

/// Inputs to begin with.
pub fn seeds() -> Vec<(String, Vec<u8>)> {
    // {"alg":"ES256","kid":"k1"} and so on, with claims of the issuer above.
    let claims = "eyJpc3MiOiJodHRwczovL2lkLmV4YW1wbGUuY29tIiwiYXVkIjoicGhhc2VnYXRlIiwic3ViIjoidSIsImV4cCI6NDEwMjQ0NDgwMH0";
    let es256 = "eyJhbGciOiJFUzI1NiIsImtpZCI6ImsxIn0";
    let none = "eyJhbGciOiJub25lIn0";
    let hs256 = "eyJhbGciOiJIUzI1NiIsImtpZCI6ImsxIn0";
    let signature = "A".repeat(86);
    let headers = [
        ("good", format!("Bearer {GOOD}")),
        ("lower-case", format!("bearer {GOOD}")),
        ("unknown", "Bearer pgt_0123".to_owned()),
        ("basic", "Basic YTpi".to_owned()),
        ("no-scheme", GOOD.to_owned()),
        ("no-token", "Bearer ".to_owned()),
        ("es256", format!("Bearer {es256}.{claims}.{signature}")),
        ("alg-none", format!("Bearer {none}.{claims}.")),
        ("hs256", format!("Bearer {hs256}.{claims}.{signature}")),
        ("no-claims", format!("Bearer {es256}.e30.{signature}")),
        ("dots", "Bearer ..".to_owned()),
        ("many-dots", "Bearer a.b.c.d".to_owned()),
        ("spaces", format!("Bearer   {GOOD}  ")),
    ];
    let one = headers.iter().map(|(name, value)| {
        ((*name).to_owned(), Seed::default().byte(1).bytes(value.as_bytes()).0)
    });
    let twice = Seed::default().byte(2).bytes(b"Bearer example").bytes(b"Bearer example");
    let begun = Seed::default().byte(0).bytes(b"");
    one.chain([("twice".to_owned(), twice.0), ("nobody".to_owned(), begun.0)]).collect()
}
