//! TLS: the server's certificate, and the authorities of its clients.
//!
//! TLS 1.2 and 1.3, with what rustls has by default; h2 and http/1.1 by ALPN. The settings are one
//! value that is replaced as a whole, so that a handshake has the old ones or the new ones.

use crate::{
    access::identity::{Demand, ReadError, Readers, read_secret},
    config,
};
use arc_swap::ArcSwap;
use std::{path::PathBuf, sync::Arc};
use tokio_rustls::rustls::{
    self, RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
};

/// Why there is no TLS with these files.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read, or others can.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A file is not what it should be.
    #[error("{}: {problem}", file.display())]
    Malformed {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The certificate and the key do not go together, or cannot be used.
    #[error("the certificate and the key cannot be used: {0}")]
    Unusable(#[source] rustls::Error),
    /// The authorities of clients cannot be used.
    #[error("the authorities of client certificates cannot be used: {0}")]
    Authorities(#[source] VerifierBuilderError),
    /// One of the authorities cannot be used.
    #[error("an authority of client certificates cannot be used: {0}")]
    Authority(#[source] rustls::Error),
}

/// The settings that hold for the next handshake.
#[derive(Clone, Debug)]
pub(super) struct Tls(Arc<ArcSwap<ServerConfig>>);

impl Tls {
    pub(super) fn new(config: ServerConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config)))
    }

    pub(super) fn replace(&self, config: ServerConfig) {
        self.0.store(Arc::new(config));
    }

    pub(super) fn current(&self) -> Arc<ServerConfig> {
        self.0.load_full()
    }
}

/// Reads what a handshake needs.
pub(super) fn read(
    files: &config::Tls,
    clients: Option<(&[CertificateDer<'static>], Demand)>,
) -> Result<ServerConfig, Error> {
    let malformed =
        |file: &PathBuf, problem: String| Error::Malformed { file: file.clone(), problem };
    let bytes = read_secret(&files.certificate, Readers::Anybody)?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| malformed(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(malformed(&files.certificate, "it has no certificate".to_owned()));
    }
    let bytes = read_secret(&files.key, Readers::Nobody)?;
    // The error could not cite the key, but need not try.
    let key = PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| malformed(&files.key, "it has no private key in PEM".to_owned()))?;

    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(Error::Unusable)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some((authorities, demand)) => {
            let mut roots = RootCertStore::empty();
            for authority in authorities {
                roots.add(authority.clone()).map_err(Error::Authority)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = match demand {
                Demand::Required => verifier,
                Demand::Optional => verifier.allow_unauthenticated(),
            };
            builder.with_client_cert_verifier(verifier.build().map_err(Error::Authorities)?)
        }
    };
    let mut config = builder.with_single_cert(chain, key).map_err(Error::Unusable)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    // A resumed session would keep a client's certificate past a change of the authorities.
    if clients.is_some() {
        config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(config)
}
