//! What applying documents would do. Everything is tried on the server and nothing is changed.

use super::{prune, warning};
use crate::{
    document::{self, Document, Resource},
    failure::Failure,
    name::id,
    output::note,
    paint::Tone,
};
use phasegate_api::v1::{self, flag::Spec};
use phasegate_client::{Client, Error, Reason};
use prost_types::FieldMask;
use similar::{ChangeTag, TextDiff};
use std::collections::HashMap;

/// So many lines stand around those that differ.
const CONTEXT_LINES: usize = 3;

/// What is done with one resource.
#[derive(Clone, Debug)]
pub(super) enum Change {
    CreatePipeline(v1::Pipeline),
    UpdatePipeline {
        wanted: v1::Pipeline,
        diff: String,
    },
    CreateFlag(v1::Flag),
    UpdateFlag {
        wanted: v1::Flag,
        diff: String,
    },
    Nothing,
    DeleteFlag {
        etag: String,
    },
    DeletePipeline {
        etag: String,
    },
    /// It should be deleted, and this stands in the way.
    CannotDelete {
        because: String,
    },
}

/// One resource, what is done with it, and the document that says so.
#[derive(Clone, Debug)]
pub(super) struct Step<'a> {
    pub(super) name: String,
    pub(super) change: Change,
    pub(super) document: Option<&'a Document>,
}

/// All that is done, in order: pipelines come before the flags that name them, and go behind them.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) steps: Vec<Step<'a>>,
    /// What is allowed and perhaps not meant.
    pub(super) warnings: Vec<v1::PlanWarning>,
}

/// Whether what no document names is deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rest {
    Keep,
    Prune,
}

impl<'a> Plan<'a> {
    pub(super) async fn make(
        client: &Client,
        documents: &'a [Document],
        rest: Rest,
    ) -> Result<Self, Failure> {
        let named = named_once(documents)?;
        let mut steps: Vec<Step<'a>> = Vec::new();
        let mut warnings = Vec::new();
        for document in documents {
            if let Resource::Pipeline(wanted) = &document.resource {
                let tried = pipeline(client, wanted).await;
                let (change, warned) =
                    tried.map_err(|error| Failure::in_document(document, error))?;
                warnings.extend(warned);
                steps.push(Step { name: wanted.name.clone(), change, document: Some(document) });
            }
        }
        for document in documents {
            if let Resource::Flag(wanted) = &document.resource {
                let tried = flag(client, wanted, &steps).await;
                let (change, warned) =
                    tried.map_err(|error| Failure::in_document(document, error))?;
                warnings.extend(warned);
                steps.push(Step { name: wanted.name.clone(), change, document: Some(document) });
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
        if rest == Rest::Prune {
            steps.extend(prune::steps(client, documents, &named).await?);
        }
        let warnings = warning::of_all(warnings, documents);
        Ok(Self { steps, warnings })
    }

    pub(super) fn has_changes(&self) -> bool {
        self.steps.iter().any(|step| !matches!(step.change, Change::Nothing))
    }

    /// How many of the steps are of a kind.
    pub(super) fn count(&self, is: fn(&Change) -> bool) -> usize {
        self.steps.iter().filter(|step| is(&step.change)).count()
    }

    /// The plan as people read it; with colours, which the printer takes out where they are not
    /// wanted.
    pub(super) fn show(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let (sign, verb, tone) = match &step.change {
                Change::CreatePipeline(_) | Change::CreateFlag(_) => ("+", "create", Tone::Good),
                Change::UpdatePipeline { .. } | Change::UpdateFlag { .. } => {
                    ("~", "change", Tone::Busy)
                }
                Change::Nothing => ("=", "unchanged", Tone::Faint),
                Change::DeleteFlag { .. } | Change::DeletePipeline { .. } => {
                    ("-", "delete", Tone::Bad)
                }
                Change::CannotDelete { .. } => ("!", "cannot delete", Tone::Bad),
            };
            let line = format!("{sign} {verb:9}  {}", step.name);
            text.push_str(&tone.paint(&line));
            match &step.change {
                Change::UpdatePipeline { diff, .. } | Change::UpdateFlag { diff, .. } => {
                    text.push('\n');
                    text.push_str(diff);
                }
                Change::CannotDelete { because } => text.push_str(&format!(": {because}\n")),
                Change::CreatePipeline(_)
                | Change::CreateFlag(_)
                | Change::Nothing
                | Change::DeleteFlag { .. }
                | Change::DeletePipeline { .. } => text.push('\n'),
            }
        }
        text
    }
}

impl Change {
    pub(super) fn is_create(&self) -> bool {
        matches!(self, Self::CreatePipeline(_) | Self::CreateFlag(_))
    }

    pub(super) fn is_update(&self) -> bool {
        matches!(self, Self::UpdatePipeline { .. } | Self::UpdateFlag { .. })
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }

    pub(super) fn is_delete(&self) -> bool {
        matches!(self, Self::DeleteFlag { .. } | Self::DeletePipeline { .. })
    }

    pub(super) fn is_blocked(&self) -> bool {
        matches!(self, Self::CannotDelete { .. })
    }
}

/// The documents by the names of what they describe. Two of one name would undo each other, each
/// time anew.
fn named_once(documents: &[Document]) -> Result<HashMap<&str, &Document>, Failure> {
    let mut named: HashMap<&str, &Document> = HashMap::new();
    for document in documents {
        let name = match &document.resource {
            Resource::Flag(flag) => flag.name.as_str(),
            Resource::Pipeline(pipeline) => pipeline.name.as_str(),
            Resource::Release(_) => continue,
        };
        if let Some(first) = named.insert(name, document)
            && !name.is_empty()
        {
            return Err(Failure::NamedTwice {
                name: name.to_owned(),
                first: format!("{}", first.place()),
                second: format!("{}", document.place()),
            });
        }
    }
    Ok(named)
}

/// An answer, or none if the resource does not exist.
fn found<T>(answer: Result<T, Error>) -> Result<Option<T>, Error> {
    match answer {
        Ok(resource) => Ok(Some(resource)),
        Err(error) if error.reason == Reason::ResourceNotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// What is done, and what the server warns of. It knows of no other document.
type Tried = (Change, Vec<v1::PlanWarning>);

async fn pipeline(client: &Client, wanted: &v1::Pipeline) -> Result<Tried, Error> {
    let Some(before) = found(client.get_pipeline(&wanted.name).await)? else {
        let tried = client.plan_create_pipeline(create_pipeline(wanted)).await?;
        return Ok((Change::CreatePipeline(wanted.clone()), tried.warnings));
    };
    if decided_pipeline(&before) == decided_pipeline(wanted) {
        return Ok((Change::Nothing, Vec::new()));
    }
    // Made from what was read just now, and from nothing later.
    let wanted = v1::Pipeline { etag: before.etag.clone(), ..wanted.clone() };
    let tried = client.plan_update_pipeline(update_pipeline(&wanted)).await?;
    let after = tried.pipeline.unwrap_or_default();
    let (before, after) = (decided_pipeline(&before), decided_pipeline(&after));
    if before == after {
        return Ok((Change::Nothing, Vec::new()));
    }
    let write = |pipeline| document::write("Pipeline", pipeline);
    let diff = diff(&write(&before), &write(&after));
    Ok((Change::UpdatePipeline { wanted, diff }, tried.warnings))
}

async fn flag(client: &Client, wanted: &v1::Flag, steps: &[Step<'_>]) -> Result<Tried, Error> {
    let Some(before) = found(client.get_flag(&wanted.name).await)? else {
        let tried = match client.plan_create_flag(create_flag(wanted)).await {
            Err(error) if lacks_one_of(&error, steps) => {
                // All but its pipeline can be tried.
                let alone = v1::Flag { pipeline: String::new(), ..wanted.clone() };
                client.plan_create_flag(create_flag(&alone)).await?
            }
            tried => tried?,
        };
        return Ok((Change::CreateFlag(wanted.clone()), tried.warnings));
    };
    if decided_flag(&before) == decided_flag(wanted) {
        return Ok((Change::Nothing, Vec::new()));
    }
    let wanted = v1::Flag { etag: before.etag.clone(), ..wanted.clone() };
    let (after, warnings) = match client.plan_update_flag(update_flag(&wanted)).await {
        Ok(tried) => (tried.flag.unwrap_or_default(), tried.warnings),
        Err(error) if lacks_one_of(&error, steps) => {
            // As above.
            let mut alone = update_flag(&wanted);
            if let Some(mask) = &mut alone.update_mask {
                mask.paths.retain(|path| path != "pipeline");
            }
            (wanted.clone(), client.plan_update_flag(alone).await?.warnings)
        }
        Err(error) => return Err(error),
    };
    let (before, after) = (decided_flag(&before), decided_flag(&after));
    if before == after {
        return Ok((Change::Nothing, Vec::new()));
    }
    let write = |flag| document::write("Flag", flag);
    Ok((Change::UpdateFlag { wanted, diff: diff(&write(&before), &write(&after)) }, warnings))
}

/// A flag may name a pipeline that is created only when the plan is carried out.
fn lacks_one_of(error: &Error, steps: &[Step<'_>]) -> bool {
    let lacks = error.metadata.get("resource");
    error.reason == Reason::ResourceNotFound
        && steps.iter().any(|step| step.change.is_create() && lacks == Some(&step.name))
}

pub(super) fn create_pipeline(wanted: &v1::Pipeline) -> v1::CreatePipelineRequest {
    v1::CreatePipelineRequest {
        pipeline_id: id(&wanted.name).to_owned(),
        pipeline: Some(wanted.clone()),
        ..Default::default()
    }
}

pub(super) fn update_pipeline(wanted: &v1::Pipeline) -> v1::UpdatePipelineRequest {
    let paths = ["description", "phases", "exempt_environments", "trigger_notice"];
    v1::UpdatePipelineRequest {
        pipeline: Some(wanted.clone()),
        update_mask: Some(FieldMask { paths: paths.map(str::to_owned).to_vec() }),
        ..Default::default()
    }
}

pub(super) fn create_flag(wanted: &v1::Flag) -> v1::CreateFlagRequest {
    v1::CreateFlagRequest {
        flag_id: id(&wanted.name).to_owned(),
        flag: Some(wanted.clone()),
        ..Default::default()
    }
}

pub(super) fn update_flag(wanted: &v1::Flag) -> v1::UpdateFlagRequest {
    let spec = match &wanted.spec {
        Some(Spec::DynamicConfig(_)) => "dynamic_config",
        // A flag without a spec is refused by the server, which says so better.
        Some(Spec::FeatureGate(_)) | None => "feature_gate",
    };
    let paths = ["description", spec, "pipeline", "labels"];
    v1::UpdateFlagRequest {
        flag: Some(wanted.clone()),
        update_mask: Some(FieldMask { paths: paths.map(str::to_owned).to_vec() }),
        ..Default::default()
    }
}

/// What the author of a document decides, and nothing of what the server adds.
fn decided_pipeline(pipeline: &v1::Pipeline) -> v1::Pipeline {
    let v1::Pipeline { name, description, phases, exempt_environments, trigger_notice, .. } =
        pipeline.clone();
    v1::Pipeline {
        name,
        description,
        phases,
        exempt_environments,
        trigger_notice,
        ..Default::default()
    }
}

fn decided_flag(flag: &v1::Flag) -> v1::Flag {
    let v1::Flag { name, description, spec, pipeline, labels, .. } = flag.clone();
    v1::Flag { name, description, spec, pipeline, labels, ..Default::default() }
}

/// The lines that differ, with some around them, set in.
fn diff(before: &str, after: &str) -> String {
    let mut text = String::new();
    let lines = TextDiff::from_lines(before, after);
    for (n, hunk) in lines.grouped_ops(CONTEXT_LINES).iter().enumerate() {
        if n > 0 {
            text.push_str(&Tone::Faint.paint("      ⋮"));
            text.push('\n');
        }
        for change in hunk.iter().flat_map(|op| lines.iter_changes(op)) {
            let (sign, tone) = match change.tag() {
                ChangeTag::Equal => (' ', Tone::Plain),
                ChangeTag::Delete => ('-', Tone::Bad),
                ChangeTag::Insert => ('+', Tone::Good),
            };
            let line = format!("    {sign} {}", change.value().trim_end_matches('\n'));
            text.push_str(&tone.paint(&line));
            text.push('\n');
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_has_what_differs_and_some_lines_around_it() {
        let before = "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\nk\n";
        let after = before.replace("b\n", "B\n").replace("j\n", "");
        let shown = anstream::adapter::strip_str(&diff(before, &after)).to_string();
        let expected = "      a\n    - b\n    + B\n      c\n      d\n      e\n      ⋮\n      g\n      \
                        h\n      i\n    - j\n      k\n";
        assert_eq!(shown, expected);
    }

    #[test]
    fn two_documents_of_one_name_are_a_mistake() {
        let text = "kind: Flag\nname: flags/a\n---\nkind: Flag\nname: flags/a\n";
        let documents = document::parse("f.yaml", text).unwrap();
        let failure = named_once(&documents).unwrap_err();
        assert!(failure.to_string().contains("f.yaml:4:1"), "{failure}");
    }
}
