//! `phasegate top`: all releases that are under way.

use super::live;
use crate::{
    connection::Connection,
    failure::Failure,
    output::{Form, Output, print},
    screen::{self, board::Board, clock::Rehearsal},
};
use clap::Args;
use phasegate_api::v1;
use phasegate_client::ReleasesUpdate;

/// What a pipe is taken for.
const PIPE_COLUMNS: usize = 160;

#[derive(Args, Debug)]
pub(crate) struct Top {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl Top {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let (client, target) = self.connection.reach().await?;
        let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
        if self.output.form == Form::Human && screen::is_possible() {
            return live::board(&client, target.to_string(), filter).await;
        }
        let set = live::first(&mut client.watch_releases(filter)).await?;
        if let (Form::Json | Form::Yaml, ReleasesUpdate::Snapshot { releases, position, .. }) =
            (self.output.form, &set)
        {
            let message = v1::ListReleasesResponse {
                releases: releases.clone(),
                revision: position.revision,
                next_page_token: String::new(),
            };
            return self.output.show(&message, String::new);
        }
        let mut board = Board::new(target.to_string(), Rehearsal::ask(&client).await.clock());
        board.take(set);
        print(&live::printed(&board.table(PIPE_COLUMNS)))
    }
}
