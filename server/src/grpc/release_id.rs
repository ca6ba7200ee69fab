//! The one generator of release ids.

use phasegate_engine::{id::ReleaseId, time::Timestamp};
use uuid::Uuid;

/// Crockford's alphabet: no letter that is easily read as another, and its order is that of ASCII.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// 45 bits of milliseconds reach beyond the year 3000.
const TIME_DIGITS: u32 = 9;
/// 35 random bits: two releases of the same millisecond clash once in 34 thousand million, and then
/// the second is refused with RESOURCE_EXISTS.
const RANDOM_DIGITS: u32 = 7;

/// A fresh id, such as `r-01kayx3v2-8m4qz7c`: the time, then chance. Ids sort by time.
pub(super) fn fresh(now: Timestamp) -> ReleaseId {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    // A random UUID is 122 bits from the operating system; the lowest 62 are all random.
    let random = Uuid::new_v4().as_u64_pair().1;
    spell(millis, random)
}

fn spell(millis: u64, random: u64) -> ReleaseId {
    let text = format!("r-{}-{}", digits(millis, TIME_DIGITS), digits(random, RANDOM_DIGITS));
    ReleaseId::parse(&text)
        .expect("an r, then dashes and the alphabet, 19 characters, no dash last")
}

fn digits(number: u64, count: u32) -> String {
    let digit = |place: u32| ALPHABET[(number >> (5 * place) & 31) as usize] as char;
    (0..count).rev().map(digit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_an_id_and_ids_sort_by_time() {
        let mut before = None;
        for millis in [0, 1, 31, 32, 1_763_880_000_000, 253_402_300_799_999] {
            for random in [0, u64::MAX] {
                let id = spell(millis, random);
                assert_eq!(ReleaseId::parse(id.as_str()).as_ref(), Ok(&id));
                if millis < 1 << 45 {
                    assert!(before.as_ref() < Some(&id), "{before:?} {id}");
                    before = Some(id);
                }
            }
        }
    }

    #[test]
    fn two_fresh_ids_of_one_instant_differ() {
        let now = Timestamp::from_millis(1_763_880_000_000);
        assert_ne!(fresh(now), fresh(now));
    }
}
