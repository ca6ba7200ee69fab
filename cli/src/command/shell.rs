//! `phasegate completions` and `phasegate man`: what a shell and `man` want to know of the program.

use crate::{args::Arguments, complete, failure::Failure, output::print};
use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::env::Shells;
use std::path::PathBuf;

/// As the shells that the completions are written for are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// How each shell loads them.
pub(crate) const LOADING: &str = "\
Load them when a shell starts:
  bash  source <(phasegate completions bash)         in ~/.bashrc
  zsh   source <(phasegate completions zsh)          in ~/.zshrc, behind compinit
  fish  phasegate completions fish | source          in ~/.config/fish/config.fish

Names of flags, pipelines, releases and phases are asked of the server that the line, the
environment or the current context means; one that does not answer in 0.3 s offers none.";

#[derive(Args, Debug)]
pub(crate) struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let shells = Shells::builtins();
        let Some(shell) = shells.completer(self.shell.name()) else {
            let text = format!("{} is not supported", self.shell.name());
            return Err(Failure::Usage(text));
        };
        let command = Arguments::command();
        let name = command.get_name();
        let mut script = Vec::new();
        shell.write_registration(complete::VARIABLE, name, name, name, &mut script)?;
        print(&String::from_utf8_lossy(&script))
    }
}

#[derive(Args, Debug)]
pub(crate) struct Man {
    /// Where the pages go; made if it is missing
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(self) -> Result<(), Failure> {
        let machine = |source| Failure::Machine { doing: "write the manual pages", source };
        std::fs::create_dir_all(&self.dir).map_err(machine)?;
        clap_mangen::generate_to(Arguments::command(), &self.dir).map_err(machine)?;
        let dir = self.dir.display();
        print(&format!("{dir}/phasegate.1  and one page for each command\n"))
    }
}
