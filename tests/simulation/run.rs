//! One run: from a seed, or from a list of operations that a seed once led to.

use crate::{
    generator,
    operation::Operation,
    promises::{self, Broken},
    reached::Reached,
    weather::Weather,
    world::{Flow, World},
};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What came of a run.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    pub(crate) operations: Vec<Operation>,
    pub(crate) broken: Option<Broken>,
    /// The last commits.
    pub(crate) told: Vec<String>,
    /// Stands for everything that happened.
    pub(crate) trace: u64,
    pub(crate) reached: Reached,
    pub(crate) steps: u64,
    pub(crate) commits: u64,
    pub(crate) simulated_millis: u64,
}

/// A seed: what the run is like, and the rest of the stream.
fn begin(seed: u64) -> (Weather, ChaCha8Rng) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (Weather::draw(&mut random), random)
}

/// What the run of a seed is like.
pub(crate) fn weather(seed: u64) -> Weather {
    begin(seed).0
}

/// Draws what happens as it goes.
pub(crate) fn from_seed(seed: u64) -> Outcome {
    let (weather, mut random) = begin(seed);
    let mut left = weather.operations;
    run(seed, &weather, |world| {
        left = left.checked_sub(1)?;
        Some(generator::next(&mut random, &weather, &world.outlook()))
    })
}

/// The same world, in which this happens.
pub(crate) fn from_list(seed: u64, operations: &[Operation]) -> Outcome {
    let weather = weather(seed);
    let mut operations = operations.iter();
    run(seed, &weather, |_| operations.next().cloned())
}

fn run(seed: u64, weather: &Weather, mut next: impl FnMut(&World) -> Option<Operation>) -> Outcome {
    let mut world = World::new(seed, weather.clone());
    let mut operations = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime without I/O needs nothing of the system");
    // Without a budget: a stream that is not ready says so for a reason of its own.
    let all = tokio::task::unconstrained(async {
        if world.set_scene().await? == Flow::End {
            return Ok(());
        }
        while let Some(operation) = next(&world) {
            operations.push(operation);
            let operation = operations.last().expect("it was just pushed");
            if world.execute(operation).await? == Flow::End {
                return Ok(());
            }
        }
        world.heal().await?;
        world.audit()
    });
    let result = catch_unwind(AssertUnwindSafe(|| runtime.block_on(all)));
    let broken = match result {
        Ok(verdict) => verdict.err(),
        Err(panic) => Some(promises::nothing_panics(panic.as_ref())),
    };
    // Streams look at tokio's clock until they are dropped.
    let _inside = runtime.enter();
    Outcome {
        operations,
        broken,
        told: world.told(),
        trace: world.trace(),
        reached: std::mem::take(&mut world.reached),
        steps: world.steps,
        commits: world.commits,
        simulated_millis: world.simulated_millis,
    }
}
