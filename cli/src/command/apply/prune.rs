//! What the server has and no document names: flags first, then the pipelines that they named.
//!
//! What cannot be deleted is found before anything is.

use super::plan::{Change, Step};
use crate::{
    command::resource::{PAGE_SIZE, all_flags, all_pipelines},
    document::{Document, Resource},
    failure::Failure,
};
use phasegate_api::v1;
use phasegate_client::{Client, Error};
use std::collections::HashMap;

/// The deletions, and what stands in the way of some.
pub(super) async fn steps<'a>(
    client: &Client,
    documents: &[Document],
    named: &HashMap<&str, &Document>,
) -> Result<Vec<Step<'a>>, Failure> {
    let flags = all_flags(client, String::new()).await?;
    let pipelines = all_pipelines(client).await?;
    let running = unfinished(client).await?;
    let mut steps = Vec::new();
    let mut staying: Vec<(&str, &str)> = Vec::new();
    for document in documents {
        if let Resource::Flag(flag) = &document.resource {
            staying.push((&flag.name, &flag.pipeline));
        }
    }
    for flag in flags.iter().filter(|flag| !named.contains_key(flag.name.as_str())) {
        let change = match running.iter().find(|release| release.flag == flag.name) {
            Some(release) => {
                staying.push((&flag.name, &flag.pipeline));
                Change::CannotDelete { because: format!("{} is not over", release.name) }
            }
            None => Change::DeleteFlag { etag: flag.etag.clone() },
        };
        steps.push(Step { name: flag.name.clone(), change, document: None });
    }
    for pipeline in pipelines.iter().filter(|p| !named.contains_key(p.name.as_str())) {
        let user = staying.iter().find(|(_, attached)| *attached == pipeline.name);
        let release = running.iter().find(|release| release.pipeline == pipeline.name);
        let change = match (user, release) {
            (Some((flag, _)), _) => {
                Change::CannotDelete { because: format!("{flag} is released along it") }
            }
            (None, Some(release)) => {
                Change::CannotDelete { because: format!("{} is not over", release.name) }
            }
            (None, None) => Change::DeletePipeline { etag: pipeline.etag.clone() },
        };
        steps.push(Step { name: pipeline.name.clone(), change, document: None });
    }
    Ok(steps)
}

/// All releases that are not over.
async fn unfinished(client: &Client) -> Result<Vec<v1::Release>, Error> {
    let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
    let mut all = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListReleasesRequest {
            page_size: PAGE_SIZE,
            page_token,
            filter: Some(filter.clone()),
        };
        let page = client.list_releases(request).await?;
        all.extend(page.releases);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}
