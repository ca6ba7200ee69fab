//! What callers send back or make up: page tokens, positions to resume from, etags, names, metadata.
//!
//! Nothing panics. Pages that follow one another come to an end, in order and without repetition. A
//! watch begins where it was told to, or says why it does not. An etag is the one that was given out or
//! it is stale.

use crate::{
    audit,
    input::{Input, Seed},
    server::{self, Server, call, poll, within_runtime},
    world::WORLD,
};
use futures_util::{Stream, StreamExt as _};
use phasegate_api::{
    convert,
    v1::{
        self, flag_service_server::FlagService as _, pipeline_service_server::PipelineService as _,
        release_service_server::ReleaseService as _,
    },
};
use phasegate_server::grpc::{caller, timeout};
use prost::Message;
use std::{collections::BTreeSet, pin::pin};
use tonic::{
    Code, Status,
    metadata::{MetadataKey, MetadataMap, MetadataValue},
};

/// Pages of one listing, of which each has an item at least. The world has fewer items.
const PAGES_MAX: usize = 200;
/// Messages that a watch is asked for.
const MESSAGES_MAX: usize = 64;

/// The target.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    let Some(kind) = input.byte() else { return };
    let mut server = WORLD.server();
    let server = &mut server;
    match kind % 12 {
        0 => decoded(&mut input, |request| list(server, Listing::Flags(request))),
        1 => decoded(&mut input, |request| list(server, Listing::Pipelines(request))),
        2 => decoded(&mut input, |request| list(server, Listing::Releases(request))),
        3 => decoded(&mut input, |request| list(server, Listing::Events(request))),
        4 => forged_token(server, &mut input),
        5 => decoded(&mut input, |request| watch_one(server, request)),
        6 => decoded(&mut input, |request| watch_many(server, request)),
        7 => resumed(server, &mut input),
        8 => names(server, &mut input),
        9 => forged_etag(server, &mut input),
        10 => decoded(&mut input, |request| wait(server, request)),
        _ => metadata(&mut input),
    }
}

fn decoded<R: Message + Default>(input: &mut Input<'_>, take: impl FnOnce(R)) {
    if let Ok(request) = R::decode(input.rest()) {
        take(request);
    }
}

/// An item of a page: what it is ordered by, and its name.
type Item = (Vec<u8>, String);

/// A listing, and where it is.
enum Listing {
    Flags(v1::ListFlagsRequest),
    Pipelines(v1::ListPipelinesRequest),
    Releases(v1::ListReleasesRequest),
    Events(v1::ListReleaseEventsRequest),
}

impl Listing {
    /// The first page of something, in small pages.
    fn of(kind: u8) -> Self {
        let page_size = 2;
        let newest_first = kind & 4 != 0;
        match kind % 4 {
            0 => Self::Flags(v1::ListFlagsRequest { page_size, ..Default::default() }),
            1 => Self::Pipelines(v1::ListPipelinesRequest { page_size, ..Default::default() }),
            2 => Self::Releases(v1::ListReleasesRequest { page_size, ..Default::default() }),
            _ => Self::Events(v1::ListReleaseEventsRequest {
                parent: "releases/-".into(),
                page_size,
                newest_first,
                ..Default::default()
            }),
        }
    }

    fn token(&mut self) -> &mut String {
        match self {
            Self::Flags(request) => &mut request.page_token,
            Self::Pipelines(request) => &mut request.page_token,
            Self::Releases(request) => &mut request.page_token,
            Self::Events(request) => &mut request.page_token,
        }
    }

    /// How many items all pages have together, if that is easy to tell.
    fn total(&self, server: &Server) -> Option<usize> {
        let state = server.state();
        match self {
            Self::Flags(all) if all.pipeline.is_empty() => Some(state.flags().count()),
            Self::Pipelines(_) => Some(state.pipelines().count()),
            Self::Releases(all) if all.filter.is_none() => Some(state.releases().count()),
            Self::Flags(_) | Self::Releases(_) | Self::Events(_) => None,
        }
    }

    /// The items of a page, in growing order, and the token of the next.
    fn page(&self, server: &mut Server) -> Result<(Vec<Item>, String), Status> {
        let descending = |number: i64| (i64::MAX - number).to_be_bytes().to_vec();
        match self {
            Self::Flags(request) => {
                let page = call!(server, list_flags, request.clone(), 0)?;
                let item = |flag: v1::Flag| (flag.name.clone().into_bytes(), flag.name);
                Ok((page.flags.into_iter().map(item).collect(), page.next_page_token))
            }
            Self::Pipelines(request) => {
                let page = call!(server, list_pipelines, request.clone(), 0)?;
                let item = |p: v1::Pipeline| (p.name.clone().into_bytes(), p.name);
                Ok((page.pipelines.into_iter().map(item).collect(), page.next_page_token))
            }
            Self::Releases(request) => {
                let page = call!(server, list_releases, request.clone(), 0)?;
                let state = server.state();
                let item = |release: v1::Release| {
                    let id = release.name.strip_prefix("releases/").expect("a name");
                    let found = state.release(&id.parse().expect("an id")).expect("it is there");
                    let created = convert::revision_to_wire(found.proposal.created);
                    (descending(created), release.name)
                };
                Ok((page.releases.into_iter().map(item).collect(), page.next_page_token))
            }
            Self::Events(request) => {
                let page = call!(server, list_release_events, request.clone(), 0)?;
                let item = |event: v1::ReleaseEvent| match request.newest_first {
                    true => (descending(event.revision), event.name),
                    false => (event.revision.to_be_bytes().to_vec(), event.name),
                };
                Ok((page.events.into_iter().map(item).collect(), page.next_page_token))
            }
        }
    }
}

/// Follows a listing to its end.
fn list(server: &mut Server, mut listing: Listing) {
    let total = listing.token().is_empty().then(|| listing.total(server)).flatten();
    let mut items: Vec<Item> = Vec::new();
    let mut first = true;
    for _ in 0..PAGES_MAX {
        let (page, next) = match listing.page(server) {
            Ok(page) => page,
            Err(status) => {
                assert!(first, "our own token is refused: {status:?}");
                return;
            }
        };
        first = false;
        items.extend(page);
        if next.is_empty() {
            let in_order = items.is_sorted_by(|(one, _), (other, _)| one <= other);
            assert!(in_order, "out of order: {items:?}");
            let names: BTreeSet<&str> = items.iter().map(|(_, name)| &**name).collect();
            assert_eq!(names.len(), items.len(), "twice: {items:?}");
            assert!(total.is_none_or(|total| total == items.len()), "{total:?} in all: {items:?}");
            return;
        }
        assert_ne!(next, *listing.token(), "a page leads to itself");
        *listing.token() = next;
    }
    panic!("a listing never ends");
}

/// A token that was given out, and then changed.
fn forged_token(server: &mut Server, input: &mut Input<'_>) {
    let mut listing = Listing::of(input.byte().unwrap_or_default());
    let (_, token) = listing.page(server).expect("a listing can be begun");
    assert!(!token.is_empty(), "two do not fill the world");
    let mut token = token.into_bytes();
    while input.edit(&mut token) {}
    let Ok(token) = String::from_utf8(token) else { return };
    *listing.token() = token;
    list(server, listing);
}

/// A watch of one release, told by its messages.
fn watch_one(server: &mut Server, asked: v1::WatchReleaseRequest) {
    let api = server.api.clone();
    let (after, store_id) = (asked.resume_after_revision, asked.store_id.clone());
    let opened = within_runtime(|| {
        let mut opening = api.watch_release(server::request(asked, 0));
        poll(opening.as_mut()).expect("a watch is opened at once")
    });
    let told = opened.map(|stream| {
        messages(server, stream.into_inner(), |message| {
            (message.revision, message.store_id.clone(), message.release.is_none())
        })
    });
    check_watch(server, after, &store_id, told);
}

/// A watch of many releases.
fn watch_many(server: &mut Server, asked: v1::WatchReleasesRequest) {
    let api = server.api.clone();
    let (after, store_id) = (asked.resume_after_revision, asked.store_id.clone());
    let opened = within_runtime(|| {
        let mut opening = api.watch_releases(server::request(asked, 0));
        poll(opening.as_mut()).expect("a watch is opened at once")
    });
    let told = opened.map(|stream| {
        let messages = messages(server, stream.into_inner(), |message| {
            let bookmark = message.initial.is_empty() && message.changes.is_empty();
            (message.revision, message.store_id.clone(), bookmark)
        });
        // Parts of the initial set have no revision yet.
        messages.into_iter().filter(|(revision, ..)| *revision > 0).collect()
    });
    check_watch(server, after, &store_id, told);
}

/// Revision, store, and whether it is a bookmark.
type Told = (i64, String, bool);

fn messages<M: Message + Default + PartialEq + std::fmt::Debug>(
    server: &mut Server,
    mut stream: impl Stream<Item = Result<M, Status>> + Unpin,
    tell: impl Fn(&M) -> Told,
) -> Vec<Told> {
    let mut told = Vec::new();
    while told.len() < MESSAGES_MAX {
        let next = poll(pin!(stream.next())).or_else(|| {
            // What is no longer in memory is read by the writer.
            server.turn();
            poll(pin!(stream.next()))
        });
        let Some(Some(message)) = next else { break };
        told.push(tell(&audit::message(message.expect("a watch goes on"))));
    }
    told
}

fn check_watch(server: &Server, after: i64, store_id: &str, told: Result<Vec<Told>, Status>) {
    let head = convert::revision_to_wire(server.revision());
    let oldest = convert::revision_to_wire(WORLD.oldest);
    let ours = server::STORE.to_string();
    match told {
        Err(status) => {
            let status = audit::refusal(status);
            if store_id.is_empty() || store_id == ours {
                let resumable = after == 0 || (oldest - 1..=head).contains(&after);
                let others = [Code::InvalidArgument, Code::NotFound];
                assert!(!resumable || others.contains(&status.code()), "{after}: {status:?}");
            }
        }
        Ok(told) => {
            assert!(store_id.is_empty() || store_id == ours, "resumed from another store");
            assert!(after == 0 || (oldest - 1..=head).contains(&after), "resumed from {after}");
            let mut last = after;
            for (revision, store, bookmark) in told {
                assert_eq!(store, ours);
                assert!(
                    revision > last || (bookmark && revision == last),
                    "{revision} after {last}"
                );
                assert!(revision <= head);
                last = revision;
            }
        }
    }
}

/// A watch from a revision and a store that are nearly right.
fn resumed(server: &mut Server, input: &mut Input<'_>) {
    let which = input.byte().unwrap_or_default();
    let offset = i64::from(input.byte().unwrap_or_default());
    let head = convert::revision_to_wire(server.revision());
    let resume_after_revision = match which & 3 {
        0 => head - offset,
        1 => head + offset,
        2 => i64::MAX - offset,
        _ => convert::revision_to_wire(WORLD.oldest) - offset,
    };
    let mut store_id = server::STORE.to_string().into_bytes();
    while input.edit(&mut store_id) {}
    let Ok(store_id) = String::from_utf8(store_id) else { return };
    if which & 4 == 0 {
        let filter = (which & 8 != 0)
            .then(|| v1::ReleaseFilter { unfinished_only: true, ..Default::default() });
        watch_many(server, v1::WatchReleasesRequest { resume_after_revision, store_id, filter });
    } else {
        let name = if which & 8 == 0 { "releases/baking" } else { "releases/aborted" };
        let name = name.into();
        watch_one(server, v1::WatchReleaseRequest { name, resume_after_revision, store_id });
    }
}

/// Names of nothing in particular.
fn names(server: &mut Server, input: &mut Input<'_>) {
    let Ok(name) = std::str::from_utf8(input.rest()) else { return };
    let name = || name.to_owned();
    if let Ok(found) = call!(server, get_flag, v1::GetFlagRequest { name: name() }, 0) {
        assert_eq!(found.flag.map(|flag| flag.name), Some(name()));
    }
    let get = v1::GetPipelineRequest { name: name() };
    if let Ok(found) = call!(server, get_pipeline, get, 0) {
        assert_eq!(found.pipeline.map(|pipeline| pipeline.name), Some(name()));
    }
    if let Ok(found) = call!(server, get_release, v1::GetReleaseRequest { name: name() }, 0) {
        assert_eq!(found.release.map(|release| release.name), Some(name()));
    }
    let parent = name();
    let events = v1::ListReleaseEventsRequest { parent, ..Default::default() };
    list(server, Listing::Events(events));
}

/// An etag that was given out, and then changed.
fn forged_etag(server: &mut Server, input: &mut Input<'_>) {
    let state = server.state();
    let which = input.byte().unwrap_or_default();
    let (kind, n) = (which % 3, usize::from(which / 3));
    let flag = state.flags().nth(n % state.flags().count()).expect("there is one");
    let pipeline = state.pipelines().nth(n % state.pipelines().count()).expect("there is one");
    let mut flag = convert::flag_to_wire(flag, None);
    let mut pipeline = convert::pipeline_to_wire(pipeline);
    let release = v1::GetReleaseRequest { name: "releases/paused".into() };
    let release = call!(server, get_release, release, 0).expect("it is there").release;
    let release = release.expect("an answer has it");
    let genuine = [&flag.etag, &pipeline.etag, &release.etag][usize::from(kind)].clone();
    let mut etag = genuine.clone().into_bytes();
    while input.edit(&mut etag) {}
    let Ok(etag) = String::from_utf8(etag) else { return };
    let answer = match kind {
        0 => {
            flag.etag.clone_from(&etag);
            let mut request = v1::UpdateFlagRequest::default();
            (request.flag, request.validate_only) = (Some(flag), true);
            request.update_mask = Some(mask());
            call!(server, update_flag, request, 0).map(drop)
        }
        1 => {
            pipeline.etag.clone_from(&etag);
            let mut request = v1::UpdatePipelineRequest::default();
            (request.pipeline, request.validate_only) = (Some(pipeline), true);
            request.update_mask = Some(mask());
            call!(server, update_pipeline, request, 0).map(drop)
        }
        _ => {
            let (name, etag) = (release.name, etag.clone());
            let request = v1::UnpauseReleaseRequest { name, etag, ..Default::default() };
            call!(server, unpause_release, request, 0).map(drop)
        }
    };
    if etag.is_empty() || etag == genuine {
        answer.expect("the etag is right");
    } else {
        let status = answer.expect_err(&format!("{etag} for {genuine}"));
        assert_eq!(status.code(), Code::Aborted, "{status:?}");
    }
}

fn mask() -> prost_types::FieldMask {
    prost_types::FieldMask { paths: vec!["description".to_owned()] }
}

/// A wait that is over at once, or has to wait.
fn wait(server: &Server, asked: v1::WaitReleaseRequest) {
    let api = server.api.clone();
    let mut waiting = within_runtime(|| api.wait_release(server::request(asked, 0)));
    if let Some(answer) = poll(waiting.as_mut()) {
        let answered = server::answer(answer);
        assert!(answered.is_err() || answered.is_ok_and(|answer| answer.release.is_some()));
    }
}

/// What a call carries beside its message.
fn metadata(input: &mut Input<'_>) {
    let mut metadata = MetadataMap::new();
    while let Some(kind) = input.byte() {
        let Ok(value) = MetadataValue::try_from(input.bytes().unwrap_or_default()) else {
            continue;
        };
        let key = match kind % 3 {
            0 => caller::PRINCIPAL,
            1 => caller::GROUPS,
            _ => "grpc-timeout",
        };
        metadata.append(MetadataKey::from_static(key), value);
    }
    match caller::caller(&metadata) {
        Ok(caller) => {
            assert!((1..=256).contains(&caller.principal.as_str().len()));
            assert!(caller.groups.len() <= 100);
            assert!(caller.groups.iter().all(|group| (1..=128).contains(&group.as_str().len())));
        }
        Err(violations) => assert!(!violations.is_empty()),
    }
    timeout(metadata.as_ref());
}

/// One of each.
pub(crate) fn seeds() -> Vec<(String, Vec<u8>)> {
    let filter = || v1::ReleaseFilter {
        flags: vec!["flags/checkout".into()],
        states: vec![v1::ReleaseState::Baking.into()],
        labels: [("team".to_owned(), "växjö".to_owned())].into(),
        unfinished_only: true,
        ..Default::default()
    };
    let message = |kind: u8, message: Vec<u8>| Seed([vec![kind], message].concat());
    let pipeline = || "pipelines/standard".to_owned();
    let flags = v1::ListFlagsRequest { page_size: 2, pipeline: pipeline(), ..Default::default() };
    let pipelines = v1::ListPipelinesRequest { page_size: 1, ..Default::default() };
    let releases = v1::ListReleasesRequest { filter: Some(filter()), ..Default::default() };
    let events = v1::ListReleaseEventsRequest {
        parent: "releases/window".into(),
        page_size: 1,
        after_revision: 20,
        newest_first: true,
        ..Default::default()
    };
    let mut all = v1::ListReleaseEventsRequest { parent: "releases/-".into(), ..events.clone() };
    all.newest_first = false;
    let watch_release = v1::WatchReleaseRequest {
        name: "releases/window".into(),
        resume_after_revision: 20,
        store_id: server::STORE.to_string(),
    };
    let snapshot = v1::WatchReleaseRequest { name: "releases/done".into(), ..Default::default() };
    let watch_releases = v1::WatchReleasesRequest { filter: Some(filter()), ..Default::default() };
    let wait = v1::WaitReleaseRequest {
        name: "releases/done".into(),
        until_over: true,
        ..Default::default()
    };
    let mut seeds = vec![
        ("flags", message(0, flags.encode_to_vec())),
        ("pipelines", message(1, pipelines.encode_to_vec())),
        ("releases", message(2, releases.encode_to_vec())),
        ("events", message(3, events.encode_to_vec())),
        ("all-events", message(3, all.encode_to_vec())),
        ("watch", message(5, watch_release.encode_to_vec())),
        ("snapshot", message(5, snapshot.encode_to_vec())),
        ("watch-many", message(6, watch_releases.encode_to_vec())),
        ("flag-name", message(8, b"flags/checkout".to_vec())),
        ("pipeline-name", message(8, b"pipelines/quick".to_vec())),
        ("release-name", message(8, b"releases/window".to_vec())),
        ("wait", message(10, wait.encode_to_vec())),
        (
            "metadata",
            Seed::default()
                .byte(11)
                .byte(0)
                .bytes(b"ann")
                .byte(1)
                .bytes(b"sre, ops,sre")
                .byte(2)
                .bytes(b"30S"),
        ),
    ];
    for listing in 0..8 {
        let token = Seed::default().byte(4).byte(listing);
        seeds.push(("token", Seed(token.0.clone())));
        seeds.push((
            "other-token",
            token.byte(0).number(20).byte(b'9').byte(1).number(16).byte(b'3'),
        ));
    }
    for which in 0..16 {
        let resumed = Seed::default().byte(7).byte(which).byte(3);
        seeds.push((
            "resume",
            if which < 8 { resumed } else { resumed.byte(0).number(1).byte(b'f') },
        ));
    }
    for which in 0..6 {
        let etag = Seed::default().byte(9).byte(which);
        seeds.push(("etag", if which < 3 { etag } else { etag.byte(1).number(1).byte(b'0') }));
    }
    let number = |(n, (name, seed)): (usize, (&str, Seed))| (format!("{n:02}-{name}"), seed.0);
    seeds.into_iter().enumerate().map(number).collect()
}
