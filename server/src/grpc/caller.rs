//! Who calls, as the engine knows them.
//!
//! What stands before the services has authenticated the caller and put an [`Identity`] into the
//! extensions. Without one, the two keys of metadata are read that are believed on loopback; where they
//! are not believed they have been taken away.

use crate::access::identity::{Identity, trusting};
use phasegate_api::convert::Violation;
use phasegate_engine::{command::Caller, id::Principal};
use tonic::{Extensions, metadata::MetadataMap};

pub use crate::access::identity::trusting::{ANONYMOUS, GROUPS, PRINCIPAL};

/// Reads the caller, or says what is wrong, with paths that begin with `metadata`.
pub fn caller(extensions: &Extensions, metadata: &MetadataMap) -> Result<Caller, Vec<Violation>> {
    if let Some(Identity { principal, groups, .. }) = extensions.get() {
        return Ok(Caller { principal: principal.clone(), groups: groups.clone() });
    }
    let believed = trusting::read(metadata.as_ref()).map_err(|wrong| {
        let violation = |wrong: trusting::Wrong| Violation {
            field: format!("metadata.{}", wrong.key),
            description: wrong.problem,
        };
        wrong.into_iter().map(violation).collect::<Vec<_>>()
    })?;
    Ok(match believed {
        Some(Identity { principal, groups, .. }) => Caller { principal, groups },
        None => Caller { principal: Principal::new(ANONYMOUS), groups: Vec::new() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use phasegate_engine::id::Group;
    use tonic::metadata::MetadataValue;

    fn check(pairs: &[(&'static str, &str)]) -> Result<(String, Vec<String>), Vec<String>> {
        let mut metadata = MetadataMap::new();
        for (key, value) in pairs {
            let value = MetadataValue::try_from(value.as_bytes()).unwrap();
            metadata.append(*key, value);
        }
        let texts = |groups: Vec<Group>| groups.iter().map(Group::to_string).collect();
        caller(&Extensions::new(), &metadata)
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

    #[test]
    fn who_is_authenticated_is_not_who_the_metadata_says() {
        let mut metadata = MetadataMap::new();
        metadata.insert(PRINCIPAL, MetadataValue::from_static("root"));
        let identity = trusting::read(metadata.as_ref()).unwrap().unwrap();
        let mut extensions = Extensions::new();
        extensions.insert(Identity { principal: Principal::new("corp:u-1"), ..identity });
        let found = caller(&extensions, &metadata).unwrap();
        assert_eq!(found.principal, Principal::new("corp:u-1"));
    }
}
