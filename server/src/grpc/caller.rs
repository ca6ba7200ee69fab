//! Who calls, as the metadata of the call says.
//!
//! Until the server authenticates callers itself it believes two keys, which is why it binds
//! loopback addresses only. What they say is passed on as a value; nothing below reads metadata.

use phasegate_api::convert::Violation;
use phasegate_engine::{
    command::Caller,
    id::{Group, Principal},
};
use tonic::metadata::MetadataMap;

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

/// Reads the caller, or says what is wrong, with paths that begin with `metadata`.
pub fn caller(metadata: &MetadataMap) -> Result<Caller, Vec<Violation>> {
    match (principal(metadata), groups(metadata)) {
        (Ok(principal), Ok(groups)) => Ok(Caller { principal, groups }),
        (principal, groups) => Err(principal.err().into_iter().chain(groups.err()).collect()),
    }
}

fn principal(metadata: &MetadataMap) -> Result<Principal, Violation> {
    let mut values = metadata.get_all(PRINCIPAL).iter();
    let Some(value) = values.next() else { return Ok(Principal::new(ANONYMOUS)) };
    if values.next().is_some() {
        return Err(violation(PRINCIPAL, "must come once"));
    }
    let text = value.to_str().map_err(|_| violation(PRINCIPAL, "must be printable ASCII"))?;
    match text.len() {
        // An empty one is more likely a proxy that is set up wrongly than nobody.
        0 => Err(violation(PRINCIPAL, "must not be empty; leave it out instead")),
        1..=PRINCIPAL_BYTES_MAX => Ok(Principal::new(text)),
        _ => Err(violation(PRINCIPAL, format!("must have at most {PRINCIPAL_BYTES_MAX} bytes"))),
    }
}

fn groups(metadata: &MetadataMap) -> Result<Vec<Group>, Violation> {
    let mut groups = Vec::new();
    for value in metadata.get_all(GROUPS) {
        let text = value.to_str().map_err(|_| violation(GROUPS, "must be printable ASCII"))?;
        for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
            if group.len() > GROUP_BYTES_MAX {
                let problem = format!("each must have at most {GROUP_BYTES_MAX} bytes");
                return Err(violation(GROUPS, problem));
            }
            let group = Group::new(group);
            if !groups.contains(&group) {
                groups.push(group);
            }
        }
    }
    if groups.len() > GROUPS_MAX {
        return Err(violation(GROUPS, format!("must be at most {GROUPS_MAX}")));
    }
    Ok(groups)
}

fn violation(key: &str, description: impl Into<String>) -> Violation {
    Violation { field: format!("metadata.{key}"), description: description.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::metadata::MetadataValue;

    fn check(pairs: &[(&'static str, &str)]) -> Result<(String, Vec<String>), Vec<String>> {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            let value = MetadataValue::try_from(value.as_bytes()).unwrap();
            metadata.append(*key, value);
        }
        let texts = |groups: Vec<Group>| groups.iter().map(Group::to_string).collect();
        caller(&metadata)
            .map(|caller| (caller.principal.to_string(), texts(caller.groups)))
            .map_err(|violations| violations.into_iter().map(|v| v.field).collect())
    }

    #[test]
    fn a_call_without_metadata_is_anonymous() {
        assert_eq!(check(&[]), Ok(("anonymous".into(), vec![])));
    }

    #[test]
    fn groups_are_split_trimmed_and_counted_once() {
        let pairs = [(PRINCIPAL, "ann"), (GROUPS, "sre, ,web,sre"), (GROUPS, " ops")];
        let groups = vec!["sre".into(), "web".into(), "ops".into()];
        assert_eq!(check(&pairs), Ok(("ann".into(), groups)));
    }

    #[test]
    fn what_cannot_be_trusted_is_refused_with_a_path() {
        let principal = Err(vec![format!("metadata.{PRINCIPAL}")]);
        assert_eq!(check(&[(PRINCIPAL, "")]), principal);
        assert_eq!(check(&[(PRINCIPAL, &"a".repeat(257))]), principal);
        assert_eq!(check(&[(PRINCIPAL, "jürgen")]), principal);
        assert_eq!(check(&[(PRINCIPAL, "ann"), (PRINCIPAL, "bob")]), principal);
        let groups = Err(vec![format!("metadata.{GROUPS}")]);
        assert_eq!(check(&[(GROUPS, &"g".repeat(129))]), groups);
        let many: Vec<_> = (0..101).map(|n| n.to_string()).collect();
        assert_eq!(check(&[(GROUPS, &many.join(","))]), groups);
        let both = [(PRINCIPAL, ""), (GROUPS, "ü")];
        assert_eq!(check(&both).map_err(|fields| fields.len()), Err(2));
    }
}
