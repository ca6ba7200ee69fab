//! Checks an export of the audit chain, without a server: one line for each entry, its SHA-256 in
//! hexadecimal, a space, and its bytes.
//!
//! What is compared is bytes. Nothing is written anew from the values in an entry, so nothing that
//! this version does not know is lost, and `sha256sum` comes to the same.

use super::audit::{AuditEntry, AuditHash, AuditHead};
use std::io::{self, BufRead, Read as _, Write};

/// The longest line that is read. The longest entry, with a reason of 4 KiB in which every character
/// is escaped and a hundred groups, stays far below.
const LINE_BYTES_MAX: u64 = 1 << 20;
/// Digits of a hash, and the space behind them.
const HASH_CHARS: usize = 64;

/// Why an export is not what was exported.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read.
    #[error("the export cannot be read")]
    Read(#[source] io::Error),
    /// A line does not fit.
    #[error("line {line}: {problem}")]
    Line {
        /// Counted from 1; the first that does not fit.
        line: u64,
        /// What is wrong there.
        problem: Problem,
    },
    /// The text ends too early.
    #[error(
        "the export ends with entry {last}, before entry {head} that was to be in it: its end is missing"
    )]
    EndMissing {
        /// The last entry that is there.
        last: u64,
        /// The one that was asked for.
        head: u64,
    },
}

/// What is wrong with a line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It has another form.
    #[error("is not a SHA-256, a space and one JSON object with sequence and previous")]
    Malformed,
    /// It does not end.
    #[error("is cut off: it has no line end")]
    CutOff,
    /// It is longer than any entry.
    #[error("is longer than any entry is")]
    TooLong,
    /// Its bytes are not those of its hash.
    #[error("was changed: the SHA-256 of its bytes is not the one that stands before them")]
    Changed,
    /// It is the first, and not the one after the beginning.
    #[error(
        "begins with entry {found}: what belongs before it, from entry {expected} on, is missing"
    )]
    BeginningMissing {
        /// The number that belongs there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// Another entry belongs there.
    #[error("entry {found} stands where entry {expected} belongs: removed, inserted or moved")]
    OutOfOrder {
        /// The number that belongs there.
        expected: u64,
        /// The number that is there.
        found: u64,
    },
    /// It was made after another entry than the one before it.
    #[error(
        "entry {sequence} does not name the entry before it: this one, or the one before, is not the original"
    )]
    Unlinked {
        /// Its number.
        sequence: u64,
    },
    /// It is the entry of the head, with another hash.
    #[error("entry {sequence} is not the one that was asked for: its SHA-256 is {found}")]
    NotTheHead {
        /// Its number.
        sequence: u64,
        /// Its hash.
        found: AuditHash,
    },
}

/// Reads an export that begins after the entry `after`, and says how it ends. With a head that was
/// kept elsewhere it must go at least that far, through that very entry. Without one a missing end
/// cannot be seen.
pub fn verify(
    from: &mut dyn BufRead,
    after: AuditHead,
    head: Option<AuditHead>,
) -> Result<AuditHead, Error> {
    let mut last = after;
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        (&mut *from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).map_err(Error::Read)?;
        if line.is_empty() {
            break;
        }
        let wrong = |problem| Error::Line { line: number, problem };
        let entry = read(&line).map_err(wrong)?;
        follows(&entry, last, number == 1).map_err(wrong)?;
        if let Some(head) = head.filter(|head| head.sequence == entry.sequence)
            && head.hash != entry.hash
        {
            let (sequence, found) = (entry.sequence, entry.hash);
            return Err(wrong(Problem::NotTheHead { sequence, found }));
        }
        last = entry.head();
    }
    match head {
        Some(head) if head.sequence > last.sequence => {
            Err(Error::EndMissing { last: last.sequence, head: head.sequence })
        }
        Some(_) | None => Ok(last),
    }
}

/// An entry as a line of an export, with its line end.
pub fn write(entry: &AuditEntry, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{} {}", entry.hash, entry.json)
}

fn read(line: &[u8]) -> Result<AuditEntry, Problem> {
    let Some(text) = line.strip_suffix(b"\n") else {
        let is_long = line.len() as u64 == LINE_BYTES_MAX;
        return Err(if is_long { Problem::TooLong } else { Problem::CutOff });
    };
    let (hash, json) = text
        .split_at_checked(HASH_CHARS)
        .and_then(|(hash, json)| Some((hash, json.strip_prefix(b" ")?)))
        .ok_or(Problem::Malformed)?;
    let hash = std::str::from_utf8(hash).ok().and_then(AuditHash::parse);
    let hash = hash.ok_or(Problem::Malformed)?;
    if AuditHash::of(json) != hash {
        return Err(Problem::Changed);
    }
    let json = std::str::from_utf8(json).map_err(|_| Problem::Malformed)?;
    AuditEntry::read(json.into()).map_err(|_| Problem::Malformed)
}

fn follows(entry: &AuditEntry, last: AuditHead, is_first: bool) -> Result<(), Problem> {
    let (expected, found) = (last.sequence.saturating_add(1), entry.sequence);
    if found != expected {
        return Err(if is_first && found > expected {
            Problem::BeginningMissing { expected, found }
        } else {
            Problem::OutOfOrder { expected, found }
        });
    }
    if entry.previous != last.hash {
        return Err(Problem::Unlinked { sequence: found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{
        StoreId,
        audit::{Act, Suppressed},
        testing::START,
    };
    use uuid::Uuid;

    fn entries() -> Vec<AuditEntry> {
        let mut head = AuditHead::EMPTY;
        let mut entries = Vec::new();
        for count in 1..=6 {
            let act = Act::Suppressed(Suppressed {
                principal: None,
                peer: None,
                reason: Some("ä \"quoted\"".into()),
                count,
            });
            let entry = AuditEntry::after(head, START, StoreId(Uuid::from_u128(1)), act);
            head = entry.head();
            entries.push(entry);
        }
        entries
    }

    fn lines() -> Vec<String> {
        let line = |entry: &AuditEntry| {
            let mut line = Vec::new();
            write(entry, &mut line).unwrap();
            String::from_utf8(line).unwrap()
        };
        entries().iter().map(line).collect()
    }

    fn check(lines: &[String]) -> Result<AuditHead, Error> {
        verify(&mut lines.concat().as_bytes(), AuditHead::EMPTY, None)
    }

    fn problem(lines: &[String]) -> (u64, Problem) {
        match check(lines).unwrap_err() {
            Error::Line { line, problem } => (line, problem),
            error @ (Error::Read(_) | Error::EndMissing { .. }) => panic!("{error}"),
        }
    }

    #[test]
    fn an_export_as_it_was_made_holds_and_says_how_it_ends() {
        let head = entries()[5].head();
        assert_eq!(check(&lines()).unwrap(), head);
        assert_eq!(check(&[]).unwrap(), AuditHead::EMPTY);
        let text = lines().concat();
        let with_head = |head| {
            verify(&mut text.as_bytes(), AuditHead::EMPTY, Some(head)).map_err(|e| e.to_string())
        };
        assert_eq!(with_head(head), Ok(head));
        assert_eq!(with_head(entries()[2].head()), Ok(head));
        let rest = lines()[3..].concat();
        assert_eq!(verify(&mut rest.as_bytes(), entries()[2].head(), None).unwrap(), head);
    }

    #[test]
    fn the_first_line_that_does_not_fit_is_named_whatever_was_done() {
        let whole = lines();
        let changed = [&whole[..2], &[whole[2].replace("\"count\":3", "\"count\":4")], &whole[3..]];
        assert_eq!(problem(&changed.concat()), (3, Problem::Changed));
        let mut removed = whole.clone();
        removed.remove(2);
        assert_eq!(problem(&removed), (3, Problem::OutOfOrder { expected: 3, found: 4 }));
        let mut inserted = whole.clone();
        inserted.insert(3, whole[1].clone());
        assert_eq!(problem(&inserted), (4, Problem::OutOfOrder { expected: 4, found: 2 }));
        let mut moved = whole.clone();
        moved.swap(1, 2);
        assert_eq!(problem(&moved), (2, Problem::OutOfOrder { expected: 2, found: 3 }));
        let beginning = Problem::BeginningMissing { expected: 1, found: 3 };
        assert_eq!(problem(&whole[2..]), (1, beginning));
        let cut = [whole[..5].concat(), whole[5][..80].to_owned()];
        assert_eq!(problem(&cut), (6, Problem::CutOff));
        assert_eq!(problem(&["no entry\n".into()]), (1, Problem::Malformed));
        let empty = [whole[0].clone(), "\n".into(), whole[1].clone()];
        assert_eq!(problem(&empty), (2, Problem::Malformed));
        let long = ["x".repeat(2 << 20)];
        assert_eq!(problem(&long), (1, Problem::TooLong));
    }

    #[test]
    fn a_forger_who_makes_one_hash_good_breaks_the_link_of_the_next_entry() {
        let mut forged = lines();
        let json = forged[2][65..].trim_end().replace("\"count\":3", "\"count\":4");
        forged[2] = format!("{} {json}\n", AuditHash::of(json.as_bytes()));
        assert_eq!(problem(&forged), (4, Problem::Unlinked { sequence: 4 }));
        // Of the last entry nothing follows, so only a head that was kept shows it.
        let mut forged = lines();
        let json = forged[5][65..].trim_end().replace("\"count\":6", "\"count\":7");
        forged[5] = format!("{} {json}\n", AuditHash::of(json.as_bytes()));
        check(&forged).unwrap();
        let text = forged.concat();
        let head = entries()[5].head();
        let error = verify(&mut text.as_bytes(), AuditHead::EMPTY, Some(head)).unwrap_err();
        let not_the_head = matches!(
            error,
            Error::Line { line: 6, problem: Problem::NotTheHead { sequence: 6, .. } }
        );
        assert!(not_the_head, "{error}");
    }

    #[test]
    fn a_missing_end_is_seen_with_a_head_and_only_with_one() {
        let text = lines()[..4].concat();
        assert_eq!(check(&lines()[..4]).unwrap(), entries()[3].head());
        let head = Some(entries()[5].head());
        let error = verify(&mut text.as_bytes(), AuditHead::EMPTY, head).unwrap_err();
        assert!(matches!(error, Error::EndMissing { last: 4, head: 6 }), "{error}");
    }
}
