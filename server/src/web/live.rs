//! Live pages: any view as a stream of server-sent events.
//!
//! A page is a level, not an edge: whenever the head of the log moves, what the view shows is made
//! anew, and the regions that differ are sent. A slow reader misses steps in between and never the
//! last one. What every step was is in the event log, which is one of the regions.
//!
//! `regions` carries `{now, version, title, regions: [{id, hash, html}]}`, `clock` carries `{now}`, and
//! `gone` carries `{text}`: what is looked at is not there any more, and nothing follows. `login` is for
//! who is not signed in any more.

use super::{
    Site,
    page::{Moment, View},
    refused,
    viewer::Viewer,
};
use async_stream::stream;
use axum::{
    extract::{Path, RawQuery, State},
    response::{
        IntoResponse as _, Response,
        sse::{Event, Sse},
    },
};
use futures_util::Stream;
use http::StatusCode;
use phasegate_engine::time::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, convert::Infallible, pin::pin, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status};

/// A page that changes all the time is sent so often.
const PAUSE: Duration = Duration::from_millis(250);
/// Proxies cut streams that are silent for a minute; a viewer learns of a dead one sooner.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// The clock of a rehearsal moves without any commit.
const REHEARSAL_HEARTBEAT: Duration = Duration::from_millis(500);
/// A stream ends after this, and the browser opens another.
const LIFETIME: Duration = Duration::from_secs(3600);
/// When the browser comes back after an end.
const RETRY: Duration = Duration::from_secs(1);

#[derive(Serialize)]
struct Regions {
    now: i64,
    version: &'static str,
    title: String,
    regions: Vec<Sent>,
}

#[derive(Serialize)]
struct Sent {
    id: &'static str,
    hash: String,
    html: String,
}

#[derive(Serialize)]
struct Clock {
    now: i64,
}

#[derive(Serialize)]
struct Gone {
    text: String,
}

/// An event that carries a value. None, and a word in the log, if it cannot be written.
fn event(name: &str, value: impl Serialize) -> Option<Event> {
    let written = Event::default().event(name).json_data(value);
    written.inspect_err(|error| tracing::error!(%error, name, "an event cannot be written")).ok()
}

/// Opens a stream of a view.
pub(super) async fn stream(
    State(site): State<Site>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    viewer: Viewer,
) -> Response {
    let Some(view) = View::parse(&path, query.as_deref()) else {
        return refused::no_such_page().await.into_response();
    };
    // Else the browser would come back at once, and see the connection come and go.
    if site.api.draining().is_cancelled() {
        let text = "The server is stopping.";
        let refusal = refused::page(StatusCode::SERVICE_UNAVAILABLE, "Not available", text);
        return refusal.into_response();
    }
    let Ok(slot) = site.streams.clone().try_acquire_owned() else {
        let text = "Too many pages are open; this one does not follow by itself.";
        return refused::page(StatusCode::TOO_MANY_REQUESTS, "Too many", text).into_response();
    };
    let first = match Moment::now(&site, viewer) {
        Ok(moment) => moment,
        Err(refusal) => return refused::of_api(&refusal),
    };
    Sse::new(events(site, view, first, slot)).into_response()
}

fn events(
    site: Site,
    view: View,
    first: Moment,
    slot: OwnedSemaphorePermit,
) -> impl Stream<Item = Result<Event, Infallible>> {
    stream! {
        let _slot = slot;
        let (driver, viewer) = (first.driver.clone(), first.viewer.clone());
        let beat = if driver.is_rehearsal() { REHEARSAL_HEARTBEAT } else { HEARTBEAT };
        let mut head = driver.head();
        let mut sent = BTreeMap::new();
        let mut seen = None;
        let (mut clock, mut spoke) = (Timestamp::EPOCH, Instant::now());
        let mut over = pin!(sleep(LIFETIME));
        let watched = viewer.clone();
        let mut signed_out = pin!(watched.over());
        let draining = site.api.draining();
        yield Ok(Event::default().retry(RETRY).comment("live"));
        loop {
            // Marked as seen before the state is read: what comes after is a change.
            head.borrow_and_update();
            let Ok(moment) = Moment::now(&site, viewer.clone()) else { return };
            let newest = Some(view.revision(&moment));
            let fresh = if newest == seen { Ok(None) } else { changed(&view, &moment, &mut sent).await };
            seen = newest;
            match fresh {
                Err(refusal) if is_gone(&refusal) => {
                    let gone = Gone { text: refusal.message().to_owned() };
                    if let Some(event) = event("gone", gone) {
                        yield Ok(event);
                    }
                    return;
                }
                // The server stops, or the log was cut while it was read: the browser comes back.
                Err(_) => return,
                Ok(None) => {}
                Ok(Some(regions)) => {
                    (clock, spoke) = (moment.now, Instant::now());
                    let Some(event) = event("regions", regions) else { return };
                    yield Ok(event);
                }
            }
            let resume = Instant::now() + PAUSE;
            loop {
                tokio::select! {
                    moved = head.changed() => {
                        if moved.is_err() {
                            return;
                        }
                        break;
                    }
                    () = sleep(beat) => {
                        let now = driver.now();
                        // Nothing to say is said too, or the browser would think nobody is there.
                        if now != clock || spoke.elapsed() >= HEARTBEAT {
                            (clock, spoke) = (now, Instant::now());
                            let Some(event) = event("clock", Clock { now: now.as_millis() }) else {
                                return;
                            };
                            yield Ok(event);
                        }
                    }
                    () = &mut over => return,
                    // The browser comes back, and is told to sign in.
                    () = &mut signed_out => return,
                    () = draining.cancelled() => return,
                }
            }
            sleep_until(resume).await;
        }
    }
}

/// True if there is nothing to look at, and will not be.
fn is_gone(refusal: &Status) -> bool {
    matches!(refusal.code(), Code::NotFound | Code::InvalidArgument)
}

/// The regions that differ from what was sent; none if none does.
async fn changed(
    view: &View,
    moment: &Moment,
    sent: &mut BTreeMap<&'static str, String>,
) -> Result<Option<Regions>, Status> {
    let timeless = view.page(&moment.timeless()).await?;
    let hashes: Vec<String> = timeless.regions.iter().map(|region| region.hash()).collect();
    let differs =
        |(region, hash): (&super::page::Region, &String)| sent.get(region.id) != Some(hash);
    if !timeless.regions.iter().zip(&hashes).any(differs) {
        return Ok(None);
    }
    let page = view.page(moment).await?;
    let mut regions = Vec::new();
    for (region, hash) in page.regions.into_iter().zip(hashes) {
        if sent.insert(region.id, hash.clone()).as_ref() != Some(&hash) {
            regions.push(Sent { id: region.id, hash, html: region.content.into_string() });
        }
    }
    let (now, version) = (moment.now.as_millis(), super::assets::version());
    Ok(Some(Regions { now, version, title: page.title, regions }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::ManualClock,
        delivery::{self, Delivery},
        driver::{self, Driver, StoreId},
        grpc::Api,
        store::memory::{self, Disk},
        watch::{self, Watches},
    };
    use futures_util::StreamExt as _;
    use http::HeaderMap;
    use phasegate_engine::targeting::Bucketing;
    use std::sync::Arc;

    /// A server's pages over an empty store, whose clock stands still.
    fn site() -> (Driver, Site) {
        let store = memory::open(&Disk::new(), StoreId::fresh()).unwrap();
        let clock = Arc::new(ManualClock::new(Timestamp::from_millis(1)));
        let driver = Driver::start(Box::new(store), clock, driver::Config::default()).unwrap();
        let api = Api::new(Bucketing::default());
        let watches = Watches::new(driver.handle().clone(), watch::Config::default());
        api.open(driver.handle().clone(), watches);
        let delivery = Delivery::new(api, delivery::Config::default(), Duration::ZERO);
        (driver, Site::new(delivery, &[]))
    }

    /// The kinds of the events of a page, in the time that tokio's own clock takes for them.
    async fn events_of(site: &Site, path: &str, count: usize) -> Vec<(String, Duration)> {
        let began = Instant::now();
        let (path, query) = (Path(path.to_owned()), RawQuery(None));
        let response =
            stream(State(site.clone()), path, query, Viewer::of(&HeaderMap::new())).await;
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body().into_data_stream();
        let mut events = Vec::new();
        while events.len() < count
            && let Some(bytes) = body.next().await
        {
            let text = String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let kind = text.lines().find_map(|line| line.strip_prefix("event: "));
            events.extend(kind.map(|kind| (kind.to_owned(), began.elapsed())));
        }
        events
    }

    #[tokio::test(start_paused = true)]
    async fn a_rehearsal_that_stands_still_is_heard_of_every_ten_seconds() {
        let (_driver, site) = site();
        let events = events_of(&site, "releases", 3).await;
        let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
        assert_eq!(kinds, ["regions", "clock", "clock"]);
        let (first, second) = (events[1].1 - events[0].1, events[2].1 - events[1].1);
        for pause in [first, second] {
            assert!(pause >= HEARTBEAT && pause <= HEARTBEAT + REHEARSAL_HEARTBEAT, "{pause:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_there_is_said_to_be_gone_and_nothing_follows() {
        let (_driver, site) = site();
        let events = events_of(&site, "flags/none", 2).await;
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!(events[0].0, "gone");
    }
}
