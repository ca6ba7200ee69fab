//! The one place where time is read.

use phasegate_engine::time::Timestamp;

/// Wall time, and the time since boot that shows steps and suspends of it.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// Wall time.
    fn now(&self) -> Timestamp;
}
