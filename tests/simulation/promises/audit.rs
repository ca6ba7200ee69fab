//! What is on record of who asked for what.

use super::{Broken, Verdict};
use phasegate_engine::{event::Actor, id::Revision};
use phasegate_server::store::{
    Record, Writes,
    audit::{Act, AuditHead, Outcome},
};
use std::collections::BTreeSet;

/// Asked of every batch that is committed: each commit that somebody asked for has its entry in the
/// same batch, and no entry speaks of another commit.
pub(crate) fn every_act_is_on_record(writes: Writes<'_>) -> Verdict {
    let asked_for: BTreeSet<Revision> =
        writes.records.iter().filter(|record| is_asked_for(record)).map(|r| r.revision).collect();
    let mut on_record = BTreeSet::new();
    for entry in writes.audit {
        let content = entry.content();
        hold!(every_act_is_on_record, content.is_ok(), "{content:?}: {}", entry.json);
        if let Ok(content) = content
            && let Act::Call(call) = content.act
            && let Outcome::Accepted { revision: Some(revision) } = call.outcome
        {
            let is_first = on_record.insert(revision);
            hold!(every_act_is_on_record, is_first, "{revision} twice");
        }
    }
    hold!(
        every_act_is_on_record,
        asked_for == on_record,
        "asked for were {asked_for:?}, on record are {on_record:?}"
    );
    Ok(())
}

/// Timers ask for nothing.
fn is_asked_for(record: &Record) -> bool {
    let mut actors = record.changes.iter().flat_map(|change| &change.events).map(|e| &e.actor);
    record.request.is_some()
        || record.changes.is_empty()
        || actors.any(|actor| matches!(actor, Actor::Principal(_)))
}

/// A process has loaded a store whose chain ends here: with what was acknowledged, or with the one
/// batch of which nobody was told.
pub(crate) fn the_audit_chain_survives(
    found: AuditHead,
    acknowledged: AuditHead,
    attempted: Option<AuditHead>,
) -> Verdict {
    hold!(
        the_audit_chain_survives,
        found == acknowledged || Some(found) == attempted,
        "it ends with {found:?}; acknowledged was {acknowledged:?}, attempted {attempted:?}"
    );
    Ok(())
}
