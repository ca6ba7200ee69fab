//! A store as text: one JSON object a line. A header, every record, and a trailer with the number of
//! lines and a checksum, without which it is worth nothing. It does not depend on what holds the store.

use super::{
    Counts, StoreId,
    outbox::{OutboxRow, Reminder},
    record::{ChangeRecord, CommitRecord, FORMAT, FORMAT_OLDEST, StoredRequest, key::hex},
};
use phasegate_engine::{
    flag::Flag,
    id::{ReleaseId, Revision, SinkId},
    pipeline::Pipeline,
    release::{Progress, Proposal},
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::{
    borrow::Cow,
    io::{self, BufRead, Read as _},
    sync::Arc,
};

/// Version of the text.
const EXPORT: u32 = 1;

/// The longest line that is read. The longest record, a proposal with two specs of 512 KiB in which
/// every character is escaped, stays below.
const LINE_BYTES_MOST: u64 = 16 * 1024 * 1024;

/// How many records lie between two reports of how far it has got.
const RECORDS_PER_REPORT: usize = 1000;

/// Is told now and then how many records were done.
pub type Report<'a> = &'a mut dyn FnMut(&Counts);

/// Why a text is no export.
#[derive(Debug, thiserror::Error)]
pub enum Malformed {
    /// It could not be read.
    #[error("the export cannot be read")]
    Read(#[source] io::Error),
    /// It is no export, or one of another version.
    #[error("line {line} of the export: {problem}")]
    Line {
        /// Counted from 1.
        line: u64,
        /// What is wrong there.
        problem: String,
    },
    /// It ends too early.
    #[error("the export ends after {lines} lines without its last one: it was cut off")]
    CutOff {
        /// Lines that are there.
        lines: u64,
    },
    /// It is not as it was written.
    #[error("the export was changed: its checksum does not hold")]
    Changed,
}

/// A line of an export.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Line<'a> {
    /// The first.
    Export(Header),
    Pipeline(Cow<'a, Pipeline>),
    Flag(Cow<'a, Flag>),
    Proposal(Cow<'a, Proposal>),
    Progress(ProgressLine<'a>),
    Commit(CommitLine),
    Change(ChangeLine<'a>),
    Request(StoredRequest<'a>),
    /// To the byte, as a text in the text: the hash is of these bytes.
    Audit(Arc<str>),
    Outbox(OutboxLine<'a>),
    Reminder(ReminderLine),
    /// The last.
    End(Trailer),
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Header {
    /// [`EXPORT`].
    version: u32,
    /// The oldest format that describes all that is in it.
    format: u32,
    /// Identity of the store that it was taken from.
    pub(super) store_id: StoreId,
    /// Its last commit.
    pub(super) revision: Revision,
    /// Time of that.
    pub(super) time: Timestamp,
    /// Where its log begins.
    pub(super) oldest: Revision,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ProgressLine<'a> {
    pub(super) release: ReleaseId,
    pub(super) progress: Cow<'a, Progress>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct CommitLine {
    pub(super) revision: Revision,
    pub(super) commit: CommitRecord,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ChangeLine<'a> {
    pub(super) release: ReleaseId,
    pub(super) change: ChangeRecord<'a>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct OutboxLine<'a> {
    pub(super) sink: SinkId,
    pub(super) sequence: u64,
    pub(super) row: Cow<'a, OutboxRow>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct ReminderLine {
    pub(super) release: ReleaseId,
    pub(super) reminder: Reminder,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Trailer {
    /// Lines before this one.
    lines: u64,
    /// SHA-256 of them, line ends included, in hexadecimal.
    sha256: String,
}

/// What a text is begun with.
pub(super) fn header(
    format: u32,
    store_id: StoreId,
    oldest: Revision,
    (revision, time): (Revision, Timestamp),
) -> Header {
    Header { version: EXPORT, format, store_id, revision, time, oldest }
}

/// Makes lines, and what the last one says of the others.
#[derive(Debug, Default)]
pub(super) struct LineWriter {
    hash: Sha256,
    lines: u64,
    counted: Counted,
}

impl LineWriter {
    /// Appends a line to a text.
    pub(super) fn write(&mut self, text: &mut Vec<u8>, line: &Line<'_>) -> io::Result<()> {
        let begins = text.len();
        serde_json::to_writer(&mut *text, line)?;
        text.push(b'\n');
        self.hash.update(&text[begins..]);
        self.lines += 1;
        Ok(())
    }

    /// The same, of a record, which counts.
    pub(super) fn record(
        &mut self,
        text: &mut Vec<u8>,
        line: &Line<'_>,
        report: Report<'_>,
    ) -> io::Result<()> {
        self.write(text, line)?;
        self.counted.count(line, report);
        Ok(())
    }

    /// Appends the last line.
    pub(super) fn finish(mut self, text: &mut Vec<u8>) -> io::Result<()> {
        let sha256 = hex(&std::mem::take(&mut self.hash).finalize());
        self.write(text, &Line::End(Trailer { lines: self.lines, sha256 }))
    }
}

/// Reads lines, and holds the last one against the others.
pub(super) struct LineReader<'a> {
    from: &'a mut dyn BufRead,
    /// Of all lines before the last that was read.
    hash: Sha256,
    last: Vec<u8>,
    lines: u64,
}

impl<'a> LineReader<'a> {
    /// Reads the first line.
    pub(super) fn begin(from: &'a mut dyn BufRead) -> Result<(Header, Self), Malformed> {
        let mut lines = Self { from, hash: Sha256::new(), last: Vec::new(), lines: 0 };
        let Line::Export(header) = lines.next()? else {
            return Err(lines.problem("an export begins with another line"));
        };
        if header.version != EXPORT || !(FORMAT_OLDEST..=FORMAT).contains(&header.format) {
            return Err(lines.problem("it was written by another version"));
        }
        Ok((header, lines))
    }

    pub(super) fn next(&mut self) -> Result<Line<'static>, Malformed> {
        self.hash.update(&self.last);
        self.last.clear();
        (&mut *self.from)
            .take(LINE_BYTES_MOST)
            .read_until(b'\n', &mut self.last)
            .map_err(Malformed::Read)?;
        if self.last.last() != Some(&b'\n') && (self.last.len() as u64) < LINE_BYTES_MOST {
            return Err(Malformed::CutOff { lines: self.lines });
        }
        self.lines += 1;
        serde_json::from_slice(&self.last).map_err(|error| self.problem(error))
    }

    pub(super) fn problem(&self, problem: impl ToString) -> Malformed {
        Malformed::Line { line: self.lines, problem: problem.to_string() }
    }

    /// The trailer was read last: whether it holds, and is the end.
    pub(super) fn check_end(self, trailer: &Trailer) -> Result<(), Malformed> {
        let at_end = self.from.fill_buf().map_err(Malformed::Read)?.is_empty();
        let as_written = hex(&self.hash.finalize()) == trailer.sha256;
        if at_end && as_written && trailer.lines + 1 == self.lines {
            Ok(())
        } else {
            Err(Malformed::Changed)
        }
    }
}

/// Counts records, and reports now and then.
#[derive(Debug, Default)]
pub(super) struct Counted {
    pub(super) counts: Counts,
    since_report: usize,
}

impl Counted {
    pub(super) fn count(&mut self, line: &Line<'_>, report: Report<'_>) {
        let counts = &mut self.counts;
        match line {
            Line::Export(_) | Line::Proposal(_) | Line::End(_) => return,
            Line::Pipeline(_) => counts.pipelines += 1,
            Line::Flag(_) => counts.flags += 1,
            Line::Progress(_) => counts.releases += 1,
            Line::Commit(_) => counts.commits += 1,
            Line::Change(_) => counts.changes += 1,
            Line::Request(_) => counts.requests += 1,
            Line::Audit(_) => counts.audit += 1,
            Line::Outbox(_) => counts.outbox += 1,
            Line::Reminder(_) => counts.reminders += 1,
        }
        self.since_report += 1;
        if self.since_report == RECORDS_PER_REPORT {
            self.since_report = 0;
            report(counts);
        }
    }
}
