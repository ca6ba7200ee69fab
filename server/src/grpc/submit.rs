//! The way of every call that changes something: parse it, hand it to the writer, wait.

use super::{Api, status};
use crate::driver::{self, Done, Mode, Origin, Permit as _, Submission};
use phasegate_api::{
    convert::{Parsed, Rejected},
    v1,
};
use phasegate_engine::{command::Call, refusal::Refusal};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tonic::{Request, Status, metadata::MetadataMap};

/// A request that changes something, and so can be repeated.
pub(super) trait Repeatable: prost::Message {
    /// Name of its RPC: part of the key of `request_id`, so never to be changed.
    const RPC: &'static str;

    /// Its `request_id`.
    fn request_id(&mut self) -> &mut String;
}

macro_rules! repeatable {
    ($($request:ident => $rpc:literal,)*) => {
        $(impl Repeatable for v1::$request {
            const RPC: &'static str = $rpc;

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }
        })*

        #[cfg(test)]
        const RPCS: &[&str] = &[$($rpc),*];
    };
}

repeatable! {
    CreateFlagRequest => "CreateFlag",
    UpdateFlagRequest => "UpdateFlag",
    DeleteFlagRequest => "DeleteFlag",
    SetKillSwitchRequest => "SetKillSwitch",
    CreatePipelineRequest => "CreatePipeline",
    UpdatePipelineRequest => "UpdatePipeline",
    DeletePipelineRequest => "DeletePipeline",
    TriggerReleaseRequest => "TriggerRelease",
    ApprovePhaseRequest => "ApprovePhase",
    RejectPhaseRequest => "RejectPhase",
    PauseReleaseRequest => "PauseRelease",
    UnpauseReleaseRequest => "UnpauseRelease",
    SkipPhaseRequest => "SkipPhase",
    OverrideWindowRequest => "OverrideWindow",
    AdjustBakeRequest => "AdjustBake",
    AbortReleaseRequest => "AbortRelease",
    FullRolloutRequest => "FullRollout",
    ReportGuardSignalRequest => "ReportGuardSignal",
}

/// Parses the request and has it done. When it returns, what was done is durable.
pub(super) async fn submit<R: Repeatable>(
    api: &Api,
    request: Request<R>,
    parse: impl FnOnce(R) -> Result<Parsed, Rejected>,
) -> Result<Done, Status> {
    let driver = api.driver()?;
    let grants = api.grants(request.metadata(), request.extensions());
    let (peer, trace) = (request.remote_addr(), trace(request.metadata()));
    let mut message = request.into_inner();
    let payload = payload(&mut message);
    let (grants, parsed) = status::both(grants, parse(message))?;
    let mode = if parsed.validate_only { Mode::ValidateOnly } else { Mode::Commit };
    let Parsed { action, request_id, reason, .. } = parsed;
    let call = Call { caller: grants.caller().clone(), request_id, reason, action };
    let origin = Origin {
        authenticated: grants.authenticated().cloned(),
        vouched: Some(grants.identity().vouched.word().into()),
        peer,
        trace,
    };
    let permit = Arc::new(grants.clone());
    let submission = Submission { call, rpc: R::RPC, payload, mode, permit, origin };
    driver.submit(submission).await.map_err(|error| match error {
        driver::Error::Refused(Refusal::InUse { resource, referrer })
            if !grants.sees(&driver.state(), &referrer) =>
        {
            status::in_use_unseen(&resource)
        }
        error => status::failed(error),
    })
}

/// The trace that a call belongs to (W3C Trace Context), if it says one that looks like one.
fn trace(metadata: &MetadataMap) -> Option<Arc<str>> {
    let text = metadata.get("traceparent")?.to_str().ok()?;
    let is_one = text.len() == 55 && text.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    is_one.then(|| text.into())
}

/// SHA-256 of the request without its id. Equal messages have equal bytes, because the generated
/// maps are ordered. Zeros without an id: then nobody will compare it.
fn payload<R: Repeatable>(message: &mut R) -> [u8; 32] {
    let id = std::mem::take(message.request_id());
    if id.is_empty() {
        return [0; 32];
    }
    let hash = Sha256::digest(message.encode_to_vec());
    *message.request_id() = id;
    hash.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn check(id: &str, reason: &str) -> [u8; 32] {
        let mut request = v1::PauseReleaseRequest {
            name: "releases/r".into(),
            request_id: id.into(),
            reason: reason.into(),
        };
        let hash = payload(&mut request);
        assert_eq!(request.request_id, id, "the id is put back");
        hash
    }

    #[test]
    fn the_payload_leaves_out_the_request_id_and_nothing_else() {
        assert_eq!(check("a", "x"), check("b", "x"));
        assert_ne!(check("a", "x"), check("a", "y"));
        assert_eq!(check("", "x"), [0; 32]);
    }

    #[test]
    fn maps_are_hashed_in_one_order() {
        let check = |keys: &[&str]| {
            let labels: BTreeMap<_, _> =
                keys.iter().map(|k| (k.to_string(), k.to_string())).collect();
            let release = v1::Release { labels, ..Default::default() };
            payload(&mut v1::TriggerReleaseRequest {
                request_id: "a".into(),
                release: Some(release),
                ..Default::default()
            })
        };
        assert_eq!(check(&["a", "b", "c"]), check(&["c", "b", "a"]));
    }

    /// The RPCs that take a `request_id`, by the descriptors.
    #[test]
    fn every_rpc_that_can_be_repeated_has_its_own_name() {
        use prost::Message as _;
        let files = prost_types::FileDescriptorSet::decode(phasegate_api::DESCRIPTORS).unwrap();
        let repeatable = |message: &str| {
            let messages = files.file.iter().flat_map(|file| &file.message_type);
            let mut found = messages.filter(|m| message.ends_with(&format!(".{}", m.name())));
            found.any(|m| m.field.iter().any(|field| field.name() == "request_id"))
        };
        let mut by_contract: Vec<_> = files
            .file
            .iter()
            .flat_map(|file| &file.service)
            .flat_map(|service| &service.method)
            .filter(|method| repeatable(method.input_type()))
            .map(|method| method.name().to_owned())
            .collect();
        by_contract.sort();
        let mut by_us = RPCS.to_vec();
        by_us.sort_unstable();
        assert_eq!(by_us, by_contract);
    }
}
