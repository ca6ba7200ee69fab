//! What watches over a stream: whether its caller is still who they were, and still may.

use super::{
    gate::{Asked, Refusal, identify, judge},
    grants::Grants,
    identity::{Authenticate, ClientCertificate, Credentials},
    policy::Policies,
    table::Rule,
};
use crate::clock::{Clock as _, SystemClock};
use http::HeaderMap;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// A stream looks again at least this often, whether anything is known to have changed or not.
pub const LOOK_AGAIN: Duration = Duration::from_secs(30);

/// The right to go on with a stream.
pub struct Lease {
    who: Arc<dyn Authenticate>,
    policies: Policies,
    evidence: Evidence,
    rule: Option<Rule>,
    grants: Grants,
}

/// What the caller is known by.
enum Evidence {
    /// By what the request brought, which is judged again.
    Request { headers: HeaderMap, certificate: Option<ClientCertificate> },
    /// By a session, over which somebody else watches.
    Session,
}

impl fmt::Debug for Lease {
    /// Without the headers: a credential is among them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("grants", &self.grants)
            .field("rule", &self.rule)
            .finish_non_exhaustive()
    }
}

impl Lease {
    pub(super) fn new(
        who: Arc<dyn Authenticate>,
        policies: Policies,
        asked: &Asked<'_>,
        grants: Grants,
    ) -> Self {
        let (headers, certificate) = (asked.headers.clone(), asked.certificate.cloned());
        let evidence = Evidence::Request { headers, certificate };
        Self { who, policies, evidence, rule: asked.rule, grants }
    }

    pub(super) fn of_session(
        who: Arc<dyn Authenticate>,
        policies: Policies,
        rule: Option<Rule>,
        grants: Grants,
    ) -> Self {
        Self { who, policies, evidence: Evidence::Session, rule, grants }
    }

    /// Waits until the stream has to end, and says why. What the caller may meanwhile is kept up to date
    /// in their [`Grants`].
    pub async fn over(self) -> Refusal {
        let (mut who, mut policy) = (self.who.generation(), self.policies.generation());
        let mut until = self.grants.identity().until;
        let mut ends = until.map(|until| Instant::now() + left(until));
        // Between the admission and here something may have changed already.
        loop {
            match self.look() {
                Ok(renewed) if renewed != until => {
                    until = renewed;
                    ends = until.map(|until| Instant::now() + left(until));
                }
                Ok(_) => {}
                Err(refusal) => return refusal,
            }
            if ends.is_some_and(|ends| ends <= Instant::now()) {
                return Refusal::Ended;
            }
            let again = Instant::now() + LOOK_AGAIN;
            tokio::select! {
                () = changed(&mut who) => {}
                () = changed(&mut policy) => {}
                () = sleep_until(ends.map_or(again, |ends| ends.min(again))) => {}
            }
        }
    }

    /// Looks whether all is as it was, and when the credential ends.
    fn look(&self) -> Result<Option<SystemTime>, Refusal> {
        let nothing = HeaderMap::new();
        let (identity, headers) = match &self.evidence {
            Evidence::Request { headers, certificate } => {
                let credentials = Credentials { headers, certificate: certificate.as_ref() };
                (identify(&*self.who, &credentials)?, headers)
            }
            Evidence::Session => (self.grants.identity().clone(), &nothing),
        };
        if identity.principal != self.grants.identity().principal {
            return Err(Refusal::Ended);
        }
        // Wall time may have been stepped, or the machine suspended.
        if identity.until.is_some_and(|until| left(until).is_zero()) {
            return Err(Refusal::Ended);
        }
        let (_, held) = judge(&self.policies, &identity, headers, self.rule)?;
        self.grants.replace(held);
        Ok(identity.until)
    }
}

/// Waits for another number; for ever if there will be none.
async fn changed(generation: &mut watch::Receiver<u64>) {
    if generation.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn left(until: SystemTime) -> Duration {
    let since_epoch = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
    since_epoch.saturating_sub(Duration::from_millis(now))
}
