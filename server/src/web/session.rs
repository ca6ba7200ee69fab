//! Who is logged in: sessions, in memory, and logins that have begun.
//!
//! A browser holds a random number and nothing else; here is kept whose it is, under its hash. A
//! session ends with the credential it began with, after twelve hours, by a logout, when the server
//! stops, and when its credential is no longer good: that is asked again whenever who is who may have
//! changed.

use crate::{
    access::identity::{
        Authenticate as _, Authenticator, Credentials, Identity,
        login::{Begun, LoginError, unguessable},
    },
    clock::{Clock as _, SystemClock},
};
use http::{HeaderMap, HeaderValue, header};
use sha2::{Digest as _, Sha256};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};
use tokio_util::sync::CancellationToken;

/// Nobody works longer at a stretch.
const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);
/// Sessions at a time; above, the one that ends first makes room.
const SESSIONS_MAX: usize = 10_000;
/// A login at an issuer takes no longer, a second factor included.
const LOGIN_MAX: Duration = Duration::from_secs(600);
/// Logins under way at a time; above, the oldest makes room. Anybody can begin one.
const LOGINS_MAX: usize = 1000;

/// SHA-256 of what a browser holds: what is kept here is of no use to a thief.
type Key = [u8; 32];

fn key(id: &str) -> Key {
    Sha256::digest(id).into()
}

/// Somebody who is logged in.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) identity: Identity,
    pub(super) until: SystemTime,
    /// Cancelled when it is over before its time.
    pub(super) over: CancellationToken,
    evidence: Evidence,
    /// As of which generation of who is who it holds.
    generation: u64,
}

/// What a session goes by when who is who has changed.
#[derive(Clone, Debug)]
pub(super) enum Evidence {
    /// A static token or a JWT, as a header: it has to be good still.
    Token(HeaderValue),
    /// A login at this issuer: people still have to log in with it.
    Issuer(String),
}

impl Evidence {
    /// Who it is now; none if nobody.
    fn identity(&self, authenticator: &Authenticator, before: &Identity) -> Option<Identity> {
        match self {
            Self::Token(header) => {
                let headers: HeaderMap =
                    [(header::AUTHORIZATION, header.clone())].into_iter().collect();
                let credentials = Credentials { headers: &headers, certificate: None };
                let identity = authenticator.authenticate(&credentials).ok().flatten()?;
                Some(identity).filter(|identity| identity.principal == before.principal)
            }
            Self::Issuer(name) => authenticator.logs_in(name).then(|| before.clone()),
        }
    }
}

/// A login that has begun, and where it is to lead.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) begun: Begun,
    pub(super) next: String,
    since: SystemTime,
}

/// All sessions and logins. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Sessions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    sessions: HashMap<Key, Arc<Session>>,
    logins: HashMap<Key, Login>,
}

pub(super) fn now() -> SystemTime {
    let since = u64::try_from(SystemClock.now().as_millis()).unwrap_or_default();
    SystemTime::UNIX_EPOCH + Duration::from_millis(since)
}

impl Sessions {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Whoever panicked with it has not left it half changed: each change is one call of a map.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a session, and says what the browser is to hold.
    pub(super) fn begin(
        &self,
        identity: Identity,
        evidence: Evidence,
        generation: u64,
    ) -> Result<(String, SystemTime), LoginError> {
        let id = unguessable()?;
        let now = now();
        let until = identity.until.unwrap_or(now + SESSION_MAX).min(now + SESSION_MAX);
        let over = CancellationToken::new();
        let session = Arc::new(Session { identity, until, over, evidence, generation });
        let mut inner = self.inner();
        inner.sessions.retain(|_, session| session.until > now);
        if inner.sessions.len() >= SESSIONS_MAX {
            let first = inner.sessions.iter().min_by_key(|(_, session)| session.until);
            if let Some(key) = first.map(|(key, _)| *key) {
                inner.end(&key);
            }
        }
        inner.sessions.insert(key(&id), session);
        Ok((id, until))
    }

    /// The session of a browser, if it has one.
    pub(super) fn find(&self, id: &str, authenticator: &Authenticator) -> Option<Arc<Session>> {
        let (key, now) = (key(id), now());
        let generation = *authenticator.generation().borrow();
        let mut inner = self.inner();
        let session = Arc::clone(inner.sessions.get(&key)?);
        if session.until <= now {
            inner.end(&key);
            return None;
        }
        if session.generation == generation {
            return Some(session);
        }
        // It, or nothing, goes on; streams end and come back as what holds now.
        inner.end(&key);
        let identity = session.evidence.identity(authenticator, &session.identity)?;
        let until = identity.until.unwrap_or(session.until).min(session.until);
        let evidence = session.evidence.clone();
        let over = CancellationToken::new();
        let session = Arc::new(Session { identity, until, over, evidence, generation });
        inner.sessions.insert(key, Arc::clone(&session));
        Some(session)
    }

    /// Ends the session of a browser.
    pub(super) fn end(&self, id: &str) {
        self.inner().end(&key(id));
    }

    /// Keeps a login that has begun, and says what the browser is to hold.
    pub(super) fn keep(&self, begun: Begun, next: String) -> Result<String, LoginError> {
        let id = unguessable()?;
        let now = now();
        let mut inner = self.inner();
        inner.logins.retain(|_, login| login.since + LOGIN_MAX > now);
        if inner.logins.len() >= LOGINS_MAX {
            let oldest = inner.logins.iter().min_by_key(|(_, login)| login.since);
            if let Some(key) = oldest.map(|(key, _)| *key) {
                inner.logins.remove(&key);
            }
        }
        inner.logins.insert(key(&id), Login { begun, next, since: now });
        Ok(id)
    }

    /// Takes a login that this browser has begun: it is good for one try.
    pub(super) fn take(&self, id: &str) -> Option<Login> {
        let login = self.inner().logins.remove(&key(id))?;
        (login.since + LOGIN_MAX > now()).then_some(login)
    }
}

impl Inner {
    fn end(&mut self, key: &Key) {
        if let Some(session) = self.sessions.remove(key) {
            session.over.cancel();
        }
    }
}
