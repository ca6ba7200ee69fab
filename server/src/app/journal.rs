//! What releases did by themselves, in the log: timers have no caller whose call is logged.
//!
//! It reads the log of commits as a watcher does, so the writer waits for nobody who reads the lines. One
//! that falls behind further than commits are kept goes on from where the log begins.

use crate::driver::{Handle, LogError, LogQuery, Order};
use phasegate_engine::{
    event::{Actor, Change},
    id::Revision,
};

/// Changes that are read at a time.
const READ_MAX: usize = 512;

/// Writes a line for each change that the engine made from now on; ends with the writer.
pub(super) async fn follow(driver: Handle) {
    let mut head = driver.head();
    let mut cursor = *head.borrow_and_update();
    loop {
        let seen = cursor;
        let Ok(newest) = head.wait_for(|head| *head > seen).await.map(|head| *head) else { return };
        let query = LogQuery {
            after: cursor,
            up_to: newest,
            release: None,
            order: Order::OldestFirst,
            limit: READ_MAX,
        };
        match driver.log(query).await {
            Ok(entries) => {
                cursor = entries.last().map_or(newest, |entry| entry.change.revision);
                entries.iter().for_each(|entry| line(&entry.change));
            }
            Err(LogError::Compacted { oldest }) => {
                cursor = Revision::new(oldest.get().saturating_sub(1));
            }
            Err(LogError::Stopped) => return,
        }
    }
}

fn line(change: &Change) {
    let by_engine = |event: &&_| {
        matches!(event, phasegate_engine::event::ReleaseEvent { actor: Actor::Engine, .. })
    };
    let mut events = change.events.iter().filter(by_engine).peekable();
    if events.peek().is_none() {
        return;
    }
    let release = &change.release;
    let phase = release.current().map(|phase| release.phase(phase).id.as_str());
    let happened: Vec<_> = events.map(|event| event.happened.name()).collect();
    tracing::info!(
        release = %release.id(),
        phase,
        flag = %release.proposal.flag,
        revision = change.revision.get(),
        happened = happened.join(" "),
        trace_id = change.trace.as_deref().and_then(|trace| trace.get(3..35)),
        "release"
    );
}
