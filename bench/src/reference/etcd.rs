//! etcd's API v3, as far as it is measured here: written down from the list of its fields
//! (`etcdserverpb` and `mvccpb` of etcd 3.4), with its names and numbers.

use crate::load::{Worker, connections};
use crate::process::Server;
use http::uri::PathAndQuery;
use tonic::{Request, Status, client::Grpc, transport::Channel};
use tonic_prost::ProstCodec;

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PutResponse {}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct RangeResponse {
    #[prost(message, repeated, tag = "2")]
    pub(crate) kvs: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
}

/// `request_union` has other members too, none of which is sent.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct WatchRequest {
    #[prost(message, optional, tag = "1")]
    pub(crate) create_request: Option<WatchCreateRequest>,
}

/// A connection to etcd.
#[derive(Clone, Debug)]
pub(crate) struct Client(Grpc<Channel>);

impl Client {
    pub(crate) fn new(channel: Channel) -> Self {
        Self(Grpc::new(channel))
    }

    async fn unary<Q, A>(&mut self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: prost::Message + Send + Sync + 'static,
        A: prost::Message + Default + Send + Sync + 'static,
    {
        let broken = |_| Status::unavailable("the connection is gone");
        self.0.ready().await.map_err(broken)?;
        let path = PathAndQuery::from_static(path);
        let answer = self.0.unary(Request::new(message), path, ProstCodec::default()).await?;
        Ok(answer.into_inner())
    }

    pub(crate) async fn put(&mut self, key: Vec<u8>, value: Vec<u8>) -> Result<(), Status> {
        let put: PutResponse =
            self.unary("/etcdserverpb.KV/Put", PutRequest { key, value }).await?;
        let PutResponse {} = put;
        Ok(())
    }

    /// A linearizable read.
    pub(crate) async fn get(&mut self, key: Vec<u8>) -> Result<RangeResponse, Status> {
        self.unary("/etcdserverpb.KV/Range", RangeRequest { key }).await
    }
}

/// Puts a value under a key of its own again and again.
#[derive(Debug)]
pub(crate) struct Putter {
    client: Client,
    key: Vec<u8>,
    value: Vec<u8>,
}

impl Worker for Putter {
    async fn call(&mut self) -> Result<(), Status> {
        self.client.put(self.key.clone(), self.value.clone()).await
    }
}

/// So many who put at a time, values of so many bytes.
pub(crate) async fn putters(server: &Server, in_flight: usize, bytes: usize) -> Vec<Putter> {
    let channels = server.connections(connections(in_flight)).await;
    let putter = |number: usize| Putter {
        client: Client::new(channels[number % channels.len()].clone()),
        key: format!("releases/r-{number}").into_bytes(),
        value: vec![b'v'; bytes],
    };
    (0..in_flight).map(putter).collect()
}

/// Reads a key again and again.
#[derive(Debug)]
pub(crate) struct Getter {
    client: Client,
    key: Vec<u8>,
}

impl Worker for Getter {
    async fn call(&mut self) -> Result<(), Status> {
        let range = self.client.get(self.key.clone()).await?;
        if range.kvs.is_empty() {
            return Err(Status::not_found("it was put before"));
        }
        Ok(())
    }
}

/// So many who read at a time.
pub(crate) async fn getters(server: &Server, in_flight: usize) -> Vec<Getter> {
    let channels = server.connections(connections(in_flight)).await;
    let getter = |number: usize| Getter {
        client: Client::new(channels[number % channels.len()].clone()),
        key: format!("releases/r-{number}").into_bytes(),
    };
    (0..in_flight).map(getter).collect()
}
