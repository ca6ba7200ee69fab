//! A commit while it is being decided: its events so far, and the state as they have made it.

use crate::{
    apply::apply_event,
    command::Call,
    event::{Actor, Commit, Event, Happened, ReleaseEvent, TimerRecord},
    id::{FlagId, ReleaseId, RequestId, Revision},
    release::Release,
    state::State,
    time::Timestamp,
};
use std::{collections::BTreeMap, sync::Arc};

/// Who speaks in an event, and what they say.
#[derive(Clone, Debug)]
pub(super) struct Voice {
    pub(super) actor: Actor,
    pub(super) reason: Arc<str>,
    pub(super) request_id: Option<RequestId>,
}

impl Voice {
    fn engine() -> Self {
        Self { actor: Actor::Engine, reason: Arc::from(""), request_id: None }
    }

    pub(super) fn saying(&self, reason: impl Into<Arc<str>>) -> Self {
        Self { reason: reason.into(), ..self.clone() }
    }
}

/// A commit in the making.
#[derive(Debug)]
pub(super) struct Draft {
    state: State,
    now: Timestamp,
    revision: Revision,
    time: Timestamp,
    events: Vec<Event>,
    ordinals: BTreeMap<ReleaseId, u32>,
    /// The caller, if it is a call.
    pub(super) voice: Voice,
    /// The release that the call is about. Only its events name the caller: what another one does
    /// because this one made room for it is the engine's doing.
    about: Option<ReleaseId>,
    /// The timer that fired, and whose it is.
    pub(super) timer: Option<(ReleaseId, TimerRecord)>,
}

impl Draft {
    /// For a call.
    pub(super) fn by_caller(state: &State, call: &Call, now: Timestamp) -> Self {
        let voice = Voice {
            actor: Actor::Principal(call.caller.principal.clone()),
            reason: Arc::clone(&call.reason),
            request_id: call.request_id.clone(),
        };
        Self::new(state, voice, now)
    }

    /// For a timer.
    pub(super) fn by_engine(state: &State, now: Timestamp) -> Self {
        Self::new(state, Voice::engine(), now)
    }

    fn new(state: &State, voice: Voice, now: Timestamp) -> Self {
        Self {
            revision: state.revision().next(),
            time: now.max(state.time()),
            state: state.clone(),
            now,
            events: Vec::new(),
            ordinals: BTreeMap::new(),
            voice,
            about: None,
            timer: None,
        }
    }

    /// The clock; deadlines are counted from here.
    pub(super) fn now(&self) -> Timestamp {
        self.now
    }

    /// Revision of the commit.
    pub(super) fn revision(&self) -> Revision {
        self.revision
    }

    /// Time of the commit.
    pub(super) fn time(&self) -> Timestamp {
        self.time
    }

    /// The state with everything so far.
    pub(super) fn state(&self) -> &State {
        &self.state
    }

    /// A release that is known to exist.
    pub(super) fn release(&self, id: &ReleaseId) -> Arc<Release> {
        let release = self.state.release(id);
        Arc::clone(release.expect("releases are never removed, and this one was found before"))
    }

    /// Says which release the call is about.
    pub(super) fn is_about(&mut self, id: &ReleaseId) {
        self.about = Some(id.clone());
    }

    /// Adds an event that is not about a release's progress.
    pub(super) fn record(&mut self, event: Event) {
        apply_event(&mut self.state, self.revision, self.time, &event);
        self.events.push(event);
    }

    /// Adds an event of a release, by the caller if the call is about it, by the engine otherwise.
    pub(super) fn emit(&mut self, release: &ReleaseId, happened: Happened) {
        let voice =
            if self.about.as_ref() == Some(release) { self.voice.clone() } else { Voice::engine() };
        self.emit_as(release, voice, happened);
    }

    /// Adds an event of a release in a voice.
    pub(super) fn emit_as(&mut self, release: &ReleaseId, voice: Voice, happened: Happened) {
        let ordinal = self.ordinals.entry(release.clone()).or_default();
        let event = ReleaseEvent {
            release: release.clone(),
            ordinal: *ordinal,
            actor: voice.actor,
            reason: voice.reason,
            request_id: voice.request_id,
            happened,
        };
        *ordinal += 1;
        self.record(Event::Release(event));
    }

    /// The timer, if it was this release's; for the one event that it led to.
    pub(super) fn take_timer(&mut self, release: &ReleaseId) -> Option<TimerRecord> {
        self.timer.take_if(|(owner, _)| owner == release).map(|(_, record)| record)
    }

    /// Settles the flags of all releases touched, then closes the commit. None if nothing happened.
    pub(super) fn finish(mut self) -> Option<Commit> {
        let releases = self.ordinals.keys().filter_map(|id| self.state.release(id));
        let mut flags: Vec<FlagId> = releases.map(|r| r.proposal.flag.clone()).collect();
        flags.dedup();
        for flag in flags {
            self.settle(&flag);
        }
        self.close()
    }

    /// Closes the commit.
    pub(super) fn close(self) -> Option<Commit> {
        let Self { revision, time, events, .. } = self;
        (!events.is_empty()).then_some(Commit { revision, time, events })
    }
}
