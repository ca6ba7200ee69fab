//! `flagd.sync.v1`: whole sets, for providers that evaluate in process and for flagd itself.
//!
//! Generated code would encode a set for each stream, half a megabyte ten thousand times. [`Sets`]
//! stands before it: tonic reads and judges the request, and the body of its answer is replaced by
//! one that hands out the same bytes to everybody.

use super::{
    Delivery,
    flag_set::Scope,
    hub::{Follower, Purpose},
    refusal::Refusal,
};
use crate::grpc::{REQUEST_BYTES_MAX, RESPONSE_BYTES_MAX};
use async_stream::stream;
use futures_util::{future::BoxFuture, stream};
use http::HeaderMap;
use http_body::Frame;
use http_body_util::StreamBody;
use phasegate_api::flagd::sync::{
    FetchAllFlagsRequest, FetchAllFlagsResponse, GetMetadataRequest, GetMetadataResponse,
    SyncFlagsRequest, SyncFlagsResponse,
    flag_sync_service_server::{FlagSyncService, FlagSyncServiceServer},
};
use std::{
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService},
};
use tonic_prost::ProstCodec;
use tower::Service;

#[tonic::async_trait]
impl FlagSyncService for Delivery {
    type SyncFlagsStream = Never;

    async fn sync_flags(
        &self,
        _request: Request<SyncFlagsRequest>,
    ) -> Result<Response<Self::SyncFlagsStream>, Status> {
        Err(Status::internal("served by the layer before this"))
    }

    async fn fetch_all_flags(
        &self,
        request: Request<FetchAllFlagsRequest>,
    ) -> Result<Response<FetchAllFlagsResponse>, Status> {
        let environment = self.selected(request.metadata(), &request.get_ref().selector)?;
        let set = self.hub.newest(&environment)?;
        Ok(Response::new(FetchAllFlagsResponse { flag_configuration: set.json().to_owned() }))
    }

    async fn get_metadata(
        &self,
        _request: Request<GetMetadataRequest>,
    ) -> Result<Response<GetMetadataResponse>, Status> {
        Err(Status::unimplemented("the context of a stream comes with SyncFlags, as sync_context"))
    }
}

/// A stream without messages.
type Never = stream::Empty<Result<SyncFlagsResponse, Status>>;

/// Serves SyncFlags, and leaves everything else to the generated server.
#[derive(Clone, Debug)]
pub(super) struct Sets {
    delivery: Delivery,
    rest: FlagSyncServiceServer<Delivery>,
}

impl Sets {
    pub(super) fn new(delivery: Delivery) -> Self {
        let rest = FlagSyncServiceServer::new(delivery.clone())
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        Self { delivery, rest }
    }
}

impl NamedService for Sets {
    const NAME: &'static str = FlagSyncServiceServer::<Delivery>::NAME;
}

impl Service<http::Request<Body>> for Sets {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != "/flagd.sync.v1.FlagSyncService/SyncFlags" {
            return self.rest.call(request);
        }
        let opened = Opened::default();
        let method = Open { delivery: self.delivery.clone(), opened: opened.clone() };
        Box::pin(async move {
            let codec = ProstCodec::<SyncFlagsResponse, SyncFlagsRequest>::default();
            let mut grpc = Grpc::new(codec).max_decoding_message_size(REQUEST_BYTES_MAX);
            let response = grpc.server_streaming(method, request).await;
            Ok(match opened.take() {
                Some(follower) => response.map(|_| sets(follower)),
                // Refused: the answer says why.
                None => response,
            })
        })
    }
}

/// Where a stream that was opened is put for whoever makes its body.
#[derive(Clone, Debug, Default)]
struct Opened(Arc<Mutex<Option<Follower>>>);

impl Opened {
    fn put(&self, follower: Follower) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(follower);
    }

    fn take(&self) -> Option<Follower> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The method `SyncFlags`, as far as its headers.
struct Open {
    delivery: Delivery,
    opened: Opened,
}

impl ServerStreamingService<SyncFlagsRequest> for Open {
    type Response = SyncFlagsResponse;
    type ResponseStream = Never;
    type Future = std::future::Ready<Result<Response<Never>, Status>>;

    fn call(&mut self, request: Request<SyncFlagsRequest>) -> Self::Future {
        let open = || -> Result<Follower, Refusal> {
            let selector = &request.get_ref().selector;
            let environment = self.delivery.selected(request.metadata(), selector)?;
            self.delivery.hub.follow(Scope::Of(environment), Purpose::Sets)
        };
        std::future::ready(match open() {
            Ok(follower) => {
                self.opened.put(follower);
                Ok(Response::new(stream::empty()))
            }
            Err(refusal) => Err(refusal.into()),
        })
    }
}

/// The sets as a body of gRPC: messages that are shared, and the trailers of the end, which is never
/// OK, because some providers would then never come back.
fn sets(mut follower: Follower) -> Body {
    let frames = stream! {
        loop {
            match follower.next().await {
                Ok(set) => yield Ok::<_, Infallible>(Frame::data(set.frame())),
                Err(end) => {
                    yield Ok(Frame::trailers(trailers(end)));
                    return;
                }
            }
        }
    };
    Body::new(StreamBody::new(frames))
}

fn trailers(end: Refusal) -> HeaderMap {
    // An answer without a body carries its status in its headers.
    Status::from(end).into_http::<()>().into_parts().0.headers
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    #[test]
    fn a_stream_ends_with_unavailable_and_never_with_ok() {
        for end in [Refusal::Draining, Refusal::Expired] {
            let trailers = trailers(end);
            assert_eq!(trailers.get("grpc-status").unwrap(), "14");
            assert!(trailers.contains_key("grpc-status-details-bin"));
        }
    }

    #[test]
    fn bytes_are_shared_between_frames() {
        let bytes = Bytes::from(vec![1, 2, 3]);
        let frame = Frame::<Bytes>::data(bytes.clone()).into_data().unwrap();
        assert_eq!(frame.as_ptr(), bytes.as_ptr());
    }
}
