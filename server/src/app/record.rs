//! Who is refused at the gate is told to the writer, for the record.

use crate::{
    access::{Refusals, Refused},
    driver::Handle,
};
use std::sync::{Arc, OnceLock};

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
    }
}
