//! The status page: what a person sees and does in a browser, on the port of the API.
//!
//! | route | what |
//! |---|---|
//! | `GET /` | leads to the releases |
//! | `GET /releases` | the list: `state`, `flag`, `pipeline`, `who`, `text` filter it, `page` pages it |
//! | `GET /releases/{id}` | one release |
//! | `GET`, `POST /releases/{id}/{action}` | the dialog of an action, and the action |
//! | `GET /flags`, `/flags/{id}` | flags and what they answer; `environment` and `context` evaluate |
//! | `GET`, `POST /flags/{id}/kill`, `/revive`, `/release` | the kill switch; triggering a release |
//! | `GET /pipelines`, `/pipelines/{id}` | pipelines |
//! | `GET`, `POST /caller` | as whom one acts |
//! | `GET`, `POST /login`, `GET /login/...`, `POST /logout` | signing in and out, if callers are authenticated |
//! | `GET /live/...` | any of the pages above as a stream of server-sent events |
//! | `GET /assets/...` | the style, the script, the icon |
//!
//! Reading is rendered from the state that the driver has published. Every action goes through the
//! service of the API that has it, in process and as the viewer, so it is parsed, refused and
//! recorded exactly like anybody's. What is possible now, and what it would do, is asked of the
//! engine.
//!
//! Everything works as plain pages and forms; the script adds live updates and dialogs. Nothing is
//! fetched from elsewhere, nothing is inline, and everything is escaped by its template.
//!
//! A viewer is shown what they may see, of a state that has nothing else in it; what they may not do is
//! said where it would be done, and refused by the service like anybody's call.
//!
//! What is deliberately absent: who is to be believed and what they may (see [`access`](crate::access)),
//! editing of pipelines, and any rule about releases.

mod action;
mod assets;
mod change;
mod door;
mod flag;
mod flags;
mod live;
mod login;
mod page;
mod paging;
mod pipelines;
mod refused;
mod release;
mod releases;
mod session;
mod sight;
mod time;
mod trigger;
mod viewer;
mod why;
mod words;

use crate::{access::identity::Authenticator, delivery::Delivery, grpc::Api};
use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    response::Redirect,
    routing::{get, post},
};
pub(crate) use door::{Hosts, asked_name};
use http::HeaderMap;
use login::Jar;
use session::{Session, Sessions};
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Streams of live pages at a time. Each costs a render at every commit, a few times a second at
/// most.
const STREAMS_MAX: usize = 1000;
/// The largest form: new answers of 512 KiB, percent-encoded at worst.
const FORM_BYTES_MAX: usize = 2 << 20;

/// What the pages work with. Clones share it.
#[derive(Clone, Debug)]
pub struct Site {
    api: Api,
    delivery: Delivery,
    hosts: Hosts,
    streams: Arc<Semaphore>,
    guard: Option<Guard>,
    sights: sight::Sights,
}

/// What stands before the pages when callers are authenticated.
#[derive(Clone, Debug)]
struct Guard {
    authenticator: Arc<Authenticator>,
    sessions: Sessions,
    scheme: Scheme,
}

impl Guard {
    /// The session of a browser, if it has one.
    fn session(&self, headers: &HeaderMap) -> Option<Arc<Session>> {
        let id = self.jar().session(headers)?;
        self.sessions.find(&id, &self.authenticator)
    }

    /// Which cookies browsers are to hold. A proxy may do the TLS.
    fn jar(&self) -> Jar {
        let by_proxy =
            || self.authenticator.public_urls().iter().any(|url| url.starts_with("https://"));
        if self.scheme == Scheme::Https || by_proxy() { Jar::Host } else { Jar::Plain }
    }
}

/// How browsers reach the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// In plain text, on this machine.
    Http,
    /// Over TLS.
    Https,
}

impl Site {
    /// A site over an API, which may not be open yet, and over what applications have of it.
    pub fn new(delivery: Delivery, hosts: &[String]) -> Self {
        let streams = Arc::new(Semaphore::new(STREAMS_MAX));
        Self {
            api: delivery.api().clone(),
            delivery,
            hosts: Hosts::new(hosts),
            streams,
            guard: None,
            sights: sight::Sights::default(),
        }
    }

    /// With a login before every page.
    #[must_use]
    pub fn with_login(mut self, authenticator: Arc<Authenticator>, scheme: Scheme) -> Self {
        self.hosts = self.hosts.with_issuers(Arc::clone(&authenticator));
        self.guard = Some(Guard { authenticator, sessions: Sessions::default(), scheme });
        self
    }

    /// The names that the pages answer to.
    pub(crate) fn hosts(&self) -> Hosts {
        self.hosts.clone()
    }

    /// All pages.
    pub fn routes(self) -> Router {
        Router::new()
            .route("/", get(|| async { Redirect::temporary("/releases") }))
            .route("/releases", get(page::show))
            .route("/releases/{id}", get(page::show))
            .route("/releases/{id}/{action}", get(action::dialog).post(action::act))
            .route("/flags", get(page::show))
            .route("/flags/{id}", get(page::show))
            .route("/flags/{id}/release", get(trigger::form).post(trigger::act))
            .route("/flags/{id}/kill", get(flag::kill_dialog).post(flag::kill))
            .route("/flags/{id}/revive", get(flag::revive_dialog).post(flag::revive))
            .route("/pipelines", get(page::show))
            .route("/pipelines/{id}", get(page::show))
            .route("/caller", get(viewer::form).post(viewer::act))
            .route("/login", get(login::form).post(login::act))
            .route("/login/start", get(login::start))
            .route("/login/callback", get(login::callback))
            .route("/logout", post(login::logout))
            .route("/live/{*page}", get(live::stream))
            .route("/assets/{name}", get(assets::serve))
            .fallback(refused::no_such_page)
            .method_not_allowed_fallback(refused::no_such_method)
            .layer(DefaultBodyLimit::max(FORM_BYTES_MAX))
            .layer(from_fn_with_state(self.clone(), door::keep))
            .with_state(self)
    }
}
