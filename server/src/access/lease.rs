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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{
        Access, Permission, Policy,
        identity::{Identity, Kind, Unauthenticated, Vouched},
    };
    use phasegate_engine::id::Principal;
    use std::sync::Mutex;
    use tokio::task::JoinHandle;

    /// Vouches for one identity, as long as there is one.
    #[derive(Debug)]
    struct One {
        identity: Mutex<Option<Identity>>,
        generation: watch::Sender<u64>,
    }

    impl Authenticate for One {
        fn authenticate(
            &self,
            _credentials: &Credentials<'_>,
        ) -> Result<Option<Identity>, Unauthenticated> {
            self.identity.lock().unwrap().clone().map(Some).ok_or(Unauthenticated::UnknownToken)
        }

        fn generation(&self) -> watch::Receiver<u64> {
            self.generation.subscribe()
        }
    }

    /// How long from now by the clock of the system.
    fn in_time(left: Duration) -> SystemTime {
        let now = u64::try_from(SystemClock.now().as_millis()).unwrap();
        SystemTime::UNIX_EPOCH + Duration::from_millis(now) + left
    }

    struct World {
        who: Arc<One>,
        policies: Policies,
        grants: Grants,
        over: JoinHandle<(Refusal, Duration)>,
    }

    fn policy(permissions: &str) -> Policy {
        Policy::parse(&format!("bindings: [{{everyone: true, permissions: [{permissions}]}}]"))
            .unwrap()
    }

    /// A stream that needs `read`, of somebody whose credential ends then.
    async fn stream(until: Option<SystemTime>) -> World {
        let identity = Identity {
            principal: Principal::new("ann"),
            name: None,
            groups: Vec::new(),
            kind: Kind::Person,
            until,
            vouched: Vouched::Jwt,
        };
        let generation = watch::Sender::new(0);
        let who = Arc::new(One { identity: Mutex::new(Some(identity)), generation });
        let policies = Policies::fixed(policy("read, pause"));
        let access = Access::guarded(Arc::clone(&who) as Arc<dyn Authenticate>, policies.clone());
        let headers = HeaderMap::new();
        let asked = Asked {
            method: "watch",
            rule: Some(Rule::Needs(Permission::Read)),
            headers: &headers,
            certificate: None,
            peer: None,
        };
        let grants = access.admit(&asked).unwrap().unwrap();
        let lease = access.lease(&asked, &grants).unwrap();
        let began = Instant::now();
        let over = tokio::spawn(async move { (lease.over().await, began.elapsed()) });
        // The stream is there before anything happens to it.
        tokio::task::yield_now().await;
        World { who, policies, grants, over }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_with_its_credential() {
        let world = stream(Some(in_time(Duration::from_secs(100)))).await;
        let (refusal, after) = world.over.await.unwrap();
        assert_eq!(refusal, Refusal::Ended);
        assert!((99..=100).contains(&after.as_secs()), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_of_a_credential_without_an_end_goes_on() {
        let world = stream(None).await;
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert!(!world.over.is_finished());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_at_once_when_the_credential_is_revoked() {
        let world = stream(None).await;
        world.who.identity.lock().unwrap().take();
        world.who.generation.send_modify(|generation| *generation += 1);
        let (refusal, after) = world.over.await.unwrap();
        assert!(matches!(refusal, Refusal::BadCredential) && after.is_zero(), "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_looks_again_though_nobody_says_that_anything_changed() {
        let world = stream(None).await;
        world.who.identity.lock().unwrap().take();
        let (refusal, after) = world.over.await.unwrap();
        assert!(
            refusal.is_about_who() && after <= LOOK_AGAIN + Duration::from_secs(1),
            "{after:?}"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_keeps_its_grants_up_to_date_and_ends_with_the_permission() {
        let world = stream(None).await;
        assert!(world.grants.somewhere(Permission::Pause));
        world.policies.replace(policy("read"));
        tokio::task::yield_now().await;
        assert!(!world.grants.somewhere(Permission::Pause) && !world.over.is_finished());
        world.policies.replace(policy("approve"));
        let (refusal, after) = world.over.await.unwrap();
        assert_eq!((refusal, after), (Refusal::Missing(Permission::Read), Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn a_credential_of_somebody_else_is_not_the_same_stream() {
        let world = stream(None).await;
        if let Some(identity) = &mut *world.who.identity.lock().unwrap() {
            identity.principal = Principal::new("bob");
        }
        world.who.generation.send_modify(|generation| *generation += 1);
        assert_eq!(world.over.await.unwrap().0, Refusal::Ended);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_shows_no_credential() {
        let access = Access::guarded(
            Arc::new(One {
                identity: Mutex::new(Some(stream(None).await.grants.identity().clone())),
                generation: watch::Sender::new(0),
            }),
            Policies::fixed(policy("read")),
        );
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "Bearer hunter2".parse().unwrap());
        let rule = Some(Rule::Known);
        let asked = Asked { method: "x", rule, headers: &headers, certificate: None, peer: None };
        let grants = access.admit(&asked).unwrap().unwrap();
        let lease = access.lease(&asked, &grants).unwrap();
        assert!(!format!("{lease:?} {grants:?}").contains("hunter2"));
    }
}
