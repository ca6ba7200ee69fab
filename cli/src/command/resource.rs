//! `phasegate get`, `list`, `delete`, `kill` and `revive`.

use super::now;
use crate::{
    complete,
    connection::Connection,
    failure::Failure,
    name::{self, Name},
    output::{Output, note, print, release, resource},
};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use phasegate_api::v1::{
    self, DeleteFlagRequest, DeletePipelineRequest, ListFlagsRequest, ListFlagsResponse,
    ListPipelinesRequest, ListPipelinesResponse, SetKillSwitchRequest,
};
use phasegate_client::{Client, Error};

/// As much as the server gives at once.
pub(crate) const PAGE_SIZE: i32 = 1000;

#[derive(Args, Debug)]
pub(crate) struct Get {
    /// flags/NAME, pipelines/NAME or releases/NAME
    #[arg(value_parser = name::any, add = ArgValueCandidates::new(complete::resources))]
    name: Name,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl Get {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let output = self.output;
        match self.name {
            Name::Flag(name) => {
                let (flag, now) = (client.get_flag(name).await?, now(&client).await);
                output.document("Flag", &flag, || resource::flag(&flag, now))
            }
            Name::Pipeline(name) => {
                let (pipeline, now) = (client.get_pipeline(name).await?, now(&client).await);
                output.document("Pipeline", &pipeline, || resource::pipeline(&pipeline, now))
            }
            Name::Release(name) => show_release(&client, name, output).await,
        }
    }
}

/// Everything about one release, and what a person may do next.
pub(crate) async fn show_release(
    client: &Client,
    name: String,
    output: Output,
) -> Result<(), Failure> {
    let (shown, now) = (client.get_release(name).await?, now(client).await);
    output.document("Release", &shown, || release::page(&shown, now))?;
    if let Some(next) = release::next_step(&shown) {
        note(&format!("next: {next}"));
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Collection {
    Flags,
    Pipelines,
    Releases,
}

#[derive(Args, Debug)]
pub(crate) struct List {
    /// What to list; `release list` has filters
    collection: Collection,
    /// Only flags along this pipeline
    #[arg(long, value_parser = name::pipeline, add = ArgValueCandidates::new(complete::pipelines))]
    pipeline: Option<String>,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl List {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        match self.collection {
            Collection::Flags => {
                let flags = all_flags(&client, self.pipeline.unwrap_or_default()).await?;
                let next_page_token = String::new();
                let all = ListFlagsResponse { flags, next_page_token };
                self.output.show(&all, || resource::flags(&all.flags))
            }
            Collection::Pipelines => {
                let pipelines = all_pipelines(&client).await?;
                let next_page_token = String::new();
                let all = ListPipelinesResponse { pipelines, next_page_token };
                self.output.show(&all, || resource::pipelines(&all.pipelines))
            }
            Collection::Releases => {
                let pipelines = self.pipeline.into_iter().collect();
                let filter = v1::ReleaseFilter { pipelines, ..Default::default() };
                super::release::list(&client, filter, usize::MAX, self.output).await
            }
        }
    }
}

pub(crate) async fn all_flags(client: &Client, pipeline: String) -> Result<Vec<v1::Flag>, Error> {
    let mut flags = Vec::new();
    let mut page_token = String::new();
    loop {
        let request =
            ListFlagsRequest { page_size: PAGE_SIZE, page_token, pipeline: pipeline.clone() };
        let page = client.list_flags(request).await?;
        flags.extend(page.flags);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(flags);
        }
    }
}

pub(crate) async fn all_pipelines(client: &Client) -> Result<Vec<v1::Pipeline>, Error> {
    let mut pipelines = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListPipelinesRequest { page_size: PAGE_SIZE, page_token };
        let page = client.list_pipelines(request).await?;
        pipelines.extend(page.pipelines);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(pipelines);
        }
    }
}

#[derive(Args, Debug)]
pub(crate) struct Delete {
    /// flags/NAME or pipelines/NAME; for good
    #[arg(value_parser = name::any, add = ArgValueCandidates::new(complete::resources))]
    name: Name,
    /// Only if it is still as it was when this etag was read
    #[arg(long)]
    etag: Option<String>,
    #[command(flatten)]
    connection: Connection,
}

impl Delete {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let etag = self.etag.unwrap_or_default();
        let name = match self.name {
            Name::Flag(name) => {
                let client = self.connection.connect().await?;
                let request = DeleteFlagRequest { name: name.clone(), etag, ..Default::default() };
                client.delete_flag(request).await?;
                name
            }
            Name::Pipeline(name) => {
                let client = self.connection.connect().await?;
                let request =
                    DeletePipelineRequest { name: name.clone(), etag, ..Default::default() };
                client.delete_pipeline(request).await?;
                name
            }
            Name::Release(_) => {
                let text = "releases are never deleted; `phasegate release abort` ends one";
                return Err(Failure::Usage(text.to_owned()));
            }
        };
        print(&format!("{name}  deleted\n"))
    }
}

#[derive(Args, Debug)]
pub(crate) struct KillSwitch {
    /// The flag
    #[arg(value_parser = name::flag, add = ArgValueCandidates::new(complete::flags))]
    flag: String,
    /// Why, for those who wonder
    #[arg(long, value_name = "TEXT", default_value_t)]
    reason: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

/// What is done with a kill switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Switch {
    Engage,
    Lift,
}

impl KillSwitch {
    pub(crate) async fn run(self, switch: Switch) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let request = SetKillSwitchRequest {
            name: self.flag,
            reason: self.reason,
            engaged: Some(switch == Switch::Engage),
            ..Default::default()
        };
        let flag = client.set_kill_switch(request).await?;
        self.output.show(&flag, || match switch {
            Switch::Engage => {
                format!("{}  killed: a gate is false, a config its settled default\n", flag.name)
            }
            Switch::Lift => format!("{}  revived\n", flag.name),
        })
    }
}
