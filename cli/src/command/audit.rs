//! `phasegate audit`: who asked for what, and the proof that nothing of it was touched.

use crate::{
    connection::Connection,
    failure::Failure,
    output::{Form, Output, note, print, table::Table},
    time,
};
use clap::{Args, Subcommand, ValueEnum};
use phasegate_api::v1::{self, audit_entry::Act};
use phasegate_client::{AuditUpdate, Client, Position};
use phasegate_server::store::{
    audit::{AuditHash, AuditHead},
    chain,
};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufReader, BufWriter, Write},
};

#[derive(Args, Debug)]
pub(crate) struct Audit {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List entries, newest first; with `-o json` their own bytes, one in a line
    List {
        #[command(flatten)]
        filter: Filter,
        /// At most so many
        #[arg(long, default_value_t = 50, value_name = "N")]
        limit: usize,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Follow the chain
    Watch {
        /// Begin after this entry; 0 is the beginning. Default: with the next one
        #[arg(long, value_name = "SEQUENCE")]
        after: Option<i64>,
        #[command(flatten)]
        connection: Connection,
        #[command(flatten)]
        output: Output,
    },
    /// Write the chain as lines of SHA-256 and entry, which `verify` and sha256sum can check
    Export {
        /// A file that does not exist yet, or - for the standard output
        #[arg(default_value = "-", value_name = "FILE")]
        to: String,
        /// Begin after this entry of an earlier export
        #[arg(long, default_value_t = 0, value_name = "SEQUENCE")]
        after: i64,
        #[command(flatten)]
        connection: Connection,
    },
    /// Check an export without a server; exits with 65 at the first line that does not fit
    #[command(after_help = "An end that is missing can only be seen with --head.")]
    Verify {
        /// The export, or - for the standard input
        #[arg(value_name = "FILE")]
        from: String,
        /// The entry that must be in it, as `audit head` said it: SEQUENCE:SHA256
        #[arg(long, value_parser = head, value_name = "HEAD")]
        head: Option<AuditHead>,
        /// The entry that it begins after, if it is not the whole chain: SEQUENCE:SHA256
        #[arg(long, value_parser = head, value_name = "HEAD")]
        after: Option<AuditHead>,
    },
    /// Print the newest entry as SEQUENCE:SHA256, to be kept elsewhere
    Head {
        #[command(flatten)]
        connection: Connection,
    },
}

#[derive(Args, Debug)]
struct Filter {
    /// Only of this principal, also if another acted for it
    #[arg(long = "principal", id = "of_principal", default_value = "", hide_default_value = true)]
    principal: String,
    /// Only about this resource, for example flags/f
    #[arg(long, default_value = "", hide_default_value = true)]
    resource: String,
    /// Only of this RPC, for example AbortRelease
    #[arg(long, default_value = "", hide_default_value = true)]
    method: String,
    /// Only with this outcome
    #[arg(long, value_enum)]
    outcome: Option<Outcome>,
    /// Only from this time on, for example 2030-06-14T18:00:00Z
    #[arg(long, value_parser = instant, value_name = "TIME")]
    since: Option<prost_types::Timestamp>,
    /// Only before this time
    #[arg(long, value_parser = instant, value_name = "TIME")]
    until: Option<prost_types::Timestamp>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Outcome {
    /// It was done
    Accepted,
    /// It was refused
    Refused,
}

fn instant(text: &str) -> Result<prost_types::Timestamp, String> {
    let time = chrono::DateTime::parse_from_rfc3339(text);
    time.map(|time| time::timestamp(time.to_utc())).map_err(|error| error.to_string())
}

fn head(text: &str) -> Result<AuditHead, String> {
    let parsed = text.split_once(':').and_then(|(sequence, hash)| {
        Some(AuditHead { sequence: sequence.parse().ok()?, hash: AuditHash::parse(hash)? })
    });
    parsed.ok_or_else(|| "must be a number, a colon and 64 hexadecimal digits".to_owned())
}

impl Audit {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::List { filter, limit, connection, output } => {
                list(&connection.connect().await?, filter, limit, output).await
            }
            Action::Watch { after, connection, output } => {
                watch(&connection.connect().await?, after, output).await
            }
            Action::Export { to, after, connection } => {
                export(&connection.connect().await?, &to, after).await
            }
            Action::Verify { from, head, after } => verify(&from, head, after),
            Action::Head { connection } => {
                let head = connection.connect().await?.get_audit_head().await?;
                print(&format!("{}:{}\n", head.sequence, head.hash))
            }
        }
    }
}

async fn list(
    client: &Client,
    filter: Filter,
    limit: usize,
    output: Output,
) -> Result<(), Failure> {
    let outcome = match filter.outcome {
        None => v1::AuditOutcome::Unspecified,
        Some(Outcome::Accepted) => v1::AuditOutcome::Accepted,
        Some(Outcome::Refused) => v1::AuditOutcome::Refused,
    };
    let mut request = v1::ListAuditEntriesRequest {
        page_size: i32::try_from(limit.min(1000)).unwrap_or(1000),
        page_token: String::new(),
        principal: filter.principal,
        resource: filter.resource,
        method: filter.method,
        outcome: outcome.into(),
        start_time: filter.since,
        end_time: filter.until,
    };
    let mut entries = Vec::new();
    while entries.len() < limit {
        let page = client.list_audit_entries(request.clone()).await?;
        entries.extend(page.entries);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    entries.truncate(limit);
    match output.form {
        Form::Human => {
            let mut table = Table::new(&HEADING);
            entries.iter().for_each(|entry| table.row(cells(entry)));
            print(&table.render())
        }
        Form::Json | Form::Yaml => {
            let lines = entries.iter().map(|entry| format!("{}\n", entry.json));
            print(&lines.collect::<String>())
        }
    }
}

async fn watch(client: &Client, after: Option<i64>, output: Output) -> Result<(), Failure> {
    let from = match after {
        Some(revision) => Position { revision, store_id: String::new() },
        None => {
            let head = client.get_audit_head().await?;
            Position { revision: head.sequence, store_id: head.store_id }
        }
    };
    let mut watch = client.watch_audit_entries(from);
    while let Some(update) = watch.next().await {
        match update? {
            AuditUpdate::Entry { entry, .. } => match output.form {
                Form::Human => print(&format!("{}\n", cells(&entry).join("  ")))?,
                Form::Json | Form::Yaml => print(&format!("{}\n", entry.json))?,
            },
            AuditUpdate::Interrupted(error) => note(&format!("interrupted: {error}")),
            AuditUpdate::Restarted(error) => note(&format!("begins anew: {error}")),
            AuditUpdate::Bookmark(_) | AuditUpdate::Resumed => {}
            _ => {}
        }
    }
    Ok(())
}

async fn export(client: &Client, to: &str, after: i64) -> Result<(), Failure> {
    if to == "-" {
        return write(client, &mut BufWriter::new(io::stdout()), after).await;
    }
    let machine = |source| Failure::Machine { doing: "write the export", source };
    // Never over a file that is there: it may be the only good copy.
    let file = OpenOptions::new().write(true).create_new(true).open(to).map_err(machine)?;
    let mut out = BufWriter::new(file);
    write(client, &mut out, after).await?;
    out.flush().and_then(|()| out.get_ref().sync_all()).map_err(machine)
}

/// Writes the entries up to the newest one of now.
async fn write(client: &Client, out: &mut (dyn Write + Send), after: i64) -> Result<(), Failure> {
    let head = client.get_audit_head().await?;
    let mut last = after;
    if after < head.sequence {
        let from = Position { revision: after, store_id: head.store_id.clone() };
        let mut watch = client.watch_audit_entries(from);
        while last < head.sequence {
            match watch.next().await {
                Some(Ok(AuditUpdate::Entry { entry, .. })) => {
                    // To the byte, as the server has it.
                    writeln!(out, "{} {}", entry.hash, entry.json)?;
                    last = entry.sequence;
                }
                // The lines so far would belong to another chain than those that follow.
                Some(Ok(AuditUpdate::Restarted(error)) | Err(error)) => return Err(error.into()),
                Some(Ok(_)) => {}
                None => break,
            }
        }
    }
    out.flush()?;
    note(&format!("exported up to {}:{}", head.sequence, head.hash));
    Ok(())
}

fn verify(from: &str, head: Option<AuditHead>, after: Option<AuditHead>) -> Result<(), Failure> {
    let after = after.unwrap_or(AuditHead::EMPTY);
    let end = if from == "-" {
        chain::verify(&mut BufReader::new(io::stdin()), after, head)?
    } else {
        let machine = |source| chain::Error::Read(source);
        chain::verify(&mut BufReader::new(File::open(from).map_err(machine)?), after, head)?
    };
    print(&format!("holds up to {}:{}\n", end.sequence, end.hash))?;
    if head.is_none() {
        note("without --head nobody can tell whether entries are missing at the end");
    }
    Ok(())
}

const HEADING: [&str; 6] = ["ENTRY", "TIME", "PRINCIPAL", "METHOD", "RESOURCE", "OUTCOME"];

fn cells(entry: &v1::AuditEntry) -> [String; 6] {
    let time = entry.time.as_ref().map(time::machine).unwrap_or_default();
    let sequence = entry.sequence.to_string();
    let [principal, method, resource, outcome] = match &entry.act {
        Some(Act::Call(call)) => {
            let outcome = match call.outcome() {
                v1::AuditOutcome::Accepted if call.revision > 0 => format!("r{}", call.revision),
                v1::AuditOutcome::Accepted => "nothing to do".to_owned(),
                v1::AuditOutcome::Refused | v1::AuditOutcome::Unspecified => {
                    format!("refused: {}", call.refusal)
                }
            };
            let principal = match &*call.authenticated {
                "" => call.principal.clone(),
                by => format!("{} (by {by})", call.principal),
            };
            [principal, call.method.clone(), call.resource.clone(), outcome]
        }
        Some(Act::Suppressed(suppressed)) => {
            let who = match &*suppressed.principal {
                "" => suppressed.peer.clone(),
                principal => principal.to_owned(),
            };
            let outcome = format!("{} more refused: {}", suppressed.count, suppressed.reason);
            [who, String::new(), String::new(), outcome]
        }
        Some(Act::Imported(imported)) => {
            let outcome = format!("imported from store {}", imported.from_store_id);
            [String::new(), String::new(), String::new(), outcome]
        }
        None => ["?", "?", "?", "?"].map(str::to_owned),
    };
    [sequence, time, principal, method, resource, outcome]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_a_number_and_a_hash() {
        let hash = "ab".repeat(32);
        let expected = AuditHead { sequence: 7, hash: AuditHash([0xab; 32]) };
        assert_eq!(head(&format!("7:{hash}")), Ok(expected));
        for wrong in ["", "7", "7:", ":", "x:00", &format!("-1:{hash}"), &format!("7:{hash}0")] {
            assert!(head(wrong).is_err(), "{wrong}");
        }
    }
}
