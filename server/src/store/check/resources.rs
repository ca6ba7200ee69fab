//! All but the log: resources, requests, and what is to be sent.

use super::{
    Finding, Last, Notes,
    each::{each, each_of_many},
    shared::Shared,
};
use crate::store::{
    Error, RequestIndex, RequestPlace,
    outbox::{OutboxKey, OutboxRow, Reminder},
    record::{
        NOT_WHOLE, StoredProgress, StoredRequest, decode, digest,
        key::{Key, Kind},
        parts,
        proposal::{Copies, ProposalRecord},
    },
    tree::{Direction, Tree},
};
use phasegate_engine::{
    flag::Flag,
    id::{PipelineId, ReleaseId, Revision},
    pipeline::Pipeline,
    release::{Proposal, Release},
};
use std::{collections::BTreeSet, sync::Arc};

pub(super) struct Resources {
    pub(super) flags: Vec<Arc<Flag>>,
    pub(super) pipelines: Vec<Arc<Pipeline>>,
    pub(super) releases: Vec<Arc<Release>>,
}

pub(super) fn read_resources<T: Tree>(
    tree: &T,
    last: &Last,
    notes: &mut impl Notes,
) -> Result<Resources, Error> {
    let mut flags: Vec<Arc<Flag>> = Vec::new();
    let mut shared = Shared::default();
    each_of_many(tree, Kind::Flag, notes, |key, mut flag: Flag, notes| {
        shared.flag(&mut flag);
        if *key != Key::Flag(flag.id.clone()) {
            notes.at(key, format!("holds another flag, {}", flag.id))?;
        }
        if flag.revision > last.revision {
            notes.at(key, format!("is of revision {}, above the head", flag.revision))?;
        }
        flags.push(Arc::new(flag));
        Ok(())
    })?;
    let mut pipelines: Vec<Arc<Pipeline>> = Vec::new();
    each(tree, Kind::Pipeline, notes, |key, pipeline: Arc<Pipeline>, notes| {
        if *key != Key::Pipeline(pipeline.id.clone()) {
            notes.at(key, format!("holds another pipeline, {}", pipeline.id))?;
        }
        if pipeline.revision > last.revision {
            notes.at(key, format!("is of revision {}, above the head", pipeline.revision))?;
        }
        pipelines.push(pipeline);
        Ok(())
    })?;
    let known: BTreeSet<&PipelineId> = pipelines.iter().map(|pipeline| &pipeline.id).collect();
    for flag in &flags {
        if let Some(pipeline) = flag.pipeline.as_ref().filter(|id| !known.contains(id)) {
            notes.at(&Key::Flag(flag.id.clone()), format!("its pipeline {pipeline} is missing"))?;
        }
    }
    let releases = read_releases(tree, last, &pipelines, &mut shared, notes)?;
    Ok(Resources { flags, pipelines, releases })
}

/// Puts releases together from their two parts.
fn read_releases<T: Tree>(
    tree: &T,
    last: &Last,
    pipelines: &[Arc<Pipeline>],
    shared: &mut Shared,
    notes: &mut impl Notes,
) -> Result<Vec<Arc<Release>>, Error> {
    // Releases along one pipeline share its copy in memory, as they did before the restart.
    let mut copies = Copies::default();
    pipelines.iter().for_each(|pipeline| copies.add(Arc::clone(pipeline)));
    let mut apart = BTreeSet::new();
    each(tree, Kind::PipelineAt, notes, |key, copy: Arc<Pipeline>, notes| {
        if *key != Key::PipelineAt(copy.id.clone(), copy.revision) {
            return notes.at(key, "holds a copy of another pipeline or revision");
        }
        apart.insert((copy.id.clone(), copy.revision));
        match copies.get(&copy.id, copy.revision) {
            Some(current) if **current != *copy => {
                notes.at(key, "is not the pipeline of the same revision")?;
            }
            Some(_) => {}
            None => copies.add(copy),
        }
        Ok(())
    })?;
    let mut proposals: Vec<Arc<Proposal>> = Vec::new();
    each_of_many(tree, Kind::Proposal, notes, |key, record: ProposalRecord, notes| {
        if *key != Key::Proposal(record.id.clone()) {
            notes.at(key, format!("holds another release, {}", record.id))?;
        }
        if record.copy().is_some_and(|copy| !apart.contains(copy)) {
            // Another proposal or the pipeline itself may have it, as long as they are there.
            return notes.at(key, "its copy of the pipeline is missing");
        }
        let mut proposal = match record.with(&mut copies) {
            Ok(proposal) => proposal,
            Err(unreadable) => return notes.note(unreadable.into()),
        };
        shared.proposal(&mut proposal);
        proposals.push(Arc::new(proposal));
        Ok(())
    })?;
    // Both parts are in order of the ids, so one walk along both finds what belongs together.
    proposals.sort_by(|a, b| a.id.cmp(&b.id));
    let mut proposals = proposals.into_iter().peekable();
    let mut releases: Vec<Arc<Release>> = Vec::new();
    each_of_many(tree, Kind::Progress, notes, |key, stored: StoredProgress<'_>, notes| {
        let Key::Progress(id) = key else { return Ok(()) };
        let progress = stored.progress.into_owned();
        while let Some(alone) = proposals.next_if(|proposal| proposal.id < *id) {
            notes.at(&Key::Proposal(alone.id.clone()), "has no progress")?;
        }
        let Some(proposal) = proposals.next_if(|proposal| proposal.id == *id) else {
            return notes.at(key, "has no proposal");
        };
        if progress.revision > last.revision || progress.revision < proposal.created {
            let revision = progress.revision;
            notes.at(key, format!("is of revision {revision}, which is not in its life"))?;
        }
        if progress.phases.len() != proposal.pipeline.template.phases.len() {
            // Such a release would make the engine look for a phase that is not there.
            return notes.at(key, "has not as many phases as its pipeline");
        }
        let release = Release { proposal, progress };
        if !release.is_whole() {
            return notes.at(key, NOT_WHOLE);
        }
        releases.push(Arc::new(release));
        Ok(())
    })?;
    for alone in proposals {
        notes.at(&Key::Proposal(alone.id.clone()), "has no progress")?;
    }
    check_creations(&releases, notes)?;
    Ok(releases)
}

/// Whether each release was created by a commit of its own.
fn check_creations(releases: &[Arc<Release>], notes: &mut impl Notes) -> Result<(), Error> {
    let mut created: Vec<Revision> =
        releases.iter().map(|release| release.proposal.created).collect();
    created.sort_unstable();
    // Which releases those are takes much longer, and there should be none.
    if created.is_sorted_by(|a, b| a < b) {
        return Ok(());
    }
    let mut by_creation: Vec<&Arc<Release>> = releases.iter().collect();
    by_creation.sort_by_key(|release| release.proposal.created);
    for pair in by_creation.windows(2) {
        let created = pair[1].proposal.created;
        if pair[0].proposal.created == created {
            let key = Key::Progress(pair[1].id().clone());
            notes.at(&key, format!("commit {created} created another release too"))?;
        }
    }
    Ok(())
}

/// Reads where requests stand.
pub(super) fn read_requests<T: Tree>(
    tree: &T,
    notes: &mut impl Notes,
) -> Result<RequestIndex, Error> {
    // Those of before version 3 stand under their digests, and there is nothing under their times.
    let mut requests = RequestIndex::default();
    let mut apart = BTreeSet::new();
    each(tree, Kind::Request, notes, |key, request: StoredRequest<'_>, notes| {
        let digest = digest(&request.key);
        if *key != Key::Request(digest) {
            notes.at(key, "its digest is not that of the request")?;
        }
        apart.insert((request.record.time, digest));
        requests.add(RequestPlace { time: request.record.time, digest });
        Ok(())
    })?;
    for entry in parts::scan(tree, Kind::RequestAt.all(), Direction::Up) {
        let read = entry?.and_then(|(key, value)| {
            let value = value.as_ref();
            let request = (!value.is_empty()).then(|| decode::<StoredRequest<'_>>(&key, value));
            Ok((key, request.transpose()?))
        });
        match read {
            Ok((key, Some(request))) => {
                let place = RequestPlace::of(&request.key, request.record.time);
                if key != place.key() {
                    notes.at(&key, "its time or its digest is not that of the request")?;
                }
                requests.add(place);
            }
            Ok((Key::RequestAt(time, digest), None)) if apart.remove(&(time, digest)) => {}
            Ok((key, None)) => notes.at(&key, "there is no such request")?,
            Err(unreadable) => notes.note(unreadable.into())?,
        }
    }
    if !apart.is_empty() {
        let problem = format!("{} requests are missing from the index of times", apart.len());
        notes.note(Finding { key: "request-at/".into(), problem })?;
    }
    Ok(requests)
}

/// Reads the outbox, by sink and then in order.
pub(super) fn read_outbox<T: Tree>(
    tree: &T,
    notes: &mut impl Notes,
) -> Result<Vec<(OutboxKey, OutboxRow)>, Error> {
    let mut rows = Vec::new();
    each(tree, Kind::Outbox, notes, |key, row: OutboxRow, _| {
        let Key::Outbox(sink, sequence) = key else { return Ok(()) };
        rows.push((OutboxKey { sink: sink.clone(), sequence: *sequence }, row));
        Ok(())
    })?;
    Ok(rows)
}

/// Reads what is remembered of reminders.
pub(super) fn read_reminders<T: Tree>(
    tree: &T,
    releases: &[Arc<Release>],
    notes: &mut impl Notes,
) -> Result<Vec<(ReleaseId, Reminder)>, Error> {
    let mut reminders = Vec::new();
    each(tree, Kind::Reminder, notes, |key, reminder: Reminder, notes| {
        let Key::Reminder(release) = key else { return Ok(()) };
        // They are in order of their ids, as they were read.
        if releases.binary_search_by(|known| known.id().cmp(release)).is_err() {
            notes.at(key, "there is no such release")?;
        }
        reminders.push((release.clone(), reminder));
        Ok(())
    })?;
    Ok(reminders)
}
