//! What survives, and who may see what.

use super::{Broken, Verdict};
use crate::{history::History, store::Loaded};
use phasegate_engine::{
    State,
    event::{Change, Commit},
    id::Revision,
    time::Timestamp,
};
use phasegate_server::{
    driver::Handle,
    store::{Image, Record, RequestPlace, Verified},
};
use std::sync::Arc;

/// Asked in the middle of a commit: readers know of nothing from this revision on.
pub(crate) fn nothing_is_seen_before_it_is_durable(readers: &Handle, first: Revision) -> Verdict {
    let (head, state) = (*readers.head().borrow(), readers.state().revision());
    let unknown = head < first && state < first;
    hold!(
        nothing_is_seen_before_it_is_durable,
        unknown,
        "{first} is being committed, readers see {head} and {state}"
    );
    Ok(())
}

/// What readers see is what was committed, to the last commit.
pub(crate) fn readers_see_what_is_committed(readers: &Handle, history: &History) -> Verdict {
    let (head, state) = (*readers.head().borrow(), readers.state());
    let newest = history.state();
    let same = head == newest.revision() && state == *newest;
    hold!(
        readers_see_what_is_committed,
        same,
        "they see {head}, {}; committed is {}",
        state.revision(),
        newest.revision()
    );
    Ok(())
}

pub(crate) fn reads_never_go_back(before: Revision, now: Revision) -> Verdict {
    hold!(reads_never_go_back, now >= before, "{before}, then {now}");
    Ok(())
}

/// What a store did, or its error: there must be none, whatever happened before.
pub(crate) fn a_store_opens_after_every_crash<T, E: std::fmt::Debug>(
    result: Result<T, E>,
) -> Result<T, Broken> {
    result.map_err(|error| Broken {
        promise: "a_store_opens_after_every_crash",
        what: format!("{error:?}"),
    })
}

pub(crate) fn a_store_fails_only_with_its_disk(is_struck: bool, error: &str) -> Verdict {
    hold!(a_store_fails_only_with_its_disk, is_struck, "{error}");
    Ok(())
}

/// `phasegate store verify` finds nothing.
pub(crate) fn the_store_is_sound<E: std::fmt::Debug>(
    verified: Result<Verified, E>,
) -> Result<Verified, Broken> {
    let verified = a_store_opens_after_every_crash(verified)?;
    if verified.findings.is_empty() {
        return Ok(verified);
    }
    let what = format!("{:?}", verified.findings);
    Err(Broken { promise: "the_store_is_sound", what })
}

/// A process has loaded this. `attempted` is what an earlier one tried to commit without an answer.
pub(crate) fn what_was_acknowledged_survives(
    image: &Image,
    history: &History,
    attempted: &[Record],
) -> Verdict {
    let (found, known) = (image.state.revision(), history.state().revision());
    let whole = attempted.last().map_or(known, |last| last.revision.max(known));
    hold!(
        what_was_acknowledged_survives,
        found >= known,
        "the store ends at {found}, {known} was acknowledged"
    );
    hold!(
        what_was_acknowledged_survives,
        found == known || found == whole,
        "the store ends at {found}, between {known} and the end of a batch, {whole}"
    );
    Ok(())
}

/// The same, when what survived is known: nothing but that is there, and all of it.
pub(crate) fn a_restart_changes_nothing(
    Loaded { image, requests }: &Loaded,
    history: &History,
    kept_from: Timestamp,
) -> Verdict {
    let same = image.state == *history.state();
    hold!(a_restart_changes_nothing, same, "{:?}\nis not\n{:?}", image.state, history.state());
    for (key, record) in requests {
        let known = history.requests_of(key).any(|(_, known)| known == record);
        hold!(a_restart_changes_nothing, known, "{key:?} was never done");
        let indexed = image.requests.has(RequestPlace::of(key, record.time));
        hold!(a_restart_changes_nothing, indexed, "{key:?} stands in the store and was not read");
    }
    let (read, stored) = (image.requests.len(), requests.len());
    hold!(a_restart_changes_nothing, read == stored, "{read} requests were read of {stored}");
    for (key, record) in history.requests() {
        let newest = history.requests_of(key).last().is_some_and(|(_, newest)| newest == record);
        let remembered = image.requests.has(RequestPlace::of(key, record.time));
        hold!(
            a_restart_changes_nothing,
            remembered || !newest || record.time < kept_from,
            "{key:?}, done at {}, is forgotten",
            record.time
        );
    }
    Ok(())
}

pub(crate) fn events_are_kept_for_their_time(
    oldest: Revision,
    kept_from: Timestamp,
    history: &History,
) -> Verdict {
    let lost = history.changes().find(|c| c.revision < oldest && c.time >= kept_from);
    hold!(events_are_kept_for_their_time, lost.is_none(), "the log begins at {oldest}: {lost:?}");
    Ok(())
}

/// The log of a store, read from its beginning, is the history, and its events alone make the state.
pub(crate) fn the_log_makes_the_state(
    oldest: Revision,
    log: &[Arc<Change>],
    history: &History,
) -> Verdict {
    let known: Vec<&Arc<Change>> =
        history.changes().filter(|change| change.revision >= oldest).collect();
    hold!(
        the_log_makes_the_state,
        known.len() == log.len() && known.iter().zip(log).all(|(known, found)| **known == *found),
        "{} entries from {oldest} on, {} are known",
        log.len(),
        known.len()
    );
    let mut rebuilt = history.state_at(Revision::new(oldest.get().saturating_sub(1))).clone();
    for change in log {
        let mut events = Vec::new();
        if change.before.is_none() {
            let proposal = Arc::clone(&change.release.proposal);
            events.push(phasegate_engine::Event::ReleaseCreated(proposal));
        }
        events.extend(change.events.iter().cloned().map(phasegate_engine::Event::Release));
        let (revision, time) = (change.revision, change.time);
        phasegate_engine::apply(&mut rebuilt, &Commit { revision, time, events });
    }
    for release in history.state().releases() {
        let same = rebuilt.release(release.id()).is_some_and(|rebuilt| rebuilt == release);
        hold!(the_log_makes_the_state, same, "{} is not the fold of its log", release.id());
    }
    Ok(())
}

/// A bit of the disk has changed: the server says so, or what it shows is what was acknowledged as far
/// as the note beside the journal knows.
pub(crate) fn damage_is_noticed(loaded: &State, noted: Revision, history: &History) -> Verdict {
    let revision = loaded.revision();
    hold!(damage_is_noticed, revision >= noted, "it shows {revision}, {noted} was noted");
    if revision <= history.state().revision() {
        let same = loaded == history.state_at(revision);
        hold!(damage_is_noticed, same, "the state at {revision} is another one than it was");
    }
    Ok(())
}
