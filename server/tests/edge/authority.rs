//! A certificate authority, made for one test, and the files of a server that goes by it.

use crate::server::{Server, config, within};
use phasegate_server::{
    app::Parts,
    config::{Config, Tls},
};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use std::{fs, io::Write as _, os::unix::fs::PermissionsExt as _, path::PathBuf};
use tempfile::TempDir;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

/// Issues certificates.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, params: CertificateParams) -> Issued {
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap().pem();
        Issued { certificate, key: key.serialize_pem() }
    }

    /// For a server on this machine.
    pub(crate) fn server(&self) -> Issued {
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        self.issue(CertificateParams::new(names).unwrap())
    }

    /// For a client with these URIs, and a common name that means nothing.
    pub(crate) fn client(&self, uris: &[&str]) -> Issued {
        self.issue(client(uris))
    }

    /// For a client, and over.
    pub(crate) fn expired_client(&self, uri: &str) -> Issued {
        let mut params = client(&[uri]);
        (params.not_before, params.not_after) =
            (date_time_ymd(2020, 1, 1), date_time_ymd(2021, 1, 1));
        self.issue(params)
    }
}

fn client(uris: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "spiffe://test.example/root");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let uris = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
    params.subject_alt_names = uris.collect();
    params
}

/// Files of a server, in a folder of their own.
pub(crate) struct Files {
    folder: TempDir,
}

impl Files {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file, whole: as a new one that takes the place of an old one.
    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        self.write_as(name, text, 0o600)
    }

    pub(crate) fn write_as(&self, name: &str, text: &str, mode: u32) -> PathBuf {
        let mut file = tempfile::NamedTempFile::new_in(self.folder.path()).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        file.as_file().set_permissions(fs::Permissions::from_mode(mode)).unwrap();
        let path = self.path(name);
        file.persist(&path).unwrap();
        path
    }

    /// Writes the certificate of a server.
    pub(crate) fn write_server(&self, issued: &Issued) -> Tls {
        let certificate = self.write("server.pem", &issued.certificate);
        Tls { certificate, key: self.write("server.key", &issued.key) }
    }

    /// A configuration with this authentication file. Whoever is known may do everything that a role
    /// has: this is about who they are.
    pub(crate) fn config(&self, authentication: &str) -> Config {
        let mut config = config();
        config.authentication = Some(self.write("authentication.yaml", authentication));
        let policy = "bindings:\n- {everyone: true, roles: [admin], permissions: [evaluate]}\n";
        config.policy = Some(self.write("policy.yaml", policy));
        // Tests ask in a loop until something is so.
        config.edge.rates.control = 1_000_000.try_into().unwrap();
        config.reload_every = std::time::Duration::from_millis(10);
        config
    }
}

/// A server with TLS.
pub(crate) struct Secured {
    pub(crate) server: Server,
    pub(crate) files: Files,
    pub(crate) authority: Authority,
}

impl Secured {
    /// Starts with an authentication file, in which `CA` is the authority's.
    pub(crate) async fn start(authentication: &str, change: impl FnOnce(&mut Config)) -> Self {
        let (files, authority) = (Files::new(), Authority::new());
        let ca = files.write("ca.pem", &authority.pem());
        let mut config = files.config(&authentication.replace("CA", ca.to_str().unwrap()));
        config.tls = Some(files.write_server(&authority.server()));
        change(&mut config);
        let parts = Parts::of(&config);
        let server = Server::start_unready(config, parts).await;
        Self { server, files, authority }
    }

    /// A connection, perhaps with a certificate of the client's own.
    pub(crate) async fn channel(
        &self,
        certificate: Option<&Issued>,
    ) -> Result<Channel, tonic::transport::Error> {
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.authority.pem()));
        if let Some(issued) = certificate {
            tls = tls.identity(Identity::from_pem(&issued.certificate, &issued.key));
        }
        let address = format!("https://localhost:{}", self.server.address.port());
        let endpoint = Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap();
        within(endpoint.connect()).await
    }

    /// Waits until it serves.
    pub(crate) async fn serves(&self, channel: &Channel) {
        let request = HealthCheckRequest { service: String::new() };
        let mut health = HealthClient::new(channel.clone());
        let mut statuses = health.watch(request).await.unwrap().into_inner();
        let serving = async {
            while statuses.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
        };
        within(serving).await;
    }
}
