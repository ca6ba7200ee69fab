//! `phasegate backup`: everything that a running server holds, into a file.

use crate::{connection::Connection, failure::Failure, output};
use clap::Args;
use phasegate_client::StoreExport;
use phasegate_server::store::{Counts, tools};
use std::{
    fs::File,
    io::{self, BufReader, Seek as _, Write},
    path::{Path, PathBuf},
};
use tempfile::NamedTempFile;

#[derive(Args, Debug)]
pub(crate) struct Backup {
    /// A new file, for you alone (mode 0600); `-` is stdout, for a program that encrypts or carries it away
    #[arg(value_name = "FILE")]
    to: String,
    #[command(flatten)]
    connection: Connection,
}

impl Backup {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let target = match self.to.as_str() {
            "-" => None,
            // Asked before a long transfer, and once more at its end.
            path if Path::new(path).exists() => return Err(exists(path)),
            path => Some(PathBuf::from(path)),
        };
        let client = self.connection.connect().await?;
        let export = client.export_store().await?;
        match target {
            None => {
                let revision = export.snapshot().revision;
                let bytes = copy(export, &mut io::stdout()).await?;
                output::note(&format!("sent the store at revision {revision}, {bytes} bytes"));
                Ok(())
            }
            Some(path) => into_file(export, path).await,
        }
    }
}

/// Nobody ever sees the file before it is whole, on disk, and read again.
async fn into_file(export: StoreExport, path: PathBuf) -> Result<(), Failure> {
    let directory = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    // Mode 0600 from the first byte on; it goes if anything fails.
    let mut file = NamedTempFile::with_prefix_in(".phasegate-backup-", directory)
        .map_err(machine("make a file there"))?;
    let store_id = export.snapshot().store_id.clone();
    let bytes = copy(export, file.as_file_mut()).await?;
    let directory = directory.to_owned();
    let work = tokio::task::spawn_blocking(move || {
        file.as_file().sync_all().map_err(machine("bring the backup to the disk"))?;
        let contents = read_again(file.as_file_mut())?;
        file.persist_noclobber(&path).map_err(|failed| {
            if failed.error.kind() == io::ErrorKind::AlreadyExists {
                return exists(&path.display().to_string());
            }
            machine("give the backup its name")(failed.error)
        })?;
        let named = File::open(&directory).and_then(|directory| directory.sync_all());
        named.map_err(machine("bring the name of the backup to the disk"))?;
        let Counts { flags, pipelines, releases, changes, audit, .. } = contents.counts;
        output::print(&format!(
            "{}: store {store_id} at revision {}: {flags} flags, {pipelines} pipelines, {releases} \
             releases, {changes} changes, {audit} audit entries, {bytes} bytes\n",
            path.display(),
            contents.revision,
        ))
    });
    work.await.unwrap_or_else(|panicked| std::panic::resume_unwind(panicked.into_panic()))
}

/// Copies all of the text, and says how many bytes it has.
async fn copy(mut export: StoreExport, to: &mut (impl Write + Send)) -> Result<u64, Failure> {
    let mut bytes = 0;
    while let Some(text) = export.next().await? {
        // A pipe or a disk that takes nothing holds up this program and nothing else.
        to.write_all(&text).map_err(machine("write the backup"))?;
        bytes += text.len() as u64;
    }
    to.flush().map_err(machine("write the backup"))?;
    Ok(bytes)
}

/// What was written is what can be read.
fn read_again(file: &mut File) -> Result<tools::Contents, Failure> {
    file.rewind().map_err(machine("read the backup again"))?;
    Ok(tools::inspect(&mut BufReader::with_capacity(1 << 16, file))?)
}

fn machine(doing: &'static str) -> impl Fn(io::Error) -> Failure {
    move |source| Failure::Machine { doing, source }
}

fn exists(path: &str) -> Failure {
    Failure::Usage(format!(
        "{path} is there already, and may be the only good backup: take another name"
    ))
}
