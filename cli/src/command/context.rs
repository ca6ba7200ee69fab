//! `phasegate context`: servers under a name.

use crate::{
    complete,
    connection::{Connection, Token},
    contexts::{self, Context, Contexts},
    failure::Failure,
    output::{note, print, table::Table},
};
use clap::{Args, Subcommand};
use clap_complete::engine::ArgValueCandidates;

#[derive(Args, Debug)]
pub(crate) struct ContextCommand {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all contexts; the current one has a star
    List,
    /// Show which server is meant and as whom, and where each of it was said
    Show,
    /// Make or change a context: --address, --as, --groups, --ca, --token-file, --cert and --key are kept
    /// in it; of a token only the name of its file
    Set(Name),
    /// Take a context wherever none is named
    Use(Name),
    /// Forget a context
    Delete(Name),
}

#[derive(Args, Debug)]
struct Name {
    /// The context
    #[arg(value_parser = name, add = ArgValueCandidates::new(complete::contexts))]
    name: String,
}

/// Names that a shell takes as they are.
fn name(text: &str) -> Result<String, String> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    match !text.is_empty() && text.chars().all(is_plain) && !text.starts_with('-') {
        true => Ok(text.to_owned()),
        false => Err("a context is named with letters, digits, `-`, `_` and `.`".to_owned()),
    }
}

impl ContextCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let path = contexts::path()?;
        match self.action {
            Action::List => list(&Contexts::read(&path)?),
            Action::Show => show(&self.connection),
            Action::Set(Name { name }) => {
                let mut known = Contexts::read(&path)?;
                let is_new = !known.contexts.contains_key(&name);
                let context = known.contexts.entry(name.clone()).or_default();
                fill(context, self.connection)?;
                known.write(&path)?;
                print(&format!("{name}  {}\n", if is_new { "made" } else { "changed" }))?;
                if known.current.as_ref() != Some(&name) {
                    note(&format!("next: `phasegate context use {name}` makes it the current one"));
                }
                Ok(())
            }
            Action::Use(Name { name }) => {
                let mut known = Contexts::read(&path)?;
                if !known.contexts.contains_key(&name) {
                    return Err(known.unknown(&name));
                }
                known.current = Some(name.clone());
                known.write(&path)?;
                print(&format!("{name}  is the current context\n"))
            }
            Action::Delete(Name { name }) => {
                let mut known = Contexts::read(&path)?;
                if known.contexts.remove(&name).is_none() {
                    return Err(known.unknown(&name));
                }
                let was_current = known.current.take_if(|current| *current == name).is_some();
                known.write(&path)?;
                print(&format!("{name}  deleted\n"))?;
                if was_current {
                    note("note: it was the current one; there is none now");
                }
                Ok(())
            }
        }
    }
}

/// Keeps what was said on the command line, and leaves the rest as it is.
fn fill(context: &mut Context, said: Connection) -> Result<(), Failure> {
    let Connection { address, principal, groups, ca, token_file, cert, key, .. } = said;
    let files = [&ca, &token_file, &cert, &key];
    if address.is_none()
        && principal.is_none()
        && groups.is_none()
        && files.iter().all(|file| file.is_none())
    {
        let text = "say what to keep: --address URL, --as PRINCIPAL, --groups GROUPS, --token-file FILE, \
                    --ca FILE, --cert FILE with --key FILE";
        return Err(Failure::Usage(text.to_owned()));
    }
    for (kept, file) in [
        (&mut context.ca, ca),
        (&mut context.token_file, token_file),
        (&mut context.cert, cert),
        (&mut context.key, key),
    ] {
        if let Some(file) = file {
            // It is to be found from wherever the context is used.
            *kept = Some(std::path::absolute(&file).unwrap_or(file));
        }
    }
    context.address = address.or_else(|| context.address.take());
    context.principal = principal.or_else(|| context.principal.take());
    if let Some(groups) = groups {
        context.groups = groups.into_iter().filter(|group| !group.is_empty()).collect();
    }
    Ok(())
}

fn list(known: &Contexts) -> Result<(), Failure> {
    if known.contexts.is_empty() {
        return print("no contexts\n");
    }
    let mut table = Table::new(&["", "CONTEXT", "ADDRESS", "PRINCIPAL", "GROUPS"]);
    for (name, context) in &known.contexts {
        table.row([
            if known.current.as_ref() == Some(name) { "*" } else { "" },
            name,
            context.address.as_deref().unwrap_or_default(),
            context.principal.as_deref().unwrap_or_default(),
            &context.groups.join(","),
        ]);
    }
    print(&table.render())
}

fn show(connection: &Connection) -> Result<(), Failure> {
    let target = connection.target()?;
    let mut table = Table::default();
    table.row(["address", &target.address.0, &target.address.1.to_string()]);
    match &target.principal {
        Some((principal, origin)) => table.row(["principal", principal, &origin.to_string()]),
        None => table.row(["principal", "anonymous", "the default"]),
    }
    if !target.groups.0.is_empty() {
        table.row(["groups", &target.groups.0.join(","), &target.groups.1.to_string()]);
    }
    if let Some((token, origin)) = &target.token {
        let token = match token {
            Token::File(path) => path.display().to_string(),
            Token::Given(_) => "(not shown)".to_owned(),
        };
        table.row(["token", &token, &origin.to_string()]);
    }
    if let Some((path, origin)) = &target.ca {
        table.row(["ca", &path.display().to_string(), &origin.to_string()]);
    }
    if let Some((path, _, origin)) = &target.certificate {
        table.row(["certificate", &path.display().to_string(), &origin.to_string()]);
    }
    print(&table.render())
}
