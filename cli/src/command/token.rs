//! `phasegate token`: static tokens.

use crate::{failure::Failure, output};
use clap::{Args, Subcommand, ValueEnum};
use phasegate_server::access::identity;
use std::io::IsTerminal as _;

#[derive(Args, Debug)]
pub(crate) struct TokenCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a fresh token, once, to stdout, and to stderr what to write into the authentication file
    New {
        /// Who will call with it: its principal is `token:NAME`
        name: String,
        /// What kind of caller it is
        #[arg(long, value_enum, default_value_t = Kind::Service)]
        kind: Kind,
        /// The groups that it puts its caller into, comma-separated
        #[arg(long, value_delimiter = ',')]
        groups: Vec<String>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// A program
    Service,
    /// A human being
    Person,
}

impl TokenCommand {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let Action::New { name, kind, groups } = self.action;
        let machine = |source| Failure::Machine { doing: "make a token", source };
        let fresh = identity::fresh().map_err(machine)?;
        let kind = match kind {
            Kind::Service => "service",
            Kind::Person => "person",
        };
        let quoted = |text: &str| serde_json::Value::from(text).to_string();
        let groups: Vec<String> = groups.iter().map(|group| quoted(group)).collect();
        eprintln!(
            "tokens:\n- name: {}\n  sha256: {}\n  kind: {kind}\n  groups: [{}]\n",
            quoted(&name),
            fresh.sha256,
            groups.join(", ")
        );
        if std::io::stdout().is_terminal() {
            eprintln!("The token, which is not shown again:");
        }
        output::print(&format!("{}\n", fresh.token))
    }
}
