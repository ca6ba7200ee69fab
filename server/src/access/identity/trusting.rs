//! The authenticator of loopback: it believes the metadata.

use super::{
    ANONYMOUS, Authenticate, Credentials, Identity, Kind, Unauthenticated, Vouched, claimed,
};
use phasegate_engine::id::Principal;
use tokio::sync::watch;

/// Believes what callers say of themselves; who says nothing is `anonymous`.
#[derive(Debug)]
pub struct Trusting {
    generation: watch::Sender<u64>,
}

impl Trusting {
    /// It never changes its mind.
    pub fn new() -> Self {
        Self { generation: watch::Sender::new(0) }
    }
}

impl Default for Trusting {
    fn default() -> Self {
        Self::new()
    }
}

impl Authenticate for Trusting {
    fn authenticate(
        &self,
        credentials: &Credentials<'_>,
    ) -> Result<Option<Identity>, Unauthenticated> {
        let claimed = claimed(credentials.headers).map_err(Unauthenticated::Metadata)?;
        Ok(Some(Identity {
            principal: claimed.principal.unwrap_or_else(|| Principal::new(ANONYMOUS)),
            name: None,
            groups: claimed.groups,
            kind: Kind::Person,
            until: None,
            vouched: Vouched::Proxy,
        }))
    }

    fn generation(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
