//! The two streams of `ReleaseService`, and the way round the generated code that lets them share
//! what they send.
//!
//! The generated server encodes a message for each stream. [`Shared`] stands before it, serves the
//! two methods itself with [`wire`](super::wire)'s codec, and leaves everything else to it.

use super::{
    Api, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
    caller::Unknown,
    status,
    timeout::timeout,
    wire::{FrameCodec, ReleaseFrame, ReleasesFrame, Stamp},
};
use crate::{
    access::{Grants, Permission, Reach},
    driver::Handle,
    watch::{Select, WatchEnd, WatchRefusal, Watcher},
};
use async_stream::stream;
use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use phasegate_api::{
    convert::{self, ReleaseFilter},
    v1::{WatchReleaseRequest, WatchReleasesRequest, release_service_server::ReleaseServiceServer},
};
use phasegate_engine::{
    Among,
    id::{ReleaseId, Revision},
    refusal::Resource,
    release::{Release, ReleaseState},
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    metadata::MetadataMap,
    server::{Grpc, NamedService, ServerStreamingService},
    transport::server::TcpConnectInfo,
};
use tower::Service;

/// A stream of messages, encoded later.
pub(super) type Frames<F> = BoxStream<'static, Result<F, Status>>;

impl Api {
    /// Opens a watch of one release.
    pub(super) fn watch_one(
        &self,
        request: Request<WatchReleaseRequest>,
    ) -> Result<Frames<ReleaseFrame>, Status> {
        let backend = self.backend()?;
        let (metadata, extensions, message) = request.into_parts();
        let grants = self.grants(&metadata, &extensions);
        let asked = convert::watch_release(message);
        let (asked, watcher, grants) = watcher(grants, &metadata, &extensions, asked, |asked| {
            (asked.resume_after, std::mem::take(&mut asked.store_id))
        })?;
        let id = asked.release.clone();
        let driver = backend.driver.clone();
        if !sees(&grants, &driver, &id) {
            // As if there were none.
            backend.watches.check_not_draining().map_err(status::watch_refused)?;
            return Err(status::watch_refused(WatchRefusal::NotFound(id)));
        }
        let items = backend.watches.release(watcher, asked.release);
        let frames = items.map_err(status::watch_refused)?.map(move |item| {
            let stamp = Stamp { store_id: driver.store_id(), now: driver.now() };
            item.map(|item| ReleaseFrame { stamp, item }).map_err(|end| ended(&driver, end))
        });
        if grants.is_open() {
            return Ok(frames.boxed());
        }
        let driver = backend.driver.clone();
        Ok(while_good(frames.boxed(), move || {
            let gone = || status::not_found(&Resource::Release(id.clone()));
            if sees(&grants, &driver, &id) { Ok(()) } else { Err(gone()) }
        }))
    }

    /// Opens a watch of all releases that match a filter.
    pub(super) fn watch_many(
        &self,
        request: Request<WatchReleasesRequest>,
    ) -> Result<Frames<ReleasesFrame>, Status> {
        let backend = self.backend()?;
        let (metadata, extensions, message) = request.into_parts();
        let grants = self.grants(&metadata, &extensions);
        let asked = convert::watch_releases(message);
        let (asked, watcher, grants) = watcher(grants, &metadata, &extensions, asked, |asked| {
            (asked.resume_after, std::mem::take(&mut asked.store_id))
        })?;
        let driver = backend.driver.clone();
        // Before the watch begins: what changes while it does is noticed.
        let view = View::of(&grants, &driver);
        if view.is_stale(watcher.resume_after) {
            return Err(status::view_changed());
        }
        let (filter, selector) = (asked.filter, grants.clone());
        let matching = Matching { filter, grants: selector, driver: driver.clone() };
        let items = backend.watches.releases(watcher, matching);
        let frames = items.map_err(status::watch_refused)?.map(move |item| {
            let stamp = Stamp { store_id: driver.store_id(), now: driver.now() };
            item.map(|item| ReleasesFrame { stamp, item }).map_err(|end| ended(&driver, end))
        });
        if grants.is_open() {
            return Ok(frames.boxed());
        }
        let driver = backend.driver.clone();
        Ok(while_good(frames.boxed(), move || {
            if View::of(&grants, &driver) == view { Ok(()) } else { Err(status::view_changed()) }
        }))
    }
}

/// Counts the end of a watch, and says why it ended.
fn ended(driver: &Handle, end: WatchEnd) -> Status {
    driver.metrics().watch_ends.of(end.name()).add(1);
    status::watch_ended(end)
}

/// Whether a release is out of nobody's sight; one that is not there is.
fn sees(grants: &Grants, driver: &Handle, id: &ReleaseId) -> bool {
    if grants.everywhere(Permission::Read) {
        return true;
    }
    let state = driver.state();
    state.release(id).is_none_or(|release| grants.sees_release(&state, release))
}

/// What somebody sees, as far as it decides which releases are in a set.
#[derive(Debug, PartialEq)]
struct View {
    reach: Option<Reach>,
    /// The last commit that moved a flag to other labels; zero if they make no difference.
    relabelled: Revision,
}

impl View {
    fn of(grants: &Grants, driver: &Handle) -> Self {
        let reach = grants.view();
        let relabelled = match reach {
            Some(Reach::Everywhere) => Revision::ZERO,
            Some(Reach::Under(_)) | None => driver.state().relabelled(),
        };
        Self { reach, relabelled }
    }

    /// True for who goes on from a set that was made before labels changed.
    fn is_stale(&self, resume_after: Option<Revision>) -> bool {
        resume_after.is_some_and(|after| after < self.relabelled)
    }
}

/// The frames, for as long as it is good that they are sent: asked before each of them, and bookmarks
/// come often enough.
fn while_good<F: Send + 'static>(
    mut frames: Frames<F>,
    is_good: impl Fn() -> Result<(), Status> + Send + 'static,
) -> Frames<F> {
    stream! {
        while let Some(frame) = frames.next().await {
            if let Err(refusal) = is_good() {
                yield Err(refusal);
                return;
            }
            yield frame;
        }
    }
    .boxed()
}

/// Who watches and from where, or everything that is wrong with the request.
fn watcher<T>(
    grants: Result<Grants, Unknown>,
    metadata: &MetadataMap,
    extensions: &http::Extensions,
    asked: Result<T, convert::Rejected>,
    resume: impl FnOnce(&mut T) -> (Option<Revision>, Option<String>),
) -> Result<(T, Watcher, Grants), Status> {
    let (grants, mut asked) = status::both(grants, asked)?;
    let (resume_after, store_id) = resume(&mut asked);
    let time_left = timeout(metadata.as_ref());
    let principal = grants.caller().principal.clone();
    let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let watcher = Watcher { principal, peer, resume_after, store_id, time_left };
    Ok((asked, watcher, grants))
}

/// The filter of a request and what the caller sees, as watches ask for it. Labels may change in the
/// life of a release; then the stream ends.
#[derive(Debug)]
struct Matching {
    filter: ReleaseFilter,
    grants: Grants,
    driver: Handle,
}

impl Select for Matching {
    fn matches(&self, release: &Release, state: ReleaseState) -> bool {
        self.filter.matched(release, state)
            && (self.grants.everywhere(Permission::Read)
                || self.grants.sees_release(&self.driver.state(), release))
    }

    fn among(&self) -> Among<'_> {
        self.filter.among()
    }
}

/// Serves the two streams, and leaves everything else to the generated server.
#[derive(Clone, Debug)]
pub(super) struct Shared {
    api: Api,
    rest: ReleaseServiceServer<Api>,
}

impl Shared {
    pub(super) fn new(api: Api, rest: ReleaseServiceServer<Api>) -> Self {
        Self { api, rest }
    }
}

impl NamedService for Shared {
    const NAME: &'static str = ReleaseServiceServer::<Api>::NAME;
}

impl Service<http::Request<Body>> for Shared {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        match request.uri().path() {
            "/phasegate.v1.ReleaseService/WatchRelease" => {
                let method = WatchOne(self.api.clone());
                Box::pin(async move {
                    let mut grpc = Grpc::new(FrameCodec::new())
                        .max_decoding_message_size(REQUEST_BYTES_MAX)
                        .max_encoding_message_size(RESPONSE_BYTES_MAX);
                    Ok(grpc.server_streaming(method, request).await)
                })
            }
            "/phasegate.v1.ReleaseService/WatchReleases" => {
                let method = WatchMany(self.api.clone());
                Box::pin(async move {
                    let mut grpc = Grpc::new(FrameCodec::new())
                        .max_decoding_message_size(REQUEST_BYTES_MAX)
                        .max_encoding_message_size(RESPONSE_BYTES_MAX);
                    Ok(grpc.server_streaming(method, request).await)
                })
            }
            _ => self.rest.call(request),
        }
    }
}

/// The method `WatchRelease`.
struct WatchOne(Api);

impl ServerStreamingService<WatchReleaseRequest> for WatchOne {
    type Response = ReleaseFrame;
    type ResponseStream = Frames<ReleaseFrame>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchReleaseRequest>) -> Self::Future {
        std::future::ready(self.0.watch_one(request).map(Response::new))
    }
}

/// The method `WatchReleases`.
struct WatchMany(Api);

impl ServerStreamingService<WatchReleasesRequest> for WatchMany {
    type Response = ReleasesFrame;
    type ResponseStream = Frames<ReleasesFrame>;
    type Future = std::future::Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<WatchReleasesRequest>) -> Self::Future {
        std::future::ready(self.0.watch_many(request).map(Response::new))
    }
}
