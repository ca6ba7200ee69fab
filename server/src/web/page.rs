//! What all pages have: a moment that they show, regions that can be shown again, and the frame
//! around them.

use super::{
    Site, assets, flag, flags, pipelines, refused, release, releases,
    viewer::{Known, Viewer},
};
use crate::{delivery::Following, driver::Handle};
use axum::{
    extract::State as Extract,
    response::{Html, IntoResponse as _, Response},
};
use http::Uri;
use maud::{DOCTYPE, Markup, html};
use phasegate_engine::{
    State,
    id::{ReleaseId, Revision},
    targeting::Bucketing,
    time::Timestamp,
};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use tonic::Status;

/// What is shown: a durable state, a time, and who looks.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    pub(super) state: State,
    pub(super) now: Timestamp,
    pub(super) viewer: Viewer,
    pub(super) driver: Handle,
    pub(super) bucketing: Bucketing,
    /// The applications that follow flags, by environment.
    pub(super) applications: Vec<Following>,
}

impl Moment {
    /// The newest one; an answer of the API while there is none.
    pub(super) fn now(site: &Site, viewer: Viewer) -> Result<Self, Status> {
        let driver = site.api.driver()?.clone();
        let (now, bucketing) = (driver.now(), site.api.bucketing());
        let state = viewer.seen(site, driver.state());
        let applications = site.delivery.following();
        Ok(Self { state, now, viewer, driver, bucketing, applications })
    }

    /// The same state, as if no time passed. Two of these show the same unless the state differs in
    /// what they show, so they tell what has to be sent again.
    pub(super) fn timeless(&self) -> Self {
        Self { now: Timestamp::EPOCH, ..self.clone() }
    }
}

/// A page: its title, and regions that are each replaced as a whole when they change.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) title: String,
    pub(super) regions: Vec<Region>,
}

/// A part of a page.
#[derive(Debug)]
pub(super) struct Region {
    /// Unique on its page.
    pub(super) id: &'static str,
    pub(super) content: Markup,
}

impl Region {
    pub(super) fn new(id: &'static str, content: Markup) -> Self {
        Self { id, content }
    }

    /// Equal for equal contents, in one run of the server.
    pub(super) fn hash(&self) -> String {
        let mut hasher = DefaultHasher::new();
        self.content.0.hash(&mut hasher);
        format!("{:016x}", hasher.finish())
    }
}

/// Which page is looked at.
#[derive(Clone, Debug)]
pub(super) enum View {
    Releases(releases::Query),
    Release(String),
    Flags(flags::Query),
    Flag(String, flag::Question),
    Pipelines,
    Pipeline(String),
}

impl View {
    /// By path and query; none if there is no such page.
    pub(super) fn parse(path: &str, query: Option<&str>) -> Option<Self> {
        let query: Uri = format!("/?{}", query.unwrap_or_default()).parse().ok()?;
        let mut segments = path.trim_matches('/').splitn(2, '/');
        let view = match (segments.next()?, segments.next()) {
            ("releases", None) => Self::Releases(parsed(&query)),
            ("releases", Some(id)) => Self::Release(id.to_owned()),
            ("flags", None) => Self::Flags(parsed(&query)),
            ("flags", Some(id)) => Self::Flag(id.to_owned(), parsed(&query)),
            ("pipelines", None) => Self::Pipelines,
            ("pipelines", Some(id)) => Self::Pipeline(id.to_owned()),
            _ => return None,
        };
        Some(view)
    }

    /// Revision of the newest change that the page can show: while it stays, so does the page.
    pub(super) fn revision(&self, moment: &Moment) -> Revision {
        let state = &moment.state;
        let of_release = |id: &String| {
            let release = state.release(&ReleaseId::parse(id).ok()?)?;
            let flag = state.flag(&release.proposal.flag).map(|flag| flag.revision);
            Some(release.progress.revision.max(flag.unwrap_or(Revision::ZERO)))
        };
        match self {
            Self::Release(id) => of_release(id).unwrap_or_else(|| state.revision()),
            Self::Releases(_)
            | Self::Flags(_)
            | Self::Flag(..)
            | Self::Pipelines
            | Self::Pipeline(_) => state.revision(),
        }
    }

    /// The page as of a moment, or why there is none.
    pub(super) async fn page(&self, moment: &Moment) -> Result<Page, Status> {
        match self {
            Self::Releases(query) => Ok(releases::page(moment, query)),
            Self::Release(id) => release::page(moment, id).await,
            Self::Flags(query) => Ok(flags::page(moment, query)),
            Self::Flag(id, question) => flag::page(moment, id, question),
            Self::Pipelines => Ok(pipelines::list(moment)),
            Self::Pipeline(id) => pipelines::page(moment, id),
        }
    }
}

/// A query; what cannot be read is left out rather than refused, because people edit addresses.
fn parsed<T: Default + serde::de::DeserializeOwned>(uri: &Uri) -> T {
    axum::extract::Query::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// Shows a page.
pub(super) async fn show(Extract(site): Extract<Site>, uri: Uri, viewer: Viewer) -> Response {
    let Some(view) = View::parse(uri.path(), uri.query()) else {
        return refused::no_such_page().await.into_response();
    };
    match shown(&site, &view, viewer, &uri).await {
        Ok(page) => Html(page.into_string()).into_response(),
        Err(refusal) => refused::of_api(&refusal),
    }
}

async fn shown(site: &Site, view: &View, viewer: Viewer, uri: &Uri) -> Result<Markup, Status> {
    let moment = Moment::now(site, viewer)?;
    let page = view.page(&moment).await?;
    let timeless = view.page(&moment.timeless()).await?;
    let live = format!("/live{}", uri.path_and_query().map_or("/", |path| path.as_str()));
    let body = html! {
        @for (region, timeless) in page.regions.iter().zip(&timeless.regions) {
            section id=(region.id) data-hash=(timeless.hash()) { (region.content) }
        }
    };
    Ok(framed(&page.title, &Chrome::Full(&moment), &body, Some(&live)))
}

/// What stands around a page.
#[derive(Debug)]
pub(super) enum Chrome<'a> {
    /// Navigation, clock and viewer.
    Full(&'a Moment),
    /// Navigation only: nothing may be known.
    Bare,
}

/// Where a form is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In a dialog over a page.
    Dialog,
    /// On a page of its own.
    Page,
}

impl Place {
    /// The heading of the form: that of its page, or one below that of the page behind.
    pub(super) fn heading(self, text: &Markup) -> Markup {
        match self {
            Self::Dialog => html! { h2 id="dialog-title" { (text) } },
            Self::Page => html! { h1 { (text) } },
        }
    }
}

/// A page that does not change by itself.
pub(super) fn document(title: &str, chrome: &Chrome<'_>, body: &Markup) -> Markup {
    framed(title, chrome, body, None)
}

fn framed(title: &str, chrome: &Chrome<'_>, body: &Markup, live: Option<&str>) -> Markup {
    let (now, clock) = match chrome {
        Chrome::Full(moment) => {
            let clock = if moment.driver.is_rehearsal() { "manual" } else { "system" };
            (Some(moment.now.as_millis()), clock)
        }
        Chrome::Bare => (None, "system"),
    };
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (title) " · Phasegate" }
                link rel="icon" type="image/svg+xml" href=(assets::href("icon.svg"));
                link rel="stylesheet" href=(assets::href("style.css"));
                script src=(assets::href("live.js")) defer {}
            }
            body data-now=[now] data-clock=(clock) data-live=[live] data-version=(assets::version()) {
                a.skip href="#main" { "Skip to content" }
                header.top {
                    a.brand href="/releases" { img src=(assets::href("icon.svg")) alt="" width="22" height="22"; "Phasegate" }
                    nav aria-label="Main" {
                        a href="/releases" { "Releases" }
                        a href="/flags" { "Flags" }
                        a href="/pipelines" { "Pipelines" }
                    }
                    @if let Chrome::Full(moment) = chrome { (who_and_when(moment)) }
                }
                p #connection role="status" hidden {}
                main #main tabindex="-1" { (body) }
                noscript { p.hint.foot { "Without JavaScript this page does not follow by itself; reload it to see the newest state. Every action works." } }
                dialog #dialog aria-labelledby="dialog-title" {}
                p #announcement.out-of-sight role="status" {}
            }
        }
    }
}

fn who_and_when(moment: &Moment) -> Markup {
    html! {
        @if moment.driver.is_rehearsal() {
            span.rehearsal title="This server's clock moves only when it is told to" {
                "Rehearsal, " span #rehearsal-clock { (super::time::at(moment.now)) }
            }
        }
        a.viewer href="/caller" {
            @match moment.viewer.known {
                Known::NotAtAll => { "Acting as nobody" }
                Known::ByCookie | Known::ByProxy | Known::ByCredential => {
                    "Acting as " strong { (moment.viewer.caller.principal) }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_view_is_named_by_its_path() {
        let check = |path: &str| View::parse(path, None).map(|view| format!("{view:?}"));
        assert!(check("/releases").unwrap().starts_with("Releases"));
        assert_eq!(check("releases/r-1").unwrap(), "Release(\"r-1\")");
        assert!(check("/flags/a.b").unwrap().starts_with("Flag(\"a.b\""));
        assert!(check("/pipelines/p").unwrap().starts_with("Pipeline("));
        assert!(check("/assets/style.css").is_none());
        assert!(check("/").is_none());
    }

    #[test]
    fn a_query_that_cannot_be_read_is_left_out() {
        let Some(View::Releases(query)) = View::parse("releases", Some("page=x")) else { panic!() };
        assert_eq!(query, releases::Query::default());
    }
}
