//! What is known of a run: who asked for what, what was committed, and the state after each commit,
//! folded here from events.

use crate::promises::{self, Meters, Step};
use phasegate_engine::{
    Event, State, apply,
    event::{Actor, Change, Commit},
    id::Revision,
    time::Timestamp,
};
use phasegate_server::{
    driver::Submission,
    store::{Record, RequestKey, RequestRecord, Write},
};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Write as _,
    sync::Arc,
};

/// A call as its client knows it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) number: usize,
    pub(crate) client: usize,
    pub(crate) submission: Submission,
    /// How often the network delivered it.
    pub(crate) deliveries: usize,
    /// The process that it was delivered to last.
    pub(crate) process: Option<usize>,
    /// The process that did it.
    pub(crate) done_in: Option<usize>,
}

impl Asked {
    /// What makes it the same as another.
    pub(crate) fn key(&self) -> Option<RequestKey> {
        let call = &self.submission.call;
        let id = call.request_id.as_ref()?;
        Some(RequestKey::new(&call.caller.principal, self.submission.rpc, id))
    }
}

/// The text by which the commit of a call is known.
pub(crate) fn reason(number: usize) -> Arc<str> {
    Arc::from(format!("call {number}"))
}

/// What was committed.
#[derive(Debug)]
pub(crate) struct History {
    /// By revision, beginning with the empty one.
    states: Vec<State>,
    records: Vec<Record>,
    /// By revision, the call that it came from.
    origins: Vec<Option<usize>>,
    by_key: BTreeMap<RequestKey, Vec<usize>>,
    meters: Meters,
    /// The last commits, told.
    told: VecDeque<String>,
}

/// So many of the last commits are told with a failure.
const TOLD: usize = 12;

/// What became known with a commit.
#[derive(Debug)]
pub(crate) struct Learnt<'a> {
    pub(crate) before: &'a State,
    pub(crate) origin: Option<usize>,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            states: vec![State::default()],
            records: Vec::new(),
            origins: Vec::new(),
            by_key: BTreeMap::new(),
            meters: Meters::default(),
            told: VecDeque::with_capacity(TOLD),
        }
    }

    /// The state after the last commit.
    pub(crate) fn state(&self) -> &State {
        self.states.last().expect("there is the empty state at least")
    }

    /// The state after a commit.
    pub(crate) fn state_at(&self, revision: Revision) -> &State {
        let index = usize::try_from(revision.get()).expect("runs are short");
        &self.states[index.min(self.states.len() - 1)]
    }

    /// All entries of the log that there ever were.
    pub(crate) fn changes(&self) -> impl Iterator<Item = &Arc<Change>> {
        self.records.iter().flat_map(|record| record.changes.iter())
    }

    /// Entries of the log above a revision.
    pub(crate) fn changes_after(&self, revision: Revision) -> impl Iterator<Item = &Arc<Change>> {
        let index = usize::try_from(revision.get()).expect("runs are short");
        self.records.iter().skip(index).flat_map(|record| record.changes.iter())
    }

    /// When a key was used, and for what, oldest first.
    pub(crate) fn requests_of(
        &self,
        key: &RequestKey,
    ) -> impl DoubleEndedIterator<Item = (Revision, &RequestRecord)> {
        let records = self.by_key.get(key).into_iter().flatten().map(|index| &self.records[*index]);
        records.filter_map(|record| Some((record.revision, &record.request.as_ref()?.1)))
    }

    /// All requests that were done.
    pub(crate) fn requests(&self) -> impl Iterator<Item = &(RequestKey, RequestRecord)> {
        self.records.iter().filter_map(|record| record.request.as_ref())
    }

    /// The request of the last commit.
    pub(crate) fn newest_request(&self) -> Option<(&RequestKey, &RequestRecord)> {
        self.records.last()?.request.as_ref().map(|(key, record)| (key, record))
    }

    /// The commits of a call.
    pub(crate) fn commits_of(&self, number: usize) -> impl Iterator<Item = Revision> {
        let origins = self.origins.iter().zip(&self.records);
        origins
            .filter(move |(origin, _)| **origin == Some(number))
            .map(|(_, record)| record.revision)
    }

    /// The calls that the commits above a revision came from; none: timers.
    pub(crate) fn origins_after(&self, revision: Revision) -> &[Option<usize>] {
        let index = usize::try_from(revision.get()).expect("runs are short");
        &self.origins[index..]
    }

    /// Adds a commit, decided when the clock stood at `wall`, and holds it against the promises.
    pub(crate) fn learn(
        &mut self,
        record: &Record,
        asked: &BTreeMap<usize, Asked>,
        wall: Timestamp,
        requests_kept_from: Timestamp,
    ) -> Result<Learnt<'_>, promises::Broken> {
        let commit = commit(record);
        self.tell(record, wall);
        let before = self.state().clone();
        let mut after = before.clone();
        apply(&mut after, &commit);
        let origin = origin(record, asked);
        let asked = origin.and_then(|number| asked.get(&number));
        let step = Step { before: &before, commit: &commit, record, after: &after, asked, wall };
        promises::check(step)?;
        self.meters.a_bake_is_never_cut_short(step)?;
        if let Some((key, _)) = &record.request {
            self.by_key.entry(key.clone()).or_default().push(self.records.len());
        }
        self.states.push(after);
        self.records.push(record.clone());
        self.origins.push(origin);
        promises::no_request_is_repeated(self, requests_kept_from)?;
        let index = self.records.len() - 1;
        Ok(Learnt { before: &self.states[index], origin })
    }

    fn tell(&mut self, record: &Record, wall: Timestamp) {
        if self.told.len() == TOLD {
            self.told.pop_front();
        }
        let mut text = format!("{} at {wall}", record.revision);
        for change in &record.changes {
            let _ = write!(text, ", {}", change.release.id());
            for event in &change.events {
                let _ = write!(text, " {:?} by {:?}", event.happened, event.actor);
            }
        }
        self.told.push_back(text);
    }

    /// The last commits.
    pub(crate) fn told(&self) -> impl Iterator<Item = &str> {
        self.told.iter().map(String::as_str)
    }
}

/// The commit that a record was made from.
fn commit(record: &Record) -> Commit {
    let mut events = Vec::new();
    for write in &record.flags {
        events.push(match write {
            Write::Put(_, flag) => Event::FlagStored(Arc::clone(flag)),
            Write::Delete(id) => Event::FlagDeleted(id.clone()),
        });
    }
    for write in &record.pipelines {
        events.push(match write {
            Write::Put(_, pipeline) => Event::PipelineStored(Arc::clone(pipeline)),
            Write::Delete(id) => Event::PipelineDeleted(id.clone()),
        });
    }
    events.extend(
        record.proposals.iter().map(|proposal| Event::ReleaseCreated(Arc::clone(proposal))),
    );
    for change in &record.changes {
        events.extend(change.events.iter().cloned().map(Event::Release));
    }
    Commit { revision: record.revision, time: record.time, events }
}

/// The call that a record came from, by its request or by the words of its events.
fn origin(record: &Record, asked: &BTreeMap<usize, Asked>) -> Option<usize> {
    if let Some((key, done)) = &record.request {
        let same = |asked: &&Asked| {
            asked.key().as_ref() == Some(key) && asked.submission.payload == done.payload
        };
        return asked.values().find(same).map(|asked| asked.number);
    }
    // Only calls about releases go without a request, and those show in an event.
    let mut events = record.changes.iter().flat_map(|change| &change.events);
    let by_hand = events.find(|event| event.actor != Actor::Engine)?;
    let same = |asked: &&Asked| asked.submission.call.reason == by_hand.reason;
    asked.values().find(same).map(|asked| asked.number)
}
