//! The bucket of a context: a fixed hash that never changes.

/// Which bytes are hashed; provider generations in the field differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bucketing {
    /// UTF-8 bytes.
    V2,
    /// Deterministic CBOR.
    #[default]
    V3,
}

/// Buckets in all.
pub const TOTAL: u32 = 10_000;

/// The bucket, 0 to 9999.
pub fn bucket(_bucketing: Bucketing, _salt: &str, _value: &str) -> u32 {
    0
}
