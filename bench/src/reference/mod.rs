//! What Phasegate is compared with: the same transport without anything behind it, the same disk without
//! anything above it, and etcd.

pub(crate) mod bare;
pub(crate) mod etcd;
pub(crate) mod store;
