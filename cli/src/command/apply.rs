//! `phasegate apply`: makes flags and pipelines what their documents say.
//!
//! A document is the whole of what its author decides: a field that it leaves out is cleared. What is
//! as it should be is left alone. Pipelines come first, because flags name them.

use crate::{
    connection::Connection,
    document::{self, Document, Resource, Source},
    failure::Failure,
    name::id,
    output::{note, print},
};
use clap::Args;
use phasegate_api::v1::{self, flag::Spec};
use phasegate_client::{Client, Error, Reason};
use prost_types::FieldMask;

#[derive(Args, Debug)]
pub(crate) struct Apply {
    /// A file, a directory of files, or - for stdin
    #[arg(short, long = "file", value_name = "FILE|DIR|-", required = true)]
    files: Vec<String>,
    /// Check everything, change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    connection: Connection,
}

/// What became of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl Outcome {
    fn of(same: bool) -> Self {
        if same { Self::Unchanged } else { Self::Updated }
    }

    pub(crate) fn in_words(self, mode: Mode) -> &'static str {
        match (self, mode) {
            (Self::Created, Mode::Change) => "created",
            (Self::Created, Mode::DryRun) => "would be created",
            (Self::Updated, Mode::Change) => "updated",
            (Self::Updated, Mode::DryRun) => "would be updated",
            (Self::Unchanged, _) => "unchanged",
        }
    }
}

/// Whether anything is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Change,
    DryRun,
}

impl Apply {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let mut documents = Vec::new();
        for file in &self.files {
            documents.extend(document::read(&Source::from(file.as_str()))?);
        }
        let client = self.connection.connect().await?;
        let mode = if self.dry_run { Mode::DryRun } else { Mode::Change };
        for (name, outcome) in apply(&client, &documents, mode).await? {
            let outcome = outcome.in_words(mode);
            print(&format!("{name}  {outcome}\n"))?;
        }
        Ok(())
    }
}

/// Applies documents, pipelines before flags, and says what became of each. The first that is refused
/// ends it; those before it stay applied.
pub(crate) async fn apply(
    client: &Client,
    documents: &[Document],
    mode: Mode,
) -> Result<Vec<(String, Outcome)>, Failure> {
    let mut done: Vec<(String, Outcome)> = Vec::new();
    for document in documents {
        if let Resource::Pipeline(pipeline) = &document.resource {
            let outcome = apply_pipeline(client, pipeline, mode).await;
            let outcome = outcome.map_err(|error| Failure::in_document(document, error))?;
            done.push((pipeline.name.clone(), outcome));
        }
    }
    for document in documents {
        if let Resource::Flag(flag) = &document.resource {
            let outcome = match apply_flag(client, flag, mode).await {
                Err(error) if mode == Mode::DryRun && lacks_one_of(&error, &done) => {
                    Outcome::Created
                }
                outcome => outcome.map_err(|error| Failure::in_document(document, error))?,
            };
            done.push((flag.name.clone(), outcome));
        }
    }
    for document in documents {
        if let Resource::Release(_) = &document.resource {
            note(&format!(
                "{}: left out: a release is triggered, with `phasegate release trigger -f FILE`",
                document.place()
            ));
        }
    }
    Ok(done)
}

/// In a dry run a flag may name a pipeline that was not really created.
fn lacks_one_of(error: &Error, done: &[(String, Outcome)]) -> bool {
    let lacks = error.metadata.get("resource");
    error.reason == Reason::ResourceNotFound
        && done.iter().any(|(name, outcome)| {
            *outcome == Outcome::Created && lacks.is_some_and(|lacks| lacks == name)
        })
}

/// An answer, or none if the resource does not exist.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(resource) => Ok(Some(resource)),
        Err(error) if error.reason == Reason::ResourceNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

async fn apply_pipeline(
    client: &Client,
    wanted: &v1::Pipeline,
    mode: Mode,
) -> Result<Outcome, Error> {
    let validate_only = mode == Mode::DryRun;
    let Some(before) = found(client.get_pipeline(&wanted.name).await)? else {
        let request = v1::CreatePipelineRequest {
            pipeline_id: id(&wanted.name).to_owned(),
            pipeline: Some(wanted.clone()),
            validate_only,
            ..Default::default()
        };
        client.create_pipeline(request).await?;
        return Ok(Outcome::Created);
    };
    let paths = ["description", "phases", "exempt_environments", "trigger_notice"];
    let request = v1::UpdatePipelineRequest {
        // Made from what was read just now, and from nothing later.
        pipeline: Some(v1::Pipeline { etag: before.etag.clone(), ..wanted.clone() }),
        update_mask: Some(FieldMask { paths: paths.map(str::to_owned).to_vec() }),
        validate_only,
        ..Default::default()
    };
    let after = client.update_pipeline(request).await?;
    let decided = |pipeline: v1::Pipeline| {
        let v1::Pipeline { description, phases, exempt_environments, trigger_notice, .. } =
            pipeline;
        (description, phases, exempt_environments, trigger_notice)
    };
    Ok(Outcome::of(decided(before) == decided(after)))
}

async fn apply_flag(client: &Client, wanted: &v1::Flag, mode: Mode) -> Result<Outcome, Error> {
    let validate_only = mode == Mode::DryRun;
    let Some(before) = found(client.get_flag(&wanted.name).await)? else {
        let request = v1::CreateFlagRequest {
            flag_id: id(&wanted.name).to_owned(),
            flag: Some(wanted.clone()),
            validate_only,
            ..Default::default()
        };
        client.create_flag(request).await?;
        return Ok(Outcome::Created);
    };
    let spec = match &wanted.spec {
        Some(Spec::DynamicConfig(_)) => "dynamic_config",
        // A flag without a spec is refused by the server, which says so better.
        Some(Spec::FeatureGate(_)) | None => "feature_gate",
    };
    let request = v1::UpdateFlagRequest {
        flag: Some(v1::Flag { etag: before.etag.clone(), ..wanted.clone() }),
        update_mask: Some(FieldMask {
            paths: ["description", spec, "pipeline"].map(str::to_owned).to_vec(),
        }),
        validate_only,
        ..Default::default()
    };
    let after = client.update_flag(request).await?;
    let decided = |flag: v1::Flag| (flag.description, flag.spec, flag.pipeline);
    Ok(Outcome::of(decided(before) == decided(after)))
}
