//! Entries of the log, and about how large they are.

use bytes::Bytes;
use phasegate_engine::{event::Change, release::Release};
use std::sync::OnceLock;

/// An entry of the log, with room for what the edge makes of it, so that it is encoded once for all
/// who watch.
#[derive(Debug)]
pub struct Entry {
    /// What happened.
    pub change: Change,
    /// Its encoding for `WatchRelease`: the fields `release` and `events` of the response.
    pub wire: OnceLock<Bytes>,
}

impl Entry {
    /// Not encoded yet.
    pub fn new(change: Change) -> Self {
        Self { change, wire: OnceLock::new() }
    }

    /// About how many bytes it takes in memory; always the same for one entry.
    pub fn approximate_bytes(&self) -> usize {
        approximate_bytes(&self.change)
    }

    /// About how many bytes it takes in a message.
    pub(super) fn message_bytes(&self) -> usize {
        self.wire.get().map_or_else(|| self.approximate_bytes(), Bytes::len)
    }
}

/// Names, states and times of a release or an event. Estimates need not be better than this: they
/// bound memory and messages, and nothing else depends on them.
const FIXED: usize = 256;
/// The same of a phase, of a guard's progress, or of a review.
const SMALL: usize = 96;

/// About how many bytes a change takes, in memory or encoded.
pub fn approximate_bytes(change: &Change) -> usize {
    let events = change.events.iter().map(|event| FIXED + event.reason.len());
    release_bytes(&change.release) + events.sum::<usize>()
}

/// About how many bytes a release takes, without its change and its copy of the pipeline.
pub(super) fn release_bytes(release: &Release) -> usize {
    let labels = release.proposal.labels.iter().map(|(key, value)| key.len() + value.len());
    let phases = release.progress.phases.iter().map(|phase| {
        let reviews = phase.reviews.iter().map(|review| SMALL + review.reason.len());
        let guards = phase.guards.iter().map(|guard| SMALL + guard.message.len());
        SMALL + reviews.sum::<usize>() + guards.sum::<usize>()
    });
    FIXED + release.proposal.description.len() + labels.chain(phases).sum::<usize>()
}
