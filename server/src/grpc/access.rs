//! `AccessService`: who calls, and what they may.

use super::{Api, caller::Unknown, status};
use crate::access::{Grants, Reach, identity::Kind};
use phasegate_api::v1::{
    GetIdentityRequest, GetIdentityResponse, GrantedPermission, GrantedRole, LabelScope,
    access_service_server::AccessService,
};
use phasegate_engine::flag::Labels;
use std::time::SystemTime;
use tonic::{Request, Response, Status};

#[tonic::async_trait]
impl AccessService for Api {
    async fn get_identity(
        &self,
        request: Request<GetIdentityRequest>,
    ) -> Result<Response<GetIdentityResponse>, Status> {
        let grants = match self.grants(request.metadata(), request.extensions()) {
            Ok(grants) => grants,
            Err(Unknown::Malformed(violations)) => return Err(status::invalid(violations)),
            Err(Unknown::NotAdmitted(status)) => return Err(*status),
        };
        Ok(Response::new(answer(&grants)))
    }
}

fn answer(grants: &Grants) -> GetIdentityResponse {
    let (identity, caller, allowed) = (grants.identity(), grants.caller(), grants.allowed());
    let roles = allowed
        .roles()
        .map(|(role, reach)| GrantedRole { role: role.name().to_owned(), scopes: scopes(reach) });
    let permissions = allowed.permissions().map(|(permission, reach)| GrantedPermission {
        permission: permission.name().to_owned(),
        scopes: scopes(reach),
    });
    let mut permissions: Vec<_> = permissions.collect();
    permissions.sort_by(|a, b| a.permission.cmp(&b.permission));
    let mut roles: Vec<_> = roles.collect();
    roles.sort_by(|a, b| a.role.cmp(&b.role));
    GetIdentityResponse {
        principal: caller.principal.to_string(),
        authenticated: identity.principal.to_string(),
        display_name: identity.name.clone().unwrap_or_default(),
        groups: caller.groups.iter().map(ToString::to_string).collect(),
        service_account: identity.kind == Kind::Service,
        expire_time: identity.until.map(timestamp),
        roles,
        permissions,
        open: grants.is_open(),
    }
}

fn scopes(reach: &Reach) -> Vec<LabelScope> {
    let wire = |labels: &Labels| LabelScope {
        labels: labels.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
    };
    match reach {
        Reach::Everywhere => vec![LabelScope::default()],
        Reach::Under(scopes) => scopes.iter().map(wire).collect(),
    }
}

fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    prost_types::Timestamp::from(time)
}

#[cfg(test)]
mod tests {
    use crate::access::table::{Length, METHODS};
    use prost::Message as _;
    use std::collections::BTreeSet;

    /// Every method that the descriptors of what is served know, and whether it streams.
    fn served() -> BTreeSet<(String, bool)> {
        let sets = [
            phasegate_api::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        let mut methods = BTreeSet::new();
        for set in sets {
            for file in prost_types::FileDescriptorSet::decode(set).unwrap().file {
                for service in &file.service {
                    for method in &service.method {
                        let (package, service) = (file.package(), service.name());
                        let path = format!("/{package}.{service}/{}", method.name());
                        methods.insert((path, method.server_streaming()));
                    }
                }
            }
        }
        methods
    }

    #[test]
    fn every_method_that_is_served_has_a_row_and_there_is_no_other() {
        let streams = |length: Length, path: &str| {
            length == Length::Long && path != "/phasegate.v1.ReleaseService/WaitRelease"
        };
        let rows =
            METHODS.iter().map(|(path, _, length)| (path.to_string(), streams(*length, path)));
        assert_eq!(rows.collect::<BTreeSet<_>>(), served());
        let distinct: BTreeSet<_> = METHODS.iter().map(|(path, ..)| path).collect();
        assert_eq!(distinct.len(), METHODS.len());
    }
}
