//! `phasegate store`: a data directory that no server has open.

use crate::{failure::Failure, output};
use clap::{Args, Subcommand};
use phasegate_server::{
    clock::{Clock as _, SystemClock},
    store::{Counts, StoreId, Verified, tools},
};
use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

#[derive(Args, Debug)]
pub(crate) struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read everything and report what contradicts the rest
    Verify {
        /// The data directory
        #[arg(long, env = "PHASEGATE_DATA", value_name = "DIR")]
        data: PathBuf,
    },
    /// Write everything as lines of JSON, which `import` and people can read
    Export {
        /// The data directory
        #[arg(long, env = "PHASEGATE_DATA", value_name = "DIR")]
        data: PathBuf,
        /// A new file; `-` is stdout
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        to: String,
    },
    /// Read an export or a backup whole, and make the store in memory: whether a server could start from it
    Check {
        /// The export; `-` is stdin
        #[arg(value_name = "FILE")]
        from: String,
    },
    /// Make a new store from an export or a backup; watchers of the old one begin anew
    Import {
        /// An empty or missing directory
        #[arg(long, env = "PHASEGATE_DATA", value_name = "DIR")]
        data: PathBuf,
        /// The export; `-` is stdin
        #[arg(long, short, default_value = "-", value_name = "FILE")]
        from: String,
    },
}

impl Store {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        // The tools block, and so do files: they get a thread where that hurts nobody.
        let work = tokio::task::spawn_blocking(move || self.action.run());
        work.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
    }
}

impl Action {
    fn run(self) -> Result<(), Failure> {
        match self {
            Self::Verify { data } => verify(&data),
            Self::Export { data, to } => export(&data, &to),
            Self::Check { from } => check(&from),
            Self::Import { data, from } => import(&data, &from),
        }
    }
}

fn verify(data: &Path) -> Result<(), Failure> {
    let verified = tools::verify(data)?;
    for finding in &verified.findings {
        output::print(&format!("{finding}\n"))?;
    }
    match verified.findings_total {
        0 => output::print(&format!("sound: {}\n", summary(&verified))),
        total => Err(Failure::Unsound(total)),
    }
}

fn export(data: &Path, to: &str) -> Result<(), Failure> {
    let verified = if to == "-" {
        tools::export(data, &mut BufWriter::new(io::stdout().lock()), &mut progress)?
    } else {
        let machine = |source| Failure::Machine { doing: "write the export", source };
        // Never over a file that is there: it may be the only good copy.
        let file = OpenOptions::new().write(true).create_new(true).open(to).map_err(machine)?;
        let mut out = BufWriter::new(file);
        let verified = tools::export(data, &mut out, &mut progress)?;
        out.flush().and_then(|()| out.get_ref().sync_all()).map_err(machine)?;
        verified
    };
    output::note(&format!("exported {}", summary(&verified)));
    Ok(())
}

fn check(from: &str) -> Result<(), Failure> {
    let mut from = opened(from)?;
    let verified = tools::try_import(&mut from, SystemClock.now(), &mut progress)?;
    output::print(&format!("good: {}\n", counted(&verified)))
}

fn opened(from: &str) -> Result<Box<dyn BufRead>, Failure> {
    if from == "-" {
        return Ok(Box::new(BufReader::new(io::stdin())));
    }
    let machine = |source| Failure::Machine { doing: "read the export", source };
    Ok(Box::new(BufReader::new(File::open(from).map_err(machine)?)))
}

fn import(data: &Path, from: &str) -> Result<(), Failure> {
    let (fresh, now) = (StoreId::fresh(), SystemClock.now());
    let mut from = opened(from)?;
    let verified = tools::import(data, &mut from, fresh, now, &mut progress)?;
    output::print(&format!("imported {}\n", summary(&verified)))
}

fn progress(counts: &Counts) {
    output::note(&format!("  {} changes, {} releases so far", counts.changes, counts.releases));
}

fn summary(verified: &Verified) -> String {
    format!("store {} {}", verified.store_id, counted(verified))
}

fn counted(verified: &Verified) -> String {
    let Counts { flags, pipelines, releases, commits, changes, requests, audit, .. } =
        verified.counts;
    format!(
        "at revision {}: {flags} flags, {pipelines} pipelines, {releases} releases, \
         {changes} changes in {commits} commits, {requests} requests, {audit} audit entries",
        verified.revision
    )
}
