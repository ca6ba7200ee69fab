//! Who calls: what the gate has found out, or, where nothing is checked, what the metadata says.
//!
//! A server with a policy lets nobody in without [`Grants`] in the extensions of the request. Without one
//! it believes two keys, which is why it binds loopback addresses only. Nothing below reads metadata.

use super::Api;
use crate::access::{
    Grants,
    identity::{self, Identity, Kind, Malformed, Vouched},
};
use http::Extensions;
use phasegate_api::convert::Violation;
#[cfg(test)]
use phasegate_engine::id::Group;
use phasegate_engine::{command::Caller, id::Principal};
use tonic::{Status, metadata::MetadataMap};

pub use crate::access::identity::{ANONYMOUS, GROUPS, PRINCIPAL};

/// Reads the caller that the metadata claims, or says what is wrong, with paths that begin with
/// `metadata`.
pub fn caller(metadata: &MetadataMap) -> Result<Caller, Vec<Violation>> {
    let claimed = identity::claimed(metadata.as_ref()).map_err(violations)?;
    let principal = claimed.principal.unwrap_or_else(|| Principal::new(ANONYMOUS));
    Ok(Caller { principal, groups: claimed.groups })
}

pub(super) fn violations(malformed: Vec<Malformed>) -> Vec<Violation> {
    let violation = |wrong: Malformed| Violation {
        field: format!("metadata.{}", wrong.key),
        description: wrong.problem,
    };
    malformed.into_iter().map(violation).collect()
}

/// Why it is not known who calls.
#[derive(Debug)]
pub(super) enum Unknown {
    /// The metadata makes no sense.
    Malformed(Vec<Violation>),
    /// The request has not come through the gate.
    NotAdmitted(Box<Status>),
}

impl Api {
    /// Who calls, and what they may.
    pub(super) fn grants(
        &self,
        metadata: &MetadataMap,
        extensions: &Extensions,
    ) -> Result<Grants, Unknown> {
        if !self.access.is_open() {
            return self
                .admitted(extensions)
                .map_err(|status| Unknown::NotAdmitted(Box::new(status)));
        }
        let Caller { principal, groups } = caller(metadata).map_err(Unknown::Malformed)?;
        Ok(Grants::open(Identity {
            principal,
            name: None,
            groups,
            kind: Kind::Person,
            until: None,
            vouched: Vouched::Proxy,
        }))
    }

    /// What a reader may: nobody asks what they are called.
    pub(super) fn reader(&self, extensions: &Extensions) -> Result<Grants, Status> {
        if self.access.is_open() { Ok(self.everybody.clone()) } else { self.admitted(extensions) }
    }

    fn admitted(&self, extensions: &Extensions) -> Result<Grants, Status> {
        // Nothing is served but through the gate; if something were, it would be denied.
        extensions.get::<Grants>().cloned().ok_or_else(super::status::not_admitted)
    }
}

/// Whoever it is.
pub(super) fn everybody() -> Grants {
    Grants::open(Identity {
        principal: Principal::new(ANONYMOUS),
        name: None,
        groups: Vec::new(),
        kind: Kind::Person,
        until: None,
        vouched: Vouched::Proxy,
    })
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
