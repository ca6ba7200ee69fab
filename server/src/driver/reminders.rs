//! Reminders that approvals will soon run out. No commit happens then, so the engine knows nothing
//! of them; that one was sent is remembered in the store until the release moves on.

use super::notify;
use crate::store::{Write, outbox::Reminder};
use imbl::OrdMap;
use phasegate_engine::{
    id::ReleaseId,
    release::Release,
    time::{Span, Timestamp},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Who is to be reminded when, and who was.
#[derive(Debug)]
pub(super) struct Reminders {
    remind_before: Span,
    /// When the approvals run out that somebody was reminded of.
    done: OrdMap<ReleaseId, Timestamp>,
    due: BTreeSet<(Timestamp, ReleaseId)>,
    armed: BTreeMap<ReleaseId, Timestamp>,
}

impl Reminders {
    pub(super) fn load(done: Vec<(ReleaseId, Reminder)>, remind_before: Span) -> Self {
        let done = done.into_iter().map(|(release, reminder)| (release, reminder.expires));
        Self { remind_before, done: done.collect(), due: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// What is remembered; cheap.
    pub(super) fn snapshot(&self) -> OrdMap<ReleaseId, Timestamp> {
        self.done.clone()
    }

    /// Arms the reminder of a release, or disarms it, so that it is as the release says. What is
    /// remembered of one that no longer counts goes.
    pub(super) fn track(
        &mut self,
        release: &Release,
        writes: &mut Vec<Write<ReleaseId, Reminder>>,
    ) {
        let id = release.id();
        if let Some(at) = self.armed.remove(id) {
            self.due.remove(&(at, id.clone()));
        }
        let expires = notify::awaited(release).map(|(_, expires)| expires);
        if let Some(done) = self.done.get(id) {
            if Some(*done) == expires {
                return;
            }
            self.done.remove(id);
            writes.push(Write::Delete(id.clone()));
        }
        if let Some(at) = notify::reminder_due(release, self.remind_before) {
            self.armed.insert(id.clone(), at);
            self.due.insert((at, id.clone()));
        }
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Timestamp> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Takes the next one that is due at `now`, with when that was.
    pub(super) fn pop(&mut self, now: Timestamp) -> Option<(ReleaseId, Timestamp)> {
        if self.next()? > now {
            return None;
        }
        let (at, release) = self.due.pop_first()?;
        self.armed.remove(&release);
        Some((release, at))
    }

    /// Remembers that somebody was reminded of approvals that run out then.
    pub(super) fn remember(
        &mut self,
        release: ReleaseId,
        expires: Timestamp,
        writes: &mut Vec<Write<ReleaseId, Reminder>>,
    ) {
        self.done.insert(release.clone(), expires);
        writes.push(Write::Put(release, Arc::new(Reminder { expires })));
    }
}
