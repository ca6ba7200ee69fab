//! Who is refused at the gate is told to the writer, for the record.

use crate::{
    access::{Refusals, Refused, identity::ANONYMOUS},
    driver::{AuditedCall, Handle, Outcome},
};
use phasegate_engine::id::Principal;
use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
};

/// Tells the writer, once there is one.
#[derive(Clone, Debug, Default)]
pub(super) struct Record(Arc<OnceLock<Handle>>);

impl Record {
    /// From here on there is one. Refusals before are in the log only.
    pub(super) fn open(&self, driver: Handle) {
        // Only the first call counts, and there is one.
        self.0.get_or_init(|| driver);
    }
}

impl Refusals for Record {
    fn refused(&self, refused: Refused) {
        tracing::debug!(?refused, "refused at the gate");
        let Some(driver) = self.0.get() else { return };
        let Refused { principal, method, reason, peer } = refused;
        driver.note(AuditedCall {
            method: method.into(),
            resource: "".into(),
            principal: principal.unwrap_or_else(|| Principal::new(ANONYMOUS)),
            authenticated: None,
            vouched: None,
            peer: peer.map(|peer| peer.to_string().into()),
            groups: Vec::new(),
            request_id: None,
            trace: None,
            reason: "".into(),
            asked: BTreeMap::new(),
            outcome: Outcome::Refused { reason: reason.into() },
        });
    }
}
