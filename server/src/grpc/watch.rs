//! The two streams of `ReleaseService`, and the way round the generated code that lets them share
//! what they send.
//!
//! The generated server encodes a message for each stream. [`Shared`] stands before it, serves the
//! two methods itself with [`wire`](super::wire)'s codec, and leaves everything else to it.

use super::{
    Api, REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX,
    caller::caller,
    status,
    timeout::timeout,
    wire::{FrameCodec, ReleaseFrame, ReleasesFrame, Stamp},
};
use crate::watch::{Select, Watcher};
use futures_util::{StreamExt as _, future::BoxFuture, stream::BoxStream};
use phasegate_api::{
    convert::{self, ReleaseFilter},
    v1::{WatchReleaseRequest, WatchReleasesRequest, release_service_server::ReleaseServiceServer},
};
use phasegate_engine::{
    id::Revision,
    release::{Release, ReleaseState},
};
use std::{
    convert::Infallible,
    task::{Context, Poll},
};
use tonic::{
    Extensions, Request, Response, Status,
    body::Body,
    metadata::MetadataMap,
    server::{Grpc, NamedService, ServerStreamingService},
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
        let asked = convert::watch_release(message);
        let (asked, watcher) = watcher(&metadata, &extensions, asked, |asked| {
            (asked.resume_after, std::mem::take(&mut asked.store_id))
        })?;
        let items = backend.watches.release(watcher, asked.release);
        let driver = backend.driver.clone();
        let frames = items.map_err(status::watch_refused)?.map(move |item| {
            let stamp = Stamp { store_id: driver.store_id(), now: driver.now() };
            item.map(|item| ReleaseFrame { stamp, item }).map_err(status::watch_ended)
        });
        Ok(frames.boxed())
    }

    /// Opens a watch of all releases that match a filter.
    pub(super) fn watch_many(
        &self,
        request: Request<WatchReleasesRequest>,
    ) -> Result<Frames<ReleasesFrame>, Status> {
        let backend = self.backend()?;
        let (metadata, extensions, message) = request.into_parts();
        let asked = convert::watch_releases(message);
        let (asked, watcher) = watcher(&metadata, &extensions, asked, |asked| {
            (asked.resume_after, std::mem::take(&mut asked.store_id))
        })?;
        let items = backend.watches.releases(watcher, Matching(asked.filter));
        let driver = backend.driver.clone();
        let frames = items.map_err(status::watch_refused)?.map(move |item| {
            let stamp = Stamp { store_id: driver.store_id(), now: driver.now() };
            item.map(|item| ReleasesFrame { stamp, item }).map_err(status::watch_ended)
        });
        Ok(frames.boxed())
    }
}

/// Who watches and from where, or everything that is wrong with the request.
fn watcher<T>(
    metadata: &MetadataMap,
    extensions: &Extensions,
    asked: Result<T, convert::Rejected>,
    resume: impl FnOnce(&mut T) -> (Option<Revision>, Option<String>),
) -> Result<(T, Watcher), Status> {
    let (caller, mut asked) = status::both(caller(extensions, metadata), asked)?;
    let (resume_after, store_id) = resume(&mut asked);
    let time_left = timeout(metadata.as_ref());
    let watcher = Watcher { principal: caller.principal, resume_after, store_id, time_left };
    Ok((asked, watcher))
}

/// The filter of a request, as watches ask for it.
#[derive(Debug)]
struct Matching(ReleaseFilter);

impl Select for Matching {
    fn matches(&self, release: &Release, state: ReleaseState) -> bool {
        self.0.matched(release, state)
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
