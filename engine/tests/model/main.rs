//! The engine against an independent statement of the tables in `docs/state-machine.md`. The model in
//! `words.rs`, `model.rs`, `calls.rs`, `motion.rs`, `timers.rs` and `calendar.rs` was written from the
//! document and shares no type and no line with the engine. It says of every step of a random story what happens: the
//! events, who is named in them, where every release stands, when its timer is due, what every flag
//! answers; or which reason the call is refused with. The engine must say the same.
//!
//! `SEED=` plays other stories, `STEPS=` more of them. A failing story is made as short as it gets.

mod calendar;
mod calls;
mod cells;
mod engine;
mod model;
mod motion;
mod stories;
mod tables;
mod timers;
mod translate;
mod words;

use cells::Reached;
use engine::Server;
use model::{Environment, Model};
use phasegate_engine::flag::KillSwitch;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest};
use std::{cmp::Ordering, collections::BTreeMap, fmt::Debug};
use stories::Stories;
use words::{Call, Person, Step, What};

/// Steps of one story.
const STORY: usize = 80;
/// Steps of all stories together, unless `STEPS` says more.
const STEPS: u64 = 120_000;
/// Unless `SEED` says another.
const SEED: u64 = 1;

/// The engine, and what is remembered of it from step to step.
struct Compared {
    server: Server,
    /// The timer of every release after the last step, and its generation.
    armed: BTreeMap<usize, Armed>,
    /// What was wrong with the generations of the last step.
    fault: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Armed {
    /// None: a window without an opening in sight, whose looks recur without being armed anew.
    timer: Option<Option<(words::Kind, i64)>>,
    generation: u64,
    revision: u64,
}

impl StateMachineTest for Compared {
    type SystemUnderTest = Self;
    type Reference = Stories;

    fn init_test(model: &Model) -> Self {
        let mut server = Server::new(model);
        let attached: Vec<_> = model.flags.values().map(|flag| flag.pipeline).collect();
        for verb in stories::first_verbs(&attached) {
            let call = Call { who: Person(0), groups: Vec::new(), verb };
            server.step(&Step { at: model.now, what: What::Call(call) });
        }
        Self { server, armed: BTreeMap::new(), fault: None }
    }

    fn apply(mut compared: Self, model: &Model, step: Step) -> Self {
        compared.server.step(&step);
        cells::count(model);
        compared.check_generations(model);
        compared
    }

    fn check_invariants(compared: &Self, model: &Model) {
        compared.check(model);
    }
}

impl Compared {
    /// Each arming and disarming gives a timer a new generation, and nothing else does.
    fn check_generations(&mut self, model: &Model) {
        for (id, release) in &model.releases {
            let known = self.server.state.release(&translate::release_id(*id));
            let timer = (!release.is_out_of_sight()).then(|| release.timer(model.now));
            let generation = known.map_or(0, |known| known.progress.timer_generation);
            let now = Armed { timer, generation, revision: release.standing.revision };
            if let Some(before) = self.armed.insert(*id, now.clone()) {
                let is_right = match now.generation.cmp(&before.generation) {
                    Ordering::Less => false,
                    Ordering::Equal => now.timer == before.timer,
                    Ordering::Greater => now.revision > before.revision,
                };
                if !is_right {
                    self.fault = Some(format!("r{id} was {before:?}, is {now:?}"));
                }
            }
        }
    }

    /// The engine says what the model says.
    fn check(&self, model: &Model) {
        let Server { state, commits, outcome, .. } = &self.server;
        assert_same(outcome, &model.said.outcome, "the answer");
        assert_same(commits, &model.said.commits, "the events");
        assert_same(&state.revision().get(), &model.revision, "the revision");
        assert_same(&state.time().as_millis(), &model.time, "the time");
        assert_same(
            &state.releases().count(),
            &model.releases.len(),
            "how many releases there are",
        );
        for (id, expected) in &model.releases {
            let release = state.release(&translate::release_id(*id)).expect("as the model has it");
            let standing = translate::standing(release);
            assert_same(&standing, &expected.standing, &format!("r{id}"));
            let timer = self.server.timer(release);
            assert_same(&timer, &expected.timer(model.now), &format!("the timer of r{id}"));
        }
        assert_same(&state.flags().count(), &model.flags.len(), "how many flags there are");
        for (id, expected) in &model.flags {
            let flag = state.flag(&translate::flag_id(*id)).expect("as the model has it");
            let told = model::Flag {
                spec: translate::spec_told(&flag.spec),
                spec_revision: flag.spec_revision.get(),
                revision: flag.revision.get(),
                killed: match &flag.kill_switch {
                    KillSwitch::Lifted { reason } if reason.is_empty() => None,
                    KillSwitch::Lifted { .. } => Some(false),
                    KillSwitch::Engaged { .. } => Some(true),
                },
                pipeline: flag.pipeline.as_ref().map(|id| translate::number(id.as_str())),
            };
            assert_same(&told, expected, &format!("f{id}"));
            let phases = (0..stories::PHASES_MAX).map(Environment::Phase);
            for environment in phases.chain([Environment::Staging, Environment::Other]) {
                let (told, expected) =
                    (self.server.answer(*id, environment), model.answer(*id, environment));
                assert_same(&told, &expected, &format!("what f{id} answers in {environment:?}"));
            }
        }
        let pipelines: Vec<_> =
            state.pipelines().map(|p| (p.id.clone(), p.revision.get())).collect();
        let expected =
            model.pipelines.iter().map(|(id, p)| (translate::pipeline_id(*id), p.revision));
        assert_same(&pipelines, &expected.collect(), "the pipelines");
        assert_same(&self.fault, &None, "the generations of timers");
    }
}

/// Says what differs, and nothing else.
fn assert_same<T: Debug + PartialEq>(engine: &T, model: &T, what: &str) {
    if engine == model {
        return;
    }
    let (engine, model) = (format!("{engine:#?}"), format!("{model:#?}"));
    let lines = engine.lines().zip(model.lines());
    let differing: Vec<_> = lines.filter(|(engine, model)| engine != model).collect();
    if engine.lines().count() != model.lines().count() {
        panic!("{what}: the engine says {engine}, the model {model}");
    }
    panic!("{what}: the engine says, and the model, {differing:?}");
}

/// A number from the environment.
fn number_from(variable: &str, default: u64) -> u64 {
    match std::env::var_os(variable) {
        Some(text) => text.to_string_lossy().parse().expect("a number"),
        None => default,
    }
}

/// Plays stories, and tells what they reached.
fn play(steps: usize, seed: u64) -> Reached {
    let cases = u32::try_from(steps.div_ceil(STORY)).expect("not so many");
    let config = Config {
        cases,
        rng_seed: RngSeed::Fixed(seed),
        failure_persistence: None,
        max_shrink_iters: 20_000,
        ..Config::default()
    };
    cells::take();
    let mut runner = TestRunner::new(config.clone());
    let strategy = Stories::sequential_strategy(STORY);
    // Every shorter story that fails too would print its failure; the shortest one tells all.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| cells::note_failure()));
    let result = runner.run(&strategy, |(model, steps, counter)| {
        Compared::test_sequential(config.clone(), model, steps, counter);
        Ok(())
    });
    std::panic::set_hook(hook);
    let reached = cells::take();
    if let Err(failure) = result {
        let after = reached.failed_after.unwrap_or(reached.steps);
        panic!("SEED={seed}, at step {after}: {failure}");
    }
    reached
}

/// What the model is made of. The rest of this folder compares.
const MODEL: [(&str, &str); 6] = [
    ("words.rs", include_str!("words.rs")),
    ("model.rs", include_str!("model.rs")),
    ("calls.rs", include_str!("calls.rs")),
    ("motion.rs", include_str!("motion.rs")),
    ("timers.rs", include_str!("timers.rs")),
    ("calendar.rs", include_str!("calendar.rs")),
];

#[test]
fn the_model_knows_nothing_of_the_engine() {
    for (name, text) in MODEL {
        assert!(!text.contains("phasegate"), "{name} uses what it is to be compared with");
    }
}

/// Stories in which little happens would prove little, so those of the usual seed reach everything that
/// the document names. Others are not asked to.
#[test]
fn the_engine_does_what_the_model_says() {
    let steps = usize::try_from(number_from("STEPS", STEPS)).expect("not so many");
    let seed = number_from("SEED", SEED);
    let reached = play(steps, seed);
    let (calls, timers) =
        (reached.cells.values().sum::<usize>(), reached.timers.values().sum::<usize>());
    println!("SEED={seed}: {} steps, {calls} calls by the tables, {timers} timers", reached.steps);
    let needed = tables::needed(&reached);
    println!("the rarest of {} things that it has to reach:", needed.len());
    needed.iter().take(8).for_each(|(count, what)| println!("{count} x {what}"));
    if (seed, steps) == (SEED, STEPS as usize) {
        assert_ne!(needed[0].0, 0, "no story reached {}", needed[0].1);
    }
}
