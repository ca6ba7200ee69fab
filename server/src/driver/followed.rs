//! Releases that somebody follows, and how far each has got: so that a commit wakes those whom it concerns,
//! and not the thousands who follow another release.

use phasegate_engine::id::{ReleaseId, Revision};
use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::watch;

/// The levels of all that are followed.
#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<Levels>);

#[derive(Debug, Default)]
struct Levels {
    // Only ever asked for a release, so its order does not matter.
    by_release: HashMap<ReleaseId, watch::Sender<Revision>>,
    /// When there are more than so many, those that nobody follows any more go.
    sweep_above: usize,
    end: End,
}

/// Whether levels can still rise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    NotYet,
    Come,
}

/// Fewer are not worth looking through.
const SWEEP_ABOVE_AT_LEAST: usize = 1024;

impl Followed {
    /// A level that rises to the revision of each later change of a release. Once [`Self::end`] was called
    /// it is closed.
    pub(super) fn follow(&self, release: &ReleaseId) -> watch::Receiver<Revision> {
        let mut levels = self.lock();
        if levels.end == End::Come {
            return watch::Sender::new(Revision::ZERO).subscribe();
        }
        if levels.by_release.len() > levels.sweep_above.max(SWEEP_ABOVE_AT_LEAST) {
            levels.by_release.retain(|_, level| level.receiver_count() > 0);
            levels.sweep_above = 2 * levels.by_release.len();
        }
        let level = levels.by_release.entry(release.clone());
        level.or_insert_with(|| watch::Sender::new(Revision::ZERO)).subscribe()
    }

    /// Raises the level of a release that has changed, if anybody follows it.
    pub(super) fn raise(&self, release: &ReleaseId, revision: Revision) {
        let mut levels = self.lock();
        if let Some(level) = levels.by_release.get(release)
            && level.send(revision).is_err()
        {
            // The last of them is gone.
            levels.by_release.remove(release);
        }
    }

    /// Closes all levels.
    pub(super) fn end(&self) {
        let mut levels = self.lock();
        levels.end = End::Come;
        levels.by_release.clear();
    }

    /// Nothing in here is half done where something could panic.
    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ReleaseId {
        ReleaseId::parse(text).unwrap()
    }

    #[test]
    fn a_change_is_seen_by_those_who_follow_the_release_and_by_nobody_else() {
        let followed = Followed::default();
        let (mut ours, mut others) = (followed.follow(&id("r-1")), followed.follow(&id("r-2")));
        followed.raise(&id("r-1"), Revision::new(7));
        assert!(ours.has_changed().unwrap());
        assert_eq!(*ours.borrow_and_update(), Revision::new(7));
        assert!(!others.has_changed().unwrap());
        followed.raise(&id("r-3"), Revision::new(8));
        assert!(!others.has_changed().unwrap());
        assert_eq!(*others.borrow_and_update(), Revision::ZERO);
    }

    #[test]
    fn all_levels_are_closed_at_the_end() {
        let followed = Followed::default();
        let before = followed.follow(&id("r-1"));
        followed.end();
        assert!(before.has_changed().is_err());
        assert!(followed.follow(&id("r-1")).has_changed().is_err());
    }

    #[test]
    fn releases_that_nobody_follows_any_more_are_forgotten() {
        let followed = Followed::default();
        drop(followed.follow(&id("r-1")));
        followed.raise(&id("r-1"), Revision::new(7));
        assert!(followed.lock().by_release.is_empty(), "when they change");
        for n in 0..10 * SWEEP_ABOVE_AT_LEAST {
            drop(followed.follow(&id(&format!("r-{n}"))));
        }
        assert!(followed.lock().by_release.len() <= SWEEP_ABOVE_AT_LEAST + 1, "and by and by");
    }
}
