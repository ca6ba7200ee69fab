//! What is known of one release that is followed: as it is, what happened last, and whether the
//! server is still heard.

use super::clock::ServerClock;
use phasegate_api::v1;
use phasegate_client::{Client, Error, Reason, ReleaseUpdate};
use std::collections::BTreeMap;

/// As many events as the tallest terminal shows.
const EVENTS_MAX: usize = 200;
/// As many of those that came before as are asked for.
const EARLIER: i32 = 50;

/// Whether the server is heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    Up,
    /// It said that it stops.
    Draining,
    Lost(String),
    /// It was lost and is back, and nothing has happened since.
    Healed,
    /// What happened in between is not shown.
    BegunAnew,
}

impl Link {
    /// A stream is open again. Streams end of age too, which nobody needs to know.
    pub(crate) fn heal(&mut self) {
        if matches!(self, Self::Lost(_) | Self::Draining) {
            *self = Self::Healed;
        }
    }
}

/// Everything that is shown of one release.
#[derive(Debug)]
pub(crate) struct Followed {
    pub(crate) release: v1::Release,
    pub(crate) clock: ServerClock,
    pub(crate) link: Link,
    /// By revision, then by order in the commit.
    events: BTreeMap<(i64, u32), v1::ReleaseEvent>,
}

impl Followed {
    pub(crate) fn new(release: v1::Release, clock: ServerClock) -> Self {
        Self { release, clock, link: Link::Up, events: BTreeMap::new() }
    }

    /// Events, newest first.
    pub(crate) fn newest_events(&self) -> impl Iterator<Item = &v1::ReleaseEvent> {
        self.events.values().rev()
    }

    /// Takes in what a watch told.
    pub(crate) fn take(&mut self, update: ReleaseUpdate) {
        match update {
            ReleaseUpdate::Snapshot { release, server_time, .. } => {
                self.clock.hear(server_time.as_ref());
                self.release = *release;
                if !matches!(self.link, Link::BegunAnew) {
                    self.link = Link::Up;
                }
            }
            ReleaseUpdate::Change { release, events, server_time, .. } => {
                self.clock.hear(server_time.as_ref());
                self.change(*release);
                self.remember(events);
                self.link = Link::Up;
            }
            ReleaseUpdate::Bookmark { server_time, .. } => self.clock.hear(server_time.as_ref()),
            ReleaseUpdate::Resumed => self.link.heal(),
            ReleaseUpdate::Interrupted(error) => {
                if let Some(link) = lost(&error) {
                    self.link = link;
                }
            }
            ReleaseUpdate::Restarted(_) => self.link = Link::BegunAnew,
            _ => {}
        }
    }

    /// Changes come without what cannot change.
    fn change(&mut self, mut release: v1::Release) {
        release.pipeline_snapshot = self.release.pipeline_snapshot.take();
        release.change = self.release.change.take();
        self.release = release;
    }

    pub(crate) fn remember(&mut self, events: impl IntoIterator<Item = v1::ReleaseEvent>) {
        for event in events {
            let ordinal = event.name.rsplit('-').next().and_then(|n| n.parse().ok());
            self.events.insert((event.revision, ordinal.unwrap_or_default()), event);
        }
        while self.events.len() > EVENTS_MAX {
            self.events.pop_first();
        }
    }
}

/// What the end of a stream says of the server, if it says anything: streams end of age too.
pub(crate) fn lost(error: &Error) -> Option<Link> {
    if error.reason == Reason::StreamExpired {
        None
    } else if error.reason == Reason::ServerDraining {
        Some(Link::Draining)
    } else {
        Some(Link::Lost(error.message.clone()))
    }
}

/// What happened to a release before it was watched.
pub(crate) async fn earlier(client: &Client, name: &str) -> Result<Vec<v1::ReleaseEvent>, Error> {
    let request = v1::ListReleaseEventsRequest {
        parent: name.to_owned(),
        page_size: EARLIER,
        newest_first: true,
        ..Default::default()
    };
    Ok(client.list_release_events(request).await?.events)
}
