//! A caller: a random stream of calls about one release over a connection of its own, each of them
//! written down with when it began, when it ended and what was answered.
//!
//! Two callers at a time are the same person, and repeat each other's requests. A request whose
//! answer was lost with the server is mostly repeated with the next one, as clients do.

use crate::{
    operation::{Act, Answer, Ask, Call, Round},
    specification::STALE,
    stage::{self, GUARD, PHASES},
};
use phasegate_api::v1;
use rand::{RngExt as _, seq::IndexedRandom as _};
use rand_chacha::ChaCha8Rng;
use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::{mpsc, watch};
use tonic::transport::{Channel, Endpoint};

/// Longer than any answer takes, or any restart.
const PATIENCE: Duration = Duration::from_secs(60);
/// How many of the last requests of a person are repeated by the other half of them.
const REMEMBERED_MAX: usize = 8;

/// Numbers instants: what began after something else had ended has the larger numbers.
#[derive(Debug, Default)]
pub(crate) struct Instants(AtomicU64);

impl Instants {
    pub(crate) fn now(&self) -> u64 {
        self.0.fetch_add(1, Ordering::SeqCst)
    }
}

/// One start of the server after another.
#[derive(Clone, Debug)]
pub(crate) struct Incarnation {
    /// Counted from 0 in each round.
    pub(crate) number: usize,
    pub(crate) address: String,
}

/// A call that was made.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    pub(crate) call: Call,
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// None: the connection broke.
    pub(crate) answer: Option<Answer>,
    /// Which incarnation was asked.
    pub(crate) asked: usize,
}

/// What the callers of a round share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) round: Round,
    /// Id of the release, and of its flag.
    pub(crate) id: String,
    pub(crate) instants: Instants,
    /// How many calls are still to be made.
    pub(crate) left: AtomicUsize,
}

/// The last requests of one person.
pub(crate) type Remembered = Arc<Mutex<Vec<Act>>>;

/// One of them.
pub(crate) struct Caller {
    pub(crate) shared: Arc<Shared>,
    /// Makes request ids and texts its own.
    pub(crate) number: usize,
    pub(crate) principal: Arc<str>,
    pub(crate) random: ChaCha8Rng,
    pub(crate) remembered: Remembered,
    /// Hears of each call that ended.
    pub(crate) ended: mpsc::UnboundedSender<()>,
    pub(crate) view: View,
}

/// What a caller has last seen of the release.
#[derive(Debug, Default)]
pub(crate) struct View {
    phase: String,
    etag: String,
    older_etag: String,
    calls: usize,
}

impl Caller {
    /// Calls until all calls of the round are made.
    pub(crate) async fn run(mut self, mut servers: watch::Receiver<Incarnation>) -> Vec<Made> {
        let mut made = Vec::new();
        let mut again = None;
        loop {
            let server = servers.borrow_and_update().clone();
            if let Ok(channel) = connect(&server).await {
                loop {
                    if !take(&self.shared.left) {
                        return made;
                    }
                    let call = again.take().unwrap_or_else(|| self.next());
                    let done = self.call(call, channel.clone(), server.number).await;
                    let is_lost = done.answer.is_none();
                    if is_lost && self.random.random_bool(0.8) {
                        again = Some(done.call.clone());
                    }
                    made.push(done);
                    if is_lost {
                        break;
                    }
                }
            }
            let next = servers.wait_for(|other| other.number > server.number);
            let next = tokio::time::timeout(PATIENCE, next).await;
            let _ = next.expect("a server that does not answer was killed").expect("more come");
        }
    }

    async fn call(&mut self, call: Call, channel: Channel, asked: usize) -> Made {
        let began = self.shared.instants.now();
        let answer = call.clone().send(channel, self.shared.round).await;
        let ended = self.shared.instants.now();
        // Nobody listens any more when the round has enough kills.
        let _ = self.ended.send(());
        if let Some(Answer::Release(seen)) = &answer {
            self.view.phase.clone_from(&seen.release.current_phase_id);
            if self.view.etag != seen.etag {
                self.view.older_etag = std::mem::replace(&mut self.view.etag, seen.etag.clone());
            }
        }
        Made { call, began, ended, answer, asked }
    }

    fn next(&mut self) -> Call {
        let ask = match self.random.random_range(0..100) {
            0..22 => Ask::Get(v1::GetReleaseRequest { name: self.name() }),
            22..27 => Ask::Look(v1::WaitReleaseRequest {
                name: self.name(),
                max_wait: Some(prost_types::Duration::default()),
                ..Default::default()
            }),
            27 => Ask::Log(log(&self.shared.id)),
            28 => {
                let another = format!("{}-another", self.shared.id);
                let trigger = stage::trigger(&self.shared.id, &another);
                Ask::Validate(Box::new(v1::TriggerReleaseRequest {
                    validate_only: true,
                    ..trigger
                }))
            }
            29..36 => Ask::Act(self.repeated().unwrap_or_else(|| self.act())),
            _ => Ask::Act(self.act()),
        };
        if let Ask::Act(act) = &ask
            && !act.request_id().is_empty()
        {
            let mut remembered = self.remembered.lock().expect("nobody panics with it");
            if remembered.len() == REMEMBERED_MAX {
                remembered.remove(0);
            }
            remembered.push(act.clone());
        }
        Call { principal: Arc::clone(&self.principal), ask }
    }

    fn name(&self) -> String {
        format!("releases/{}", self.shared.id)
    }

    /// A request that was made before, perhaps by the other half of this person, who may still wait
    /// for the answer. Now and then it is another one under the same id.
    fn repeated(&mut self) -> Option<Act> {
        let remembered = self.remembered.lock().expect("nobody panics with it");
        let mut act = remembered.choose(&mut self.random)?.clone();
        drop(remembered);
        if self.random.random_bool(0.2) {
            act.reason_mut().push_str(", in other words");
        }
        Some(act)
    }

    fn act(&mut self) -> Act {
        self.view.calls += 1;
        // Request ids are the server's, not the release's: no two rounds may have one in common.
        let reason = format!("{}-c{}-{}", self.shared.id, self.number, self.view.calls);
        let request_id = if self.random.random_bool(0.7) { reason.clone() } else { String::new() };
        let (name, phase_id, etag) = (self.name(), self.phase(), self.etag());
        let random = &mut self.random;
        match random.random_range(0..1000) {
            0..230 => {
                let days = if random.random_bool(0.04) { 0 } else { random.random_range(1..=80) };
                let remaining = Some(prost_types::Duration { seconds: days * 86_400, nanos: 0 });
                Act::AdjustBake(v1::AdjustBakeRequest {
                    name,
                    request_id,
                    etag,
                    reason,
                    phase_id,
                    remaining,
                })
            }
            230..400 => Act::PauseRelease(v1::PauseReleaseRequest { name, request_id, reason }),
            400..590 => {
                Act::UnpauseRelease(v1::UnpauseReleaseRequest { name, request_id, etag, reason })
            }
            590..770 => Act::ApprovePhase(v1::ApprovePhaseRequest {
                name,
                request_id,
                etag,
                reason,
                phase_id,
            }),
            770..880 => {
                let verdict = if random.random_bool(0.15) {
                    v1::GuardVerdict::Fail
                } else {
                    v1::GuardVerdict::Pass
                };
                Act::ReportGuardSignal(v1::ReportGuardSignalRequest {
                    name,
                    request_id,
                    reason,
                    phase_id,
                    guard_id: GUARD.to_owned(),
                    verdict: verdict.into(),
                })
            }
            880..940 => Act::SkipPhase(v1::SkipPhaseRequest {
                name,
                request_id,
                etag,
                reason,
                phase_id,
                bypass_approval: random.random_bool(0.1),
            }),
            940..997 => Act::OverrideWindow(v1::OverrideWindowRequest {
                name,
                request_id,
                etag,
                reason,
                phase_id,
            }),
            997 => Act::AbortRelease(v1::AbortReleaseRequest { name, request_id, reason }),
            998 => Act::RejectPhase(v1::RejectPhaseRequest {
                name,
                request_id,
                etag,
                reason,
                phase_id,
            }),
            _ => Act::FullRollout(v1::FullRolloutRequest {
                name,
                request_id,
                etag,
                reason,
                bypass_approval: random.random_bool(0.5),
                override_windows: random.random_bool(0.5),
            }),
        }
    }

    /// Mostly the current phase as far as this caller knows.
    fn phase(&mut self) -> String {
        if self.view.phase.is_empty() || self.random.random_bool(0.1) {
            stage::phase_id(self.random.random_range(0..PHASES))
        } else {
            self.view.phase.clone()
        }
    }

    fn etag(&mut self) -> String {
        match self.random.random_range(0..20) {
            0..14 => String::new(),
            14..18 => self.view.etag.clone(),
            18 => self.view.older_etag.clone(),
            _ => STALE.to_owned(),
        }
    }
}

/// The whole log of a release.
pub(crate) fn log(id: &str) -> v1::ListReleaseEventsRequest {
    v1::ListReleaseEventsRequest {
        parent: format!("releases/{id}"),
        page_size: 1000,
        ..Default::default()
    }
}

/// Connects at once, so that a call belongs to one incarnation.
pub(crate) async fn connect(server: &Incarnation) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(server.address.clone()).expect("it is an address");
    endpoint.connect_timeout(PATIENCE).timeout(PATIENCE).connect().await
}

/// Takes one, if there is one left.
fn take(left: &AtomicUsize) -> bool {
    left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
}
