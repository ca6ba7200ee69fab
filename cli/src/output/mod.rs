//! What is shown, and how: aligned text for people, proto3 JSON for programs. Data goes to stdout;
//! notes, hints and errors go to stderr.

pub(crate) mod answer;
pub(crate) mod event;
pub(crate) mod release;
pub(crate) mod resource;
pub(crate) mod table;

use crate::{
    document,
    failure::Failure,
    json::{self, yaml},
    screen::Colours,
};
use anstream::{AutoStream, ColorChoice};
use clap::{Args, ValueEnum};
use std::io::{self, Write as _};

/// The form of the output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// Text for people
    #[default]
    Human,
    /// Proto3 JSON; watches print one line for each change
    Json,
    /// The same as YAML, which `apply` takes back
    Yaml,
}

#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Output {
    /// Form of the output
    #[arg(
        short = 'o',
        long = "output",
        value_enum,
        default_value_t,
        value_name = "FORM",
        global = true
    )]
    pub(crate) form: Form,
}

impl Output {
    /// Shows a message, or what people read instead of it.
    pub(crate) fn show<M: json::Named>(
        self,
        message: &M,
        human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.form {
            Form::Human => print(&human()),
            Form::Json | Form::Yaml => self.value(&json::value(message)),
        }
    }

    /// Shows a message as a document, with its kind, so that it can be applied again.
    pub(crate) fn document<M: json::Named>(
        self,
        kind: &str,
        message: &M,
        human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.form {
            Form::Human => print(&human()),
            Form::Json => self.value(&json::value(message)),
            Form::Yaml => print(&document::write(kind, message)),
        }
    }

    /// Shows a value that has no form for people, or is not shown to them.
    pub(crate) fn value(self, value: &serde_json::Value) -> Result<(), Failure> {
        match self.form {
            Form::Human | Form::Json => print(&format!("{value:#}\n")),
            Form::Yaml => print(&yaml(value)),
        }
    }

    /// One change of a watch: a line, or a document.
    pub(crate) fn change<M: json::Named>(
        self,
        message: &M,
        human: impl FnOnce() -> String,
    ) -> Result<(), Failure> {
        match self.form {
            Form::Human => print(&human()),
            Form::Json => print(&format!("{}\n", json::value(message))),
            Form::Yaml => print(&format!("---\n{}", yaml(&json::value(message)))),
        }
    }
}

/// Whether stdout gets colours: what `--color` says, else NO_COLOR, CLICOLOR_FORCE, TERM, and whether
/// it is a terminal.
pub(crate) fn colours() -> Colours {
    match AutoStream::choice(&io::stdout()) {
        ColorChoice::Never => Colours::Hidden,
        ColorChoice::Auto | ColorChoice::AlwaysAnsi | ColorChoice::Always => Colours::Shown,
    }
}

/// Writes data. Whole, so that a reader never sees half of it; without its escapes where colours are
/// not wanted.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = AutoStream::auto(io::stdout().lock());
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// Writes what is not data.
pub(crate) fn note(text: &str) {
    eprintln!("{text}");
}
