//! What the program exits with. Scripts rely on these numbers; docs/cli.md lists them.

use phasegate_server::app;

/// An exit code. From sysexits.h where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Exit {
    /// Done.
    Done = 0,
    /// The server refused the call, or it failed.
    Refused = 1,
    /// `apply --dry-run`, `diff`: there are changes.
    HasChanges = 2,
    /// The release ended in another way than was waited for.
    EndedOtherwise = 3,
    /// What was waited for did not come in time.
    TimedOut = 4,
    /// EX_USAGE: the arguments make no sense. Not clap's 2, which is taken.
    Usage = 64,
    /// EX_DATAERR: a document is malformed, what is stored contradicts itself, or an export of the audit
    /// chain does not hold.
    Data = 65,
    /// EX_NOINPUT: a file cannot be read.
    NoInput = 66,
    /// EX_UNAVAILABLE: the server cannot be reached; `serve`: the address cannot be listened on.
    Unreachable = 69,
    /// EX_SOFTWARE: a defect.
    Defect = 70,
    /// EX_CANTCREAT: there is no space.
    NoSpace = 73,
    /// EX_IOERR: reading or writing failed.
    Io = 74,
    /// EX_TEMPFAIL: the data directory is in use.
    InUse = 75,
    /// EX_CONFIG: the configuration is refused.
    Config = 78,
    /// A person stopped looking before what was waited for came: what shells say of Ctrl-C.
    Interrupted = 130,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<app::ExitCode> for Exit {
    fn from(code: app::ExitCode) -> Self {
        match code {
            app::ExitCode::Stopped => Self::Done,
            app::ExitCode::Damaged => Self::Data,
            app::ExitCode::Unavailable => Self::Unreachable,
            app::ExitCode::Defect => Self::Defect,
            app::ExitCode::NoSpace => Self::NoSpace,
            app::ExitCode::Io => Self::Io,
            app::ExitCode::InUse => Self::InUse,
            app::ExitCode::Config => Self::Config,
        }
    }
}

/// The end of `phasegate --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0   done
  1   the server refused the call, or it failed
  2   apply --dry-run, diff: there are changes
  3   watch, wait: the release ended in another way than was waited for
  4   watch, wait: what was waited for did not come in time
  64  the arguments make no sense
  65  a document is malformed; serve, store, audit verify: the data contradicts itself
  66  a file cannot be read
  69  the server cannot be reached; serve: the address cannot be listened on
  70  a defect
  73  serve, store: there is no space
  74  reading or writing failed
  75  serve, store: the data directory is in use
  78  serve, config: the configuration is refused; the file of contexts is malformed
  130 watch: stopped by Ctrl-C, or q";
