//! Who calls: the types that authenticators and permissions share, and the one authenticator that
//! believes what it is told.

mod claims;
mod trusting;

pub use claims::{ANONYMOUS, Claimed, GROUPS, Malformed, PRINCIPAL, claimed};
pub use trusting::Trusting;

use http::HeaderMap;
use phasegate_engine::id::{Group, Principal};
use std::time::SystemTime;
use tokio::sync::watch;

/// Who calls, as somebody vouches for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Stable: `ISSUER:SUB`, `token:NAME`, or the URI SAN of a certificate.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
    /// Nothing: what the metadata says is believed.
    Proxy,
}

/// What a request brings.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'a> {
    /// Its headers, or its metadata.
    pub headers: &'a HeaderMap,
    /// The certificate of its connection, whose chain was verified.
    pub certificate: Option<&'a ClientCertificate>,
}

/// A client's certificate, verified. It stands in the extensions of the requests of its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// Its URI SANs.
    pub uris: Vec<String>,
    /// When it ends.
    pub not_after: SystemTime,
}

/// A credential that is there and no good. The text is for the caller, and says nothing that they do not
/// know.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unauthenticated {
    /// It cannot be read.
    #[error("the credential is malformed: {0}")]
    Malformed(&'static str),
    /// It is nobody's, or no longer anybody's.
    #[error("the credential is not valid")]
    Invalid,
}

/// Tells who calls.
pub trait Authenticate: Send + Sync + std::fmt::Debug + 'static {
    /// Nobody (`Ok(None)`): no credentials at all. A credential that is there and bad is an error, never
    /// nobody.
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated>;

    /// A number that changes when who is who may have changed: long streams look again then.
    fn generation(&self) -> watch::Receiver<u64>;
}
