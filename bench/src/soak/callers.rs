//! Those who act, at a given rate, and those who read: each a client of its own.
//!
//! A request that got no answer is repeated under its id until it gets one, whatever happens to the
//! server meanwhile. So at the end every request has an answer, and it is known what has to be in the log.

use super::{
    checks::{Answer, Done},
    figures::Minute,
    pipelines::{GROUP, GUARD, pipelines},
};
use crate::pacer::Pacer;
use phasegate_client::{Client, Code, Error, Reason, Retry, v1};
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use std::{
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// No answer takes longer, a drain included.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two attempts of one request.
const BETWEEN_ATTEMPTS: Duration = Duration::from_millis(50);

/// What all of them share.
#[derive(Debug)]
pub(crate) struct Board {
    address: String,
    slots: Vec<Mutex<Slot>>,
    /// Numbers of releases.
    next_release: AtomicU32,
    /// Set when nothing more is to be begun.
    pub(crate) stop: AtomicBool,
    /// Figures of this minute.
    pub(crate) minute: Mutex<Minute>,
    /// What readers found wrong.
    pub(crate) wrong: Mutex<Vec<String>>,
}

/// What callers know of a flag.
#[derive(Debug)]
struct Slot {
    is_there: bool,
    /// Releases that are not over, as far as anybody knows.
    releases: Vec<Known>,
}

#[derive(Clone, Debug)]
struct Known {
    name: String,
    state: v1::ReleaseState,
    phase: String,
    revision: i64,
}

impl Board {
    pub(crate) fn new(address: &str, flags: usize) -> Self {
        let slot = || Mutex::new(Slot { is_there: false, releases: Vec::new() });
        Self {
            address: format!("http://{address}"),
            slots: (0..flags).map(|_| slot()).collect(),
            next_release: AtomicU32::new(0),
            stop: AtomicBool::new(false),
            minute: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    pub(crate) fn releases(&self) -> u32 {
        self.next_release.load(Ordering::Relaxed)
    }

    /// A client that makes each call once, and whose watches come back soon.
    pub(crate) fn client(&self, who: &str) -> Client {
        let retry = Retry { attempts: 1, longest: Duration::from_secs(1), ..Retry::default() };
        Client::connect(&self.address)
            .principal(format!("{who}@example.com"))
            .groups([GROUP])
            .timeout(PATIENCE)
            .retry(retry)
            .lazy()
            .expect("the address is one")
    }

    fn slot(&self, index: usize) -> MutexGuard<'_, Slot> {
        self.slots[index].lock().expect("nobody panics with it")
    }

    pub(crate) fn minute(&self) -> MutexGuard<'_, Minute> {
        self.minute.lock().expect("nobody panics with it")
    }

    pub(crate) fn wrong(&self, what: String) {
        self.wrong.lock().expect("nobody panics with it").push(what);
    }

    /// Some release that was not over when it was last heard of.
    pub(crate) fn unfinished(&self, random: &mut ChaCha8Rng) -> Option<String> {
        let index = random.random_range(0..self.slots.len());
        Some(self.slot(index).releases.choose(random)?.name.clone())
    }

    fn learn(&self, index: usize, release: &v1::Release) {
        let mut slot = self.slot(index);
        let place = slot.releases.iter().position(|known| known.name == release.name);
        let known = Known {
            name: release.name.clone(),
            state: release.state(),
            phase: release.current_phase_id.clone(),
            revision: release.revision,
        };
        match place {
            Some(place) if release.end_time.is_some() => drop(slot.releases.swap_remove(place)),
            Some(place) if slot.releases[place].revision <= known.revision => {
                slot.releases[place] = known;
            }
            Some(_) => {}
            None if release.end_time.is_some() => {}
            None => slot.releases.push(known),
        }
    }

    fn forget(&self, index: usize, name: &str) {
        self.slot(index).releases.retain(|known| known.name != name);
    }
}

/// Something to ask for.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    CreateFlag(v1::CreateFlagRequest),
    DeleteFlag(v1::DeleteFlagRequest),
    Trigger(Box<v1::TriggerReleaseRequest>),
    Pause(v1::PauseReleaseRequest),
    Unpause(v1::UnpauseReleaseRequest),
    Skip(v1::SkipPhaseRequest),
    Approve(v1::ApprovePhaseRequest),
    Reject(v1::RejectPhaseRequest),
    AdjustBake(v1::AdjustBakeRequest),
    Signal(v1::ReportGuardSignalRequest),
    Abort(v1::AbortReleaseRequest),
    Rollout(v1::FullRolloutRequest),
}

/// What is answered.
enum Resource {
    Release(Box<v1::Release>),
    Flag(i64),
    Nothing,
}

impl Act {
    fn resource(&self) -> String {
        match self {
            Self::CreateFlag(act) => format!("flags/{}", act.flag_id),
            Self::DeleteFlag(act) => act.name.clone(),
            Self::Trigger(act) => format!("releases/{}", act.release_id),
            Self::Pause(act) => act.name.clone(),
            Self::Unpause(act) => act.name.clone(),
            Self::Skip(act) => act.name.clone(),
            Self::Approve(act) => act.name.clone(),
            Self::Reject(act) => act.name.clone(),
            Self::AdjustBake(act) => act.name.clone(),
            Self::Signal(act) => act.name.clone(),
            Self::Abort(act) => act.name.clone(),
            Self::Rollout(act) => act.name.clone(),
        }
    }

    fn request_id(&mut self) -> &mut String {
        match self {
            Self::CreateFlag(act) => &mut act.request_id,
            Self::DeleteFlag(act) => &mut act.request_id,
            Self::Trigger(act) => &mut act.request_id,
            Self::Pause(act) => &mut act.request_id,
            Self::Unpause(act) => &mut act.request_id,
            Self::Skip(act) => &mut act.request_id,
            Self::Approve(act) => &mut act.request_id,
            Self::Reject(act) => &mut act.request_id,
            Self::AdjustBake(act) => &mut act.request_id,
            Self::Signal(act) => &mut act.request_id,
            Self::Abort(act) => &mut act.request_id,
            Self::Rollout(act) => &mut act.request_id,
        }
    }

    async fn send(self, client: &Client) -> Result<Resource, Error> {
        let release = match self {
            Self::CreateFlag(act) => {
                return Ok(Resource::Flag(client.create_flag(act).await?.revision));
            }
            Self::DeleteFlag(act) => {
                client.delete_flag(act).await?;
                return Ok(Resource::Nothing);
            }
            Self::Trigger(act) => client.trigger_release(*act).await?,
            Self::Pause(act) => client.pause_release(act).await?,
            Self::Unpause(act) => client.unpause_release(act).await?,
            Self::Skip(act) => client.skip_phase(act).await?,
            Self::Approve(act) => client.approve_phase(act).await?,
            Self::Reject(act) => client.reject_phase(act).await?,
            Self::AdjustBake(act) => client.adjust_bake(act).await?,
            Self::Signal(act) => client.report_guard_signal(act).await?,
            Self::Abort(act) => client.abort_release(act).await?,
            Self::Rollout(act) => client.full_rollout(act).await?,
        };
        Ok(Resource::Release(Box::new(release)))
    }
}

/// Nothing is known about the call, or the server said that it did nothing and may do it later.
fn is_open(error: &Error) -> bool {
    let later = matches!(error.reason, Reason::None | Reason::Overloaded | Reason::RateLimited);
    later || error.code == Code::Unavailable
}

/// Makes a call until it is answered, and says how often it was made.
pub(crate) async fn answered<T, F: Future<Output = Result<T, Error>>>(
    mut call: impl FnMut() -> F,
) -> (Result<T, Error>, u32) {
    let begun = Instant::now();
    for attempt in 1.. {
        match call().await {
            Err(error) if is_open(&error) => {
                // Nothing goes on as if this had been answered: the history could not be judged.
                let waited = begun.elapsed();
                assert!(waited < Duration::from_secs(180), "no answer in {waited:?}: {error:?}");
                tokio::time::sleep(BETWEEN_ATTEMPTS).await;
            }
            answer => return (answer, attempt),
        }
    }
    unreachable!("attempts do not run out")
}

/// Somebody who acts.
#[derive(Debug)]
pub(crate) struct Caller {
    name: String,
    client: Client,
    board: Arc<Board>,
    random: ChaCha8Rng,
    requests: u32,
    done: Vec<Done>,
}

impl Caller {
    pub(crate) fn new(board: &Arc<Board>, name: &str, random: ChaCha8Rng) -> Self {
        let (client, board) = (board.client(name), Arc::clone(board));
        Self { name: name.to_owned(), client, board, random, requests: 0, done: Vec::new() }
    }

    /// Acts at a pace, which it shares with others, until it is stopped, and says what it has done.
    pub(crate) async fn run(mut self, pacer: Arc<Pacer>) -> Vec<Done> {
        loop {
            let due = pacer.next().await;
            if self.board.is_stopped() {
                return self.done;
            }
            let index = self.random.random_range(0..self.board.slots.len());
            let act = self.choose(index);
            if self.act(index, act, due).await > 1 {
                // The server was away.
                pacer.leave_out();
            }
        }
    }

    pub(crate) fn done(self) -> Vec<Done> {
        self.done
    }

    /// Makes a flag.
    pub(crate) async fn create_flag(&mut self, index: usize) {
        self.act(index, create_flag(index), Instant::now()).await;
    }

    /// Lets a release that is held go on.
    pub(crate) async fn unpause(&mut self, release: &v1::Release) {
        let (name, reason) = (release.name.clone(), "let go".to_owned());
        let act = Act::Unpause(v1::UnpauseReleaseRequest { name, reason, ..Default::default() });
        self.conclude(release, act).await;
    }

    /// Ends a release.
    pub(crate) async fn abort(&mut self, release: &v1::Release) {
        let (name, reason) = (release.name.clone(), "ended".to_owned());
        let act = Act::Abort(v1::AbortReleaseRequest { name, reason, ..Default::default() });
        self.conclude(release, act).await;
    }

    async fn conclude(&mut self, release: &v1::Release, act: Act) {
        let index = index_of(&release.flag).expect("all flags are ours");
        self.act(index, act, Instant::now()).await;
    }

    /// Asks until it is answered, and says how often it asked.
    async fn act(&mut self, index: usize, mut act: Act, due: Instant) -> u32 {
        self.requests += 1;
        let request = format!("{}-{}", self.name, self.requests);
        act.request_id().clone_from(&request);
        let resource = act.resource();
        let (answer, attempts) = answered(|| act.clone().send(&self.client)).await;
        let time = due.elapsed();
        let answer = match answer {
            Ok(Resource::Release(release)) => {
                self.board.learn(index, &release);
                Answer::Accepted(Some(release.revision))
            }
            Ok(Resource::Flag(revision)) => {
                self.board.slot(index).is_there = true;
                Answer::Accepted(Some(revision))
            }
            Ok(Resource::Nothing) => {
                self.board.slot(index).is_there = false;
                Answer::Accepted(None)
            }
            Err(error) => {
                self.refused(index, &act, &resource, &error).await;
                Answer::Refused
            }
        };
        self.board.minute().acted(answer, attempts, time);
        let (request, resource) = (request.into(), resource.into());
        self.done.push(Done { request, resource, attempts, answer });
        attempts
    }

    /// Somebody or a timer was quicker: that is learnt, and anything else is wrong.
    async fn refused(&mut self, index: usize, act: &Act, resource: &str, error: &Error) {
        let is_of_state = matches!(
            error.code,
            Code::FailedPrecondition
                | Code::AlreadyExists
                | Code::NotFound
                | Code::PermissionDenied
        ) || error.reason == Reason::QueueFull;
        if !is_of_state {
            self.board.wrong(format!("{act:?} was answered {error:?}"));
        }
        match (act, &error.reason) {
            (Act::CreateFlag(_), Reason::ResourceExists) => self.board.slot(index).is_there = true,
            (Act::Trigger(_), Reason::ResourceNotFound) => self.board.slot(index).is_there = false,
            (Act::CreateFlag(_) | Act::DeleteFlag(_) | Act::Trigger(_), _) => {}
            (_, Reason::ReleaseOver) => self.board.forget(index, resource),
            _ => {
                let (now, _) = answered(|| self.client.get_release(resource)).await;
                match now {
                    Ok(release) => self.board.learn(index, &release),
                    Err(error) => self.board.wrong(format!("{resource} is not read: {error:?}")),
                }
            }
        }
    }

    /// What may be asked for now, as far as is known, and now and then what may not.
    fn choose(&mut self, index: usize) -> Act {
        let (is_there, known) = {
            let slot = self.board.slot(index);
            (slot.is_there, slot.releases.choose(&mut self.random).cloned())
        };
        if !is_there {
            return create_flag(index);
        }
        let dice = self.random.random_range(0..100);
        let Some(known) = known else {
            let name = format!("flags/f-{index}");
            return match dice {
                0..4 => Act::DeleteFlag(v1::DeleteFlagRequest { name, ..Default::default() }),
                _ => self.trigger(index, v1::ConflictPolicy::Fail),
            };
        };
        match dice {
            0..2 => return self.trigger(index, v1::ConflictPolicy::Queue),
            2 => return self.trigger(index, v1::ConflictPolicy::Supersede),
            3 => return self.trigger(index, v1::ConflictPolicy::Fail),
            _ => {}
        }
        self.steer(known, dice)
    }

    fn steer(&mut self, known: Known, dice: u32) -> Act {
        use v1::ReleaseState as State;
        let Known { name, state, phase: phase_id, .. } = known;
        let reason = "soaked".to_owned();
        let pause = |name, reason| {
            Act::Pause(v1::PauseReleaseRequest { name, reason, ..Default::default() })
        };
        match (state, dice) {
            (_, 4) => Act::Abort(v1::AbortReleaseRequest { name, reason, ..Default::default() }),
            (_, 5) => Act::Rollout(v1::FullRolloutRequest {
                name,
                reason,
                bypass_approval: true,
                ..Default::default()
            }),
            (State::Paused, 6..80) | (_, 6) => {
                Act::Unpause(v1::UnpauseReleaseRequest { name, reason, ..Default::default() })
            }
            // It has not started.
            _ if phase_id.is_empty() => pause(name, reason),
            (State::AwaitingApproval, 7..60) | (_, 7) => Act::Approve(v1::ApprovePhaseRequest {
                name,
                reason,
                phase_id,
                ..Default::default()
            }),
            (State::AwaitingApproval, 60..63) => {
                Act::Reject(v1::RejectPhaseRequest { name, reason, phase_id, ..Default::default() })
            }
            (_, 8..12) => Act::Skip(v1::SkipPhaseRequest {
                name,
                reason,
                phase_id,
                bypass_approval: true,
                ..Default::default()
            }),
            (State::Baking, 12..50) => pause(name, reason),
            (State::Baking | State::Paused, 50..) if matches!(&*phase_id, "watched" | "strict") => {
                // The guard of `strict` ends the release.
                let fails = if phase_id == "strict" { 0.02 } else { 0.2 };
                let is_bad = self.random.random_bool(fails);
                let verdict = if is_bad { v1::GuardVerdict::Fail } else { v1::GuardVerdict::Pass };
                Act::Signal(v1::ReportGuardSignalRequest {
                    name,
                    reason,
                    phase_id,
                    guard_id: GUARD.into(),
                    verdict: verdict.into(),
                    ..Default::default()
                })
            }
            (State::Baking | State::Paused, _) => {
                let seconds = self.random.random_range(0..6);
                Act::AdjustBake(v1::AdjustBakeRequest {
                    name,
                    reason,
                    phase_id,
                    remaining: Some(prost_types::Duration { seconds, nanos: 0 }),
                    ..Default::default()
                })
            }
            _ => pause(name, reason),
        }
    }

    fn trigger(&mut self, index: usize, policy: v1::ConflictPolicy) -> Act {
        let share = self.random.random_range(1..10_000);
        let number = self.board.next_release.fetch_add(1, Ordering::Relaxed);
        let pipelines = pipelines();
        let (pipeline, _) = &pipelines[self.random.random_range(0..pipelines.len())];
        let targeting = v1::TargetingRule {
            id: "share".into(),
            rollout_basis_points: Some(share),
            ..Default::default()
        };
        let rules = vec![v1::gate_spec::Rule { targeting: Some(targeting), value: true }];
        let release = v1::Release {
            flag: format!("flags/f-{index}"),
            pipeline: format!("pipelines/{pipeline}"),
            change: Some(v1::release::Change::FeatureGate(v1::GateSpec {
                rules,
                default_value: false,
            })),
            ..Default::default()
        };
        Act::Trigger(Box::new(v1::TriggerReleaseRequest {
            release_id: format!("s-{number}"),
            release: Some(release),
            conflict_policy: policy.into(),
            ..Default::default()
        }))
    }
}

fn create_flag(index: usize) -> Act {
    let spec = Some(v1::flag::Spec::FeatureGate(v1::GateSpec::default()));
    let flag = Some(v1::Flag { spec, ..Default::default() });
    let flag_id = format!("f-{index}");
    Act::CreateFlag(v1::CreateFlagRequest { flag_id, flag, ..Default::default() })
}

fn index_of(flag: &str) -> Option<usize> {
    flag.strip_prefix("flags/f-")?.parse().ok()
}

/// Reads one thing after the other. What was answered before has to be in what is read.
pub(crate) async fn read(board: Arc<Board>, name: String, mut random: ChaCha8Rng, each: Duration) {
    let client = board.client(&name);
    while !board.is_stopped() {
        tokio::time::sleep(each).await;
        let index = random.random_range(0..board.slots.len());
        let known = board.slot(index).releases.choose(&mut random).cloned();
        let begun = Instant::now();
        let (error, attempts) = match (known, random.random_range(0..10)) {
            (Some(known), 0..6) => {
                let (read, attempts) = answered(|| client.get_release(&known.name)).await;
                if let Ok(release) = &read
                    && release.revision < known.revision
                {
                    let Known { name, revision, .. } = &known;
                    let seen = release.revision;
                    board.wrong(format!("{name} was at r{revision}, and then read at r{seen}"));
                }
                (read.err(), attempts)
            }
            (Some(known), 6..8) => {
                let (parent, page_size) = (known.name, 100);
                let request =
                    v1::ListReleaseEventsRequest { parent, page_size, ..Default::default() };
                let (read, attempts) =
                    answered(|| client.list_release_events(request.clone())).await;
                (read.err(), attempts)
            }
            (_, dice) => {
                let filter = v1::ReleaseFilter {
                    unfinished_only: dice % 2 == 0,
                    flags: vec![format!("flags/f-{index}")],
                    ..Default::default()
                };
                let request = v1::ListReleasesRequest {
                    page_size: 50,
                    filter: (dice > 0).then_some(filter),
                    ..Default::default()
                };
                let (read, attempts) = answered(|| client.list_releases(request.clone())).await;
                (read.err(), attempts)
            }
        };
        if let Some(error) = error {
            board.wrong(format!("a read was answered {error:?}"));
        }
        board.minute().was_read(attempts, begun.elapsed());
    }
}
