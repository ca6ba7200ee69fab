//! By what a client is known: a bearer token, which may be kept in a file that somebody renews, and a
//! certificate.

use crate::Error;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};
use tonic::{
    Code,
    metadata::{Ascii, MetadataValue},
    transport::{Certificate, ClientTlsConfig, Identity},
};

/// A token that is sent with every call (RFC 6750).
#[derive(Clone, Debug)]
pub(crate) enum Token {
    /// This one.
    Given(String),
    /// Whatever stands in this file.
    File(PathBuf),
}

/// A token, ready to be sent. Clones share it.
#[derive(Clone, Debug)]
pub(crate) enum Ready {
    Given(MetadataValue<Ascii>),
    File(Arc<TokenFile>),
}

/// A token in a file, read again whenever the file has changed.
#[derive(Debug)]
pub(crate) struct TokenFile {
    path: PathBuf,
    last: Mutex<(Option<Stamp>, MetadataValue<Ascii>)>,
}

/// What tells one state of a file from another.
type Stamp = (SystemTime, u64);

fn stamp(path: &Path) -> Option<Stamp> {
    let found = fs::metadata(path).ok()?;
    Some((found.modified().ok()?, found.len()))
}

impl Token {
    pub(crate) fn ready(&self) -> Result<Ready, Error> {
        match self {
            Self::Given(token) => Ok(Ready::Given(bearer(token)?)),
            Self::File(path) => {
                let before = stamp(path);
                let last = Mutex::new((before, bearer(&read(path)?)?));
                Ok(Ready::File(Arc::new(TokenFile { path: path.clone(), last })))
            }
        }
    }
}

impl Ready {
    /// The value of `authorization`. A file that cannot be read any more leaves the last one.
    pub(crate) fn value(&self) -> MetadataValue<Ascii> {
        match self {
            Self::Given(value) => value.clone(),
            Self::File(file) => file.value(),
        }
    }
}

impl TokenFile {
    fn value(&self) -> MetadataValue<Ascii> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamp(&self.path);
        if now.is_some() && now != last.0 {
            match read(&self.path).and_then(|token| bearer(&token)) {
                Ok(value) => *last = (now, value),
                Err(error) => tracing::warn!(%error, "the last token is used further"),
            }
        }
        last.1.clone()
    }
}

fn read(path: &Path) -> Result<String, Error> {
    fs::read_to_string(path).map_err(|error| {
        let message = format!("cannot read the token in {}: {error}", path.display());
        Error::local(Code::InvalidArgument, message)
    })
}

/// The value, which is shown to nobody.
fn bearer(token: &str) -> Result<MetadataValue<Ascii>, Error> {
    let token = token.trim();
    let is_plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = format!("Bearer {token}").parse::<MetadataValue<Ascii>>();
    match value {
        Ok(mut value) if is_plain => {
            value.set_sensitive(true);
            Ok(value)
        }
        Ok(_) | Err(_) => {
            let message = "a token is one word of printable ASCII";
            Err(Error::local(Code::InvalidArgument, message))
        }
    }
}

/// Whom a client trusts, and what it shows for itself.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tls {
    /// None: the authorities of the operating system.
    pub(crate) authorities: Option<PathBuf>,
    /// A certificate with its chain, and its key.
    pub(crate) certificate: Option<(PathBuf, PathBuf)>,
}

impl Tls {
    pub(crate) fn config(&self) -> Result<ClientTlsConfig, Error> {
        let read = |path: &Path| {
            fs::read(path).map_err(|error| {
                let message = format!("cannot read {}: {error}", path.display());
                Error::local(Code::InvalidArgument, message)
            })
        };
        let mut config = match &self.authorities {
            Some(path) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(path)?)),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        if let Some((certificate, key)) = &self.certificate {
            config = config.identity(Identity::from_pem(read(certificate)?, read(key)?));
        }
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_is_renewed_in_its_file_is_sent_from_then_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "pgt_one\n").unwrap();
        let token = Token::File(path.clone()).ready().unwrap();
        let sent = || token.value().to_str().unwrap().to_owned();
        assert_eq!(sent(), "Bearer pgt_one");
        fs::write(&path, "pgt_number_two\n").unwrap();
        assert_eq!(sent(), "Bearer pgt_number_two");
        // Half a renewal, or none, is no reason to send nothing.
        fs::write(&path, "").unwrap();
        assert_eq!(sent(), "Bearer pgt_number_two");
        fs::remove_file(&path).unwrap();
        assert_eq!(sent(), "Bearer pgt_number_two");
        assert!(Token::File(path).ready().is_err());
    }

    #[test]
    fn a_token_is_shown_to_nobody() {
        let token = Token::Given("pgt_secret".to_owned()).ready().unwrap();
        assert!(!format!("{token:?}").contains("pgt_secret"));
        for bad in ["", "two words", "pgt_ü", "a\nb"] {
            let refused = Token::Given(bad.to_owned()).ready().unwrap_err();
            assert_eq!(refused.message, "a token is one word of printable ASCII");
        }
    }
}
