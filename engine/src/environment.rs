//! Environments: ids that flags and pipelines name. There is no such resource, so which ones there
//! are follows from who names them.
//!
//! What names one: the settled spec of a flag, a pipeline, and a release that is not over with its
//! change and its copy of the pipeline. What is over names nothing any more.

use crate::{flag::Spec, id::EnvironmentId, pipeline::Template, state::State};
use std::collections::BTreeSet;

/// Whether anything names it. Stops at the first that does, and reads everything if none does.
pub fn is_environment(state: &State, id: &EnvironmentId) -> bool {
    of_state(state).any(|named| named == id)
}

/// All that anything names.
pub fn environments(state: &State) -> BTreeSet<EnvironmentId> {
    let named: BTreeSet<&EnvironmentId> = of_state(state).collect();
    named.into_iter().cloned().collect()
}

fn of_state(state: &State) -> impl Iterator<Item = &EnvironmentId> {
    // Pipelines first: they are few and name most.
    let pipelines = state.pipelines().flat_map(|pipeline| of_template(&pipeline.template));
    let flags = state.flags().flat_map(|flag| of_spec(&flag.spec));
    let releases = state.all_unfinished().flat_map(|release| {
        let proposal = &release.proposal;
        of_spec(&proposal.change).chain(of_template(&proposal.pipeline.template))
    });
    pipelines.chain(flags).chain(releases)
}

/// What a spec names, once for each time.
pub fn of_spec(spec: &Spec) -> impl Iterator<Item = &EnvironmentId> {
    spec.targeting().flat_map(|rule| &rule.environments)
}

/// What a pipeline names, once for each time.
pub fn of_template(template: &Template) -> impl Iterator<Item = &EnvironmentId> {
    let rules = template.phases.iter().flat_map(|phase| &phase.rules);
    rules.flat_map(|rule| &rule.environments).chain(&template.exempt_environments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        flag::{Flag, KillSwitch, Rule, Rules},
        id::{Principal, Revision},
        pipeline::{Phase, Pipeline},
        release::{EndReason, Progress, Proposal, Release, Stage},
        targeting::{BasisPoints, TARGETING_KEY, TargetingRule},
        time::{Span, Timestamp},
        value::Object,
    };
    use std::{collections::BTreeMap, sync::Arc};

    fn ids(text: &str) -> Vec<EnvironmentId> {
        text.split_whitespace().map(|id| id.parse().unwrap()).collect()
    }

    fn rule(environments: &str) -> TargetingRule {
        TargetingRule {
            id: "one".parse().unwrap(),
            environments: ids(environments),
            conditions: Vec::new(),
            share: BasisPoints::ALL,
            bucket_by: TARGETING_KEY.into(),
        }
    }

    fn gate(environments: &str) -> Arc<Spec> {
        let rules = vec![Rule { targeting: rule(environments), value: true }];
        Arc::new(Spec::Gate(Rules { rules, default: false }))
    }

    fn config(environments: &str) -> Arc<Spec> {
        let rules = vec![Rule { targeting: rule(environments), value: Object::new() }];
        Arc::new(Spec::Config(Rules { rules, default: Object::new() }))
    }

    fn flag(id: &str, spec: Arc<Spec>) -> Arc<Flag> {
        Arc::new(Flag {
            id: id.parse().unwrap(),
            description: "".into(),
            spec,
            pipeline: None,
            kill_switch: KillSwitch::Lifted { reason: "".into() },
            spec_revision: Revision::ZERO,
            revision: Revision::ZERO,
            update_time: Timestamp::EPOCH,
        })
    }

    fn template(environments: &str, exempt: &str) -> Template {
        let phase = Phase {
            id: "first".parse().unwrap(),
            rules: vec![rule(environments)],
            bake: Span::ZERO,
            approval: None,
            windows: None,
            guards: Vec::new(),
        };
        Template {
            description: "".into(),
            phases: vec![phase],
            exempt_environments: ids(exempt),
            trigger_notice: "".into(),
        }
    }

    fn pipeline(id: &str, environments: &str, exempt: &str) -> Arc<Pipeline> {
        Arc::new(Pipeline {
            id: id.parse().unwrap(),
            template: template(environments, exempt),
            revision: Revision::ZERO,
            update_time: Timestamp::EPOCH,
        })
    }

    fn release(flag: &str, change: Arc<Spec>, along: Arc<Pipeline>, stage: Stage) -> Arc<Release> {
        Arc::new(Release {
            proposal: Arc::new(Proposal {
                id: "r".parse().unwrap(),
                flag: flag.parse().unwrap(),
                pipeline: along,
                change,
                base: None,
                labels: BTreeMap::new(),
                description: "".into(),
                schedule_time: None,
                creator: Principal::new("anonymous"),
                created: Revision::ZERO,
                create_time: Timestamp::EPOCH,
            }),
            progress: Progress {
                stage,
                phases: Vec::new(),
                start_time: None,
                revision: Revision::ZERO,
                update_time: Timestamp::EPOCH,
                timer_generation: 0,
            },
        })
    }

    fn state(
        flags: Vec<Arc<Flag>>,
        pipelines: Vec<Arc<Pipeline>>,
        releases: Vec<Arc<Release>>,
    ) -> State {
        State::restore(Revision::ZERO, Timestamp::EPOCH, flags, pipelines, releases)
    }

    /// What a state names, by both functions.
    fn check(state: &State, named: &str) {
        let named = ids(named);
        assert!(environments(state).iter().eq(&named), "{:?}", environments(state));
        for id in ids("dev lost prod staging test") {
            assert_eq!(is_environment(state, &id), named.contains(&id), "{id}");
        }
    }

    #[test]
    fn an_empty_state_names_no_environment() {
        check(&state(vec![], vec![], vec![]), "");
    }

    #[test]
    fn the_settled_specs_of_gates_and_configs_name_environments() {
        let flags = vec![flag("gate", gate("prod dev")), flag("config", config("prod test"))];
        check(&state(flags, vec![], vec![]), "dev prod test");
    }

    #[test]
    fn the_rules_of_phases_and_the_exempt_environments_name_environments() {
        check(&state(vec![], vec![pipeline("web", "prod", "dev test")], vec![]), "dev prod test");
    }

    #[test]
    fn a_release_names_environments_by_its_change_and_its_copy_of_the_pipeline_until_it_is_over() {
        let with = |stage| {
            let copy = pipeline("web", "staging", "dev");
            let flags = vec![flag("gate", gate("prod"))];
            state(flags, vec![], vec![release("gate", gate("test"), copy, stage)])
        };
        check(&with(Stage::Pending), "dev prod staging test");
        let over = Stage::Over { reason: EndReason::AbortRequested, time: Timestamp::EPOCH };
        check(&with(over), "prod");
    }
}
