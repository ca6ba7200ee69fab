//! `phasegate release`: trigger, look at, and steer releases.

use super::{
    now,
    resource::{PAGE_SIZE, show_release},
    trigger::Trigger,
    watch::{Wait, Watch},
};
use crate::{
    complete,
    connection::Connection,
    failure::Failure,
    name,
    output::{Output, event, note, release},
    time,
};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand, ValueEnum};
use clap_complete::engine::ArgValueCandidates;
use phasegate_api::v1;
use phasegate_client::Client;
use std::time::Duration;

#[derive(Args, Debug)]
pub(crate) struct Release {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Trigger the release that a document describes
    Trigger(Trigger),
    /// Show one release
    Get {
        /// The release
        #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::releases))]
        release: String,
    },
    /// List releases, newest first
    List(List),
    /// Follow one release to its end, or all of them
    #[command(after_help = crate::output::release::LEGEND)]
    Watch(Watch),
    /// Wait, without showing what happens
    Wait(Wait),
    /// Show what happened
    Events(Events),
    /// Approve the current phase
    Approve {
        #[command(flatten)]
        phase: PhaseOf,
        /// Why
        #[arg(long, value_name = "TEXT", default_value_t)]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// Refuse the current phase, which ends the release and reverts everything
    Reject {
        #[command(flatten)]
        phase: PhaseOf,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// Hold the release: who has the change keeps it, timers stand still
    Pause {
        /// The release
        #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
        release: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value_t)]
        reason: String,
    },
    /// End the hold: timers go on with what they had left
    Unpause {
        /// The release
        #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
        release: String,
        /// Why
        #[arg(long, value_name = "TEXT", default_value_t)]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// Leave the current phase for the next
    Skip {
        #[command(flatten)]
        phase: PhaseOf,
        /// Although its approval is missing; needs --reason
        #[arg(long, requires = "reason")]
        bypass_approval: bool,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        care: Care,
    },
    /// Apply the current phase although its window is closed
    OverrideWindow {
        #[command(flatten)]
        phase: PhaseOf,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// Set what is left of the current phase's bake
    AdjustBake {
        #[command(flatten)]
        phase: PhaseOf,
        /// Counted from now, for example 30m; 0s ends the bake
        #[arg(value_parser = time::parse_duration)]
        remaining: Duration,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// End the release and revert everything
    Abort {
        /// The release
        #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
        release: String,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Give the change to everyone, everywhere, now
    FullRollout {
        /// The release
        #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
        release: String,
        /// Although approvals are missing
        #[arg(long)]
        bypass_approval: bool,
        /// Although windows are closed
        #[arg(long)]
        override_windows: bool,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: String,
        #[command(flatten)]
        care: Care,
    },
    /// Report what an outside system says of a guard
    Signal {
        #[command(flatten)]
        phase: PhaseOf,
        /// The guard
        guard: String,
        /// What it says
        verdict: Verdict,
        /// What it saw
        #[arg(long, value_name = "TEXT", default_value_t)]
        reason: String,
    },
}

/// A phase, named with its release: a late click can never hit a later phase.
#[derive(Args, Debug)]
struct PhaseOf {
    /// The release
    #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::unfinished))]
    release: String,
    /// The phase you looked at; refused if the release has moved on
    #[arg(add = ArgValueCandidates::new(complete::phases))]
    phase: String,
}

#[derive(Args, Debug)]
struct Care {
    /// Only if the release is still as it was when this etag was read
    #[arg(long, default_value_t)]
    etag: String,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Verdict {
    Pass,
    Fail,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum State {
    Pending,
    AwaitingApproval,
    AwaitingWindow,
    Baking,
    Paused,
    Succeeded,
    Aborted,
    Failed,
}

impl From<State> for v1::ReleaseState {
    fn from(state: State) -> Self {
        match state {
            State::Pending => Self::Pending,
            State::AwaitingApproval => Self::AwaitingApproval,
            State::AwaitingWindow => Self::AwaitingWindow,
            State::Baking => Self::Baking,
            State::Paused => Self::Paused,
            State::Succeeded => Self::Succeeded,
            State::Aborted => Self::Aborted,
            State::Failed => Self::Failed,
        }
    }
}

/// Which releases are meant.
#[derive(Args, Debug)]
pub(crate) struct Filter {
    /// Only of this flag
    #[arg(long, value_parser = name::flag, add = ArgValueCandidates::new(complete::flags))]
    flag: Vec<String>,
    /// Only along this pipeline
    #[arg(long, value_parser = name::pipeline, add = ArgValueCandidates::new(complete::pipelines))]
    pipeline: Vec<String>,
    /// Only in this state
    #[arg(long, value_enum)]
    state: Vec<State>,
    /// Only those that are not over
    #[arg(long)]
    unfinished: bool,
    /// Only with this label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
}

impl Filter {
    pub(crate) fn of_wire(self) -> v1::ReleaseFilter {
        v1::ReleaseFilter {
            flags: self.flag,
            pipelines: self.pipeline,
            states: self.state.into_iter().map(|s| v1::ReleaseState::from(s).into()).collect(),
            unfinished_only: self.unfinished,
            labels: self.labels.into_iter().collect(),
        }
    }

    /// Whether anything is left out.
    pub(crate) fn is_empty(&self) -> bool {
        self.flag.is_empty()
            && self.pipeline.is_empty()
            && self.state.is_empty()
            && !self.unfinished
            && self.labels.is_empty()
    }
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[derive(Args, Debug)]
struct List {
    #[command(flatten)]
    filter: Filter,
    /// Show at most so many
    #[arg(long, default_value_t = 50)]
    limit: usize,
}

#[derive(Args, Debug)]
struct Events {
    /// The release; all releases if it is left out
    #[arg(value_parser = name::release, add = ArgValueCandidates::new(complete::releases))]
    release: Option<String>,
    /// Only what happened above this revision
    #[arg(long, value_name = "REVISION", default_value_t)]
    after: i64,
    /// Newest first
    #[arg(long)]
    newest_first: bool,
    /// Show at most so many
    #[arg(long, default_value_t = 1000)]
    limit: usize,
}

impl Release {
    pub(crate) async fn run(self) -> Result<(), Failure> {
        let Self { action, connection, output } = self;
        let client = connection.connect().await?;
        let request_id = String::new();
        let moved = match action {
            Action::Trigger(trigger) => return trigger.run(&client, output).await,
            Action::Get { release } => return show_release(&client, release, output).await,
            Action::List(List { filter, limit }) => {
                return list(&client, filter.of_wire(), limit, output).await;
            }
            Action::Watch(watch) => return watch.run(&client, output).await,
            Action::Wait(wait) => return wait.run(&client, output).await,
            Action::Events(events) => return events.run(&client, output).await,
            Action::Approve { phase: PhaseOf { release: name, phase: phase_id }, reason, care } => {
                let etag = care.etag;
                let request = v1::ApprovePhaseRequest { name, request_id, etag, reason, phase_id };
                client.approve_phase(request).await?
            }
            Action::Reject { phase: PhaseOf { release: name, phase: phase_id }, reason, care } => {
                let etag = care.etag;
                let request = v1::RejectPhaseRequest { name, request_id, etag, reason, phase_id };
                client.reject_phase(request).await?
            }
            Action::Pause { release: name, reason } => {
                client.pause_release(v1::PauseReleaseRequest { name, request_id, reason }).await?
            }
            Action::Unpause { release: name, reason, care } => {
                let etag = care.etag;
                let request = v1::UnpauseReleaseRequest { name, request_id, etag, reason };
                client.unpause_release(request).await?
            }
            Action::Skip {
                phase: PhaseOf { release: name, phase: phase_id },
                bypass_approval,
                reason,
                care,
            } => {
                let (etag, reason) = (care.etag, reason.unwrap_or_default());
                let request = v1::SkipPhaseRequest {
                    name,
                    request_id,
                    etag,
                    reason,
                    phase_id,
                    bypass_approval,
                };
                client.skip_phase(request).await?
            }
            Action::OverrideWindow {
                phase: PhaseOf { release: name, phase: phase_id },
                reason,
                care,
            } => {
                let etag = care.etag;
                let request =
                    v1::OverrideWindowRequest { name, request_id, etag, reason, phase_id };
                client.override_window(request).await?
            }
            Action::AdjustBake {
                phase: PhaseOf { release: name, phase: phase_id },
                remaining,
                reason,
                care,
            } => {
                let etag = care.etag;
                let remaining = Some(on_the_wire(remaining)?);
                let request =
                    v1::AdjustBakeRequest { name, request_id, etag, reason, phase_id, remaining };
                client.adjust_bake(request).await?
            }
            Action::Abort { release: name, reason } => {
                client.abort_release(v1::AbortReleaseRequest { name, request_id, reason }).await?
            }
            Action::FullRollout {
                release: name,
                bypass_approval,
                override_windows,
                reason,
                care,
            } => {
                let request = v1::FullRolloutRequest {
                    name,
                    request_id,
                    etag: care.etag,
                    reason,
                    bypass_approval,
                    override_windows,
                };
                client.full_rollout(request).await?
            }
            Action::Signal {
                phase: PhaseOf { release: name, phase: phase_id },
                guard: guard_id,
                verdict,
                reason,
            } => {
                let verdict = match verdict {
                    Verdict::Pass => v1::GuardVerdict::Pass,
                    Verdict::Fail => v1::GuardVerdict::Fail,
                };
                let request = v1::ReportGuardSignalRequest {
                    name,
                    request_id,
                    reason,
                    phase_id,
                    guard_id,
                    verdict: verdict.into(),
                };
                client.report_guard_signal(request).await?
            }
        };
        let now = now(&client).await;
        output.show(&moved, || standing(&moved, now))
    }
}

fn on_the_wire(duration: Duration) -> Result<prost_types::Duration, Failure> {
    duration.try_into().map_err(|_| Failure::Usage("the duration is too long".to_owned()))
}

/// A release in one line, and its phases in another.
pub(crate) fn standing(moved: &v1::Release, now: DateTime<Utc>) -> String {
    format!("{}  {}\n  {}\n", moved.name, release::standing(moved, now), release::row(moved))
}

/// Lists releases page by page, up to a limit.
pub(crate) async fn list(
    client: &Client,
    filter: v1::ReleaseFilter,
    limit: usize,
    output: Output,
) -> Result<(), Failure> {
    let mut all = v1::ListReleasesResponse::default();
    loop {
        let left = limit - all.releases.len();
        let request = v1::ListReleasesRequest {
            page_size: i32::try_from(left).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
            page_token: std::mem::take(&mut all.next_page_token),
            filter: Some(filter.clone()),
        };
        let page = client.list_releases(request).await?;
        if all.releases.is_empty() {
            all.revision = page.revision;
        }
        all.releases.extend(page.releases);
        all.next_page_token = page.next_page_token;
        if all.releases.len() >= limit || all.next_page_token.is_empty() {
            break;
        }
    }
    let now = now(client).await;
    output.show(&all, || release::list(&all.releases, now))?;
    if !all.next_page_token.is_empty() {
        note("there are more; --limit shows them");
    }
    Ok(())
}

impl Events {
    async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let of_all = self.release.is_none();
        let parent = self.release.unwrap_or_else(|| "releases/-".to_owned());
        let mut all = v1::ListReleaseEventsResponse::default();
        loop {
            let left = self.limit - all.events.len();
            let request = v1::ListReleaseEventsRequest {
                parent: parent.clone(),
                page_size: i32::try_from(left).unwrap_or(PAGE_SIZE).min(PAGE_SIZE),
                page_token: std::mem::take(&mut all.next_page_token),
                after_revision: self.after,
                newest_first: self.newest_first,
            };
            let page = client.list_release_events(request).await?;
            all.events.extend(page.events);
            all.oldest_revision = page.oldest_revision;
            all.next_page_token = page.next_page_token;
            if all.events.len() >= self.limit || all.next_page_token.is_empty() {
                break;
            }
        }
        let width = event::phase_width(all.events.iter().map(|event| &*event.phase_id));
        output.show(&all, || {
            all.events
                .iter()
                .map(|happened| match of_all {
                    true => {
                        let release = happened.name.split('/').nth(1).unwrap_or_default();
                        format!("{release}  {}\n", event::line(happened, width))
                    }
                    false => format!("{}\n", event::line(happened, width)),
                })
                .collect()
        })?;
        if !all.next_page_token.is_empty() {
            note("there are more; --limit shows them, --after goes on behind a revision");
        }
        Ok(())
    }
}
