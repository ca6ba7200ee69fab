//! `phasegate release watch` and `wait`: until a goal, with an exit code for scripts.

use super::{
    live,
    release::{Filter, standing},
};
use crate::{
    complete,
    failure::Failure,
    name::{self, id},
    output::{Form, Output, event, note, release},
    screen, time,
};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use phasegate_api::v1::{self, ReleaseState};
use phasegate_client::{Client, Error, Position, ReleaseUpdate, ReleasesUpdate};
use std::{fmt, time::Duration};
use tokio::time::{Instant, timeout_at};

/// What to wait for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Goal {
    /// The release is over, however it ended
    Over,
    /// The release has succeeded
    Succeeded,
    /// The release needs an approval
    AwaitingApproval,
}

/// How far a release is from a goal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Distance {
    Reached,
    Ahead,
    OutOfReach,
}

impl Goal {
    pub(super) fn distance(self, release: &v1::Release) -> Distance {
        let reached = match self {
            Self::Over => release.end_time.is_some(),
            Self::Succeeded => release.state() == ReleaseState::Succeeded,
            Self::AwaitingApproval => release.state() == ReleaseState::AwaitingApproval,
        };
        match (reached, &release.end_time) {
            (true, _) => Distance::Reached,
            (false, None) => Distance::Ahead,
            (false, Some(_)) => Distance::OutOfReach,
        }
    }

    pub(super) fn missed(self, release: &v1::Release) -> Failure {
        let standing = release::standing(release, time::local_now());
        Failure::EndedOtherwise(format!(
            "{} is over and did not get to be {self}: {standing}",
            release.name
        ))
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Over => "over",
            Self::Succeeded => "succeeded",
            Self::AwaitingApproval => "awaiting approval",
        })
    }
}

#[derive(Args, Debug)]
pub(crate) struct Watch {
    /// The release; all that match the filter if it is left out
    #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
    release: Option<String>,
    /// Stop as soon as this is so; exits with 3 if it cannot become so any more
    #[arg(long, value_enum, requires = "release", default_value = "over")]
    until: Goal,
    /// Stop after this time, with exit code 4
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration)]
    timeout: Option<Duration>,
    #[command(flatten)]
    filter: Filter,
}

impl Watch {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let Self { release, until, timeout, filter } = self;
        let is_drawn = output.form == Form::Human && screen::is_possible();
        match release {
            Some(_) if !filter.is_empty() => {
                let text = "one release is watched, or all that match a filter";
                Err(Failure::Usage(text.to_owned()))
            }
            // It leaves what was last seen behind, also when the time is up.
            Some(name) if is_drawn => Box::pin(live::follow(client, &name, until, timeout)).await,
            Some(name) => bounded(timeout, watch_one(client, name, until, output)).await,
            None => bounded(timeout, watch_all(client, filter.of_wire(), output)).await,
        }
    }
}

/// Ends with [`Failure::TimedOut`] after the time, if there is one.
async fn bounded(
    limit: Option<Duration>,
    work: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Failure> {
    let Some(limit) = limit else { return work.await };
    match timeout_at(Instant::now() + limit, work).await {
        Ok(done) => done,
        Err(_) => Err(timed_out(limit)),
    }
}

pub(super) fn timed_out(limit: Duration) -> Failure {
    Failure::TimedOut(format!("stopped after {}", time::span(limit)))
}

async fn watch_one(
    client: &Client,
    name: String,
    until: Goal,
    output: Output,
) -> Result<(), Failure> {
    let mut watch = client.watch_release(&name);
    let mut lost = false;
    let mut view = View::default();
    while let Some(update) = watch.next().await {
        let update = update?;
        if let ReleaseUpdate::Interrupted(error) = &update {
            lost |= interrupted(error);
        }
        if let ReleaseUpdate::Resumed = &update {
            resumed(&mut lost);
        }
        if let ReleaseUpdate::Restarted(error) = &update {
            restarted(error);
        }
        let Some(message) = message(update) else { continue };
        output.change(&message, || view.show(&message))?;
        let Some(release) = &message.release else { continue };
        match until.distance(release) {
            Distance::Reached => return Ok(()),
            Distance::Ahead => {}
            Distance::OutOfReach => return Err(until.missed(release)),
        }
    }
    // A resumed watch may end without another message; the last one was judged already.
    Ok(())
}

/// A snapshot or a change, as the server sent it. Anything else shows nothing.
pub(crate) fn message(update: ReleaseUpdate) -> Option<v1::WatchReleaseResponse> {
    let (release, events, position, server_time) = match update {
        ReleaseUpdate::Snapshot { release, position, server_time } => {
            (release, Vec::new(), position, server_time)
        }
        ReleaseUpdate::Change { release, events, position, server_time } => {
            (release, events, position, server_time)
        }
        ReleaseUpdate::Bookmark { .. }
        | ReleaseUpdate::Interrupted(_)
        | ReleaseUpdate::Resumed
        | ReleaseUpdate::Restarted(_)
        | _ => return None,
    };
    let Position { revision, store_id } = position;
    let release = Some(*release);
    Some(v1::WatchReleaseResponse { revision, store_id, server_time, release, events })
}

/// Says that a stream broke, unless that is how streams end. Whether it was said.
pub(super) fn interrupted(error: &Error) -> bool {
    use phasegate_client::Reason;
    if error.reason == Reason::StreamExpired {
        return false;
    }
    match error.reason == Reason::ServerDraining {
        true => note("note: the server is stopping; waiting for it"),
        false => note(&format!("note: the connection was lost ({error}); going on")),
    }
    true
}

/// Says that a stream which was lost is back.
fn resumed(lost: &mut bool) {
    if std::mem::take(lost) {
        note("note: connected again, nothing was missed");
    }
}

fn restarted(error: &Error) {
    note(&format!("note: beginning anew, what happened in between is in the log ({error})"));
}

/// What people see of a release as it moves.
#[derive(Debug, Default)]
pub(crate) struct View {
    phase_width: usize,
    row: String,
}

impl View {
    /// A snapshot as a line, a change as a line for each event; and the row of phases when it is
    /// another one than before.
    pub(crate) fn show(&mut self, message: &v1::WatchReleaseResponse) -> String {
        let Some(moved) = &message.release else { return String::new() };
        let now = message.server_time.as_ref().map_or_else(time::local_now, time::instant);
        self.phase_width = event::phase_width(moved.phases.iter().map(|phase| &*phase.phase_id));
        let mut text = String::new();
        if message.events.is_empty() {
            self.row = release::row(moved);
            return standing(moved, now);
        }
        for happened in &message.events {
            text.push_str(&event::line(happened, self.phase_width));
            text.push('\n');
        }
        let row = release::row(moved);
        if row != self.row {
            text.push_str(&format!("  {row}\n"));
            self.row = row;
        }
        text
    }
}

async fn watch_all(
    client: &Client,
    filter: v1::ReleaseFilter,
    output: Output,
) -> Result<(), Failure> {
    let mut watch = client.watch_releases(filter);
    let mut lost = false;
    while let Some(update) = watch.next().await {
        match update? {
            ReleasesUpdate::Snapshot { releases, position, server_time } => {
                let now = server_time.as_ref().map_or_else(time::local_now, time::instant);
                let message = v1::WatchReleasesResponse {
                    revision: position.revision,
                    store_id: position.store_id,
                    server_time,
                    initial: releases,
                    synced: true,
                    changes: Vec::new(),
                };
                output.change(&message, || release::list(&message.initial, now))?;
            }
            ReleasesUpdate::Changes { changes, server_time, .. } => {
                let now = server_time.as_ref().map_or_else(time::local_now, time::instant);
                for change in &changes {
                    output.change(change, || changed(change, now))?;
                }
            }
            ReleasesUpdate::Interrupted(error) => lost |= interrupted(&error),
            ReleasesUpdate::Resumed => resumed(&mut lost),
            ReleasesUpdate::Restarted(error) => restarted(&error),
            ReleasesUpdate::Bookmark { .. } | _ => {}
        }
    }
    Ok(())
}

/// One release's part of a commit.
fn changed(change: &v1::ReleaseChange, now: DateTime<Utc>) -> String {
    let Some(moved) = &change.release else { return String::new() };
    let name = id(&moved.name);
    let mut text = String::new();
    for happened in &change.events {
        text.push_str(&format!("{name}  {}\n", event::line(happened, 0)));
    }
    if change.removed {
        let standing = release::standing(moved, now);
        text.push_str(&format!("{name}  no longer matches: {standing}\n"));
    }
    text
}

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// The release
    #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
    release: String,
    /// What to wait for; exits with 3 if it cannot become so any more
    #[arg(long, value_enum, default_value = "over")]
    until: Goal,
    /// Wait no longer than this; exits with 4
    #[arg(long, value_name = "DURATION", value_parser = time::parse_duration)]
    timeout: Option<Duration>,
}

impl Wait {
    pub(crate) async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let Self { release, until, timeout } = self;
        bounded(timeout, wait(client, release, until, output)).await
    }
}

/// As long as the server waits at most.
const WAIT: prost_types::Duration = prost_types::Duration { seconds: 60, nanos: 0 };

async fn wait(client: &Client, name: String, until: Goal, output: Output) -> Result<(), Failure> {
    let mut after_revision = 0;
    loop {
        let request = v1::WaitReleaseRequest {
            name: name.clone(),
            after_revision,
            until_over: until == Goal::Over,
            max_wait: Some(WAIT),
        };
        let answer = client.wait_release(request).await?;
        let release = answer.release.unwrap_or_default();
        match until.distance(&release) {
            Distance::Reached => {
                let now = super::now(client).await;
                return output.show(&release, || standing(&release, now));
            }
            Distance::OutOfReach => return Err(until.missed(&release)),
            Distance::Ahead => after_revision = release.revision,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_ahead_or_out_of_reach() {
        let running =
            |state: ReleaseState| v1::Release { state: state.into(), ..Default::default() };
        let over = |state: ReleaseState| v1::Release {
            end_time: Some(prost_types::Timestamp::default()),
            ..running(state)
        };
        for (goal, release, distance) in [
            (Goal::Over, running(ReleaseState::Paused), Distance::Ahead),
            (Goal::Over, over(ReleaseState::Failed), Distance::Reached),
            (Goal::Succeeded, running(ReleaseState::Baking), Distance::Ahead),
            (Goal::Succeeded, over(ReleaseState::Succeeded), Distance::Reached),
            (Goal::Succeeded, over(ReleaseState::Aborted), Distance::OutOfReach),
            (Goal::AwaitingApproval, running(ReleaseState::AwaitingApproval), Distance::Reached),
            (Goal::AwaitingApproval, running(ReleaseState::Baking), Distance::Ahead),
            (Goal::AwaitingApproval, over(ReleaseState::Succeeded), Distance::OutOfReach),
        ] {
            assert_eq!(goal.distance(&release), distance, "{goal:?}");
        }
    }
}
