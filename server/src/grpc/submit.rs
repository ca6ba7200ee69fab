//! The way of every call that changes something: parse it, hand it to the writer, wait.

use super::account::Account;
use super::{Api, caller::ANONYMOUS, status};
use crate::access::Grants;
use crate::driver::{
    self, AuditedCall, Done, Handle, Mode, Origin, Outcome, Permit as _, Submission,
};
use crate::telemetry::TraceContext;
use phasegate_api::{
    convert::{Parsed, Rejected},
    v1,
};
use phasegate_engine::{
    command::{Call, Caller},
    id::Principal,
    refusal::Refusal,
};
use sha2::{Digest as _, Sha256};
use std::{collections::BTreeMap, sync::Arc};
use tonic::{Request, Status};

/// A request that changes something, and so can be repeated.
pub(super) trait Repeatable: prost::Message {
    /// Name of its RPC: part of the key of `request_id`, so never to be changed.
    const RPC: &'static str;

    /// Its `request_id`.
    fn request_id(&mut self) -> &mut String;

    /// Whether it is only to be checked.
    fn is_dry_run(&self) -> bool;
}

macro_rules! repeatable {
    ($($request:ident => $rpc:literal $($validate_only:ident)?,)*) => {
        $(impl Repeatable for v1::$request {
            const RPC: &'static str = $rpc;

            fn request_id(&mut self) -> &mut String {
                &mut self.request_id
            }

            fn is_dry_run(&self) -> bool {
                false $(|| self.$validate_only)?
            }
        })*

        #[cfg(test)]
        const RPCS: &[&str] = &[$($rpc),*];
    };
}

repeatable! {
    CreateFlagRequest => "CreateFlag" validate_only,
    UpdateFlagRequest => "UpdateFlag" validate_only,
    DeleteFlagRequest => "DeleteFlag",
    SetKillSwitchRequest => "SetKillSwitch",
    CreatePipelineRequest => "CreatePipeline" validate_only,
    UpdatePipelineRequest => "UpdatePipeline" validate_only,
    DeletePipelineRequest => "DeletePipeline" validate_only,
    TriggerReleaseRequest => "TriggerRelease" validate_only,
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
    let known = grants.as_ref().ok();
    let origin = origin(known, &request);
    let caller = known.map(|grants| grants.caller().clone());
    let account = Account::of(R::RPC, trace(&request));
    let mut message = request.into_inner();
    let payload = payload(&mut message);
    let is_dry_run = message.is_dry_run();
    let (grants, parsed) = match status::both(grants, parse(message)) {
        Ok(both) => both,
        Err(status) => {
            if !is_dry_run {
                note_refusal(driver, R::RPC, caller, &origin, &status);
            }
            account.unreadable(&status);
            return Err(status);
        }
    };
    let mode = if parsed.validate_only { Mode::ValidateOnly } else { Mode::Commit };
    let Parsed { action, request_id, reason, .. } = parsed;
    let call = Call { caller: grants.caller().clone(), request_id, reason, action };
    let permit = Arc::new(grants.clone());
    let account = account.with(&call, mode);
    let submission = Submission { call, rpc: R::RPC, payload, mode, permit, origin };
    let done = driver.submit(submission).await;
    account.close(&done);
    done.map_err(|error| {
        if let driver::Error::Refused(Refusal::InUse { resource, referrer }) = &error
            && !grants.sees(&driver.state(), referrer)
        {
            return status::in_use_unseen(resource);
        }
        status::failed(error)
    })
}

fn origin<R>(known: Option<&Grants>, request: &Request<R>) -> Origin {
    Origin {
        authenticated: known.and_then(|grants| grants.authenticated().cloned()),
        vouched: known.map(|grants| grants.identity().vouched.word().into()),
        peer: request.remote_addr(),
        trace: trace(request).map(|trace| trace.text()),
    }
}

/// Puts on record what is done that is no commit: to a sink, or with the whole store.
pub(super) fn note_act<R>(
    api: &Api,
    request: &Request<R>,
    rpc: &'static str,
    resource: String,
) -> Result<(), Status> {
    let grants = api.grants(request.metadata(), request.extensions());
    let (grants, ()) = status::both(grants, Ok(()))?;
    let Caller { principal, groups } = grants.caller().clone();
    let origin = origin(Some(&grants), request);
    api.driver()?.note(AuditedCall {
        method: rpc.into(),
        resource: resource.into(),
        principal,
        authenticated: origin.authenticated,
        vouched: origin.vouched,
        peer: origin.peer.map(|peer| peer.to_string().into()),
        groups,
        request_id: None,
        trace: origin.trace,
        reason: "".into(),
        asked: BTreeMap::new(),
        outcome: Outcome::Accepted { revision: None },
    });
    Ok(())
}

/// Puts on record that a request was refused before anybody looked at the state. What it asked for is
/// not: it could not be read.
fn note_refusal(
    driver: &Handle,
    rpc: &'static str,
    caller: Option<Caller>,
    origin: &Origin,
    status: &Status,
) {
    let caller = caller
        .unwrap_or_else(|| Caller { principal: Principal::new(ANONYMOUS), groups: Vec::new() });
    driver.note(AuditedCall {
        method: rpc.into(),
        resource: "".into(),
        principal: caller.principal,
        authenticated: origin.authenticated.clone(),
        vouched: origin.vouched.clone(),
        peer: origin.peer.map(|peer| peer.to_string().into()),
        groups: caller.groups,
        request_id: None,
        trace: origin.trace.clone(),
        reason: "".into(),
        asked: BTreeMap::new(),
        outcome: Outcome::Refused { reason: status::reason_of(status).unwrap_or_default().into() },
    });
}

/// The trace that a call belongs to: that of its span where the front has made one, else what came with
/// it.
fn trace<R>(request: &Request<R>) -> Option<TraceContext> {
    let joined = request.extensions().get::<TraceContext>().cloned();
    joined.or_else(|| TraceContext::of_headers(request.metadata().as_ref()))
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
