//! What a watch delivers.

use super::{Broken, Verdict};
use crate::history::History;
use phasegate_engine::{
    event::Change,
    id::{ReleaseId, Revision},
    release::Release,
};
use std::sync::Arc;

/// A watch was refused, or ended: for a reason that holds.
pub(crate) fn a_watch_that_cannot_go_on_says_why(is_right: bool, what: &str) -> Verdict {
    hold!(a_watch_that_cannot_go_on_says_why, is_right, "{what}");
    Ok(())
}

pub(crate) fn a_watch_begins_with_the_truth(
    about: Option<&ReleaseId>,
    set: &[Arc<Release>],
    revision: Revision,
    history: &History,
) -> Verdict {
    let head = history.state().revision();
    hold!(a_watch_begins_with_the_truth, revision <= head, "as of {revision}, committed is {head}");
    let state = history.state_at(revision);
    let expected: Vec<_> =
        state.releases().filter(|release| about.is_none_or(|id| release.id() == id)).collect();
    let same = expected.iter().copied().eq(set.iter());
    hold!(a_watch_begins_with_the_truth, same, "{set:?} as of {revision}, not {expected:?}");
    Ok(())
}

/// Up to `to` a watch that stood at `from` received these changes.
pub(crate) fn a_watch_has_every_commit_once_and_in_order(
    about: Option<&ReleaseId>,
    from: Option<Revision>,
    to: Revision,
    received: &[&Change],
    history: &History,
) -> Verdict {
    let Some(from) = from else {
        hold!(a_watch_has_every_commit_once_and_in_order, false, "{to} before any beginning");
        return Ok(());
    };
    let head = history.state().revision();
    let grows = from <= to && to <= head;
    hold!(a_watch_has_every_commit_once_and_in_order, grows, "{from}, {to}; committed is {head}");
    let concerns = |change: &&Arc<Change>| about.is_none_or(|id| change.release.id() == id);
    let expected: Vec<&Arc<Change>> = history
        .changes_after(from)
        .take_while(|change| change.revision <= to)
        .filter(concerns)
        .collect();
    let same = expected.iter().map(|change| &***change).eq(received.iter().copied());
    let revisions = |changes: Vec<&Change>| -> Vec<u64> {
        changes.into_iter().map(|change| change.revision.get()).collect()
    };
    hold!(
        a_watch_has_every_commit_once_and_in_order,
        same,
        "from {from} to {to} of {about:?}: {:?}, not {:?}",
        revisions(received.to_vec()),
        revisions(expected.iter().map(|change| &***change).collect())
    );
    Ok(())
}

pub(crate) fn a_watch_ends_well_only_at_the_end(
    about: Option<&ReleaseId>,
    cursor: Option<Revision>,
    history: &History,
) -> Verdict {
    let release = about.and_then(|id| history.state().release(id));
    let at_the_end = release.is_some_and(|release| {
        release.is_over() && cursor.is_some_and(|cursor| cursor >= release.progress.revision)
    });
    hold!(a_watch_ends_well_only_at_the_end, at_the_end, "{about:?} at {cursor:?}");
    Ok(())
}

pub(crate) fn a_watch_catches_up(
    about: Option<&ReleaseId>,
    cursor: Option<Revision>,
    history: &History,
) -> Verdict {
    let last = match about {
        Some(id) => history.state().release(id).map(|release| release.progress.revision),
        None => history.changes().last().map(|change| change.revision),
    };
    let has_all = last.is_none_or(|last| cursor.is_some_and(|cursor| cursor >= last));
    hold!(a_watch_catches_up, has_all, "{about:?} is at {cursor:?}, the last is {last:?}");
    Ok(())
}
