//! gRPC with nothing behind it: an echo, and a publisher that sends the same event to all who listen.
//! Both answer on Phasegate's own methods and with messages of the size that Phasegate sends, so that
//! one client and one load measure both.

use crate::fanout::Raw;
use phasegate_api::v1;
use prost::Message;
use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{Grpc, NamedService, ServerStreamingService, UnaryService},
    transport::{Server, server::TcpIncoming},
};
use tonic_prost::ProstCodec;
use tower::Service;

/// What a subscriber's queue holds before its publisher waits.
const QUEUE: usize = 64;

/// Serves until it is killed.
pub(crate) async fn serve() {
    let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    let listener = listener.await.expect("a free port of the loopback can be bound");
    println!("listening on http://{}", listener.local_addr().expect("it has one"));
    let bare = Bare { samples: Arc::new(Samples::read()), subscribers: Subscribers::default() };
    // tonic's and hyper's defaults, but for the streams of a connection, which would be 200.
    Server::builder()
        .max_concurrent_streams(20_000)
        .add_service(bare)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await
        .expect("it serves until it is killed");
}

/// The subscribers; each event goes to all of them, and waits for the slowest.
type Subscribers = Arc<Mutex<Vec<mpsc::Sender<Result<Bytes, Status>>>>>;

#[derive(Clone)]
struct Bare {
    samples: Arc<Samples>,
    subscribers: Subscribers,
}

impl NamedService for Bare {
    const NAME: &'static str = "phasegate.v1.ReleaseService";
}

/// Message bytes as they are.
type Bytes = bytes::Bytes;

impl Service<http::Request<Body>> for Bare {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let bare = self.clone();
        match request.uri().path() {
            "/phasegate.v1.ReleaseService/GetRelease" => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::default());
                Ok(grpc.unary(Get(bare.samples), request).await)
            }),
            "/phasegate.v1.ReleaseService/PauseRelease" => Box::pin(async move {
                let mut grpc = Grpc::new(ProstCodec::default());
                Ok(grpc.unary(Publish(bare), request).await)
            }),
            "/phasegate.v1.ReleaseService/WatchRelease" => Box::pin(async move {
                let mut grpc = Grpc::new(Raw);
                Ok(grpc.server_streaming(Watch(bare), request).await)
            }),
            _ => Box::pin(async { Ok(Status::unimplemented("only three methods").into_http()) }),
        }
    }
}

/// What Phasegate was seen to answer and to send, so that as many bytes go here.
#[derive(Clone, Debug)]
pub(crate) struct Samples {
    /// Of `GetRelease`.
    pub(crate) answer: v1::GetReleaseResponse,
    /// Of `PauseRelease`.
    pub(crate) paused: v1::PauseReleaseResponse,
    /// Of `WatchRelease`.
    pub(crate) event: v1::WatchReleaseResponse,
}

/// Where a reference finds its samples: a directory.
pub(crate) const SAMPLES: &str = "PHASEGATE_BENCH_SAMPLES";

impl Samples {
    fn read() -> Self {
        let directory = PathBuf::from(std::env::var_os(SAMPLES).expect("its parent has set it"));
        let read = |name| std::fs::read(directory.join(name)).expect("its parent has written it");
        Self {
            answer: Message::decode(&*read("answer")).expect("as it was encoded"),
            paused: Message::decode(&*read("paused")).expect("as it was encoded"),
            event: Message::decode(&*read("event")).expect("as it was encoded"),
        }
    }

    /// Writes them for references to read.
    pub(crate) fn write(&self, directory: &Path) {
        let write = |name, bytes: Vec<u8>| {
            std::fs::write(directory.join(name), bytes).expect("the directory is ours");
        };
        write("answer", self.answer.encode_to_vec());
        write("paused", self.paused.encode_to_vec());
        write("event", self.event.encode_to_vec());
    }
}

struct Get(Arc<Samples>);

impl UnaryService<v1::GetReleaseRequest> for Get {
    type Response = v1::GetReleaseResponse;
    type Future = Ready<Result<Response<Self::Response>, Status>>;

    fn call(&mut self, _request: Request<v1::GetReleaseRequest>) -> Self::Future {
        ready(Ok(Response::new(self.0.answer.clone())))
    }
}

/// Sends an event to all subscribers, and answers when each has it in its queue.
struct Publish(Bare);

impl UnaryService<v1::PauseReleaseRequest> for Publish {
    type Response = v1::PauseReleaseResponse;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Self::Response>, Status>> + Send>>;

    fn call(&mut self, _request: Request<v1::PauseReleaseRequest>) -> Self::Future {
        let Bare { samples, subscribers } = self.0.clone();
        Box::pin(async move {
            let event = Bytes::from(samples.event.encode_to_vec());
            let all = subscribers.lock().expect("nobody panics with it").clone();
            for subscriber in all {
                // Who is gone misses nothing.
                let _ = subscriber.send(Ok(event.clone())).await;
            }
            Ok(Response::new(samples.paused.clone()))
        })
    }
}

struct Watch(Bare);

impl ServerStreamingService<Bytes> for Watch {
    type Response = Bytes;
    type ResponseStream = ReceiverStream<Result<Bytes, Status>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, _request: Request<Bytes>) -> Self::Future {
        let (sender, receiver) = mpsc::channel(QUEUE);
        self.0.subscribers.lock().expect("nobody panics with it").push(sender);
        ready(Ok(Response::new(ReceiverStream::new(receiver))))
    }
}
