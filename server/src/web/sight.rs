//! States as viewers see them. Who sees the same is shown pages of one state, which is made once for each
//! commit.

use crate::access::{Grants, Reach};
use phasegate_engine::State;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// As many views are kept: teams, not people.
const VIEWS_MAX: usize = 32;

/// What is seen of a state by whom this is in reach.
type Sight = (Option<Reach>, State);

/// What is kept. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Sights(Arc<Mutex<Vec<Sight>>>);

impl Sights {
    /// Of a state, what somebody sees.
    pub(super) fn of(&self, grants: &Grants, state: State) -> State {
        let view = grants.view();
        if view == Some(Reach::Everywhere) {
            return state;
        }
        let is_it =
            |(reach, known): &&Sight| *reach == view && known.revision() == state.revision();
        if let Some((_, known)) = self.kept().iter().find(is_it) {
            return known.clone();
        }
        // Not under the lock: it looks at every flag and every release.
        let seen = grants.seen(&state);
        let mut kept = self.kept();
        kept.retain(|(reach, _)| *reach != view);
        kept.truncate(VIEWS_MAX - 1);
        kept.insert(0, (view, seen.clone()));
        seen
    }

    /// The list is whole at every moment at which something could panic.
    fn kept(&self) -> MutexGuard<'_, Vec<Sight>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
