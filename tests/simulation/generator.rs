//! What happens next, drawn from a seed and from what the world looks like. Only this looks before it
//! draws; what it has drawn is plain data.

use crate::{
    disk::Fault,
    operation::{
        Answer, Base, Content, Dry, Etag, From, Identity, Operation, PIPELINES, Pace, Place,
        Request,
    },
    weather::{Chance, Weather},
};
use phasegate_engine::{
    command::{ConflictPolicy, Gate},
    release::GuardVerdict,
};
use rand::RngExt as _;
use rand_chacha::ChaCha8Rng;

/// What the generator sees of the world.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    pub(crate) is_up: bool,
    pub(crate) calls: usize,
    pub(crate) on_the_way: usize,
    /// Releases that anybody asked for.
    pub(crate) releases: usize,
    /// Those that are not over, by number.
    pub(crate) unfinished: Vec<usize>,
    /// Milliseconds to the next deadline, if there is one ahead.
    pub(crate) next_deadline: Option<u64>,
    /// Watchers with an open stream.
    pub(crate) watching: Vec<usize>,
}

/// Draws one of these by weight.
fn weighted<T: Copy>(random: &mut ChaCha8Rng, choices: &[(u32, T)]) -> T {
    let total: u32 = choices.iter().map(|(weight, _)| weight).sum();
    let mut left = random.random_range(0..total);
    for (weight, choice) in choices {
        if left < *weight {
            return *choice;
        }
        left -= weight;
    }
    unreachable!("what was drawn is below the sum of the weights")
}

#[derive(Clone, Copy)]
enum Kind {
    Look,
    Ask,
    AskAgain,
    Deliver,
    Lose,
    Turn,
    Run,
    Suspend,
    Freeze,
    Step,
    SlowBarrier,
    Fault,
    Kill,
    PowerCut,
    Stop,
    Start,
    Fill,
    Free,
    Connect,
    Read,
    Leave,
    Drain,
    FlipBit,
}

/// The next operation.
pub(crate) fn next(random: &mut ChaCha8Rng, weather: &Weather, outlook: &Outlook) -> Operation {
    let kind = if outlook.is_up {
        kind_while_up(random, weather, outlook)
    } else {
        kind_while_down(random, weather, outlook)
    };
    operation(random, weather, outlook, kind)
}

fn kind_while_up(random: &mut ChaCha8Rng, weather: &Weather, outlook: &Outlook) -> Kind {
    let if_any = |count: usize, weight: u32| if count == 0 { 0 } else { weight };
    let waiting = outlook.on_the_way;
    let watchers = weather.watchers;
    weighted(
        random,
        &[
            (100, Kind::Look),
            (130, Kind::Ask),
            (if_any(outlook.calls, weather.network.weight(6)), Kind::AskAgain),
            (if_any(waiting, 130), Kind::Deliver),
            (if_any(waiting, weather.network.weight(2)), Kind::Lose),
            (80, Kind::Turn),
            (45, Kind::Run),
            (weather.absences.weight(2), Kind::Suspend),
            (weather.absences.weight(2), Kind::Freeze),
            (weather.clock_steps.weight(4), Kind::Step),
            (weather.stalls.weight(2), Kind::SlowBarrier),
            (weather.crashes.weight(2) + weather.disk_errors.weight(1), Kind::Fault),
            (weather.crashes.weight(1), Kind::Kill),
            (weather.crashes.weight(1), Kind::PowerCut),
            (1, Kind::Stop),
            (weather.disk_errors.weight(1), Kind::Fill),
            (weather.disk_errors.weight(8), Kind::Free),
            (if_any(watchers, 14), Kind::Connect),
            (if_any(outlook.watching.len(), 35), Kind::Read),
            (if_any(outlook.watching.len(), 3), Kind::Leave),
            (if_any(watchers, 1), Kind::Drain),
        ],
    )
}

fn kind_while_down(random: &mut ChaCha8Rng, weather: &Weather, outlook: &Outlook) -> Kind {
    let flips = if weather.disk_errors == Chance::Often { 1 } else { 0 };
    weighted(
        random,
        &[
            (60, Kind::Start),
            (15, Kind::Freeze),
            (weather.clock_steps.weight(4), Kind::Step),
            (weather.crashes.weight(2), Kind::PowerCut),
            (weather.crashes.weight(2), Kind::Fault),
            (5, Kind::Deliver),
            (5, Kind::Ask),
            (if outlook.watching.is_empty() { 0 } else { 5 }, Kind::Read),
            (flips, Kind::FlipBit),
        ],
    )
}

fn operation(
    random: &mut ChaCha8Rng,
    weather: &Weather,
    outlook: &Outlook,
    kind: Kind,
) -> Operation {
    let client = random.random_range(0..weather.clients);
    let watcher = random.random_range(0..weather.watchers.max(1));
    match kind {
        Kind::Look => Operation::Look { client },
        Kind::Ask => Operation::Ask {
            client,
            call: outlook.calls,
            request: request(random, weather, outlook),
            identity: weighted(random, &[(8, Identity::Named), (1, Identity::Nameless)]),
            mode: weighted(random, &[(15, Dry::ForReal), (1, Dry::ValidateOnly)]),
        },
        Kind::AskAgain => {
            // Rather one of the last ones.
            let back = random.random_range(0..outlook.calls.min(12)).min(outlook.calls - 1);
            let call = if random.random_bool(0.8) {
                outlook.calls - 1 - back
            } else {
                random.random_range(0..outlook.calls)
            };
            let other = Content::Other(outlook.calls);
            let content = weighted(random, &[(6, Content::Same), (1, other)]);
            Operation::AskAgain { call, content }
        }
        Kind::Deliver => Operation::Deliver {
            // Mostly in order.
            nth: if random.random_bool(0.8) { 0 } else { random.random_range(0..8) },
            answer: weighted(
                random,
                &[(30, Answer::Heard), (weather.network.weight(2), Answer::Lost)],
            ),
        },
        Kind::Lose => Operation::Lose { nth: random.random_range(0..8) },
        Kind::Turn => Operation::Turn,
        Kind::Run => Operation::Run { millis: stretch(random, weather.pace, outlook) },
        Kind::Suspend => Operation::Suspend { millis: absence(random) },
        Kind::Freeze => Operation::Freeze { millis: absence(random) },
        Kind::Step => Operation::Step { millis: step(random, outlook) },
        Kind::SlowBarrier => Operation::SlowBarrier { millis: random.random_range(1..20_000) },
        Kind::Fault => {
            Operation::Fault { after: random.random_range(0..12), fault: fault(random, weather) }
        }
        Kind::Kill => Operation::Kill,
        Kind::PowerCut => Operation::PowerCut { survivors: random.random() },
        Kind::Stop => Operation::Stop,
        Kind::Start => Operation::Start,
        Kind::Fill => Operation::Fill,
        Kind::Free => Operation::Free,
        Kind::Connect => Operation::Connect {
            watcher,
            release: random.random_range(0..outlook.releases.max(1)),
            from: weighted(
                random,
                &[
                    (8, From::Start),
                    (16, From::WhereItWas),
                    (1, From::TheFuture),
                    (1, From::AnotherStore),
                ],
            ),
        },
        Kind::Read => Operation::Read {
            watcher: outlook.watching[random.random_range(0..outlook.watching.len())],
            items: random.random_range(1..8),
        },
        Kind::Leave => Operation::Leave {
            watcher: outlook.watching[random.random_range(0..outlook.watching.len())],
        },
        Kind::Drain => Operation::Drain,
        Kind::FlipBit => Operation::FlipBit { place: random.random() },
    }
}

fn fault(random: &mut ChaCha8Rng, weather: &Weather) -> Fault {
    let cut = Fault::PowerCut(random.random());
    let (cuts, errors) = (weather.crashes.weight(3), weather.disk_errors.weight(1));
    weighted(random, &[(cuts, cut), (errors, Fault::Eio), (errors, Fault::Enospc)])
}

/// How long the server runs: often right up to the next deadline, or a millisecond beside it.
fn stretch(random: &mut ChaCha8Rng, pace: Pace, outlook: &Outlook) -> u64 {
    let longest = match pace {
        Pace::Seconds => 120_000,
        Pace::Days => 40 * 86_400_000,
    };
    match outlook.next_deadline {
        Some(ahead) if random.random_bool(0.5) => {
            let beside: u64 = random.random_range(0..3);
            (ahead + beside).saturating_sub(1).clamp(1, longest)
        }
        _ => pace.run(random),
    }
}

fn absence(random: &mut ChaCha8Rng) -> u64 {
    match random.random_range(0..4) {
        0 => random.random_range(1..5_000),
        1 => random.random_range(5_000..60_000),
        2 => random.random_range(60_000..3 * 3_600_000),
        _ => random.random_range(3_600_000..3 * 86_400_000),
    }
}

/// From a millisecond to ten years, either way; sometimes just over the next deadline, sometimes back
/// over it.
fn step(random: &mut ChaCha8Rng, outlook: &Outlook) -> i64 {
    let size = match random.random_range(0..6) {
        0 => random.random_range(1..1_000),
        1 => random.random_range(1_000..60_000),
        2 => random.random_range(60_000..3_600_000),
        3 => random.random_range(3_600_000..30 * 86_400_000),
        4 => random.random_range(86_400_000..10 * 366 * 86_400_000),
        _ => match outlook.next_deadline {
            Some(ahead) => i64::try_from(ahead).expect("deadlines are in reach"),
            None => 1,
        },
    };
    if random.random_bool(0.5) { size } else { -size }
}

fn etag(random: &mut ChaCha8Rng) -> Etag {
    weighted(random, &[(20, Etag::None), (8, Etag::Seen), (1, Etag::Old), (1, Etag::Foreign)])
}

fn request(random: &mut ChaCha8Rng, weather: &Weather, outlook: &Outlook) -> Request {
    let flag = random.random_range(0..weather.flags);
    let few = outlook.unfinished.len() < 2 * weather.flags;
    if outlook.releases == 0 || random.random_bool(if few { 0.3 } else { 0.08 }) {
        return trigger(random, outlook.releases, flag);
    }
    if random.random_bool(0.1) {
        return resource(random, flag);
    }
    let release = if outlook.unfinished.is_empty() || random.random_bool(0.1) {
        random.random_range(0..outlook.releases)
    } else {
        outlook.unfinished[random.random_range(0..outlook.unfinished.len())]
    };
    let phase = if random.random_bool(0.9) {
        Place::Current
    } else {
        Place::Other(random.random_range(0..4))
    };
    let gate = |random: &mut ChaCha8Rng| {
        if random.random_bool(0.3) { Gate::Bypass } else { Gate::Respect }
    };
    let etag = etag(random);
    match random.random_range(0..100) {
        0..28 => Request::Approve { release, phase, etag },
        28..30 => Request::Reject { release, phase, etag },
        30..44 => Request::Pause { release },
        44..62 => Request::Unpause { release, etag },
        62..70 => Request::Skip { release, phase, etag, approvals: gate(random) },
        70..75 => Request::OverrideWindow { release, phase, etag },
        75..80 => {
            let remaining = if random.random_bool(0.3) { 0 } else { random.random_range(1..90) };
            Request::AdjustBake { release, phase, etag, remaining }
        }
        80..84 => Request::Abort { release },
        84..88 => {
            let (approvals, windows) = (gate(random), gate(random));
            Request::FullRollout { release, etag, approvals, windows }
        }
        _ => {
            let verdict =
                if random.random_bool(0.7) { GuardVerdict::Pass } else { GuardVerdict::Fail };
            Request::Report { release, phase, guard: random.random_range(0..2), verdict }
        }
    }
}

fn trigger(random: &mut ChaCha8Rng, name: usize, flag: usize) -> Request {
    let policy = weighted(
        random,
        &[(2, ConflictPolicy::Fail), (4, ConflictPolicy::Queue), (2, ConflictPolicy::Supersede)],
    );
    // The edge refuses the two together.
    let scheduled = policy != ConflictPolicy::Supersede && random.random_bool(0.25);
    Request::Trigger {
        name,
        flag,
        number: random.random_range(0..5),
        schedule: scheduled.then(|| random.random_range(-10_000..120_000)),
        policy,
        base: weighted(random, &[(6, Base::None), (2, Base::Seen), (1, Base::Old)]),
    }
}

fn resource(random: &mut ChaCha8Rng, flag: usize) -> Request {
    let etag = etag(random);
    let pipeline = random.random_range(0..PIPELINES.len());
    match random.random_range(0..12) {
        0 | 1 => Request::Kill { flag },
        2..5 => Request::Revive { flag },
        5..8 => Request::UpdateFlag { flag, number: random.random_range(0..5), etag },
        8 => Request::DeleteFlag { flag, etag },
        9 | 10 => {
            let pipeline = random.random_bool(0.8).then_some(pipeline);
            Request::CreateFlag { flag, pipeline }
        }
        _ => Request::UpdatePipeline { pipeline, shape: random.random(), etag },
    }
}
