//! Environments: ids that flags and pipelines name. There is no such resource, so which ones there
//! are follows from who names them.
//!
//! What names one: the settled spec of a flag, a pipeline, and a release that is not over with its
//! change and its copy of the pipeline. What is over names nothing any more.

use crate::{
    flag::Spec,
    id::{EnvironmentId, FlagId, PipelineId},
    pipeline::Template,
    state::State,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// Whether anything names it. Stops at the first that does, and reads everything if none does.
pub fn is_environment(state: &State, id: &EnvironmentId) -> bool {
    of_state(state).any(|named| named == id)
}

/// All that anything names.
pub fn environments(state: &State) -> BTreeSet<EnvironmentId> {
    let named: BTreeSet<&EnvironmentId> = of_state(state).collect();
    named.into_iter().cloned().collect()
}

/// Who names an environment. A flag and the changes of its releases are one place, and so are a
/// pipeline and the copies that releases took of it: they are written by the same hand.
/// [`Display`](fmt::Display) gives the name of the resource.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A flag.
    Flag(FlagId),
    /// A pipeline.
    Pipeline(PipelineId),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(id) => write!(f, "flags/{id}"),
            Self::Pipeline(id) => write!(f, "pipelines/{id}"),
        }
    }
}

/// Environments that one place alone names: a typo looks like that, and nothing else would tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedOnce {
    /// The place.
    pub place: Place,
    /// What nothing else names, in order.
    pub environments: Vec<EnvironmentId>,
}

/// Those of some environments that exactly one place of a state names, by place. To judge what
/// is about to be done, pass what it names, and the state as it would be after it.
pub fn named_once<'a>(
    state: &State,
    asked: impl IntoIterator<Item = &'a EnvironmentId>,
) -> Vec<NamedOnce> {
    let mut places: BTreeMap<&EnvironmentId, BTreeSet<Named<'_>>> =
        asked.into_iter().map(|id| (id, BTreeSet::new())).collect();
    for (named, id) in by_place(state) {
        // Two places are as good as many.
        if let Some(places) = places.get_mut(id).filter(|places| places.len() < 2) {
            places.insert(named);
        }
    }
    let mut once: BTreeMap<Place, Vec<EnvironmentId>> = BTreeMap::new();
    for (id, places) in places {
        if let (Some(place), 1) = (places.first(), places.len()) {
            once.entry(place.own()).or_default().push(id.clone());
        }
    }
    let once = once.into_iter();
    once.map(|(place, environments)| NamedOnce { place, environments }).collect()
}

/// A [`Place`] while a state is walked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Named<'a> {
    Flag(&'a FlagId),
    Pipeline(&'a PipelineId),
}

impl Named<'_> {
    fn own(self) -> Place {
        match self {
            Self::Flag(id) => Place::Flag(id.clone()),
            Self::Pipeline(id) => Place::Pipeline(id.clone()),
        }
    }
}

fn of_state(state: &State) -> impl Iterator<Item = &EnvironmentId> {
    by_place(state).map(|(_, id)| id)
}

/// Everything that names an environment, once for each time.
fn by_place(state: &State) -> impl Iterator<Item = (Named<'_>, &EnvironmentId)> {
    // Pipelines first: they are few and name most.
    let pipelines = state.pipelines().flat_map(|pipeline| {
        of_template(&pipeline.template).map(|id| (Named::Pipeline(&pipeline.id), id))
    });
    let flags =
        state.flags().flat_map(|flag| of_spec(&flag.spec).map(|id| (Named::Flag(&flag.id), id)));
    let releases = state.all_unfinished().flat_map(|release| {
        let proposal = &release.proposal;
        let change = of_spec(&proposal.change).map(|id| (Named::Flag(&proposal.flag), id));
        let copy = of_template(&proposal.pipeline.template);
        change.chain(copy.map(|id| (Named::Pipeline(&proposal.pipeline.id), id)))
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
            labels: BTreeMap::new(),
            kill_switch: KillSwitch::Lifted { reason: "".into() },
            labels_revision: Revision::ZERO,
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
                phases: Default::default(),
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

    /// What is named once of what is asked for: `flags/f: dev prod`.
    fn check_once(state: &State, asked: &str, expected: &[&str]) {
        let shown = |once: &NamedOnce| {
            let ids: Vec<&str> = once.environments.iter().map(EnvironmentId::as_str).collect();
            format!("{}: {}", once.place, ids.join(" "))
        };
        let seen: Vec<String> = named_once(state, &ids(asked)).iter().map(shown).collect();
        assert_eq!(seen, expected, "{asked}");
    }

    #[test]
    fn what_one_place_names_is_found_and_what_two_name_is_not() {
        let flags = vec![flag("a", gate("prod staging")), flag("b", config("prod dev"))];
        let state = state(flags, vec![pipeline("web", "dev test lost", "")], vec![]);
        let expected = ["flags/a: staging", "pipelines/web: lost test"];
        check_once(&state, "prod staging dev test lost", &expected);
    }

    #[test]
    fn only_what_is_asked_for_is_found() {
        let state = state(vec![flag("a", gate("prod staging"))], vec![], vec![]);
        check_once(&state, "staging", &["flags/a: staging"]);
        check_once(&state, "lost", &[]);
        check_once(&state, "", &[]);
    }

    #[test]
    fn a_flag_and_the_change_of_its_release_are_one_place_and_so_are_a_pipeline_and_its_copy() {
        let state = state(
            vec![flag("a", gate("staging"))],
            vec![pipeline("web", "test test", "dev")],
            vec![release(
                "a",
                gate("staging prod"),
                pipeline("web", "test", "dev"),
                Stage::Pending,
            )],
        );
        let expected = ["flags/a: prod staging", "pipelines/web: dev test"];
        check_once(&state, "dev prod staging test", &expected);
    }

    #[test]
    fn the_flag_and_the_pipeline_of_a_release_are_two_places() {
        let copy = pipeline("web", "prod", "dev");
        let release = release("a", gate("prod dev"), copy, Stage::Pending);
        check_once(&state(vec![], vec![], vec![release]), "dev prod", &[]);
    }
}
