//! The contract of Phasegate.
//!
//! [`v1`], [`rehearsal`] and [`flagd`] are generated from `proto/`; [`DESCRIPTORS`] is the same as data, for
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

/// flagd's packages, as generated: how applications follow flags with ordinary OpenFeature providers.
#[allow(
    missing_docs,
    missing_debug_implementations,
    unreachable_pub,
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::all,
    reason = "generated code"
)]
pub mod flagd {
    /// `flagd.sync.v1`: whole sets of flags, for providers that evaluate in process.
    pub mod sync {
        tonic::include_proto!("flagd.sync.v1");
    }
    /// `flagd.evaluation.v1`: answers, for older providers that ask the server.
    pub mod evaluation_v1 {
        tonic::include_proto!("flagd.evaluation.v1");
    }
    /// `flagd.evaluation.v2`: answers, for providers that ask the server.
    pub mod evaluation {
        tonic::include_proto!("flagd.evaluation.v2");
    }
}

/// A serialized `google.protobuf.FileDescriptorSet` of everything under `proto/`, imports included.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
