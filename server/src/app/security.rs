//! What stands between the server and a network: TLS and the authenticator, and their files, which are
//! read again when they change.

use super::{Error, tls};
use crate::{
    access::identity::{Authenticator, file, fingerprint},
    clock::SystemClock,
    config::{self, Config, Invalid},
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// TLS and the authenticator, as they are now.
#[derive(Clone, Debug)]
pub(super) struct Security {
    files: Files,
    pub(super) authenticator: Option<Arc<Authenticator>>,
    pub(super) tls: Option<tls::Tls>,
}

/// Where it all is read from.
#[derive(Clone, Debug)]
struct Files {
    authentication: Option<PathBuf>,
    tls: Option<config::Tls>,
}

/// Why files were not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Authentication(#[from] file::Error),
    #[error(transparent)]
    Tls(#[from] tls::Error),
    #[error(transparent)]
    Config(#[from] Invalid),
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Authentication(error) => Self::Authentication(error),
            Refused::Tls(error) => Self::Tls(error),
            Refused::Config(invalid) => Self::Config(invalid),
        }
    }
}

impl Files {
    fn read(&self) -> Result<(Option<file::Settings>, Option<rustls::ServerConfig>), Refused> {
        let settings = self.authentication.as_deref().map(file::load).transpose()?;
        let clients = settings.as_ref().and_then(file::Settings::client_authorities);
        let tls = match &self.tls {
            Some(tls) => Some(tls::read(tls, clients)?),
            None if clients.is_some() => return Err(Invalid::CertificatesWithoutTls.into()),
            None => None,
        };
        Ok((settings, tls))
    }

    /// Why they would not be taken: of the authentication file, and of TLS.
    fn problems(&self) -> Vec<Refused> {
        let settings = self.authentication.as_deref().map(file::load).transpose();
        let (settings, mut problems) = match settings {
            Ok(settings) => (settings, Vec::new()),
            Err(error) => (None, vec![error.into()]),
        };
        let clients = settings.as_ref().and_then(file::Settings::client_authorities);
        match &self.tls {
            Some(tls) => problems.extend(tls::read(tls, clients).err().map(Refused::from)),
            None if clients.is_some() => problems.push(Invalid::CertificatesWithoutTls.into()),
            None => {}
        }
        problems
    }

    /// All that has to be looked at. The settings name more than the file itself.
    fn all(&self, named: &[PathBuf]) -> Vec<PathBuf> {
        let tls = self.tls.iter().flat_map(|tls| [tls.certificate.clone(), tls.key.clone()]);
        self.authentication.iter().cloned().chain(named.iter().cloned()).chain(tls).collect()
    }
}

/// Why what the configuration names would be refused at a start.
pub(super) fn problems(config: &Config) -> Vec<Error> {
    let files = Files { authentication: config.authentication.clone(), tls: config.tls.clone() };
    files.problems().into_iter().map(Error::from).collect()
}

impl Security {
    /// Reads what the configuration names. In a runtime: keys of issuers are fetched behind.
    pub(super) fn of(config: &Config) -> Result<(Self, Watched), Error> {
        let files =
            Files { authentication: config.authentication.clone(), tls: config.tls.clone() };
        let before = fingerprint(&files.all(&[]));
        let (settings, tls) = files.read()?;
        let named = settings.as_ref().map(|settings| settings.files().to_vec()).unwrap_or_default();
        let authenticator = settings
            .map(|settings| Arc::new(Authenticator::start(settings, Arc::new(SystemClock))));
        if authenticator.is_none() && !config.listen.ip().is_loopback() {
            tracing::warn!(
                address = %config.listen,
                "everybody who reaches this address is believed whoever they say they are"
            );
        }
        let tls = tls.map(tls::Tls::new);
        let mut seen = fingerprint(&files.all(&named));
        // What changed while it was read is read again.
        seen.extend(before);
        let watched = Watched { seen, named, every: config.reload_every };
        Ok((Self { files, authenticator, tls }, watched))
    }

    /// Reads everything again: all of it holds from here on, or nothing does.
    fn reload(&self) -> Result<Vec<PathBuf>, Refused> {
        let (settings, new) = self.files.read()?;
        let named = settings.as_ref().map(|settings| settings.files().to_vec()).unwrap_or_default();
        if let (Some(tls), Some(new)) = (&self.tls, new) {
            tls.replace(new);
        }
        if let (Some(authenticator), Some(settings)) = (&self.authenticator, settings) {
            authenticator.replace(settings);
        }
        Ok(named)
    }

    /// Reads the files again when they change and on SIGHUP, for as long as it is polled.
    pub(super) async fn keep_fresh(self, mut watched: Watched) {
        if self.authenticator.is_none() && self.tls.is_none() {
            return std::future::pending().await;
        }
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(%error, "SIGHUP is not heard; changes of files are still seen");
                None
            }
        };
        let mut tick = interval(watched.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let asked = tokio::select! {
                _ = tick.tick() => false,
                Some(()) = async { match &mut hangup {
                    Some(hangup) => hangup.recv().await,
                    None => std::future::pending().await,
                } } => true,
            };
            let now = fingerprint(&self.files.all(&watched.named));
            if now == watched.seen && !asked {
                continue;
            }
            match self.reload() {
                Ok(named) => {
                    tracing::info!("certificates and authentication were read again");
                    // As of before the reading, so that what changed meanwhile is seen next time.
                    watched.seen = fingerprint(&self.files.all(&named));
                    for (path, was) in now {
                        watched.seen.entry(path).and_modify(|seen| *seen = was);
                    }
                    watched.named = named;
                }
                Err(error) => {
                    tracing::error!(%error, "what was read again is refused; the old holds");
                    watched.seen = now;
                }
            }
        }
    }
}

/// What the files were like when they were read.
#[derive(Debug)]
pub(super) struct Watched {
    seen: std::collections::BTreeMap<PathBuf, Option<(std::time::SystemTime, u64, u64)>>,
    named: Vec<PathBuf>,
    every: Duration,
}
