//! Requests to an issuer: short, bounded, and over TLS unless it is on this machine.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use std::{io, net::IpAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::aws_lc_rs,
        pki_types::{CertificateDer, ServerName},
    },
};

/// An exchange that takes longer has failed.
const TIME_MAX: Duration = Duration::from_secs(10);
/// A longer answer is refused. Sets of keys have some kilobytes.
pub(super) const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Asks an issuer.
pub trait Fetch: Send + Sync + std::fmt::Debug + 'static {
    /// Sends a request and returns the body of a `200`.
    fn send(&self, request: Request<String>) -> BoxFuture<'static, Result<Bytes, FetchError>>;
}

/// Why an issuer's answer was not had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The address is none that may be asked.
    #[error("{0} is asked over https only, unless it is on loopback")]
    Address(String),
    /// There is no way to it.
    #[error("it cannot be reached: {0}")]
    Reach(#[from] io::Error),
    /// HTTP was not spoken.
    #[error("it does not answer: {0}")]
    Http(String),
    /// It answered otherwise than with `200`. Redirects are not followed.
    #[error("it answers {0}")]
    Status(StatusCode),
    /// The answer is too long.
    #[error("its answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    /// It took too long.
    #[error("it does not answer within {TIME_MAX:?}")]
    TooSlow,
    /// The answer is not what it should be.
    #[error("its answer makes no sense: {0}")]
    Answer(String),
}

/// Refuses addresses that must not be asked: what is not https, apart from loopback.
pub(super) fn check(uri: &Uri) -> Result<(), FetchError> {
    let refused = || FetchError::Address(uri.to_string());
    let host = uri.host().ok_or_else(refused)?;
    if uri.scheme() == Some(&Scheme::HTTPS)
        || (uri.scheme() == Some(&Scheme::HTTP) && is_loopback(host))
    {
        Ok(())
    } else {
        Err(refused())
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// Loopback as it is written, without asking anybody for the address of a name.
pub(super) fn is_loopback(host: &str) -> bool {
    bare(host).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        || host.eq_ignore_ascii_case("localhost")
}

/// The network.
#[derive(Clone, Debug)]
pub struct Web {
    tls: Arc<ClientConfig>,
}

impl Web {
    /// Trusts the authorities of the operating system, and these.
    pub fn new(authorities: &[CertificateDer<'static>]) -> Self {
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(%error, "a certificate authority of the system cannot be read");
        }
        roots.add_parsable_certificates(found.certs);
        roots.add_parsable_certificates(authorities.iter().cloned());
        let provider = Arc::new(aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has the default versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Self { tls: Arc::new(tls) }
    }

    async fn exchange(self, request: Request<String>) -> Result<Bytes, FetchError> {
        let uri = request.uri().clone();
        check(&uri)?;
        let host = bare(uri.host().unwrap_or_default()).to_owned();
        if uri.scheme() == Some(&Scheme::HTTPS) {
            let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(443))).await?;
            let name = ServerName::try_from(host).map_err(io::Error::other)?;
            let tls = TlsConnector::from(self.tls).connect(name, tcp).await?;
            spoken(tls, &uri, request).await
        } else {
            let tcp = TcpStream::connect((host.as_str(), uri.port_u16().unwrap_or(80))).await?;
            spoken(tcp, &uri, request).await
        }
    }
}

async fn spoken(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    uri: &Uri,
    request: Request<String>,
) -> Result<Bytes, FetchError> {
    let failed = |error: hyper::Error| FetchError::Http(error.to_string());
    let (mut parts, body) = request.into_parts();
    let host = uri.authority().map(|authority| authority.as_str()).unwrap_or_default();
    let host = HeaderValue::from_str(host).map_err(|_| FetchError::Address(uri.to_string()))?;
    parts.headers.insert(header::HOST, host);
    parts.headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse().map_err(|_| FetchError::Address(uri.to_string()))?;
    let request = Request::from_parts(parts, Full::new(Bytes::from(body)));

    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let exchange = async {
        let answer = sender.send_request(request).await.map_err(failed)?;
        if answer.status() != StatusCode::OK {
            return Err(FetchError::Status(answer.status()));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() {
                FetchError::TooLong
            } else {
                FetchError::Http(error.to_string())
            }
        })
    };
    // Both on this task, so that nothing is left when it is given up.
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        ended = connection => {
            ended.map_err(failed)?;
            exchange.await
        }
    }
}

impl Fetch for Web {
    fn send(&self, request: Request<String>) -> BoxFuture<'static, Result<Bytes, FetchError>> {
        let exchange = self.clone().exchange(request);
        Box::pin(async { timeout(TIME_MAX, exchange).await.unwrap_or(Err(FetchError::TooSlow)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    #[test]
    fn an_issuer_elsewhere_is_asked_over_https_only() {
        for good in
            ["https://id.example/x", "http://127.0.0.1:1/x", "http://[::1]:1", "http://localhost"]
        {
            assert!(check(&good.parse().unwrap()).is_ok(), "{good}");
        }
        for bad in ["http://id.example", "http://10.0.0.1", "http://127.0.0.1.example", "/x"] {
            assert!(check(&bad.parse().unwrap()).is_err(), "{bad}");
        }
    }

    /// Answers one request with these bytes, over and over again if they are to be many.
    async fn answer(
        head: &'static str,
        body: &'static [u8],
        times: usize,
    ) -> Result<Bytes, FetchError> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let uri = format!("http://{}/keys", listener.local_addr().unwrap());
        let server = async {
            let (mut tcp, _) = listener.accept().await.unwrap();
            let mut buffer = [0; 1024];
            let _ = tcp.read(&mut buffer).await.unwrap();
            tcp.write_all(head.as_bytes()).await.unwrap();
            for _ in 0..times {
                if tcp.write_all(body).await.is_err() {
                    break;
                }
            }
        };
        let request = Request::get(uri).body(String::new()).unwrap();
        let web = Web::new(&[]);
        tokio::join!(web.send(request), server).0
    }

    #[tokio::test]
    async fn an_issuer_s_answer_is_bounded_and_redirects_are_not_followed() {
        let good = answer("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", b"{}", 1).await;
        assert_eq!(good.unwrap(), "{}");
        let endless = answer("HTTP/1.1 200 OK\r\n\r\n", &[b'x'; 1024], usize::MAX).await;
        assert!(matches!(endless, Err(FetchError::TooLong)), "{endless:?}");
        let moved =
            answer("HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n", b"", 0);
        assert!(matches!(moved.await, Err(FetchError::Status(StatusCode::FOUND))));
    }
}
