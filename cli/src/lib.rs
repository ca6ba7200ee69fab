//! The program `phasegate`: the server, the demo, and every action from a terminal.
//!
//! `args` is the table of commands; each is a file in `command`. What is deliberately absent: any
//! rule about releases. The program asks a server, through `phasegate-client`, and shows its answer.
//!
//! `main.rs` does nothing but call [`main`].

#![warn(clippy::unwrap_used)]

mod args;
mod command;

mod complete;
mod connection;
mod contexts;
mod name;
mod process;
mod settings;
mod telemetry;
mod time;

mod exit;
mod failure;
mod hint;
mod output;
mod paint;
mod screen;

use clap::{CommandFactory as _, Parser as _};
use clap_complete::CompleteEnv;
use exit::Exit;
use phasegate_document::{self as document, json};
use std::process::ExitCode;

/// Reads the arguments, does what they say, and tells how it ended.
pub fn main() -> ExitCode {
    // A shell may be asking, and then nothing else is done.
    let asked = CompleteEnv::with_factory(args::Arguments::command).var(complete::VARIABLE);
    match asked.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()) {
        Ok(true) => return Exit::Done.into(),
        Ok(false) => {}
        // Where somebody types there is no place for an error.
        Err(_) => return Exit::Refused.into(),
    }
    let arguments = match args::Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return misused(&error).into(),
    };
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start: {error}");
            return Exit::Defect.into();
        }
    };
    match runtime.block_on(arguments.run()) {
        Ok(()) => Exit::Done.into(),
        Err(failure) => {
            failure.report();
            failure.exit().into()
        }
    }
}

/// Help and the version come as errors too; only what clap writes to stderr is one.
fn misused(error: &clap::Error) -> Exit {
    // If it cannot be said the exit code still says it.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Done }
}
