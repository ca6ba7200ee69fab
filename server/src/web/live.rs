//! Live pages: any view as a stream of server-sent events.
//!
//! A page is a level, not an edge: whenever the head of the log moves, what the view shows is made
//! anew, and the regions that differ are sent. A slow reader misses steps in between and never the
//! last one. What every step was is in the event log, which is one of the regions.
//!
//! `regions` carries `{now, version, regions: [{id, hash, html}]}` and `clock` carries `{now}`.

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
use http::{HeaderMap, StatusCode};
use phasegate_engine::time::Timestamp;
use serde::Serialize;
use std::{collections::BTreeMap, convert::Infallible, pin::pin, time::Duration};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep, sleep_until},
};
use tonic::Status;

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

/// Opens a stream of a view.
pub(super) async fn stream(
    State(site): State<Site>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
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
    let viewer = Viewer::of(&headers);
    let first = match Moment::now(&site, viewer) {
        Ok(moment) => moment,
        Err(refusal) => return refused::of_api(&refusal),
    };
    if let Err(refusal) = view.page(&first).await {
        return refused::of_api(&refusal);
    }
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
        let mut clock = Timestamp::EPOCH;
        let mut over = pin!(sleep(LIFETIME));
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
                // What is looked at is gone, and the browser learns so when it comes back.
                Err(_) => return,
                Ok(None) => {}
                Ok(Some(regions)) => {
                    clock = moment.now;
                    match Event::default().event("regions").json_data(&regions) {
                        Ok(event) => yield Ok(event),
                        Err(error) => {
                            tracing::error!(%error, "a page cannot be written as JSON");
                            return;
                        }
                    }
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
                        if !driver.is_rehearsal() || now != clock {
                            clock = now;
                            let event = Event::default().event("clock");
                            if let Ok(event) = event.json_data(Clock { now: now.as_millis() }) {
                                yield Ok(event);
                            }
                        }
                    }
                    () = &mut over => return,
                    () = draining.cancelled() => return,
                }
            }
            sleep_until(resume).await;
        }
    }
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
