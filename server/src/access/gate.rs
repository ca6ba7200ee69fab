//! The gate: who calls, and whether what they ask for is anything that they may do at all.

use super::{
    grants::{Grants, Held},
    identity::{
        Authenticate, Claimed, ClientCertificate, Credentials, Identity, Malformed, PRINCIPAL,
        Unauthenticated, Vouched, claimed,
    },
    lease::Lease,
    permission::Permission,
    policy::Policies,
    rate::{Buckets, Load, Rates},
    table::Rule,
};
use http::HeaderMap;
use phasegate_engine::{command::Caller, id::Principal};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// Why somebody is not let in, or is let in no longer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// They say nothing of who they are.
    #[error("who calls has to say who they are: there is no credential")]
    NoCredential,
    /// What they say does not hold. Why is in the log.
    #[error("{}", Unauthenticated::TEXT)]
    BadCredential,
    /// It held when they came.
    #[error("the credential has ended")]
    Ended,
    /// The keys that say for whom they act cannot be read.
    #[error("whom the call is made for cannot be read")]
    Malformed(Vec<Malformed>),
    /// They may not, under any labels.
    #[error("the permission {0} is missing")]
    Missing(Permission),
    /// Nobody may: there is no rule for it.
    #[error("there is no rule that allows this")]
    NoRule,
    /// They may, and ask too often. After this long they may again.
    #[error("more calls than one principal may make")]
    TooMany(Duration),
}

impl Refusal {
    /// As `ErrorInfo.reason` has it.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoCredential | Self::BadCredential | Self::Ended => "UNAUTHENTICATED",
            Self::Malformed(_) => "INVALID_FIELD",
            Self::Missing(_) | Self::NoRule => "PERMISSION_MISSING",
            Self::TooMany(_) => "RATE_LIMITED",
        }
    }

    /// True if another credential could help.
    pub fn is_about_who(&self) -> bool {
        matches!(self, Self::NoCredential | Self::BadCredential | Self::Ended)
    }
}

/// Somebody was refused at the gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Whose credential it was, if it was any good.
    pub principal: Option<Principal>,
    /// The method of gRPC or the route of HTTP, as the table has it; what is in no row as it came.
    pub method: String,
    /// As `ErrorInfo.reason` has it.
    pub reason: &'static str,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
}

/// Is told of everybody who is refused at the gate: for the record. Must not block.
pub trait Refusals: Send + Sync + fmt::Debug + 'static {
    /// Somebody was.
    fn refused(&self, refused: Refused);
}

/// Nobody is told.
#[derive(Debug)]
struct Nobody;

impl Refusals for Nobody {
    fn refused(&self, _refused: Refused) {}
}

/// What is asked of the gate.
#[derive(Clone, Copy, Debug)]
pub struct Asked<'a> {
    /// The method or the route.
    pub method: &'a str,
    /// What it takes; none if it has no row.
    pub rule: Option<Rule>,
    /// The headers of the request.
    pub headers: &'a HeaderMap,
    /// The certificate of its connection.
    pub certificate: Option<&'a ClientCertificate>,
    /// The other end of the connection.
    pub peer: Option<SocketAddr>,
}

/// Who may do what on this server. Clones share it.
#[derive(Clone, Debug)]
pub struct Access(Arc<Mode>);

#[derive(Debug)]
enum Mode {
    /// Callers are believed and may do everything: a loopback address without credentials.
    Open,
    /// Nobody may do anything that is not allowed.
    Guarded {
        who: Arc<dyn Authenticate>,
        policies: Policies,
        buckets: Box<Buckets>,
        refusals: Arc<dyn Refusals>,
    },
}

impl Access {
    /// Nothing is checked.
    pub fn open() -> Self {
        Self(Arc::new(Mode::Open))
    }

    /// Everything is.
    pub fn guarded(who: Arc<dyn Authenticate>, policies: Policies) -> Self {
        Self::recorded(who, policies, Rates::default(), Arc::new(Nobody))
    }

    /// Everything is, calls are counted, and whoever is refused here is told of.
    pub fn recorded(
        who: Arc<dyn Authenticate>,
        policies: Policies,
        rates: Rates,
        refusals: Arc<dyn Refusals>,
    ) -> Self {
        let buckets = Box::new(Buckets::new(rates));
        Self(Arc::new(Mode::Guarded { who, policies, buckets, refusals }))
    }

    /// True if nothing is checked.
    pub fn is_open(&self) -> bool {
        matches!(*self.0, Mode::Open)
    }

    /// The policy, if there is one.
    pub fn policies(&self) -> Option<&Policies> {
        match &*self.0 {
            Mode::Open => None,
            Mode::Guarded { policies, .. } => Some(policies),
        }
    }

    /// Lets a request in or says why not. None: nothing has to be known of who it is.
    pub fn admit(&self, asked: &Asked<'_>) -> Result<Option<Grants>, Refusal> {
        let Mode::Guarded { who, .. } = &*self.0 else { return Ok(None) };
        if asked.rule == Some(Rule::Open) {
            return Ok(None);
        }
        let credentials = Credentials { headers: asked.headers, certificate: asked.certificate };
        self.judged(identify(&**who, &credentials), asked.headers, asked)
    }

    /// The same for somebody who is known already: by a session of the pages. They act for nobody else.
    pub fn admit_known(
        &self,
        identity: Identity,
        asked: &Asked<'_>,
    ) -> Result<Option<Grants>, Refusal> {
        self.judged(Ok(identity), &HeaderMap::new(), asked)
    }

    fn judged(
        &self,
        identity: Result<Identity, Refusal>,
        headers: &HeaderMap,
        asked: &Asked<'_>,
    ) -> Result<Option<Grants>, Refusal> {
        let Mode::Guarded { policies, buckets, refusals, .. } = &*self.0 else { return Ok(None) };
        let (principal, admitted) = match identity {
            Ok(identity) => {
                let principal = identity.principal.clone();
                let taken = buckets.take(&principal, load(asked.rule));
                let admitted = taken
                    .map_err(Refusal::TooMany)
                    .and_then(|()| admit(policies, identity, headers, asked.rule));
                (Some(principal), admitted)
            }
            Err(refusal) => (None, Err(refusal)),
        };
        if let Err(refusal) = &admitted {
            let (method, reason) = (asked.method.to_owned(), refusal.reason());
            refusals.refused(Refused { principal, method, reason, peer: asked.peer });
        }
        admitted.map(Some)
    }

    /// What watches over a stream of somebody who was let in; none if there is nothing to watch.
    pub fn lease(&self, asked: &Asked<'_>, grants: &Grants) -> Option<Lease> {
        let Mode::Guarded { who, policies, .. } = &*self.0 else { return None };
        Some(Lease::new(Arc::clone(who), policies.clone(), asked, grants.clone()))
    }

    /// The same for somebody with a session, over which the pages watch themselves: what they may.
    pub fn lease_known(&self, rule: Option<Rule>, grants: &Grants) -> Option<Lease> {
        let Mode::Guarded { who, policies, .. } = &*self.0 else { return None };
        Some(Lease::of_session(Arc::clone(who), policies.clone(), rule, grants.clone()))
    }
}

/// Applications ask for answers far more often than people and tools ask for anything.
fn load(rule: Option<Rule>) -> Load {
    match rule {
        Some(Rule::NeedsEverywhere(Permission::Evaluate)) => Load::Evaluation,
        Some(Rule::NeedsEverywhere(_) | Rule::Needs(_) | Rule::Known | Rule::Open) | None => {
            Load::Control
        }
    }
}

pub(super) fn identify(
    who: &dyn Authenticate,
    credentials: &Credentials<'_>,
) -> Result<Identity, Refusal> {
    match who.authenticate(credentials) {
        Ok(Some(identity)) => Ok(identity),
        Ok(None) => Err(Refusal::NoCredential),
        Err(Unauthenticated::Metadata(wrong)) => Err(Refusal::Malformed(wrong)),
        Err(error) => {
            // Which part of it is bad is nobody's business but ours.
            tracing::debug!(%error, "a credential is refused");
            Err(Refusal::BadCredential)
        }
    }
}

fn admit(
    policies: &Policies,
    identity: Identity,
    headers: &HeaderMap,
    rule: Option<Rule>,
) -> Result<Grants, Refusal> {
    let (caller, held) = judge(policies, &identity, headers, rule)?;
    Ok(Grants::new(identity, caller, held))
}

/// As whom somebody acts and what they may, if it is enough for a rule.
pub(super) fn judge(
    policies: &Policies,
    identity: &Identity,
    headers: &HeaderMap,
    rule: Option<Rule>,
) -> Result<(Caller, Held), Refusal> {
    let policy = policies.current();
    let own = policy.allowed(&identity.principal, &identity.groups);
    let (caller, allowed) = match acted_for(identity, headers)? {
        None => {
            let Identity { principal, groups, .. } = identity;
            (Caller { principal: principal.clone(), groups: groups.clone() }, own.clone())
        }
        Some(caller) => {
            if !own.everywhere(Permission::ActAs) {
                return Err(Refusal::Missing(Permission::ActAs));
            }
            // With their permissions, and without that of acting for somebody else again.
            let allowed = policy.allowed(&caller.principal, &caller.groups);
            (caller, allowed)
        }
    };
    let missing = match rule {
        None => return Err(Refusal::NoRule),
        Some(Rule::Open | Rule::Known) => None,
        Some(Rule::Needs(needed)) => (!allowed.somewhere(needed)).then_some(needed),
        Some(Rule::NeedsEverywhere(needed)) => (!allowed.everywhere(needed)).then_some(needed),
    };
    match missing {
        Some(permission) => Err(Refusal::Missing(permission)),
        None => Ok((caller, Held { allowed, own })),
    }
}

/// For whom somebody acts, if not for themself.
fn acted_for(identity: &Identity, headers: &HeaderMap) -> Result<Option<Caller>, Refusal> {
    if identity.vouched == Vouched::Proxy {
        // Then the two keys are the credential.
        return Ok(None);
    }
    let claimed = claimed(headers).map_err(Refusal::Malformed)?;
    if claimed.is_nothing() {
        return Ok(None);
    }
    let Claimed { principal: Some(principal), groups } = claimed else {
        let problem = "must come with the groups".to_owned();
        return Err(Refusal::Malformed(vec![Malformed { key: PRINCIPAL, problem }]));
    };
    if principal == identity.principal && groups.is_empty() {
        return Ok(None);
    }
    Ok(Some(Caller { principal, groups }))
}
