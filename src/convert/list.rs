//! Listings: pages, their tokens, filters.

use super::{Rejected, fields::Fields};
use crate::v1;
use phasegate_engine::{
    Among,
    id::{FlagId, PipelineId, ReleaseId, Revision},
    release::{Release, ReleaseState},
};
use prost::Message as _;
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// The largest page.
const PAGE_MAX: i32 = 1000;
/// The size of a page of resources unless told otherwise.
const PAGE_DEFAULT: i32 = 50;
/// The size of a page of events unless told otherwise.
const EVENTS_DEFAULT: i32 = 100;
/// The most alternatives of one field of a filter.
const FILTER_MAX: usize = 100;

/// Which page of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page<T> {
    /// At most so many items.
    pub size: usize,
    /// Begin after this; none: at the beginning.
    pub after: Option<T>,
    /// Hash of the other fields, which a token is good for only with.
    listing: u64,
}

impl<T> Page<T> {
    pub(super) fn token_of(&self, position: &str) -> String {
        let mut token = format!("{:016x}", self.listing);
        for byte in position.bytes() {
            // Writing into a String cannot fail.
            let _ = write!(token, "{byte:02x}");
        }
        token
    }
}

/// A hash that stays the same from version to version: FNV-1a, 64 bits.
pub(super) fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let step = |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    bytes.into_iter().fold(0xcbf2_9ce4_8422_2325, step)
}

/// Parses size and token of a page; the position in the token is parsed by `position`.
pub(super) fn page<T>(
    fields: &mut Fields,
    (size, default): (i32, i32),
    token: &str,
    listing: u64,
    position: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<Page<T>>, Rejected> {
    let size = match size {
        0 => Some(default),
        1.. => Some(size.min(PAGE_MAX)),
        _ => fields.at("page_size", |fields| fields.refuse("must not be negative")),
    };
    let after = if token.is_empty() {
        None
    } else {
        let position = untoken(token, listing).and_then(|text| position(&text));
        Some(position.ok_or(Rejected::InvalidPageToken)?)
    };
    let size = size.map(|size| usize::try_from(size).unwrap_or_default());
    Ok(size.map(|size| Page { size, after, listing }))
}

/// The position in a token of this listing.
fn untoken(token: &str, listing: u64) -> Option<String> {
    let position = token.strip_prefix(&format!("{listing:016x}"))?;
    if !position.is_ascii() || position.len() % 2 != 0 {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
    let bytes: Option<Vec<u8>> = position.as_bytes().chunks_exact(2).map(byte).collect();
    String::from_utf8(bytes?).ok()
}

/// What ListFlags lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListFlags {
    /// Which page.
    pub page: Page<FlagId>,
    /// Only flags with this pipeline attached.
    pub pipeline: Option<PipelineId>,
}

impl ListFlags {
    /// The token of the page after this flag.
    pub fn token(&self, last: &FlagId) -> String {
        self.page.token_of(last.as_str())
    }
}

/// Parses ListFlags.
pub fn list_flags(request: v1::ListFlagsRequest) -> Result<ListFlags, Rejected> {
    let mut fields = Fields::default();
    let listing = hash(format!("flags {}", request.pipeline).into_bytes());
    let pipeline = fields.optional_pipeline(&request.pipeline);
    let size = (request.page_size, PAGE_DEFAULT);
    let parse = |text: &str| FlagId::parse(text).ok();
    let page = page(&mut fields, size, &request.page_token, listing, parse);
    finish_page(fields, page, |page| Some(ListFlags { page, pipeline: pipeline? }))
}

/// What ListPipelines lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListPipelines {
    /// Which page.
    pub page: Page<PipelineId>,
}

impl ListPipelines {
    /// The token of the page after this pipeline.
    pub fn token(&self, last: &PipelineId) -> String {
        self.page.token_of(last.as_str())
    }
}

/// Parses ListPipelines.
pub fn list_pipelines(request: v1::ListPipelinesRequest) -> Result<ListPipelines, Rejected> {
    let mut fields = Fields::default();
    let listing = hash(*b"pipelines");
    let size = (request.page_size, PAGE_DEFAULT);
    let parse = |text: &str| PipelineId::parse(text).ok();
    let page = page(&mut fields, size, &request.page_token, listing, parse);
    finish_page(fields, page, |page| Some(ListPipelines { page }))
}

/// What ListReleases lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListReleases {
    /// Which page: after the release that was created by the first revision. The second one is that
    /// of the store when the first page was read.
    pub page: Page<(Revision, Revision)>,
    /// Which releases.
    pub filter: ReleaseFilter,
}

impl ListReleases {
    /// The token of the page after the release that was created by the first revision.
    pub fn token(&self, (created, first_page): (Revision, Revision)) -> String {
        self.page.token_of(&format!("{created} {first_page}"))
    }
}

/// Parses ListReleases.
pub fn list_releases(request: v1::ListReleasesRequest) -> Result<ListReleases, Rejected> {
    let mut fields = Fields::default();
    let filter = request.filter.unwrap_or_default();
    let listing = hash(b"releases ".iter().copied().chain(filter.encode_to_vec()));
    let filter = fields.filter(filter);
    let size = (request.page_size, PAGE_DEFAULT);
    let parse = |text: &str| {
        let (created, first_page) = text.split_once(' ')?;
        Some((revision(created)?, revision(first_page)?))
    };
    let page = page(&mut fields, size, &request.page_token, listing, parse);
    finish_page(fields, page, |page| Some(ListReleases { page, filter: filter? }))
}

/// What ListReleaseEvents lists.
#[derive(Clone, Debug, PartialEq)]
pub struct ListReleaseEvents {
    /// Only events of this release; none: of all.
    pub release: Option<ReleaseId>,
    /// Only events above this revision.
    pub after: Revision,
    /// Falling instead of growing.
    pub order: EventOrder,
    /// Which page.
    pub page: Page<LogPosition>,
}

/// In which order events are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventOrder {
    /// By revision, then release, then order in the commit.
    OldestFirst,
    /// The other way round.
    NewestFirst,
}

/// An event of the log.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// Its commit.
    pub revision: Revision,
    /// Its release.
    pub release: ReleaseId,
    /// Its place among the events of the commit on the release.
    pub ordinal: u32,
}

impl ListReleaseEvents {
    /// The token of the page after this event.
    pub fn token(&self, last: &LogPosition) -> String {
        self.page.token_of(&format!("{} {} {}", last.revision, last.ordinal, last.release))
    }
}

/// Parses ListReleaseEvents.
pub fn list_release_events(
    request: v1::ListReleaseEventsRequest,
) -> Result<ListReleaseEvents, Rejected> {
    let mut fields = Fields::default();
    let v1::ListReleaseEventsRequest { parent, after_revision, newest_first, .. } = &request;
    let listing = hash(format!("events {after_revision} {newest_first} {parent}").into_bytes());
    let release = if parent == "releases/-" {
        Some(None)
    } else {
        fields.name("parent", "releases", parent, ReleaseId::parse).map(Some)
    };
    let after = fields.revision("after_revision", *after_revision);
    let order = if *newest_first { EventOrder::NewestFirst } else { EventOrder::OldestFirst };
    let size = (request.page_size, EVENTS_DEFAULT);
    let parse = |text: &str| {
        let mut parts = text.splitn(3, ' ');
        let (at, ordinal, release) = (parts.next()?, parts.next()?, parts.next()?);
        let release = ReleaseId::parse(release).ok()?;
        Some(LogPosition { revision: revision(at)?, release, ordinal: ordinal.parse().ok()? })
    };
    let page = page(&mut fields, size, &request.page_token, listing, parse);
    finish_page(fields, page, |page| {
        let after = after?.unwrap_or(Revision::ZERO);
        Some(ListReleaseEvents { release: release?, after, order, page })
    })
}

fn revision(text: &str) -> Option<Revision> {
    text.parse().ok().map(Revision::new)
}

/// Violations come before a wrong token: they can be told from the request alone.
pub(super) fn finish_page<P, T>(
    fields: Fields,
    page: Result<Option<Page<P>>, Rejected>,
    make: impl FnOnce(Page<P>) -> Option<T>,
) -> Result<T, Rejected> {
    match page {
        Ok(page) => fields.finish(page.and_then(make)),
        Err(wrong_token) => fields.finish(Some(())).and(Err(wrong_token)),
    }
}

/// Selects releases. All parts must match; alternatives inside one are ORed; an empty part matches.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ReleaseFilter {
    flags: Vec<FlagId>,
    pipelines: Vec<PipelineId>,
    states: Vec<ReleaseState>,
    progress: Over,
    labels: BTreeMap<Arc<str>, Arc<str>>,
}

/// Whether releases that are over match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Over {
    #[default]
    Included,
    LeftOut,
}

impl ReleaseFilter {
    /// Which releases have to be looked at for it.
    pub fn among(&self) -> Among<'_> {
        let is_running = |state: &ReleaseState| !state.is_final();
        let unfinished = self.progress == Over::LeftOut
            || (!self.states.is_empty() && self.states.iter().all(is_running));
        match (&*self.flags, unfinished) {
            ([], true) => Among::Unfinished,
            ([], false) => Among::All,
            (flags, true) => Among::UnfinishedOf(flags),
            (flags, false) => Among::OfFlags(flags),
        }
    }

    /// True if the release is selected as it is.
    pub fn matches(&self, release: &Release) -> bool {
        self.matched(release, release.state())
    }

    /// True if the release is, or was, selected in this state: nothing else that a filter looks at
    /// ever changes.
    pub fn matched(&self, release: &Release, state: ReleaseState) -> bool {
        let proposal = &release.proposal;
        let label = |(key, value)| proposal.labels.get(key) == Some(value);
        one_of(&self.flags, &proposal.flag)
            && one_of(&self.pipelines, &proposal.pipeline.id)
            && one_of(&self.states, &state)
            && (self.progress == Over::Included || !state.is_final())
            && self.labels.iter().all(label)
    }
}

fn one_of<T: PartialEq>(alternatives: &[T], value: &T) -> bool {
    alternatives.is_empty() || alternatives.contains(value)
}

impl Fields {
    /// The filter of a listing or a watch.
    pub(super) fn filter(&mut self, filter: v1::ReleaseFilter) -> Option<ReleaseFilter> {
        self.at("filter", |fields| {
            let flags = fields.list("flags", filter.flags, 0..=FILTER_MAX, |fields, name| {
                fields.name_here("flags", &name, FlagId::parse)
            });
            let pipelines =
                fields.list("pipelines", filter.pipelines, 0..=FILTER_MAX, |f, name| {
                    f.name_here("pipelines", &name, PipelineId::parse)
                });
            let states = fields.list("states", filter.states, 0..=FILTER_MAX, |fields, state| {
                let known = v1::ReleaseState::try_from(state).ok().and_then(state_from_wire);
                known.or_else(|| fields.unknown_here(state))
            });
            let labels = fields.labels(filter.labels);
            Some(ReleaseFilter {
                flags: flags?,
                pipelines: pipelines?,
                states: states?,
                progress: if filter.unfinished_only { Over::LeftOut } else { Over::Included },
                labels: labels?,
            })
        })
    }
}

fn state_from_wire(state: v1::ReleaseState) -> Option<ReleaseState> {
    match state {
        v1::ReleaseState::Unspecified => None,
        v1::ReleaseState::Pending => Some(ReleaseState::Pending),
        v1::ReleaseState::AwaitingApproval => Some(ReleaseState::AwaitingApproval),
        v1::ReleaseState::AwaitingWindow => Some(ReleaseState::AwaitingWindow),
        v1::ReleaseState::Baking => Some(ReleaseState::Baking),
        v1::ReleaseState::Paused => Some(ReleaseState::Paused),
        v1::ReleaseState::Succeeded => Some(ReleaseState::Succeeded),
        v1::ReleaseState::Aborted => Some(ReleaseState::Aborted),
        v1::ReleaseState::Failed => Some(ReleaseState::Failed),
    }
}
