//! Client certificates: the URI among their names is the principal. The common name never is: nothing
//! says what it means (RFC 9525, section 2).

use super::{Identity, Kind, Unauthenticated, Vouched};
use phasegate_engine::id::{Group, Principal};
use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};
use tokio_rustls::rustls::pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

/// The longest URI of a SPIFFE id is 2048 bytes; a principal is written into every entry of the log.
const URI_BYTES_MAX: usize = 256;

/// The certificate of a connection, whose chain was verified. Parsed once for each connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCertificate {
    /// The URIs among its subject alternative names.
    pub uris: Vec<String>,
    /// When it ends.
    pub not_after: SystemTime,
}

impl ClientCertificate {
    /// Reads a certificate. Whether to believe it is the handshake's to say.
    ///
    /// # Errors
    ///
    /// If it cannot be read, or one of its names cannot.
    pub fn parse(der: &CertificateDer<'_>) -> Result<Self, Unauthenticated> {
        let malformed = Unauthenticated::Malformed("the certificate cannot be read");
        let (_, certificate) = parse_x509_certificate(der).map_err(|_| malformed.clone())?;
        let not_after = certificate.validity().not_after.timestamp();
        let not_after = u64::try_from(not_after)
            .ok()
            .and_then(|seconds| SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds)))
            .ok_or_else(|| malformed.clone())?;
        let names = certificate.subject_alternative_name().map_err(|_| malformed.clone())?;
        let mut uris = Vec::new();
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::URI(uri) => uris.push((*uri).to_owned()),
                GeneralName::Invalid(..) => return Err(malformed),
                GeneralName::OtherName(..)
                | GeneralName::RFC822Name(_)
                | GeneralName::DNSName(_)
                | GeneralName::X400Address(_)
                | GeneralName::DirectoryName(_)
                | GeneralName::EDIPartyName(_)
                | GeneralName::IPAddress(_)
                | GeneralName::RegisteredID(_) => {}
            }
        }
        Ok(Self { uris, not_after })
    }
}

/// Whether every connection has to bring a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Demand {
    /// It may: other credentials are as good.
    Optional,
    /// It has to, or there is no connection, whatever else it brings.
    Required,
}

/// Whom certificates let in.
#[derive(Clone, Debug)]
pub(super) struct Certificates {
    /// The authorities that issue them.
    pub(super) authorities: Vec<CertificateDer<'static>>,
    pub(super) demand: Demand,
    /// Who is known by name.
    pub(super) principals: BTreeMap<String, Known>,
    /// Whoever is of this SPIFFE trust domain is let in, too.
    pub(super) trust_domain: Option<String>,
}

/// What is known of a principal that a certificate names.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) groups: Vec<Group>,
    pub(super) kind: Kind,
}

impl Certificates {
    fn lets_in(&self, uri: &str) -> bool {
        if self.principals.is_empty() && self.trust_domain.is_none() {
            return true;
        }
        let of_domain = self.trust_domain.as_ref().is_some_and(|domain| {
            uri.strip_prefix("spiffe://")
                .and_then(|rest| rest.strip_prefix(domain.as_str()))
                .is_some_and(|path| path.len() > 1 && path.starts_with('/'))
        });
        of_domain || self.principals.contains_key(uri)
    }

    /// Who a certificate is. `taken` are what principals of other vouchers begin with.
    pub(super) fn identify(
        &self,
        certificate: &ClientCertificate,
        taken: impl Fn(&str) -> bool,
        now: SystemTime,
    ) -> Result<Identity, Unauthenticated> {
        // The handshake has looked, but the connection may have outlived the certificate.
        if certificate.not_after <= now {
            return Err(Unauthenticated::Expired);
        }
        if certificate.uris.is_empty() {
            return Err(Unauthenticated::CertificateWithoutUri);
        }
        let mut let_in = certificate.uris.iter().filter(|uri| self.lets_in(uri));
        let Some(uri) = let_in.next() else { return Err(Unauthenticated::CertificateNotLetIn) };
        if let_in.next().is_some() {
            return Err(Unauthenticated::CertificateWithSeveralUris);
        }
        let is_text = uri.len() <= URI_BYTES_MAX && uri.bytes().all(|byte| byte.is_ascii_graphic());
        let scheme = uri.split_once(':').map(|(scheme, _)| scheme);
        if !is_text || scheme.is_none_or(taken) {
            return Err(Unauthenticated::CertificateNotLetIn);
        }
        let known = self.principals.get(uri);
        Ok(Identity {
            principal: Principal::new(uri.as_str()),
            name: None,
            groups: known.map(|known| known.groups.clone()).unwrap_or_default(),
            kind: known.map_or(Kind::Service, |known| known.kind),
            until: Some(certificate.not_after),
            vouched: Vouched::Certificate,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    const END: SystemTime = SystemTime::UNIX_EPOCH;

    fn certificate(uris: &[&str]) -> ClientCertificate {
        let uris = uris.iter().map(|uri| (*uri).to_owned()).collect();
        ClientCertificate { uris, not_after: END + Duration::from_secs(100) }
    }

    fn rules(principals: &[&str], trust_domain: Option<&str>) -> Certificates {
        let known = || Known { groups: vec![Group::new("sre")], kind: Kind::Person };
        Certificates {
            authorities: Vec::new(),
            demand: Demand::Optional,
            principals: principals.iter().map(|uri| ((*uri).to_owned(), known())).collect(),
            trust_domain: trust_domain.map(str::to_owned),
        }
    }

    fn check(rules: &Certificates, uris: &[&str]) -> Result<String, Unauthenticated> {
        let taken = |scheme: &str| scheme == "corp";
        let identity = rules.identify(&certificate(uris), taken, END + Duration::from_secs(1))?;
        Ok(format!("{} {}", identity.principal, identity.groups.len()))
    }

    #[test]
    fn a_certificate_is_the_one_uri_that_is_let_in() {
        let (a, b, deep) =
            ("spiffe://x.example/a", "spiffe://y.example/b", "spiffe://x.example/a/b");
        let anybody = rules(&[], None);
        assert_eq!(check(&anybody, &[a]), Ok(format!("{a} 0")));
        assert_eq!(check(&anybody, &[a, b]), Err(Unauthenticated::CertificateWithSeveralUris));
        assert_eq!(check(&anybody, &[]), Err(Unauthenticated::CertificateWithoutUri));
        let domain = rules(&[], Some("x.example"));
        assert_eq!(check(&domain, &[a]), Ok(format!("{a} 0")));
        assert_eq!(check(&domain, &[b, a]), Ok(format!("{a} 0")));
        assert_eq!(check(&domain, &[a, deep]), Err(Unauthenticated::CertificateWithSeveralUris));
        for bad in [b, "spiffe://x.example", "spiffe://x.example/", "spiffe://x.example.evil/a"] {
            assert_eq!(check(&domain, &[bad]), Err(Unauthenticated::CertificateNotLetIn), "{bad}");
        }
        let both = rules(&[b], Some("x.example"));
        assert_eq!(check(&both, &[b]), Ok(format!("{b} 1")));
        assert_eq!(check(&both, &[a]), Ok(format!("{a} 0")));
        assert_eq!(check(&rules(&[b], None), &[a]), Err(Unauthenticated::CertificateNotLetIn));
    }

    #[test]
    fn a_certificate_cannot_take_the_name_of_an_issuer_s_subject() {
        let anybody = rules(&[], None);
        for bad in ["corp:ann", "no-scheme", "urn:a b"] {
            let refused = check(&anybody, &[bad]);
            assert_eq!(refused, Err(Unauthenticated::CertificateNotLetIn), "{bad}");
        }
    }

    #[test]
    fn a_connection_does_not_outlive_its_certificate() {
        let late = END + Duration::from_secs(100);
        let refused = rules(&[], None).identify(&certificate(&["urn:a"]), |_| false, late);
        assert_eq!(refused, Err(Unauthenticated::Expired));
    }

    #[test]
    fn of_a_certificate_the_uris_are_read_and_never_the_common_name() {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, "spiffe://x.example/root");
        params.not_after = rcgen::date_time_ymd(2040, 1, 1);
        let uri = "spiffe://x.example/a".try_into().unwrap();
        params.subject_alt_names.push(SanType::URI(uri));
        let signed = params.self_signed(&key).unwrap();
        let read = ClientCertificate::parse(signed.der()).unwrap();
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(2_208_988_800);
        assert_eq!(
            read,
            ClientCertificate { uris: vec!["spiffe://x.example/a".into()], not_after }
        );
        assert!(ClientCertificate::parse(&CertificateDer::from(vec![1, 2, 3])).is_err());
    }
}
