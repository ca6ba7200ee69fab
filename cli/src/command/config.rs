//! `phasegate config`: the settings of the server, before it is started with them.

use crate::{
    command::serve::{Serve, Settings},
    failure::Failure,
    output,
    settings::{Problem, Resolved, Source},
};
use clap::{Args, Subcommand};
use phasegate_server::app;
use std::error::Error as _;

#[derive(Args, Debug)]
pub(crate) struct ConfigCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Say everything that is wrong: with the settings, and with the files that they name. Exits with 78 if
    /// anything is. Nothing is listened on, and no data directory is opened
    Check(Box<Serve>),
    /// Print the settings as they hold, as a file with them, and where each was said
    Show(Box<Serve>),
}

impl ConfigCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Check(serve) => check(&serve),
            Action::Show(serve) => show(&serve),
        }
    }
}

fn check(serve: &Serve) -> Result<(), Failure> {
    let Resolved { settings, each, mut problems } = serve.resolve::<Settings>()?;
    let is_read = problems.is_empty();
    let (config, contradictions) = settings.config();
    // What follows from a setting that could not be read is not what is wrong.
    if is_read {
        problems.extend(contradictions);
    }
    for error in app::check(&config) {
        if is_read || !matches!(error, app::Error::Config(_)) {
            problems.push(Problem::new(with_causes(&error)));
        }
    }
    if !problems.is_empty() {
        return Err(Failure::Config(problems));
    }
    let said = each.iter().filter(|setting| setting.source != Source::Default).count();
    let defaults = each.len() - said;
    output::print(&format!("good: {said} settings, and {defaults} by default\n"))
}

fn show(serve: &Serve) -> Result<(), Failure> {
    let Resolved { each, problems, .. } = serve.resolve::<Settings>()?;
    for setting in &each {
        output::print(&format!("{}\n", setting.line()))?;
    }
    if problems.is_empty() { Ok(()) } else { Err(Failure::Config(problems)) }
}

fn with_causes(error: &app::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
