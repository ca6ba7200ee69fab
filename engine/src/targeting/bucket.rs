//! The bucket of a context: a fixed hash that never changes.
//!
//! Who is inside a share of traffic follows from this file alone, so its results are part of the
//! contract: a change of one bit moves users from one answer to another in the middle of a release.

use crate::id::{FlagId, ReleaseId};
use std::fmt;

/// Which bytes are hashed. flagd's providers in the field differ in this by generation, so the
/// share is right everywhere, but who is inside it is the same only among those of one generation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Bucketing {
    /// The UTF-8 bytes of the text.
    V2,
    /// The text as a string of deterministic CBOR (RFC 8949, section 4.2.1).
    #[default]
    V3,
}

impl Bucketing {
    /// Its name: `v2` or `v3`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V2 => "v2",
            Self::V3 => "v3",
        }
    }
}

/// Buckets in all, so that one of them is one basis point.
pub const TOTAL: u32 = 10_000;

/// What makes the buckets of one rule independent of those of another: the name of the resource
/// that the rule belongs to. [`Display`](fmt::Display) writes it as it is hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Salt<'a> {
    /// For the rules of a spec, settled or proposed, so that a release leaves those shares alone.
    Flag(&'a FlagId),
    /// For the rules of the phases of a release, so that not the same users always go first.
    Release(&'a ReleaseId),
}

impl fmt::Display for Salt<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(id) => write!(f, "flags/{id}"),
            Self::Release(id) => write!(f, "releases/{id}"),
        }
    }
}

/// The bucket, 0 to 9999, of a unit: the text of the attribute that a rule buckets by.
pub fn bucket(bucketing: Bucketing, salt: Salt<'_>, unit: &str) -> u32 {
    share_of(hash(bucketing, &format!("{salt}:{unit}")), TOTAL)
}

/// The hash of a text, from which its bucket follows by [`share_of`].
pub fn hash(bucketing: Bucketing, text: &str) -> u32 {
    match bucketing {
        Bucketing::V2 => murmur3_x86_32(text.as_bytes()),
        Bucketing::V3 => murmur3_x86_32(&cbor_text(text)),
    }
}

/// Scales a hash to 0..total: `hash * total / 2^32`, rounded down.
pub fn share_of(hash: u32, total: u32) -> u32 {
    // A u32 times a u32 fits a u64, and the upper half of it fits a u32 again.
    ((u64::from(hash) * u64::from(total)) >> 32) as u32
}

/// A text string of deterministic CBOR: major type 3, the length in the fewest bytes, the text.
fn cbor_text(text: &str) -> Vec<u8> {
    const MAJOR_TEXT: u8 = 3 << 5;
    let mut bytes = Vec::with_capacity(text.len() + 9);
    let len = text.len() as u64;
    if let Ok(len) = u8::try_from(len) {
        if len < 24 {
            bytes.push(MAJOR_TEXT | len);
        } else {
            bytes.extend([MAJOR_TEXT | 24, len]);
        }
    } else if let Ok(len) = u16::try_from(len) {
        bytes.push(MAJOR_TEXT | 25);
        bytes.extend(len.to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        bytes.push(MAJOR_TEXT | 26);
        bytes.extend(len.to_be_bytes());
    } else {
        bytes.push(MAJOR_TEXT | 27);
        bytes.extend(len.to_be_bytes());
    }
    bytes.extend(text.as_bytes());
    bytes
}

/// MurmurHash3 in its variant x86_32 with seed 0, after Austin Appleby's description of it.
fn murmur3_x86_32(bytes: &[u8]) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);

    let mut h = 0_u32;
    let (blocks, tail) = bytes.as_chunks::<4>();
    for block in blocks {
        h ^= scramble(u32::from_le_bytes(*block));
        h = h.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    // Missing bytes count as zero; without a tail this mixes in nothing.
    let mut last = [0; 4];
    last[..tail.len()].copy_from_slice(tail);
    h ^= scramble(u32::from_le_bytes(last));

    // The algorithm takes the length modulo 2^32.
    h ^= bytes.len() as u32;
    h ^= h >> 16;
    h = h.wrapping_mul(0x85eb_ca6b);
    h ^= h >> 13;
    h = h.wrapping_mul(0xc2b2_ae35);
    h ^ (h >> 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur3_gives_the_values_of_other_implementations() {
        // As the Python package mmh3 gives them; one for each length of the tail.
        let check = |text: &str, hash| assert_eq!(murmur3_x86_32(text.as_bytes()), hash, "{text}");
        check("", 0);
        check("a", 0x3c25_69b2);
        check("aa", 0x3710_91a9);
        check("abc", 0xb3dd_93fa);
        check("test", 0xba6b_d213);
        check("Hello, world!", 0xc036_3e43);
        check("The quick brown fox jumps over the lazy dog", 0x2e4f_f723);
    }

    #[test]
    fn both_generations_agree_with_flagds_providers() {
        let check = |bucketing, text, value, of_100_000| {
            assert_eq!(hash(bucketing, text), value, "{text}");
            assert_eq!(share_of(value, 100_000), of_100_000, "{text}");
        };
        check(Bucketing::V2, "salt-1:user-0", 1_860_432_835, 43_316);
        check(Bucketing::V3, "salt-1:user-0", 3_015_136_847, 70_201);
        check(Bucketing::V2, "salt-1:user-1", 1_205_814_101, 28_075);
        check(Bucketing::V3, "salt-1:user-1", 584_170_105, 13_601);
    }

    #[test]
    fn cbor_writes_a_length_in_the_fewest_bytes() {
        let check = |len: usize, head: &[u8]| {
            let text = "x".repeat(len);
            assert_eq!(cbor_text(&text), [head, text.as_bytes()].concat(), "{len}");
        };
        check(0, &[0x60]);
        check(13, &[0x6d]);
        check(23, &[0x77]);
        check(24, &[0x78, 24]);
        check(255, &[0x78, 255]);
        check(256, &[0x79, 1, 0]);
        check(65_535, &[0x79, 255, 255]);
        check(65_536, &[0x7a, 0, 1, 0, 0]);
        assert_eq!(cbor_text("é"), [0x62, 0xc3, 0xa9], "the length counts bytes");
    }

    #[test]
    fn a_bucket_lies_below_the_total_at_both_ends() {
        assert_eq!(share_of(0, TOTAL), 0);
        assert_eq!(share_of(u32::MAX, TOTAL), TOTAL - 1);
    }

    #[test]
    fn the_salt_is_the_name_of_the_resource() {
        let flag = FlagId::parse("new-checkout").unwrap();
        let release = ReleaseId::parse("r-1").unwrap();
        let check = |salt: Salt<'_>, text| {
            let whole = share_of(hash(Bucketing::V3, text), TOTAL);
            assert_eq!(bucket(Bucketing::V3, salt, "user-0"), whole, "{text}");
        };
        check(Salt::Flag(&flag), "flags/new-checkout:user-0");
        check(Salt::Release(&release), "releases/r-1:user-0");
    }
}
