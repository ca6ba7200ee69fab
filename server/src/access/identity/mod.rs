//! Who calls: credentials in, an identity out, or an error.
//!
//! | vouched by | what a request brings | file |
//! |---|---|---|
//! | a list of hashes | a static token, as a bearer token (RFC 6750) | `token` |
//! | an OIDC issuer | a signed JWT (RFC 7519), as a bearer token | `jwt`, with the keys of `keys` |
//! | a certificate authority | a client certificate with a URI SAN (SPIFFE X.509-SVID) | `certificate` |
//! | nobody: loopback only | two keys of metadata that a proxy, or the caller, writes | `trusting` |
//!
//! The first three are what an authentication file (`file`) says, and [`Authenticator`] asks; the last is
//! [`Trusting`] and holds only without such a file.
//!
//! Rules:
//!
//! 1. A credential that is there and not valid is an error. It never makes the caller a nobody.
//! 2. Two credentials are not better than one: two `authorization` headers are refused. A bearer token
//!    beside a client certificate decides alone.
//! 3. A principal is stable and belongs to one voucher: `token:NAME`, `ISSUER:SUB`, or a URI. No issuer
//!    may be called as the scheme of such a URI, so that nobody can be given another's name.
//! 4. Nothing waits: keys are fetched behind (`keys`), and a call is judged by what is there.
//! 5. No credential is logged or kept, apart from what a session of the status page needs.
//!
//! What is deliberately absent: what an identity may do.

mod authenticator;
mod certificate;
mod claims;
mod fetch;
pub mod file;
mod jwt;
mod keys;
pub mod login;
mod secret;
#[cfg(test)]
mod testing;
mod token;
mod trusting;
mod unauthenticated;

pub use authenticator::Authenticator;
pub use certificate::{ClientCertificate, Demand};
pub use claims::{ANONYMOUS, Claimed, GROUPS, Malformed, PRINCIPAL, claimed};
pub use fetch::{Fetch, FetchError, Web};
pub use secret::{ReadError, Readers, fingerprint, read as read_secret};
pub use token::{Fresh, fresh};
pub use trusting::Trusting;
pub use unauthenticated::Unauthenticated;

use http::{HeaderMap, header};
use phasegate_engine::id::{Group, Principal};
use std::time::SystemTime;
use tokio::sync::watch;

/// Who calls, as somebody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Stable: `ISSUER:SUB` for OIDC, `token:NAME` for static tokens, the URI SAN for certificates.
    pub principal: Principal,
    /// For people to read. It never decides anything.
    pub name: Option<String>,
    /// The groups that the voucher puts them into.
    pub groups: Vec<Group>,
    /// What kind of caller it is.
    pub kind: Kind,
    /// When the credential ends.
    pub until: Option<SystemTime>,
    /// By what it is known.
    pub vouched: Vouched,
}

/// What kind of caller it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A human being.
    Person,
    /// A program.
    Service,
}

/// By what a caller is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// A static token.
    Token,
    /// A JWT of an OIDC issuer.
    Jwt,
    /// A client certificate.
    Certificate,
    /// Nothing: on loopback, what the metadata says is believed.
    Proxy,
}

impl Vouched {
    /// As records have it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::Jwt => "jwt",
            Self::Certificate => "certificate",
            Self::Proxy => "believed",
        }
    }
}

/// What a request brings.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Its headers, or its metadata.
    pub headers: &'a HeaderMap,
    /// The certificate of its connection, whose chain was verified.
    pub certificate: Option<&'a ClientCertificate>,
}

/// Tells who calls.
pub trait Authenticate: Send + Sync + std::fmt::Debug + 'static {
    /// Nobody (`Ok(None)`): no credentials at all. A credential that is there and bad is an error, never
    /// nobody.
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated>;

    /// A number that changes when who is who may have changed (files were read again, keys rotated):
    /// long streams look again then.
    fn generation(&self) -> watch::Receiver<u64>;
}

/// The bearer token of a request (RFC 6750, section 2.1), if it has an `authorization` header.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Unauthenticated> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Unauthenticated::SeveralCredentials);
    }
    let text = value.to_str().map_err(|_| Unauthenticated::Malformed("the header is no ASCII"))?;
    let (scheme, token) =
        text.split_once(' ').ok_or(Unauthenticated::Malformed("the header has no token"))?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Unauthenticated::Malformed("the scheme is not Bearer"));
    }
    let token = token.trim_matches(' ');
    if token.is_empty() {
        return Err(Unauthenticated::Malformed("the token is empty"));
    }
    Ok(Some(token))
}
