//! `phasegate clock`: the clock of a rehearsal.

use crate::{connection::Connection, failure::Failure, output::Output, time};
use clap::{Args, Subcommand};
use phasegate_api::rehearsal::GetResponse;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct Clock {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show what the clock says
    Get,
    /// Move the clock ahead; everything that comes due on the way is done when this returns
    Advance {
        /// How far, for example 90s, 1h30m or 7d
        #[arg(value_parser = time::parse_duration)]
        by: Duration,
    },
}

impl Clock {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let client = self.connection.connect().await?;
        let now = match self.action {
            Action::Get => client.clock_now().await?,
            Action::Advance { by } => client.advance_clock(by).await?,
        };
        let shown = format!("{}\n", time::machine(&now));
        self.output.show(&GetResponse { now: Some(now) }, || shown)
    }
}
