//! Why a server did not start or did not go on, and the exit code that says so to a supervisor.

use super::tls;
use crate::{
    access::{self, identity::file},
    config, driver, notify, store,
    telemetry::otlp,
};
use std::{io, net::SocketAddr};

/// Exit codes of `phasegate serve`, from sysexits.h where it has one. Documented, with what to do,
/// in docs/operating.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// Stopped as asked.
    Stopped = 0,
    /// EX_DATAERR: what is stored contradicts itself.
    Damaged = 65,
    /// EX_UNAVAILABLE: the address cannot be listened on, or the system gives no thread.
    Unavailable = 69,
    /// EX_SOFTWARE: a defect.
    Defect = 70,
    /// EX_CANTCREAT: there is no space.
    NoSpace = 73,
    /// EX_IOERR: the operating system refused to read or write.
    Io = 74,
    /// EX_TEMPFAIL: the data directory is in use; try again.
    InUse = 75,
    /// EX_CONFIG: the configuration is refused. Starting again will not help.
    Config = 78,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// Why a server did not start, or stopped without being asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is refused.
    #[error("the configuration is refused")]
    Config(#[from] config::Invalid),
    /// The file of notifications is refused.
    #[error("the file of notifications is refused")]
    Notifications(#[source] notify::SettingsError),
    /// The authentication file, or what it names, is refused.
    #[error("the authentication file is refused")]
    Authentication(#[source] file::Error),
    /// The files of TLS are refused.
    #[error("the files of TLS are refused")]
    Tls(#[source] tls::Error),
    /// The policy cannot be read, or is refused.
    #[error(transparent)]
    Policy(#[from] access::PolicyError),
    /// The address cannot be listened on, for example because another process does.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the operating system says.
        #[source]
        source: io::Error,
    },
    /// Nothing can be exported over OTLP.
    #[error("OTLP cannot be set up")]
    Otlp(#[from] otlp::Error),
    /// The store could not be opened.
    #[error("cannot open the store")]
    Open(#[source] store::Error),
    /// The store could not be read.
    #[error("cannot recover")]
    Recover(#[source] driver::OpenError),
    /// The writer failed while the server ran. What was acknowledged is safe; the server stops
    /// because nothing may be assumed of the rest.
    #[error("the writer failed")]
    Writer(#[source] driver::Failure),
    /// The writer, or the transport, ended though nobody told it to.
    #[error("{0} ended by itself")]
    Ended(&'static str),
    /// A thread could not be started.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A part of the server panicked; the log has it.
    #[error("{0} panicked")]
    Panicked(&'static str),
}

impl Error {
    /// What the process should exit with.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Config(_)
            | Self::Policy(_)
            | Self::Notifications(_)
            | Self::Authentication(_)
            | Self::Otlp(_)
            | Self::Tls(_) => ExitCode::Config,
            Self::Listen { .. } => ExitCode::Unavailable,
            Self::Open(error) | Self::Recover(driver::OpenError::Store(error)) => error.into(),
            Self::Recover(driver::OpenError::Inconsistent(_)) => ExitCode::Damaged,
            Self::Writer(driver::Failure::Store(_)) => ExitCode::Io,
            Self::Recover(driver::OpenError::Thread(_)) | Self::Thread(_) => ExitCode::Unavailable,
            Self::Writer(driver::Failure::Panicked) | Self::Ended(_) | Self::Panicked(_) => {
                ExitCode::Defect
            }
        }
    }
}

impl From<&store::Error> for ExitCode {
    fn from(error: &store::Error) -> Self {
        match error {
            store::Error::Locked { .. } => Self::InUse,
            store::Error::Foreign { .. }
            | store::Error::Format { .. }
            | store::Error::Exposed { .. } => Self::Config,
            store::Error::Damaged(_) => Self::Damaged,
            store::Error::Full(_) => Self::NoSpace,
            store::Error::Io { .. } | store::Error::Failed => Self::Io,
            store::Error::Rejected(_) => Self::Defect,
        }
    }
}
