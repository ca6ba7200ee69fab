//! The arguments: every command in one table. Its comments are the help texts.

use crate::{
    command::{
        apply::{Apply, Diff},
        audit::Audit,
        backup::Backup,
        clock::Clock,
        config::ConfigCommand,
        context::ContextCommand,
        demo::Demo,
        eval::Eval,
        notify::Notify,
        release::Release,
        resource::{Delete, Get, KillSwitch, List, Switch},
        serve::Serve,
        shell::{self, Completions, Man},
        store::Store,
        token::TokenCommand,
        top::Top,
        whoami::Whoami,
    },
    exit,
    failure::Failure,
};
use anstream::ColorChoice as Stream;
use clap::{ColorChoice, Parser, Subcommand};

/// Rolls changes of feature flags out along pipelines of phases: durably, under control, and watched
/// live.
#[derive(Debug, Parser)]
#[command(
    name = "phasegate",
    version,
    disable_help_subcommand = true,
    after_long_help = exit::HELP,
    after_help = "`--help` has more, among it the exit codes."
)]
pub(crate) struct Arguments {
    /// Colours: on a terminal that has not set NO_COLOR, always, or never
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", global = true)]
    color: ColorChoice,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the server
    Serve(Box<Serve>),
    /// Check the settings of the server, or show them
    Config(ConfigCommand),
    /// See it work: a server, a flag, a release that moves, all in a minute
    Demo(Demo),
    /// Make flags and pipelines what their documents say
    Apply(Apply),
    /// Show what applying documents would change; exits with 2 if anything
    Diff(Diff),
    /// Show one flag, pipeline or release
    Get(Get),
    /// List flags, pipelines or releases
    List(List),
    /// Delete a flag or a pipeline, for good
    Delete(Delete),
    /// Engage a flag's kill switch: a gate is false, a config its settled default, for everyone
    Kill(KillSwitch),
    /// Lift a flag's kill switch
    Revive(KillSwitch),
    /// Show what a flag answers, and why
    Eval(Eval),
    /// Trigger, look at and steer releases
    Release(Release),
    /// Show all releases under way, live: who waits for a person first
    Top(Top),
    /// Look at the sinks of notifications, try one, send again what was given up
    Notify(Notify),
    /// Servers under a name, and who you are there
    Context(ContextCommand),
    /// Make static tokens, by which a server knows its callers
    Token(TokenCommand),
    /// Show who you are to the server, and what you may do there
    Whoami(Whoami),
    /// Move the clock of a rehearsal (`serve --clock manual`)
    Clock(Clock),
    /// Who asked for what: list, follow, export and verify the audit chain
    Audit(Box<Audit>),
    /// Bring everything that a running server holds into a file, which `store import` reads
    Backup(Backup),
    /// Verify, export or import a data directory that no server has open
    Store(Store),
    /// Print the completions of a shell, which offer the names that the server has
    #[command(after_help = shell::LOADING)]
    Completions(Completions),
    /// Write the manual pages
    Man(Man),
}

impl Arguments {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.color {
            ColorChoice::Auto => Stream::Auto,
            ColorChoice::Always => Stream::Always,
            ColorChoice::Never => Stream::Never,
        }
        .write_global();
        match self.command {
            Command::Serve(serve) => serve.run().await,
            Command::Config(config) => config.run(),
            // Large, and there is one at a time.
            Command::Demo(demo) => Box::pin(demo.run()).await,
            Command::Apply(apply) => apply.run().await,
            Command::Diff(diff) => diff.run().await,
            Command::Get(get) => get.run().await,
            Command::List(list) => list.run().await,
            Command::Delete(delete) => delete.run().await,
            Command::Kill(switch) => switch.run(Switch::Engage).await,
            Command::Revive(switch) => switch.run(Switch::Lift).await,
            Command::Eval(eval) => eval.run().await,
            Command::Release(release) => release.run().await,
            Command::Top(top) => top.run().await,
            Command::Notify(notify) => notify.run().await,
            Command::Context(context) => context.run(),
            Command::Token(token) => token.run(),
            Command::Whoami(whoami) => whoami.run().await,
            Command::Clock(clock) => clock.run().await,
            Command::Audit(audit) => audit.run().await,
            Command::Backup(backup) => backup.run().await,
            Command::Store(store) => store.run().await,
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_table_of_arguments_is_sound() {
        Arguments::command().debug_assert();
    }
}
