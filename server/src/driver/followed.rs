//! Releases that somebody follows, and how far each has got: so that a commit wakes those whom it concerns,
//! and not the thousands who follow another release.

use crate::watch::Level;
use phasegate_engine::id::{ReleaseId, Revision};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The levels of all that are followed.
#[derive(Debug, Default)]
pub(super) struct Followed(Mutex<Levels>);

#[derive(Debug, Default)]
struct Levels {
    // Only ever asked for a release, so its order does not matter.
    by_release: HashMap<ReleaseId, Arc<Level>>,
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
    pub(super) fn follow(&self, release: &ReleaseId) -> Arc<Level> {
        let mut levels = self.lock();
        if levels.end == End::Come {
            let level = Arc::new(Level::default());
            level.close();
            return level;
        }
        if levels.by_release.len() > levels.sweep_above.max(SWEEP_ABOVE_AT_LEAST) {
            levels.by_release.retain(|_, level| is_followed(level));
            levels.sweep_above = 2 * levels.by_release.len();
        }
        Arc::clone(levels.by_release.entry(release.clone()).or_default())
    }

    /// Raises the level of a release that has changed, if anybody follows it.
    pub(super) fn raise(&self, release: &ReleaseId, revision: Revision) {
        let mut levels = self.lock();
        let Some(level) = levels.by_release.get(release) else { return };
        if !is_followed(level) {
            // The last of them is gone.
            levels.by_release.remove(release);
            return;
        }
        let level = Arc::clone(level);
        drop(levels);
        level.raise(revision);
    }

    /// Closes all levels.
    pub(super) fn end(&self) {
        let mut levels = self.lock();
        levels.end = End::Come;
        let open = std::mem::take(&mut levels.by_release);
        drop(levels);
        open.values().for_each(|level| level.close());
    }

    /// Nothing in here is half done where something could panic.
    fn lock(&self) -> MutexGuard<'_, Levels> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A level is handed out below the lock, so nobody begins to follow it meanwhile.
fn is_followed(level: &Arc<Level>) -> bool {
    Arc::strong_count(level) > 1
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
        let (ours, others) = (followed.follow(&id("r-1")), followed.follow(&id("r-2")));
        followed.raise(&id("r-1"), Revision::new(7));
        assert_eq!(ours.reached(), Revision::new(7));
        followed.raise(&id("r-3"), Revision::new(8));
        assert_eq!(others.reached(), Revision::ZERO);
        assert_eq!(followed.follow(&id("r-1")).reached(), Revision::new(7), "it is one for all");
    }

    #[test]
    fn all_levels_are_closed_at_the_end() {
        let followed = Followed::default();
        let before = followed.follow(&id("r-1"));
        assert!(!before.is_closed());
        followed.end();
        assert!(before.is_closed());
        assert!(followed.follow(&id("r-1")).is_closed());
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
