//! What a command fails with: what happened, what to do next, and the exit code.

use crate::{
    contexts,
    document::{self, Document},
    exit::Exit,
    hint,
    settings::Problem,
};
use phasegate_client::{Code, Error, Reason};
use phasegate_server::{
    app, notify,
    store::{chain, tools},
};
use std::{error::Error as StdError, fmt, io};

/// Why a command did not do what it was asked for.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A call failed.
    Call(Box<Error>),
    /// A call about a document failed; `lines` say where in the file.
    InDocument { error: Box<Error>, lines: Vec<String> },
    /// A document could not be read.
    Document(document::Error),
    /// The arguments make no sense, which only showed later.
    Usage(String),
    /// What was waited for cannot come any more.
    EndedOtherwise(String),
    /// What was waited for did not come.
    TimedOut(String),
    /// Two documents describe the same resource.
    NamedTwice { name: String, first: String, second: String },
    /// There are changes, and they were only looked at.
    HasChanges,
    /// So many resources should be deleted and cannot be.
    CannotPrune(usize),
    /// A person was asked, and said no.
    Declined,
    /// A person stopped looking.
    Interrupted,
    /// Contexts could not be read or written.
    Contexts(contexts::Error),
    /// The settings of the server are refused: all that is wrong with them.
    Config(Vec<Problem>),
    /// The output could not be written.
    Output(io::Error),
    /// The server did not start, or did not go on.
    Server(Box<app::Error>),
    /// A tool for stores did not do what it should.
    Store(Box<tools::Error>),
    /// An export of the audit chain does not hold.
    Chain(Box<chain::Error>),
    /// A store contradicts itself in so many places.
    Unsound(usize),
    /// The file of notifications is refused.
    Notifications(Box<notify::SettingsError>),
    /// A sink did not take what was sent to it, which was said.
    NotDelivered(String),
    /// Something of the machine failed.
    Machine { doing: &'static str, source: io::Error },
}

impl Failure {
    /// A call about a document failed: says where in the file.
    pub(crate) fn in_document(document: &Document, error: Error) -> Self {
        let lines = match &error.violations[..] {
            [] => vec![format!("{}: {error}", document.place())],
            violations => violations
                .iter()
                .map(|wrong| document.locate(&wrong.field, &wrong.description))
                .collect(),
        };
        Self::InDocument { error: Box::new(error), lines }
    }

    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Call(error) | Self::InDocument { error, .. } if error.is_unreachable() => {
                Exit::Unreachable
            }
            // Not sent at all: the client itself refused the address, the caller or a group.
            Self::Call(error)
                if error.reason == Reason::None && error.code == Code::InvalidArgument =>
            {
                Exit::Usage
            }
            Self::Call(_) | Self::InDocument { .. } => Exit::Refused,
            Self::Document(document::Error::Read { .. }) => Exit::NoInput,
            Self::Document(
                document::Error::EmptyDirectory(_)
                | document::Error::Empty(_)
                | document::Error::Wrong { .. },
            ) => Exit::Data,
            Self::NamedTwice { .. } => Exit::Data,
            Self::HasChanges => Exit::HasChanges,
            Self::CannotPrune(_) | Self::Declined => Exit::Refused,
            Self::Interrupted => Exit::Interrupted,
            Self::Contexts(contexts::Error::Malformed { .. } | contexts::Error::NoHome) => {
                Exit::Config
            }
            Self::Contexts(contexts::Error::Read { .. }) => Exit::NoInput,
            Self::Contexts(contexts::Error::Write { .. }) => Exit::Io,
            Self::Usage(_) => Exit::Usage,
            Self::Config(_) => Exit::Config,
            Self::Server(error) => error.exit_code().into(),
            Self::Store(error) => match &**error {
                tools::Error::Store(error) => app::ExitCode::from(error).into(),
                tools::Error::Malformed(tools::Malformed::Read(_)) => Exit::NoInput,
                tools::Error::Write(_) => Exit::Io,
                tools::Error::Malformed(
                    tools::Malformed::Line { .. }
                    | tools::Malformed::CutOff { .. }
                    | tools::Malformed::Changed,
                )
                | tools::Error::Unsound { .. } => Exit::Data,
            },
            Self::Chain(error) => match &**error {
                chain::Error::Read(_) => Exit::NoInput,
                chain::Error::Line { .. } | chain::Error::EndMissing { .. } => Exit::Data,
            },
            Self::Unsound(_) => Exit::Data,
            Self::Notifications(error) => match **error {
                notify::SettingsError::Read { .. } => Exit::NoInput,
                notify::SettingsError::Wrong { .. } => Exit::Data,
            },
            Self::NotDelivered(_) => Exit::Refused,
            Self::EndedOtherwise(_) => Exit::EndedOtherwise,
            Self::TimedOut(_) => Exit::TimedOut,
            // Whoever read the output has seen enough.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(_) | Self::Machine { .. } => Exit::Io,
        }
    }

    /// Says it on stderr: what happened, and what to do next.
    pub(crate) fn report(&self) {
        // What was asked for was done, and the exit code says the rest.
        if matches!(self.exit(), Exit::Done | Exit::HasChanges | Exit::Interrupted) {
            return;
        }
        eprintln!("error: {self}");
        let mut cause = self.source();
        while let Some(error) = cause {
            eprintln!("  because: {error}");
            cause = error.source();
        }
        if let Some(next) = self.next_step() {
            eprintln!("  next: {next}");
        }
    }

    fn next_step(&self) -> Option<String> {
        match self {
            Self::Call(error) | Self::InDocument { error, .. } => hint::next_step(error),
            Self::Document(document::Error::Wrong { .. }) => {
                Some("examples/ has documents to start from".to_owned())
            }
            Self::CannotPrune(_) => {
                Some("name them in a document, or wait until their releases are over".to_owned())
            }
            Self::Document(
                document::Error::Read { .. }
                | document::Error::EmptyDirectory(_)
                | document::Error::Empty(_),
            )
            | Self::NamedTwice { .. }
            | Self::HasChanges
            | Self::Declined
            | Self::Interrupted
            | Self::Contexts(_)
            | Self::Usage(_)
            | Self::Config(_)
            | Self::Server(_)
            | Self::Store(_)
            | Self::Chain(_)
            | Self::Unsound(_)
            | Self::Notifications(_)
            | Self::NotDelivered(_)
            | Self::EndedOtherwise(_)
            | Self::TimedOut(_)
            | Self::Output(_)
            | Self::Machine { .. } => None,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => error.fmt(f),
            Self::InDocument { lines, .. } => f.write_str(&lines.join("\n       ")),
            Self::Document(error) => error.fmt(f),
            Self::Usage(text)
            | Self::EndedOtherwise(text)
            | Self::TimedOut(text)
            | Self::NotDelivered(text) => f.write_str(text),
            Self::Config(problems) => {
                f.write_str("the configuration is refused")?;
                problems.iter().try_for_each(|problem| write!(f, "\n       {problem}"))
            }
            Self::Notifications(error) => error.fmt(f),
            Self::Server(error) => error.fmt(f),
            Self::Store(error) => error.fmt(f),
            Self::Chain(error) => error.fmt(f),
            Self::Unsound(total) => write!(f, "the store is not sound: {total} findings"),
            Self::NamedTwice { name, first, second } => {
                write!(f, "{second}: {name} is described before, at {first}")
            }
            Self::HasChanges => f.write_str("there are changes"),
            Self::CannotPrune(1) => {
                f.write_str("1 resource cannot be deleted, so nothing was changed")
            }
            Self::CannotPrune(n) => {
                write!(f, "{n} resources cannot be deleted, so nothing was changed")
            }
            Self::Declined => f.write_str("nothing was changed"),
            Self::Interrupted => f.write_str("stopped"),
            Self::Contexts(error) => error.fmt(f),
            Self::Output(_) => f.write_str("cannot write the output"),
            Self::Machine { doing, .. } => write!(f, "cannot {doing}"),
        }
    }
}

impl StdError for Failure {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Document(error) => error.source(),
            Self::Contexts(error) => error.source(),
            Self::Server(error) => error.source(),
            Self::Store(error) => error.source(),
            Self::Notifications(error) => error.source(),
            Self::Chain(error) => error.source(),
            Self::Output(error) | Self::Machine { source: error, .. } => Some(error),
            Self::Call(_)
            | Self::InDocument { .. }
            | Self::NamedTwice { .. }
            | Self::HasChanges
            | Self::CannotPrune(_)
            | Self::Declined
            | Self::Interrupted
            | Self::Usage(_)
            | Self::Config(_)
            | Self::Unsound(_)
            | Self::NotDelivered(_)
            | Self::EndedOtherwise(_)
            | Self::TimedOut(_) => None,
        }
    }
}

impl From<notify::SettingsError> for Failure {
    fn from(error: notify::SettingsError) -> Self {
        Self::Notifications(Box::new(error))
    }
}

impl From<contexts::Error> for Failure {
    fn from(error: contexts::Error) -> Self {
        Self::Contexts(error)
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Call(Box::new(error))
    }
}

impl From<document::Error> for Failure {
    fn from(error: document::Error) -> Self {
        Self::Document(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl From<app::Error> for Failure {
    fn from(error: app::Error) -> Self {
        Self::Server(Box::new(error))
    }
}

impl From<chain::Error> for Failure {
    fn from(error: chain::Error) -> Self {
        Self::Chain(Box::new(error))
    }
}

impl From<tools::Error> for Failure {
    fn from(error: tools::Error) -> Self {
        Self::Store(Box::new(error))
    }
}
