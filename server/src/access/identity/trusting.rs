//! What is believed on loopback without an authentication file: two keys of metadata.

use super::{Authenticate, Credentials, Identity, Kind, Unauthenticated, Vouched};
use http::HeaderMap;
use phasegate_engine::id::{Group, Principal};
use tokio::sync::watch;

/// The key of the principal.
pub const PRINCIPAL: &str = "phasegate-principal";
/// The key of their groups, comma-separated; may come more than once.
pub const GROUPS: &str = "phasegate-groups";
/// The principal of a call without the key.
pub const ANONYMOUS: &str = "anonymous";

/// Longest principal. A subject of an identity provider (issuer and id) fits.
const PRINCIPAL_BYTES_MAX: usize = 256;
/// Longest group.
const GROUP_BYTES_MAX: usize = 128;
/// Most groups. With their lengths this stays inside the header list of 8 KiB that is accepted.
const GROUPS_MAX: usize = 100;

/// Believes what a caller, or a proxy before them, says. Only where nobody else can call.
#[derive(Debug)]
pub struct Trusting {
    generation: watch::Sender<u64>,
}

/// A key of metadata that cannot be believed, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wrong {
    /// The key.
    pub key: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl Trusting {
    /// There is nothing to know.
    pub fn new() -> Self {
        Self { generation: watch::Sender::new(0) }
    }
}

impl Default for Trusting {
    fn default() -> Self {
        Self::new()
    }
}

impl Authenticate for Trusting {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated> {
        read(credentials.headers).map_err(Unauthenticated::Metadata)
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}

/// Reads who calls, or says what is wrong. None without the keys.
pub fn read(headers: &HeaderMap) -> Result<Option<Identity>, Vec<Wrong>> {
    if !headers.contains_key(PRINCIPAL) && !headers.contains_key(GROUPS) {
        return Ok(None);
    }
    let (principal, groups) = match (principal(headers), groups(headers)) {
        (Ok(principal), Ok(groups)) => (principal, groups),
        (principal, groups) => {
            return Err(principal.err().into_iter().chain(groups.err()).collect());
        }
    };
    let (name, until, vouched) = (None, None, Vouched::Proxy);
    Ok(Some(Identity { principal, name, groups, kind: Kind::Person, until, vouched }))
}

fn principal(headers: &HeaderMap) -> Result<Principal, Wrong> {
    let mut values = headers.get_all(PRINCIPAL).iter();
    let Some(value) = values.next() else { return Ok(Principal::new(ANONYMOUS)) };
    if values.next().is_some() {
        return Err(wrong(PRINCIPAL, "must come once"));
    }
    let text = value.to_str().map_err(|_| wrong(PRINCIPAL, "must be printable ASCII"))?;
    match text.len() {
        // An empty one is more likely a proxy that is set up wrongly than nobody.
        0 => Err(wrong(PRINCIPAL, "must not be empty; leave it out instead")),
        1..=PRINCIPAL_BYTES_MAX => Ok(Principal::new(text)),
        _ => Err(wrong(PRINCIPAL, format!("must have at most {PRINCIPAL_BYTES_MAX} bytes"))),
    }
}

fn groups(headers: &HeaderMap) -> Result<Vec<Group>, Wrong> {
    let mut groups = Vec::new();
    for value in headers.get_all(GROUPS) {
        let text = value.to_str().map_err(|_| wrong(GROUPS, "must be printable ASCII"))?;
        for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            if group.len() > GROUP_BYTES_MAX {
                let problem = format!("each must have at most {GROUP_BYTES_MAX} bytes");
                return Err(wrong(GROUPS, problem));
            }
            let group = Group::new(group);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    if groups.len() > GROUPS_MAX {
        return Err(wrong(GROUPS, format!("must be at most {GROUPS_MAX}")));
    }
    Ok(groups)
}

fn wrong(key: &'static str, problem: impl Into<String>) -> Wrong {
    Wrong { key, problem: problem.into() }
}
