//! The way in: a request is admitted or refused, and an answer that goes on is watched over.

use crate::{
    access::{
        Access, Asked, Lease, Refusal,
        identity::ClientCertificate,
        table::{Length, Rule},
    },
    grpc::status,
};
use async_stream::stream;
use futures_util::future::BoxFuture;
use http::{HeaderMap, Request, Response};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt as _, StreamBody};
use std::sync::Arc;
use tonic::{Status, body::Body, transport::server::TcpConnectInfo};

/// A row of the table.
pub(super) type Row = (&'static str, Rule, Length);

/// Resolves when an answer has to end.
pub(super) type Over = BoxFuture<'static, Refusal>;

/// Lets a request in, with its grants in its extensions, or says why not. With it comes what watches over
/// the answer, if it goes on.
pub(super) fn enter<B>(
    access: &Access,
    request: &mut Request<B>,
    row: Option<Row>,
) -> Result<Option<Over>, Refusal> {
    if access.is_open() {
        return Ok(None);
    }
    let extensions = request.extensions();
    let peer = extensions.get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr);
    let asked = Asked {
        method: row.map_or_else(|| request.uri().path(), |(method, ..)| method),
        rule: row.map(|(_, rule, _)| rule),
        headers: request.headers(),
        certificate: extensions.get::<Arc<ClientCertificate>>().map(AsRef::as_ref),
        peer,
    };
    let Some(grants) = access.admit(&asked)? else { return Ok(None) };
    let goes_on = row.is_some_and(|(.., length)| length == Length::Long);
    let lease = if goes_on { access.lease(&asked, &grants) } else { None };
    request.extensions_mut().insert(grants);
    Ok(lease.map(over))
}

fn over(lease: Lease) -> Over {
    Box::pin(lease.over())
}

/// An answer of gRPC that ends when it has to.
pub(super) fn watched(response: Response<Body>, over: Over) -> Response<Body> {
    cut(response, over, |refusal| Some(Frame::trailers(trailers(status::denied(refusal)))))
}

/// An answer of HTTP that ends when it has to. A browser comes back and hears why.
pub(super) fn watched_page(response: Response<Body>, over: Over) -> Response<Body> {
    cut(response, over, |_| None)
}

fn cut(
    response: Response<Body>,
    mut over: Over,
    last: impl Fn(Refusal) -> Option<Frame<bytes::Bytes>> + Send + 'static,
) -> Response<Body> {
    if response.body().is_end_stream() {
        return response;
    }
    response.map(|mut body| {
        Body::new(StreamBody::new(stream! {
            loop {
                tokio::select! {
                    biased;
                    refusal = &mut over => {
                        if let Some(frame) = last(refusal) {
                            yield Ok(frame);
                        }
                        return;
                    }
                    frame = body.frame() => match frame {
                        Some(frame) => yield frame,
                        None => return,
                    }
                }
            }
        }))
    })
}

/// An answer without a body carries its status in its headers.
fn trailers(status: Status) -> HeaderMap {
    status.into_http::<()>().into_parts().0.headers
}
