//! The contract of Phasegate.
//!
//! [`v1`] and [`rehearsal`] are generated from `proto/`; [`DESCRIPTORS`] is the same as data, for
//! reflection and for JSON. [`convert`] is the only place where wire types become domain types and
//! back.

#![warn(missing_docs)]
#![warn(clippy::unwrap_used)]

pub mod convert;

/// The package `phasegate.v1`, as generated.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::all,
    reason = "generated code"
)]
pub mod v1 {
    tonic::include_proto!("phasegate.v1");
}

/// The package `phasegate.rehearsal.v1`, as generated: the clock of a rehearsal.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::all,
    reason = "generated code"
)]
pub mod rehearsal {
    tonic::include_proto!("phasegate.rehearsal.v1");
}

/// A serialized `google.protobuf.FileDescriptorSet` of everything under `proto/`, imports included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
