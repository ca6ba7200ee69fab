//! An attempt made into a command, given where the release stands.

use crate::attempt::{Etag, FlagVerb, GUARDS, PIPELINES, PipelineVerb, Verb, id};
use phasegate_engine::{
    command::{Action, Expected, FlagChange, PipelineChange, SwitchTo},
    flag::{Rules, Spec},
    id::{FlagId, ReleaseId, Revision},
    pipeline::{Phase, Template},
    release::{PhaseIndex, Release},
    time::Span,
    value::{Object, Value},
};
use std::sync::Arc;

/// The environment that no pipeline governs.
const STAGING: &str = "staging";

/// A spec without rules; equal numbers are equal specs.
pub(crate) fn spec(number: u8) -> Arc<Spec> {
    let value = (Arc::from("n"), Value::Number(f64::from(number)));
    Arc::new(Spec::Config(Rules { rules: Vec::new(), default: Object::from([value]) }))
}

pub(crate) fn create_pipeline(name: &str, phases: Vec<Phase>) -> Action {
    Action::CreatePipeline {
        pipeline: id(name),
        template: Arc::new(Template {
            description: Arc::from(""),
            phases,
            exempt_environments: vec![id(STAGING)],
            trigger_notice: Arc::from(""),
        }),
    }
}

pub(crate) fn pipeline_action(name: &str, verb: PipelineVerb) -> Action {
    let (pipeline, expected) = (id(name), Expected::Anything);
    match verb {
        PipelineVerb::Create(phases) => create_pipeline(name, phases),
        PipelineVerb::Edit(phases) => {
            let change = PipelineChange { phases: Some(phases), ..PipelineChange::default() };
            Action::UpdatePipeline { pipeline, expected, change }
        }
        PipelineVerb::Delete => Action::DeletePipeline { pipeline, expected },
    }
}

pub(crate) fn flag_action(flag: FlagId, verb: &FlagVerb) -> Action {
    let expected = Expected::Anything;
    let named = |pipeline: &Option<usize>| pipeline.map(|index| id(PIPELINES[index]));
    match verb {
        FlagVerb::Create(pipeline) => Action::CreateFlag {
            flag,
            description: Arc::from(""),
            spec: spec(0),
            pipeline: named(pipeline),
            labels: Default::default(),
        },
        FlagVerb::Update(number) => {
            let change = FlagChange { spec: Some(spec(*number)), ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagVerb::Attach(pipeline) => {
            let change = FlagChange { pipeline: Some(named(pipeline)), ..FlagChange::default() };
            Action::UpdateFlag { flag, expected, change }
        }
        FlagVerb::Kill => Action::SetKillSwitch { flag, switch: SwitchTo::Engaged },
        FlagVerb::Revive => Action::SetKillSwitch { flag, switch: SwitchTo::Lifted },
        FlagVerb::Delete => Action::DeleteFlag { flag, expected },
    }
}

pub(crate) fn steer(
    target: &Release,
    verb: Verb,
    other_phase: Option<usize>,
    etag: Etag,
) -> Action {
    let release: ReleaseId = target.id().clone();
    let phases = target.phases();
    let current = target.current().map_or(0, PhaseIndex::get);
    let index = other_phase.unwrap_or(current) % phases.len();
    let phase = phases[index].id.clone();
    let expected = match etag {
        Etag::None => Expected::Anything,
        Etag::Fresh => Expected::Revision(target.progress.revision),
        Etag::Stale => Expected::Revision(Revision::new(target.progress.revision.get() - 1)),
        Etag::Foreign => Expected::Unknown,
    };
    match verb {
        Verb::Approve => Action::ApprovePhase { release, expected, phase },
        Verb::Reject => Action::RejectPhase { release, expected, phase },
        Verb::Pause => Action::PauseRelease { release },
        Verb::Unpause => Action::UnpauseRelease { release, expected },
        Verb::Skip(approvals) => Action::SkipPhase { release, expected, phase, approvals },
        Verb::Override => Action::OverrideWindow { release, expected, phase },
        Verb::Bake(left) => {
            Action::AdjustBake { release, expected, phase, remaining: Span::from_secs(left) }
        }
        Verb::Abort => Action::AbortRelease { release },
        Verb::Rollout(approvals, windows) => {
            Action::FullRollout { release, expected, approvals, windows }
        }
        Verb::Report(guard, verdict) => {
            Action::ReportGuardSignal { release, phase, guard: id(GUARDS[guard]), verdict }
        }
    }
}
