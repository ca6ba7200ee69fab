//! Watchers: they connect, read, stall, leave, and go on from where they were. What each has received
//! is held against the history.

use crate::{
    history::History,
    operation::From,
    promises::{self, Broken},
    reached::Reached,
};
use futures_util::Stream;
use phasegate_engine::{
    event::Change,
    id::{Principal, ReleaseId, Revision},
    release::{Release, ReleaseState},
};
use phasegate_server::{
    driver::Handle,
    watch::{ReleaseItem, ReleasesItem, Select, WatchEnd, WatchRefusal, Watcher as Who, Watches},
};
use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

/// Whom a watcher watches.
#[derive(Clone, Debug)]
enum Target {
    One(ReleaseId),
    All,
}

enum Open {
    One(Pin<Box<dyn Stream<Item = Result<ReleaseItem, WatchEnd>>>>),
    All(Pin<Box<dyn Stream<Item = Result<ReleasesItem, WatchEnd>>>>),
}

struct Everything;

impl Select for Everything {
    fn matches(&self, _: &Release, _: ReleaseState) -> bool {
        true
    }
}

/// One watcher.
pub(crate) struct Watcher {
    watches_all: bool,
    target: Target,
    /// Everything up to here was delivered.
    cursor: Option<Revision>,
    /// The initial set, as far as it has come.
    initial: Vec<Arc<Release>>,
    open: Option<Open>,
    /// The process that it was connected to last.
    process: usize,
    /// Its watch ended well.
    is_done: bool,
}

/// A server to connect to.
pub(crate) struct Gate<'a> {
    pub(crate) watches: &'a Watches<Handle>,
    pub(crate) handle: &'a Handle,
    pub(crate) process: usize,
    pub(crate) is_draining: bool,
}

impl Watcher {
    /// Every second one watches everything.
    pub(crate) fn new(index: usize) -> Self {
        Self {
            watches_all: index.is_multiple_of(2),
            target: Target::All,
            cursor: None,
            initial: Vec::new(),
            open: None,
            process: 0,
            is_done: false,
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// The connection is gone.
    pub(crate) fn cut(&mut self) {
        self.open = None;
        // An initial set that is not complete is begun anew.
        self.initial.clear();
    }

    pub(crate) fn connect(
        &mut self,
        gate: &Gate<'_>,
        release: &ReleaseId,
        from: From,
        history: &History,
        reached: &mut Reached,
    ) -> Result<(), Broken> {
        self.cut();
        let head = history.state().revision();
        let goes_on = from == From::WhereItWas && self.cursor.is_some();
        if from == From::Start || self.cursor.is_none() {
            self.target = if self.watches_all { Target::All } else { Target::One(release.clone()) };
            self.cursor = None;
            self.is_done = false;
        }
        let resume_after = match from {
            From::TheFuture => Some(Revision::new(head.get() + 7)),
            From::Start => None,
            From::WhereItWas | From::AnotherStore => self.cursor,
        };
        let store_id = match from {
            From::AnotherStore => "another-store".to_owned(),
            From::Start | From::WhereItWas | From::TheFuture => gate.handle.store_id().to_string(),
        };
        let who = Who {
            principal: Principal::new("watcher"),
            peer: None,
            resume_after,
            store_id: Some(store_id),
            time_left: None,
        };
        let opened: Result<Open, WatchRefusal> = match &self.target {
            Target::One(release) => {
                gate.watches.release(who, release.clone()).map(|stream| Open::One(Box::pin(stream)))
            }
            Target::All => {
                gate.watches.releases(who, Everything).map(|stream| Open::All(Box::pin(stream)))
            }
        };
        match opened {
            Ok(open) => {
                promises::a_watch_that_cannot_go_on_says_why(
                    !matches!(from, From::TheFuture | From::AnotherStore),
                    "a watch that cannot go on was opened",
                )?;
                if goes_on && self.process != gate.process {
                    reached.mark("a watch went on after a restart");
                }
                self.process = gate.process;
                self.open = Some(open);
                Ok(())
            }
            Err(refusal) => self.refused(gate, from, resume_after, &refusal, history, reached),
        }
    }

    fn refused(
        &mut self,
        gate: &Gate<'_>,
        from: From,
        resume_after: Option<Revision>,
        refusal: &WatchRefusal,
        history: &History,
        reached: &mut Reached,
    ) -> Result<(), Broken> {
        let is_right = match refusal {
            WatchRefusal::Draining => gate.is_draining,
            WatchRefusal::NotFound(release) => history.state().release(release).is_none(),
            WatchRefusal::StoreReplaced => {
                reached.mark("a watch of another store was refused");
                from == From::AnotherStore
            }
            WatchRefusal::Compacted { oldest } => {
                reached.mark("a watch was too old to go on");
                self.cursor = None;
                *oldest == gate.handle.oldest()
                    && resume_after.is_some_and(|after| after.next() < *oldest)
            }
            WatchRefusal::InFuture { head } => {
                reached.mark("a watch from the future was refused");
                from == From::TheFuture && *head == history.state().revision()
            }
            WatchRefusal::TooMany(_) => false,
        };
        let what = format!("{from:?} after {resume_after:?}: {refusal}");
        promises::a_watch_that_cannot_go_on_says_why(is_right, &what)
    }

    /// Reads up to so many items; says how many came.
    pub(crate) fn read(
        &mut self,
        most: u32,
        history: &History,
        reached: &mut Reached,
    ) -> Result<u32, Broken> {
        let mut context = Context::from_waker(Waker::noop());
        for count in 0..most {
            let Some(open) = &mut self.open else { return Ok(count) };
            let ended = match open {
                Open::One(stream) => match stream.as_mut().poll_next(&mut context) {
                    Poll::Pending => return Ok(count),
                    Poll::Ready(Some(Ok(item))) => {
                        self.take_one(item, history, reached)?;
                        continue;
                    }
                    Poll::Ready(Some(Err(end))) => Some(end),
                    Poll::Ready(None) => None,
                },
                Open::All(stream) => match stream.as_mut().poll_next(&mut context) {
                    Poll::Pending => return Ok(count),
                    Poll::Ready(Some(Ok(item))) => {
                        self.take_many(item, history, reached)?;
                        continue;
                    }
                    Poll::Ready(Some(Err(end))) => Some(end),
                    Poll::Ready(None) => None,
                },
            };
            self.ended(ended, history, reached)?;
            return Ok(count);
        }
        Ok(most)
    }

    fn ended(
        &mut self,
        end: Option<WatchEnd>,
        history: &History,
        reached: &mut Reached,
    ) -> Result<(), Broken> {
        self.cut();
        match end {
            None => {
                reached.mark("a watch ended with its release");
                self.is_done = true;
                promises::a_watch_ends_well_only_at_the_end(self.about(), self.cursor, history)
            }
            Some(WatchEnd::Compacted { oldest }) => {
                reached.mark("a watch was too old to go on");
                let behind = self.cursor.take().is_some_and(|cursor| cursor.next() < oldest);
                promises::a_watch_that_cannot_go_on_says_why(behind, "the log reaches back so far")
            }
            Some(WatchEnd::SlowConsumer) => {
                reached.mark("a watch was too slow");
                Ok(())
            }
            Some(WatchEnd::Expired | WatchEnd::DeadlineExceeded | WatchEnd::Draining) => Ok(()),
        }
    }

    fn about(&self) -> Option<&ReleaseId> {
        match &self.target {
            Target::One(release) => Some(release),
            Target::All => None,
        }
    }

    fn take_one(
        &mut self,
        item: ReleaseItem,
        history: &History,
        reached: &mut Reached,
    ) -> Result<(), Broken> {
        match item {
            ReleaseItem::Snapshot { release, revision } => {
                let set = [release];
                let about = self.about().cloned();
                promises::a_watch_begins_with_the_truth(about.as_ref(), &set, revision, history)?;
                self.cursor = Some(revision);
                Ok(())
            }
            ReleaseItem::Change(entry) => {
                self.advance(entry.change.revision, &[&entry.change], history)
            }
            ReleaseItem::Bookmark(revision) => {
                reached.mark("a watch was told that nothing happened");
                self.advance(revision, &[], history)
            }
        }
    }

    fn take_many(
        &mut self,
        item: ReleasesItem,
        history: &History,
        reached: &mut Reached,
    ) -> Result<(), Broken> {
        match item {
            ReleasesItem::Initial(releases) => {
                self.initial.extend(releases);
                Ok(())
            }
            ReleasesItem::Synced(revision) => {
                let set = std::mem::take(&mut self.initial);
                promises::a_watch_begins_with_the_truth(None, &set, revision, history)?;
                self.cursor = Some(revision);
                Ok(())
            }
            ReleasesItem::Changes { revision, changes } => {
                let changes: Vec<&Change> =
                    changes.iter().map(|(entry, _)| &entry.change).collect();
                self.advance(revision, &changes, history)
            }
            ReleasesItem::Bookmark(revision) => {
                reached.mark("a watch was told that nothing happened");
                self.advance(revision, &[], history)
            }
        }
    }

    fn advance(
        &mut self,
        to: Revision,
        changes: &[&Change],
        history: &History,
    ) -> Result<(), Broken> {
        let from = self.cursor;
        promises::a_watch_has_every_commit_once_and_in_order(
            self.about(),
            from,
            to,
            changes,
            history,
        )?;
        self.cursor = Some(to);
        Ok(())
    }

    /// With time to read, it has everything.
    pub(crate) fn caught_up(&self, history: &History) -> Result<(), Broken> {
        if self.is_done || self.open.is_none() {
            return Ok(());
        }
        promises::a_watch_catches_up(self.about(), self.cursor, history)
    }
}
