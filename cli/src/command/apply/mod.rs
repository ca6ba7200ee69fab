//! `phasegate apply`: makes flags and pipelines what their documents say; and `phasegate diff`: shows
//! what that would do.
//!
//! A document is the whole of what its author decides: a field that it leaves out is cleared. What is
//! as it should be is left alone. Everything is tried before anything is changed, so a document that
//! is refused keeps the others from being half applied.

mod plan;
mod prune;
mod warning;

use crate::{
    connection::Connection,
    document::{self, Document, Source},
    failure::Failure,
    output::{note, print},
};
use clap::Args;
use phasegate_client::{Client, Error};
use plan::{Change, Plan, Rest, Step};
use std::io::{self, IsTerminal as _, Write as _};

#[derive(Args, Debug)]
pub(crate) struct Apply {
    #[command(flatten)]
    wanted: Wanted,
    /// Check everything, change nothing; exits with 2 if there are changes
    #[arg(long)]
    dry_run: bool,
    /// Delete without asking
    #[arg(long, requires = "prune")]
    yes: bool,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Args, Debug)]
pub(crate) struct Diff {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    connection: Connection,
}

/// How things shall be.
#[derive(Args, Debug)]
struct Wanted {
    /// A file, a directory of files, or - for stdin
    #[arg(
        short,
        long = "file",
        value_name = "FILE|DIR|-",
        required = true,
        value_hint = clap::ValueHint::AnyPath
    )]
    files: Vec<String>,
    /// Also delete the flags and pipelines of the server that no document names
    #[arg(long)]
    prune: bool,
}

impl Wanted {
    fn documents(&self) -> Result<Vec<Document>, Failure> {
        let mut documents = Vec::new();
        for file in &self.files {
            documents.extend(document::read(&Source::from(file.as_str()))?);
        }
        Ok(documents)
    }

    fn rest(&self) -> Rest {
        if self.prune { Rest::Prune } else { Rest::Keep }
    }
}

impl Diff {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let documents = self.wanted.documents()?;
        let client = self.connection.connect().await?;
        look(&Plan::make(&client, &documents, self.wanted.rest()).await?)
    }
}

impl Apply {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let documents = self.wanted.documents()?;
        let client = self.connection.connect().await?;
        let plan = Plan::make(&client, &documents, self.wanted.rest()).await?;
        if self.dry_run {
            return look(&plan);
        }
        show(&plan)?;
        refuse_blocked(&plan)?;
        if plan.count(Change::is_delete) > 0 && !self.yes {
            self.ask(&plan)?;
        }
        if !plan.has_changes() {
            return Ok(());
        }
        for step in &plan.steps {
            if let Some(done) = carry_out(&client, step).await? {
                print(&format!("{}  {}\n", step.name, done.in_words()))?;
            }
        }
        Ok(())
    }

    /// Deleting is for good, so a person is asked, and a script has to say so beforehand.
    fn ask(&self, plan: &Plan<'_>) -> Result<(), Failure> {
        let reads_stdin = self.wanted.files.iter().any(|file| file == "-");
        if reads_stdin || !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            let text = "--prune deletes for good: look at the plan, then say --yes";
            return Err(Failure::Usage(text.to_owned()));
        }
        let many = match plan.count(Change::is_delete) {
            1 => "1 resource".to_owned(),
            n => format!("{n} resources"),
        };
        let mut err = io::stderr().lock();
        write!(err, "Delete {many} for good? [y/N] ")?;
        err.flush()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer)?;
        match answer.trim() {
            "y" | "Y" | "yes" => Ok(()),
            _ => Err(Failure::Declined),
        }
    }
}

/// Shows a plan that is not carried out.
fn look(plan: &Plan<'_>) -> Result<(), Failure> {
    show(plan)?;
    refuse_blocked(plan)?;
    if plan.has_changes() { Err(Failure::HasChanges) } else { Ok(()) }
}

fn show(plan: &Plan<'_>) -> Result<(), Failure> {
    print(&plan.show())?;
    print(&format!("\n{}\n", intended(plan)))?;
    for warning in &plan.warnings {
        note(&format!("warning: {}", warning.message));
    }
    Ok(())
}

fn intended(plan: &Plan<'_>) -> String {
    let counts = [
        (plan.count(Change::is_create), "to create"),
        (plan.count(Change::is_update), "to change"),
        (plan.count(Change::is_nothing), "unchanged"),
        (plan.count(Change::is_delete), "to delete"),
        (plan.count(Change::is_blocked), "that cannot be deleted"),
    ];
    let counts = counts.iter().filter(|(count, _)| *count > 0);
    let parts: Vec<String> = counts.map(|(count, what)| format!("{count} {what}")).collect();
    match parts.is_empty() {
        true => "nothing to apply".to_owned(),
        false => format!("plan: {}", parts.join(", ")),
    }
}

/// A plan that cannot be carried out as a whole is not carried out in part.
fn refuse_blocked(plan: &Plan<'_>) -> Result<(), Failure> {
    match plan.count(Change::is_blocked) {
        0 => Ok(()),
        n => Err(Failure::CannotPrune(n)),
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Created,
    Changed,
    Deleted,
}

impl Done {
    pub(crate) fn in_words(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Changed => "changed",
            Self::Deleted => "deleted",
        }
    }
}

/// Does one step, if there is anything to do.
async fn carry_out(client: &Client, step: &Step<'_>) -> Result<Option<Done>, Failure> {
    let refused = |error: Error| match step.document {
        Some(document) => Failure::in_document(document, error),
        None => error.into(),
    };
    let name = step.name.clone();
    Ok(Some(match &step.change {
        Change::Nothing | Change::CannotDelete { .. } => return Ok(None),
        Change::CreatePipeline(wanted) => {
            let request = plan::create_pipeline(wanted);
            client.create_pipeline(request).await.map_err(refused)?;
            Done::Created
        }
        Change::UpdatePipeline { wanted, .. } => {
            let request = plan::update_pipeline(wanted);
            client.update_pipeline(request).await.map_err(refused)?;
            Done::Changed
        }
        Change::CreateFlag(wanted) => {
            let request = plan::create_flag(wanted);
            client.create_flag(request).await.map_err(refused)?;
            Done::Created
        }
        Change::UpdateFlag { wanted, .. } => {
            let request = plan::update_flag(wanted);
            client.update_flag(request).await.map_err(refused)?;
            Done::Changed
        }
        Change::DeleteFlag { etag } => {
            let etag = etag.clone();
            let request = phasegate_api::v1::DeleteFlagRequest { name, etag, ..Default::default() };
            client.delete_flag(request).await.map_err(refused)?;
            Done::Deleted
        }
        Change::DeletePipeline { etag } => {
            let etag = etag.clone();
            let request =
                phasegate_api::v1::DeletePipelineRequest { name, etag, ..Default::default() };
            client.delete_pipeline(request).await.map_err(refused)?;
            Done::Deleted
        }
    }))
}

/// Applies documents, pipelines before flags, and says what became of each that was not as it should
/// be.
pub(crate) async fn apply(
    client: &Client,
    documents: &[Document],
) -> Result<Vec<(String, Done)>, Failure> {
    let plan = Plan::make(client, documents, Rest::Keep).await?;
    let mut done = Vec::new();
    for step in &plan.steps {
        if let Some(outcome) = carry_out(client, step).await? {
            done.push((step.name.clone(), outcome));
        }
    }
    Ok(done)
}
