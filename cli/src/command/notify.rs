//! `phasegate notify`: the sinks of notifications.

use super::now;
use crate::{
    connection::Connection,
    failure::Failure,
    output::{self, Output, table::Table},
    time,
};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use phasegate_api::v1::{self, send_test_notification_response::Step};
use phasegate_server::{
    config::{SinkId, Timestamp},
    notify::{self as room, World},
};
use std::path::PathBuf;

#[derive(Args, Debug)]
pub(crate) struct Notify {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show all sinks: what waits, what was given up, and why
    List,
    /// Send a test to one sink and say each step; with a file, from this machine and without a server
    Test {
        /// Id of the sink
        sink: String,
        /// The file of notifications
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Show what was given up for one sink
    Dead {
        /// Id of the sink
        sink: String,
    },
    /// Send what was given up again, with the ids that it had
    Replay {
        /// Id of the sink
        sink: String,
        /// Ids of notifications
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "ID")]
        ids: Vec<String>,
        /// All of the sink
        #[arg(long)]
        all: bool,
    },
}

/// Dead letters that are asked for at a time.
const PAGE: i32 = 1000;

impl Notify {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        match self.action {
            Action::Test { sink, file: Some(file) } => {
                show_test(self.output, &sink, &offline(&sink, file).await?)
            }
            Action::Test { sink, file: None } => {
                let client = self.connection.connect().await?;
                show_test(self.output, &sink, &client.send_test_notification(&sink).await?)
            }
            Action::List => {
                let client = self.connection.connect().await?;
                let sinks = client.list_sinks().await?;
                let now = now(&client).await;
                self.output.show(&sinks, || sinks_table(&sinks.sinks, now))
            }
            Action::Dead { sink } => {
                let client = self.connection.connect().await?;
                let mut request =
                    v1::ListDeadLettersRequest { sink, page_size: PAGE, ..Default::default() };
                let mut all = v1::ListDeadLettersResponse::default();
                loop {
                    let page = client.list_dead_letters(request.clone()).await?;
                    all.dead_letters.extend(page.dead_letters);
                    if page.next_page_token.is_empty() {
                        break;
                    }
                    request.page_token = page.next_page_token;
                }
                self.output.show(&all, || dead_table(&all.dead_letters))
            }
            Action::Replay { sink, ids, all } => {
                let client = self.connection.connect().await?;
                let request = v1::ReplayDeadLettersRequest { sink, ids, all };
                let done = client.replay_dead_letters(request).await?;
                self.output.show(&done, || format!("{} to be sent again\n", done.replayed))
            }
        }
    }
}

/// Sends a test from here, as a server with this file would.
async fn offline(sink: &str, file: PathBuf) -> Result<v1::SendTestNotificationResponse, Failure> {
    let settings = room::read(&file)?;
    let found = SinkId::parse(sink).ok().and_then(|id| settings.sinks.get(&id).cloned());
    let Some(found) = found else {
        let names: Vec<_> = settings.sinks.keys().map(SinkId::to_string).collect();
        let problem =
            format!("{} names no sink {sink}; it names {}", file.display(), names.join(", "));
        return Err(Failure::Usage(problem));
    };
    let now = Timestamp::from_millis(time::local_now().timestamp_millis());
    let report = room::test(&found, &World::new("test"), now, Default::default()).await;
    let steps = report.steps.into_iter().map(|step| Step {
        description: step.what,
        took: prost_types::Duration::try_from(step.took).ok(),
    });
    let (delivered, error) = match report.outcome {
        room::Outcome::Delivered => (true, String::new()),
        room::Outcome::Failed(fault) => (false, fault.text),
    };
    Ok(v1::SendTestNotificationResponse { steps: steps.collect(), delivered, error })
}

fn show_test(
    output: Output,
    sink: &str,
    answer: &v1::SendTestNotificationResponse,
) -> Result<(), Failure> {
    output.show(answer, || {
        let mut text = String::new();
        for step in &answer.steps {
            let took = step.took.and_then(|took| std::time::Duration::try_from(took).ok());
            let took = took.map(|took| format!(" ({})", time::span(took))).unwrap_or_default();
            text.push_str(&format!("  {}{took}\n", step.description));
        }
        if answer.delivered {
            text.push_str(&format!("{sink} has taken the test\n"));
        }
        text
    })?;
    if answer.delivered {
        Ok(())
    } else {
        Err(Failure::NotDelivered(format!("{sink} has not taken the test: {}", answer.error)))
    }
}

fn sinks_table(sinks: &[v1::Sink], now: DateTime<Utc>) -> String {
    if sinks.is_empty() {
        output::note("the server has no sinks; `phasegate serve --notifications FILE` names some");
        return String::new();
    }
    let mut table =
        Table::new(&["SINK", "STATE", "PENDING", "DEAD", "NEXT", "KIND", "ADDRESS", "LAST ERROR"]);
    for sink in sinks {
        let state = match (sink.state(), &sink.paused_until) {
            (v1::SinkState::Open, _) => "open".to_owned(),
            (v1::SinkState::Paused, Some(until)) => {
                format!("paused, again {}", time::relative(until, now))
            }
            (v1::SinkState::Paused, None) => "paused".to_owned(),
            (v1::SinkState::Gone, _) => "gone (410)".to_owned(),
            (v1::SinkState::Unknown, _) => "not in the file".to_owned(),
            (v1::SinkState::Unspecified, _) => "unknown to this program".to_owned(),
        };
        let next = sink.next_attempt_time.as_ref().map(|next| time::relative(next, now));
        table.row([
            sink.id.clone(),
            state,
            sink.pending.to_string(),
            sink.dead.to_string(),
            next.unwrap_or_default(),
            sink.channel.clone(),
            sink.address.clone(),
            sink.last_error.clone(),
        ]);
    }
    table.render()
}

fn dead_table(letters: &[v1::DeadLetter]) -> String {
    if letters.is_empty() {
        output::note("nothing was given up");
        return String::new();
    }
    let mut table = Table::new(&["ID", "TYPE", "TIME", "ABOUT", "TRIED", "LAST ERROR"]);
    for letter in letters {
        let about = if letter.release.is_empty() { &letter.flag } else { &letter.release };
        table.row([
            letter.id.clone(),
            letter.r#type.clone(),
            letter.time.as_ref().map(time::machine).unwrap_or_default(),
            about.clone(),
            letter.attempts.to_string(),
            letter.last_error.clone(),
        ]);
    }
    table.render()
}
