//! What a shell offers while a person types: names from the server, contexts from the file.
//!
//! A shell must never hang, and never show an error where somebody types: whatever goes wrong, or
//! takes too long, is offered as nothing.

use crate::{
    connection::Connection,
    contexts::{self, Contexts},
    name::id,
};
use clap_complete::engine::CompletionCandidate;
use phasegate_api::v1;
use phasegate_client::{Client, Error, Retry};
use std::{future::Future, path::PathBuf, time::Duration};

/// Shells ask with this variable set; `phasegate completions` writes it into their scripts.
pub(crate) const VARIABLE: &str = "PHASEGATE_COMPLETE";
/// People wait so long for a name and do not wonder.
const PATIENCE: Duration = Duration::from_millis(300);
/// As much as the server gives at once. Nobody reads more.
const NAMES_MAX: i32 = 1000;

pub(crate) fn contexts() -> Vec<CompletionCandidate> {
    let known = contexts::path().and_then(|path| Contexts::read(&path)).unwrap_or_default();
    known.contexts.into_keys().map(CompletionCandidate::new).collect()
}

/// Flags, by their ids.
pub(crate) fn flags() -> Vec<CompletionCandidate> {
    offered(async |client| Ok(ids(&flag_names(&client).await?)))
}

/// Pipelines, by their ids.
pub(crate) fn pipelines() -> Vec<CompletionCandidate> {
    offered(async |client| Ok(ids(&pipeline_names(&client).await?)))
}

/// All releases, newest first.
pub(crate) fn releases() -> Vec<CompletionCandidate> {
    offered(async |client| Ok(ids(&release_names(&client, v1::ReleaseFilter::default()).await?)))
}

/// Releases that can still be steered.
pub(crate) fn unfinished() -> Vec<CompletionCandidate> {
    let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
    offered(async |client| Ok(ids(&release_names(&client, filter).await?)))
}

/// The phases of the release that was typed before.
pub(crate) fn phases() -> Vec<CompletionCandidate> {
    let Some(release) = release_typed(&words()) else { return Vec::new() };
    let name = format!("releases/{}", id(&release));
    offered(async |client| {
        let release = client.get_release(name).await?;
        Ok(release.phases.into_iter().map(|phase| phase.phase_id).collect())
    })
}

/// Flags, pipelines and releases with their collections, where any of them may be meant.
pub(crate) fn resources() -> Vec<CompletionCandidate> {
    offered(async |client| {
        let mut names = flag_names(&client).await?;
        names.extend(pipeline_names(&client).await?);
        names.extend(release_names(&client, v1::ReleaseFilter::default()).await?);
        Ok(names)
    })
}

async fn flag_names(client: &Client) -> Result<Vec<String>, Error> {
    let request = v1::ListFlagsRequest { page_size: NAMES_MAX, ..Default::default() };
    Ok(client.list_flags(request).await?.flags.into_iter().map(|flag| flag.name).collect())
}

async fn pipeline_names(client: &Client) -> Result<Vec<String>, Error> {
    let request = v1::ListPipelinesRequest { page_size: NAMES_MAX, ..Default::default() };
    let page = client.list_pipelines(request).await?;
    Ok(page.pipelines.into_iter().map(|pipeline| pipeline.name).collect())
}

async fn release_names(client: &Client, filter: v1::ReleaseFilter) -> Result<Vec<String>, Error> {
    let request = v1::ListReleasesRequest {
        page_size: NAMES_MAX,
        filter: Some(filter),
        ..Default::default()
    };
    let page = client.list_releases(request).await?;
    Ok(page.releases.into_iter().map(|release| release.name).collect())
}

fn ids(names: &[String]) -> Vec<String> {
    names.iter().map(|name| id(name).to_owned()).collect()
}

/// What the server that is meant says, if it does so soon.
fn offered<F: Future<Output = Result<Vec<String>, Error>>>(
    ask: impl FnOnce(Client) -> F,
) -> Vec<CompletionCandidate> {
    let Ok(target) = connection(&words()).target() else { return Vec::new() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return Vec::new() };
    let once = Retry { attempts: 1, ..Retry::default() };
    let names = runtime.block_on(async {
        let asked = async { ask(target.connect().retry(once).await?).await };
        tokio::time::timeout(PATIENCE, asked).await
    });
    // What a name resolution left behind is not waited for.
    runtime.shutdown_background();
    match names {
        Ok(Ok(names)) => names
            .into_iter()
            .enumerate()
            .map(|(n, name)| CompletionCandidate::new(name).display_order(Some(n)))
            .collect(),
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The words of the line that is being typed, which stand behind `--`.
fn words() -> Vec<String> {
    let words = std::env::args_os().map(|word| word.to_string_lossy().into_owned());
    words.skip_while(|word| word != "--").skip(2).collect()
}

/// What the line says of the server. The completer is told nothing but the word it completes.
fn connection(words: &[String]) -> Connection {
    let value = |option: &str| {
        let joined = format!("{option}=");
        words.iter().enumerate().find_map(|(n, word)| match word == option {
            true => words.get(n + 1).cloned(),
            false => word.strip_prefix(&joined).map(str::to_owned),
        })
    };
    Connection {
        context: value("--context"),
        address: value("--address"),
        principal: value("--as"),
        ca: value("--ca").map(PathBuf::from),
        token_file: value("--token-file").map(PathBuf::from),
        cert: value("--cert").map(PathBuf::from),
        key: value("--key").map(PathBuf::from),
        ..Connection::default()
    }
}

/// The release of `phasegate release approve RELEASE PHASE` and its like.
fn release_typed(words: &[String]) -> Option<String> {
    let verb = words.iter().position(|word| word == "release")? + 1;
    let mut behind = words.iter().skip(verb + 1).filter(|word| !word.starts_with('-'));
    // The word being typed is the last, so there is another one before it.
    behind.next().filter(|_| behind.next().is_some()).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn the_line_says_which_server_is_asked() {
        let said = connection(&words("release get --address=http://a --context prod --as ann "));
        assert_eq!(said.address.as_deref(), Some("http://a"));
        assert_eq!(said.context.as_deref(), Some("prod"));
        assert_eq!(said.principal.as_deref(), Some("ann"));
    }

    #[test]
    fn the_phase_is_one_of_the_release_before_it() {
        let check = |line: &str| release_typed(&words(line));
        assert_eq!(check("release approve r-1 "), Some("r-1".to_owned()));
        assert_eq!(check("release approve r-1 pro"), Some("r-1".to_owned()));
        assert_eq!(check("release approve r-"), None);
        assert_eq!(check("get flags/f"), None);
    }
}
