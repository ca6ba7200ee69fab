//! Connects to a target and to nothing else: the name is resolved once, what comes out is judged, and
//! what was judged is connected to. A name that leads elsewhere the next moment changes nothing.
//!
//! There is no proxy, no pool and no redirect here, so there is nothing to turn off.

use super::target::{Refused, Target, Transport};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    fmt,
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// One address gets so long before the next is tried.
const CONNECT_MAX: Duration = Duration::from_secs(4);
/// So many addresses of a name are tried.
const ADDRESSES_MAX: usize = 4;

/// What a name leads to. The operating system knows; tests say it.
pub trait Resolve: fmt::Debug + Send + Sync {
    /// All addresses of a name.
    fn resolve(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + '_>>;
}

/// Asks the operating system.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemResolver;

impl Resolve for SystemResolver {
    fn resolve(
        &self,
        name: String,
    ) -> Pin<Box<dyn Future<Output = io::Result<Vec<IpAddr>>> + Send + '_>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// Why nothing is connected.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// The name leads nowhere.
    #[error("the name cannot be resolved: {0}")]
    Resolve(io::Error),
    /// It leads to nothing at all.
    #[error("the name has no address")]
    NoAddress,
    /// It leads where it may not.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// Nobody listens there.
    #[error("cannot connect to {0}: {1}")]
    Connect(SocketAddr, io::Error),
    /// There is no TLS that can be trusted.
    #[error("TLS failed: {0}")]
    Tls(io::Error),
    /// The host cannot stand in a certificate.
    #[error("the host is no name that a certificate can have")]
    Name,
}

/// Where to connect to: addresses that have been checked, in the order in which they came.
pub(super) async fn addresses(
    target: &Target,
    resolver: &dyn Resolve,
) -> Result<Vec<SocketAddr>, Error> {
    let found = match target.literal() {
        Some(address) => vec![address],
        None => resolver.resolve(target.host()).await.map_err(Error::Resolve)?,
    };
    // One that is not allowed makes all suspicious.
    found.iter().try_for_each(|address| target.check(*address))?;
    if found.is_empty() {
        return Err(Error::NoAddress);
    }
    let found = found.into_iter().take(ADDRESSES_MAX);
    Ok(found.map(|address| SocketAddr::new(address, target.port())).collect())
}

/// Connects to the first of some addresses that answers.
pub(super) async fn tcp(addresses: &[SocketAddr]) -> Result<(TcpStream, SocketAddr), Error> {
    let mut last = Error::NoAddress;
    for address in addresses {
        let connected = match timeout(CONNECT_MAX, TcpStream::connect(address)).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        match connected {
            Ok(stream) => return Ok((stream, *address)),
            Err(error) => last = Error::Connect(*address, error),
        }
    }
    Err(last)
}

/// Something to talk over.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Whom certificates are believed from. Clones share it.
#[derive(Clone)]
pub(super) struct Trust(Arc<ClientConfig>);

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Trust(…)")
    }
}

/// Why no certificate can be believed.
#[derive(Debug, thiserror::Error)]
pub(super) enum TrustError {
    /// The file holds none.
    #[error("holds no certificate in PEM form")]
    NoCertificate,
    /// One of the file is none.
    #[error("holds a certificate that cannot be used: {0}")]
    Unusable(rustls::Error),
    /// The library refused.
    #[error("TLS cannot be set up: {0}")]
    SetUp(rustls::Error),
}

impl Trust {
    /// In the authorities of the operating system, and in those of a file in PEM form.
    pub(super) fn new(authorities: Option<&[u8]>) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        // What cannot be read of the system's is missing later, and is said then.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if let Some(pem) = authorities {
            let mut is_empty = true;
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(|_| TrustError::NoCertificate)?;
                roots.add(certificate).map_err(TrustError::Unusable)?;
                is_empty = false;
            }
            if is_empty {
                return Err(TrustError::NoCertificate);
            }
        }
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(TrustError::SetUp)?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// What was agreed on, for people.
pub(super) type Agreed = &'static str;

/// Secures a connection as the target wants it.
pub(super) async fn secure(
    stream: TcpStream,
    target: &Target,
    trust: &Trust,
) -> Result<(Box<dyn Stream>, Agreed), Error> {
    if target.transport() == Transport::PlainOnLoopback {
        return Ok((Box::new(stream), "no TLS"));
    }
    let name = ServerName::try_from(target.host()).map_err(|_| Error::Name)?;
    let connector = TlsConnector::from(Arc::clone(&trust.0));
    let stream = connector.connect(name, stream).await.map_err(Error::Tls)?;
    let agreed = match stream.get_ref().1.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_3) => "TLS 1.3",
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
        _ => "TLS",
    };
    Ok((Box::new(stream), agreed))
}
