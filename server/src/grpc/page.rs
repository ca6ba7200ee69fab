//! Pages of listings, bounded by count, by bytes, and by how much is looked at.

use prost::Message;

/// A page ends before its items are larger than this together: with an item above it (at most
/// 2 MiB, a release with its pipeline and spec) it still fits
/// [`RESPONSE_BYTES_MAX`](super::RESPONSE_BYTES_MAX).
const PAGE_BYTES_MAX: usize = 3 << 20;
/// A page ends after so many candidates, even if few match the filter: some milliseconds of work,
/// so that no listing keeps a thread from everybody else's calls.
const SCAN_MAX: usize = 20_000;

/// A page, and where the next one begins.
#[derive(Debug, PartialEq)]
pub(super) struct Filled<T, K> {
    pub items: Vec<T>,
    /// The key after which the next page begins; none if nothing is left.
    pub next: Option<K>,
}

/// Fills a page of at most `size` items from `all` candidates that `matches` wants, as `write` has
/// them. A candidate's `key` is what the next page is resumed after.
pub(super) fn fill<S, T: Message, K>(
    size: usize,
    all: impl IntoIterator<Item = S>,
    key: impl Fn(&S) -> K,
    matches: impl Fn(&S) -> bool,
    write: impl Fn(&S) -> T,
) -> Filled<T, K> {
    let mut items = Vec::new();
    let mut bytes = 0;
    let mut last = None;
    for (looked_at, candidate) in all.into_iter().enumerate() {
        if looked_at == SCAN_MAX {
            return Filled { items, next: last };
        }
        if matches(&candidate) {
            // One match is looked for beyond a full page, so that a token promises something.
            if items.len() == size {
                return Filled { items, next: last };
            }
            let item = write(&candidate);
            bytes += item.encoded_len();
            if bytes > PAGE_BYTES_MAX && !items.is_empty() {
                return Filled { items, next: last };
            }
            items.push(item);
        }
        last = Some(key(&candidate));
    }
    Filled { items, next: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pages over the numbers below `all`, of which multiples of `step` match; each is written as
    /// a text of `bytes` bytes.
    fn check(size: usize, all: usize, step: usize, bytes: usize) -> (usize, Option<usize>) {
        let write = |_: &usize| "x".repeat(bytes);
        let filled = fill(size, 0..all, |n| *n, |n| n % step == 0, write);
        (filled.items.len(), filled.next)
    }

    #[test]
    fn a_page_says_where_the_next_one_begins_only_if_there_is_one() {
        assert_eq!(check(3, 10, 1, 1), (3, Some(2)));
        assert_eq!(check(10, 10, 1, 1), (10, None));
        assert_eq!(check(3, 10, 4, 1), (3, None), "0, 4 and 8 match, and nothing after");
        assert_eq!(check(2, 10, 4, 1), (2, Some(7)), "8 is left");
        assert_eq!(check(5, 0, 1, 1), (0, None));
    }

    #[test]
    fn a_page_is_cut_before_it_is_too_large_to_send_but_has_at_least_one_item() {
        assert_eq!(check(100, 100, 1, 1 << 20), (2, Some(1)));
        assert_eq!(check(100, 100, 1, 5 << 20), (1, Some(0)));
    }

    #[test]
    fn a_page_is_cut_when_too_much_was_looked_at() {
        assert_eq!(check(10, 2 * SCAN_MAX, SCAN_MAX, 1), (1, Some(SCAN_MAX - 1)));
    }
}
