//! The two keys of metadata by which a caller says who they are, or for whom they act.

use http::HeaderMap;
use phasegate_engine::id::{Group, Principal};

/// The key of the principal.
pub const PRINCIPAL: &str = "phasegate-principal";
/// The key of their groups, comma-separated; may come more than once.
pub const GROUPS: &str = "phasegate-groups";
/// The principal of a call without the key, if such a call is believed.
pub const ANONYMOUS: &str = "anonymous";

/// Longest principal. A subject of an identity provider (issuer and id) fits.
const PRINCIPAL_BYTES_MAX: usize = 256;
/// Longest group.
const GROUP_BYTES_MAX: usize = 128;
/// Most groups. With their lengths this stays inside the header list of 8 KiB that is accepted.
const GROUPS_MAX: usize = 100;

/// What the two keys say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimed {
    /// None: the key is not there.
    pub principal: Option<Principal>,
    /// In the order in which they came, each once.
    pub groups: Vec<Group>,
}

impl Claimed {
    /// True if neither key says anything.
    pub fn is_nothing(&self) -> bool {
        self.principal.is_none() && self.groups.is_empty()
    }
}

/// What is wrong with a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// Which.
    pub key: &'static str,
    /// What.
    pub problem: String,
}

impl Malformed {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self { key, problem: problem.into() }
    }
}

/// Reads both keys, or says all that is wrong with them.
pub fn claimed(headers: &HeaderMap) -> Result<Claimed, Vec<Malformed>> {
    match (principal(headers), groups(headers)) {
        (Ok(principal), Ok(groups)) => Ok(Claimed { principal, groups }),
        (principal, groups) => Err(principal.err().into_iter().chain(groups.err()).collect()),
    }
}

fn principal(headers: &HeaderMap) -> Result<Option<Principal>, Malformed> {
    let mut values = headers.get_all(PRINCIPAL).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Malformed::new(PRINCIPAL, "must come once"));
    }
    let text = value.to_str().map_err(|_| Malformed::new(PRINCIPAL, "must be printable ASCII"))?;
    match text.len() {
        // An empty one is more likely a proxy that is set up wrongly than nobody.
        0 => Err(Malformed::new(PRINCIPAL, "must not be empty; leave it out instead")),
        1..=PRINCIPAL_BYTES_MAX => Ok(Some(Principal::new(text))),
        _ => {
            let problem = format!("must have at most {PRINCIPAL_BYTES_MAX} bytes");
            Err(Malformed::new(PRINCIPAL, problem))
        }
    }
}

fn groups(headers: &HeaderMap) -> Result<Vec<Group>, Malformed> {
    let mut groups = Vec::new();
    for value in headers.get_all(GROUPS) {
        let text = value.to_str().map_err(|_| Malformed::new(GROUPS, "must be printable ASCII"))?;
        for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            if group.len() > GROUP_BYTES_MAX {
                let problem = format!("each must have at most {GROUP_BYTES_MAX} bytes");
                return Err(Malformed::new(GROUPS, problem));
            }
            let group = Group::new(group);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    if groups.len() > GROUPS_MAX {
        return Err(Malformed::new(GROUPS, format!("must be at most {GROUPS_MAX}")));
    }
    Ok(groups)
}
