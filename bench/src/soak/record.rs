//! What is read back at the end: the log, the releases, the audit chain.

use super::checks::{Audited, Event, number};
use phasegate_api::v1;
use phasegate_client::{Client, Error};
use prost::Message as _;
use std::{
    fs,
    hash::{DefaultHasher, Hasher as _},
    io::{self, BufRead as _},
    path::Path,
    str::FromStr as _,
};

/// The most that a page has.
const PAGE: i32 = 1000;

impl Event {
    /// None if it is not as the contract has it.
    pub(crate) fn of(wire: &v1::ReleaseEvent) -> Option<Self> {
        let (release, id) = wire.name.split_once("/events/")?;
        let (revision, ordinal) = id.split_once('-')?;
        let detail = |key: &str| wire.details.get(key);
        let scheduled_for = match detail("scheduledFor") {
            Some(text) => Some(millis(&prost_types::Timestamp::from_str(text).ok()?)),
            None => None,
        };
        let bake_remaining = match detail("bakeRemaining") {
            Some(text) => {
                let seconds: f64 = text.strip_suffix('s')?.parse().ok()?;
                Some((seconds * 1000.0).round() as i64)
            }
            None => None,
        };
        let mut hasher = DefaultHasher::new();
        hasher.write(&wire.encode_to_vec());
        let event = Self {
            revision: wire.revision,
            release: number(release)?,
            ordinal: ordinal.parse().ok()?,
            kind: wire.event_type(),
            time: millis(wire.event_time.as_ref()?),
            phase: wire.phase_id.clone().into(),
            state: wire.state(),
            request: wire.request_id.clone().into(),
            scheduled_for,
            bake_remaining,
            digest: hasher.finish(),
        };
        (revision.parse() == Ok(wire.revision)).then_some(event)
    }

    /// One that the contract allows, or an end.
    pub(crate) fn read(wire: &v1::ReleaseEvent) -> Self {
        Self::of(wire).unwrap_or_else(|| panic!("this is no event of ours: {wire:?}"))
    }
}

/// Milliseconds since 1970.
pub(crate) fn millis(time: &prost_types::Timestamp) -> i64 {
    time.seconds * 1000 + i64::from(time.nanos) / 1_000_000
}

/// The log of all releases, or of one.
pub(crate) async fn log(client: &Client, parent: &str) -> Result<Vec<Event>, Error> {
    let mut request = v1::ListReleaseEventsRequest {
        parent: parent.to_owned(),
        page_size: PAGE,
        ..Default::default()
    };
    let mut log = Vec::new();
    loop {
        let page = client.list_release_events(request.clone()).await?;
        log.extend(page.events.iter().map(Event::read));
        if page.next_page_token.is_empty() {
            return Ok(log);
        }
        request.page_token = page.next_page_token;
    }
}

/// All releases that match, and the revision of the read.
pub(crate) async fn releases(
    client: &Client,
    filter: v1::ReleaseFilter,
) -> Result<(Vec<v1::Release>, i64), Error> {
    let filter = Some(filter);
    let mut request = v1::ListReleasesRequest { page_size: PAGE, filter, ..Default::default() };
    let mut releases = Vec::new();
    loop {
        let page = client.list_releases(request.clone()).await?;
        releases.extend(page.releases);
        if page.next_page_token.is_empty() {
            return Ok((releases, page.revision));
        }
        request.page_token = page.next_page_token;
    }
}

/// The calls in an export of the audit chain.
pub(crate) fn audit(export: &Path) -> io::Result<Vec<Audited>> {
    let mut audit = Vec::new();
    for line in io::BufReader::new(fs::File::open(export)?).lines() {
        let line = line?;
        let entry = line.split_once(' ').map(|(_, json)| json).unwrap_or_default();
        let entry: serde_json::Value = serde_json::from_str(entry)?;
        let Some(call) = entry.get("call") else { continue };
        let text = |key: &str| call[key].as_str().unwrap_or_default().into();
        let outcome = &call["outcome"];
        let accepted =
            outcome.get("accepted").map(|it| it["revision"].as_i64().unwrap_or_default());
        audit.push(Audited { request: text("request_id"), resource: text("resource"), accepted });
    }
    Ok(audit)
}
