//! What a release does when nobody is concurrent: the engine, which is tested by itself against the
//! tables of the state machine. What is checked here is everything around it: queue, batches, the
//! disk, recovery, the memory of requests, what is published and what is answered.
//!
//! Time stands still. Nothing in these rounds depends on it: bakes are of days, approvals do not
//! expire, and windows are closed for years.

use crate::{
    checker::Specification,
    operation::{Act, Answer, Ask, Call, Ended, No, Round, Seen},
    stage,
};
use phasegate_api::{
    convert::{self, Detail, Parsed},
    v1,
};
use phasegate_engine::{
    Command, Refusal, State, apply,
    command::{self, Caller},
    decide,
    event::Commit,
    id::{Principal, ReleaseId},
    release::Release,
};
use phasegate_server::{driver, grpc::status};
use prost::Message as _;
use std::{
    collections::BTreeMap,
    hash::{Hash, Hasher},
    sync::Arc,
};

/// An etag that no server ever made.
pub(crate) const STALE: &str = "stale";

/// One release, by itself.
pub(crate) struct OneRelease {
    id: ReleaseId,
    round: Round,
    evidence: Evidence,
    /// Which revision an etag of the history stands for.
    etags: BTreeMap<String, i64>,
}

/// What an order has to agree with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// The answers. Of revisions only that each state of the release has one to itself.
    Answers,
    /// The records too: with each change the revision grows, and the log has all events in order.
    /// Every order that agrees with these agrees with the answers, and is found much sooner.
    Records,
}

/// Where it stands, and what is remembered.
#[derive(Clone)]
pub(crate) struct Standing {
    /// As the engine has it. Its revisions are its own, and nobody compares them.
    engine: State,
    /// As it is answered.
    shown: Arc<v1::Release>,
    /// The same in bytes.
    encoded: Arc<[u8]>,
    /// The revision under which the server shows this state of the release, once an answer told.
    revision: Option<i64>,
    /// The last revision of an earlier state that is known, if that counts.
    above: i64,
    /// Its log.
    log: Ended,
    /// The requests that were done: by caller, RPC and id, what was asked.
    requests: Arc<BTreeMap<RequestKey, Vec<u8>>>,
}

type RequestKey = (Arc<str>, &'static str, String);

impl PartialEq for Standing {
    fn eq(&self, other: &Self) -> bool {
        // What of the engine's state is not shown is the same: all of it follows from what is.
        let own = (self.revision, self.above, self.log, &self.encoded, &self.requests);
        own == (other.revision, other.above, other.log, &other.encoded, &other.requests)
    }
}

impl Eq for Standing {}

impl Hash for Standing {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Requests hardly ever tell two apart that nothing else does.
        (self.revision, self.above, self.log, &self.encoded, self.requests.len()).hash(state);
    }
}

/// The answer to a call without the revision, which is the server's to choose.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Legal {
    Release(Arc<v1::Release>),
    Log(Ended),
    Valid(Box<v1::Release>),
    Refused(No),
}

impl OneRelease {
    /// The release `id`. Etags stand for what the answers of the history say.
    pub(crate) fn new<'a>(
        id: ReleaseId,
        round: Round,
        evidence: Evidence,
        answers: impl Iterator<Item = &'a Answer>,
    ) -> Self {
        let mut etags = BTreeMap::new();
        for answer in answers {
            if let Answer::Release(Seen { revision, etag, .. }) = answer {
                let known = etags.insert(etag.clone(), *revision);
                assert!(known.is_none_or(|known| known == *revision), "{etag} was used twice");
            }
        }
        Self { id, round, evidence, etags }
    }

    /// The release as it came to be, in a state of the engine that was brought there.
    pub(crate) fn triggered(&self, engine: State, events: Vec<v1::ReleaseEvent>) -> Standing {
        let log = events.into_iter().fold(Ended::default(), Ended::and);
        let (shown, encoded) = self.show(&engine);
        let requests = Arc::default();
        Standing { engine, shown, encoded, revision: None, above: 0, log, requests }
    }

    fn release<'a>(&self, engine: &'a State) -> &'a Release {
        engine.release(&self.id).expect("it was triggered, and releases stay")
    }

    fn show(&self, engine: &State) -> (Arc<v1::Release>, Arc<[u8]>) {
        let wire = convert::release_to_wire(self.release(engine), Detail::Brief);
        let Answer::Release(Seen { release, .. }) = Answer::release(wire, None, self.round) else {
            unreachable!("a release is one")
        };
        let encoded = release.encode_to_vec().into();
        (release, encoded)
    }

    /// What the call does, and what may be answered.
    pub(crate) fn judge(&self, before: &Standing, call: &Call) -> (Standing, Legal) {
        match &call.ask {
            Ask::Get(_) | Ask::Look(_) => (before.clone(), Legal::Release(before.shown.clone())),
            Ask::Log(_) => (before.clone(), Legal::Log(before.log)),
            Ask::Validate(request) => {
                let id = ReleaseId::parse(&request.release_id).expect("it is an id");
                let parsed =
                    convert::trigger_release(v1::TriggerReleaseRequest::clone(request), id.clone());
                let judged = self.decide(before, call, parsed.expect("it is valid"));
                let legal = judged.map_or_else(no, |(engine, _)| {
                    let release = engine.release(&id).expect("it would be triggered");
                    let wire = convert::release_to_wire(release, Detail::Brief);
                    match Answer::valid(wire, self.round) {
                        Answer::Valid(release) => Legal::Valid(release),
                        Answer::Release(_) | Answer::Log(_) | Answer::Refused(_) => {
                            unreachable!("it is valid")
                        }
                    }
                });
                (before.clone(), legal)
            }
            Ask::Act(act) => self.act(before, call, act.clone()),
        }
    }

    fn act(&self, before: &Standing, call: &Call, mut act: Act) -> (Standing, Legal) {
        let key = key(call, &act);
        let payload = act.payload();
        match key.as_ref().and_then(|key| before.requests.get(key)) {
            Some(done) if *done == payload => {
                return (before.clone(), Legal::Release(before.shown.clone()));
            }
            Some(_) => {
                let reused = status::failed(driver::Error::RequestIdReused);
                return (before.clone(), no_of(&reused));
            }
            None => {}
        }
        if let Some(etag) = act.etag_mut().filter(|etag| !etag.is_empty()) {
            let revision = self.etags.get(etag.as_str());
            // Who sends an etag was told it before, so the state that it stands for is known.
            let is_fresh = revision.is_some() && revision == before.revision.as_ref();
            *etag = if is_fresh {
                convert::release_to_wire(self.release(&before.engine), Detail::Brief).etag
            } else {
                STALE.to_owned()
            };
        }
        let judged = self.decide(before, call, act.parse().expect("callers send what is valid"));
        let (engine, commit) = match judged {
            Ok(done) => done,
            Err(refusal) => return (before.clone(), no(refusal)),
        };
        let (shown, encoded) = self.show(&engine);
        let mut requests = Arc::clone(&before.requests);
        if let Some(key) = key {
            Arc::make_mut(&mut requests).insert(key, payload);
        }
        let legal = Legal::Release(Arc::clone(&shown));
        let above = match self.evidence {
            Evidence::Answers => 0,
            Evidence::Records => before.revision.unwrap_or(before.above),
        };
        let log = stage::events(&before.engine, &engine, &commit)
            .into_iter()
            .fold(before.log, Ended::and);
        (Standing { engine, shown, encoded, revision: None, above, log, requests }, legal)
    }

    fn decide(
        &self,
        before: &Standing,
        call: &Call,
        parsed: Parsed,
    ) -> Result<(State, Commit), Refusal> {
        let caller = Caller { principal: Principal::new(&*call.principal), groups: Vec::new() };
        let Parsed { action, request_id, reason, .. } = parsed;
        let command = Command::Call(command::Call { caller, request_id, reason, action });
        let commit = decide(&before.engine, &command, self.round.0)?;
        let commit = commit.expect("whatever is accepted here changes something");
        let mut after = before.engine.clone();
        apply(&mut after, &commit);
        Ok((after, commit))
    }
}

/// What a request is remembered by, if it has an id.
fn key(call: &Call, act: &Act) -> Option<RequestKey> {
    let id = Some(act.request_id()).filter(|id| !id.is_empty())?;
    Some((Arc::clone(&call.principal), act.rpc(), id.to_owned()))
}

fn no(refusal: Refusal) -> Legal {
    no_of(&status::refused(refusal))
}

fn no_of(status: &tonic::Status) -> Legal {
    match Answer::refused(status) {
        Some(Answer::Refused(no)) => Legal::Refused(No { revision: None, ..no }),
        Some(Answer::Release(_) | Answer::Log(_) | Answer::Valid(_)) | None => {
            unreachable!("the engine refused")
        }
    }
}

impl Standing {
    /// The same, known under this revision; none if it is known under another.
    fn known_as(mut self, revision: i64) -> Option<Self> {
        let is_this = revision > self.above && *self.revision.get_or_insert(revision) == revision;
        is_this.then_some(self)
    }

    /// True if nothing happened since an earlier one.
    pub(crate) fn is_still(&self, earlier: &Self) -> bool {
        self.engine.revision() == earlier.engine.revision()
    }

    /// The revision under which the server shows it, once an answer told.
    pub(crate) fn revision(&self) -> Option<i64> {
        self.revision
    }

    /// As it is answered.
    pub(crate) fn shown(&self) -> &v1::Release {
        &self.shown
    }
}

impl Specification for OneRelease {
    type State = Standing;
    type Call = Call;
    type Answer = Answer;

    fn answered(&self, state: &Standing, call: &Call, answer: &Answer) -> Option<Standing> {
        let (after, legal) = self.judge(state, call);
        match (legal, answer) {
            (Legal::Release(legal), Answer::Release(seen)) if legal == seen.release => {
                after.known_as(seen.revision)
            }
            (Legal::Log(legal), Answer::Log(log))
                if self.evidence == Evidence::Answers
                    || legal.length == log.length() && log.begins_with(legal) =>
            {
                Some(after)
            }
            (Legal::Valid(legal), Answer::Valid(release)) if legal == *release => Some(after),
            (Legal::Refused(legal), Answer::Refused(refused))
                if (&legal.reason, &legal.metadata) == (&refused.reason, &refused.metadata) =>
            {
                match refused.revision {
                    Some(revision) => after.known_as(revision),
                    None => Some(after),
                }
            }
            (Legal::Release(_) | Legal::Log(_) | Legal::Valid(_) | Legal::Refused(_), _) => None,
        }
    }

    fn is_idle(&self, state: &Standing, call: &Call, answer: &Answer) -> bool {
        match (&call.ask, answer) {
            // A request that was done stays done.
            (Ask::Act(act), Answer::Release(_)) => {
                key(call, act).is_some_and(|key| state.requests.contains_key(&key))
            }
            (Ask::Act(_) | Ask::Get(_) | Ask::Look(_) | Ask::Log(_) | Ask::Validate(_), _) => true,
        }
    }

    fn may_lead_to(&self, state: &Standing, answer: &Answer) -> bool {
        let is_past = |revision: i64| state.revision.unwrap_or(state.above) > revision;
        match (self.evidence, answer) {
            (Evidence::Records, Answer::Log(log)) => log.begins_with(state.log),
            (Evidence::Records, Answer::Release(seen)) => !is_past(seen.revision),
            (Evidence::Records, Answer::Refused(no)) => !no.revision.is_some_and(is_past),
            (Evidence::Records, Answer::Valid(_)) | (Evidence::Answers, _) => true,
        }
    }

    fn unanswered(&self, state: &Standing, call: &Call) -> Option<Standing> {
        let (after, _) = self.judge(state, call);
        (after != *state).then_some(after)
    }
}
