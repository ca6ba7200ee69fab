//! The part of a release that never changes, as it is stored: without the copy of its pipeline, which is
//! the same for all releases along it and stands once for all of them, under [`Key::PipelineAt`].

use super::{Unreadable, key::Key};
use phasegate_engine::{
    flag::Spec,
    id::{FlagId, PipelineId, Principal, ReleaseId, Revision},
    pipeline::{Pipeline, Template},
    release::Proposal,
    time::Timestamp,
};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc};

/// Under [`Key::Proposal`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(in crate::store) struct ProposalRecord {
    pub(in crate::store) id: ReleaseId,
    flag: FlagId,
    pipeline: Copy,
    change: Arc<Spec>,
    base: Option<Revision>,
    labels: BTreeMap<Arc<str>, Arc<str>>,
    description: Arc<str>,
    schedule_time: Option<Timestamp>,
    creator: Principal,
    created: Revision,
    create_time: Timestamp,
}

/// The copy of a pipeline that a release took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
enum Copy {
    /// It stands under a key of its own.
    Apart((PipelineId, Revision)),
    /// It is in the proposal: up to version 3.
    Inside(Arc<Pipeline>),
}

/// Those of a pipeline, the last two of which only a copy inside has.
#[derive(Serialize, Deserialize)]
struct Fields {
    id: PipelineId,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    template: Option<Template>,
    revision: Revision,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    update_time: Option<Timestamp>,
}

impl TryFrom<Fields> for Copy {
    type Error = &'static str;

    fn try_from(fields: Fields) -> Result<Self, Self::Error> {
        let Fields { id, template, revision, update_time } = fields;
        match (template, update_time) {
            (None, None) => Ok(Self::Apart((id, revision))),
            (Some(template), Some(update_time)) => {
                Ok(Self::Inside(Arc::new(Pipeline { id, template, revision, update_time })))
            }
            (Some(_), None) | (None, Some(_)) => Err("half a pipeline"),
        }
    }
}

impl From<Copy> for Fields {
    fn from(copy: Copy) -> Self {
        match copy {
            Copy::Apart((id, revision)) => Self { id, template: None, revision, update_time: None },
            Copy::Inside(pipeline) => {
                let Pipeline { id, template, revision, update_time } =
                    Arc::unwrap_or_clone(pipeline);
                Self { id, template: Some(template), revision, update_time: Some(update_time) }
            }
        }
    }
}

impl From<&Proposal> for ProposalRecord {
    fn from(proposal: &Proposal) -> Self {
        let Proposal {
            id,
            flag,
            pipeline,
            change,
            base,
            labels,
            description,
            schedule_time,
            creator,
            created,
            create_time,
        } = proposal.clone();
        let pipeline = Copy::Apart((pipeline.id.clone(), pipeline.revision));
        Self {
            id,
            flag,
            pipeline,
            change,
            base,
            labels,
            description,
            schedule_time,
            creator,
            created,
            create_time,
        }
    }
}

/// The copies of pipelines that releases took, each kept once.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Copies(BTreeMap<(PipelineId, Revision), Arc<Pipeline>>);

impl Copies {
    /// Adds one, in place of what was there.
    pub(in crate::store) fn add(&mut self, pipeline: Arc<Pipeline>) {
        self.0.insert((pipeline.id.clone(), pipeline.revision), pipeline);
    }

    /// The one of a pipeline and a revision.
    pub(in crate::store) fn get(
        &self,
        pipeline: &PipelineId,
        revision: Revision,
    ) -> Option<&Arc<Pipeline>> {
        self.0.get(&(pipeline.clone(), revision))
    }
}

impl ProposalRecord {
    /// The copy of its pipeline, if that stands apart.
    pub(in crate::store) fn copy(&self) -> Option<&(PipelineId, Revision)> {
        match &self.pipeline {
            Copy::Apart(copy) => Some(copy),
            Copy::Inside(_) => None,
        }
    }

    /// Puts the proposal together again. One that has its pipeline inside takes the place of a copy that is
    /// not there yet.
    pub(in crate::store) fn with(self, copies: &mut Copies) -> Result<Proposal, Unreadable> {
        let key = || Key::Proposal(self.id.clone());
        let pipeline = match &self.pipeline {
            Copy::Apart((id, revision)) => copies
                .get(id, *revision)
                .cloned()
                .ok_or_else(|| Unreadable::at(&key(), format!("its copy of {id} is missing")))?,
            Copy::Inside(inside) => match copies.get(&inside.id, inside.revision) {
                Some(copy) if copy == inside => Arc::clone(copy),
                Some(_) => {
                    let problem =
                        format!("its copy of {} is not that of the same revision", inside.id);
                    return Err(Unreadable::at(&key(), problem));
                }
                None => {
                    copies.add(Arc::clone(inside));
                    Arc::clone(inside)
                }
            },
        };
        Ok(Proposal {
            id: self.id,
            flag: self.flag,
            pipeline,
            change: self.change,
            base: self.base,
            labels: self.labels,
            description: self.description,
            schedule_time: self.schedule_time,
            creator: self.creator,
            created: self.created,
            create_time: self.create_time,
        })
    }
}
