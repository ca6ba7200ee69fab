//! `phasegate release trigger`: starts the release that a document describes, or shows its plan.

use super::{now, release::standing};
use crate::{
    document::{self, Resource, Source},
    failure::Failure,
    name,
    output::{Output, note, release},
    time,
};
use chrono::{DateTime, Utc};
use clap::{Args, ValueEnum};
use phasegate_api::v1;
use phasegate_client::Client;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum OnConflict {
    /// Refuse
    Fail,
    /// Wait behind it
    Queue,
    /// Abort it, and all that wait, and start
    Supersede,
}

#[derive(Args, Debug)]
pub(super) struct Trigger {
    /// A file with one document of `kind: Release`, or - for stdin
    #[arg(short, long, value_name = "FILE|-")]
    file: String,
    /// Last part of the release's name; the server makes one if it is left out
    #[arg(long, value_name = "NAME")]
    id: Option<String>,
    /// What to do if the flag has an active release
    #[arg(long, value_enum, default_value = "fail")]
    on_conflict: OnConflict,
    /// Not before this time, for example 2030-06-14T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time::parse_instant)]
    at: Option<DateTime<Utc>>,
    /// Shown to people, for example a ticket; replaces the document's
    #[arg(long, value_name = "TEXT")]
    description: Option<String>,
    /// Check everything, trigger nothing, show when each phase would come
    #[arg(long)]
    dry_run: bool,
    /// Makes the call safe to repeat: the same id triggers once
    #[arg(long, value_name = "ID", default_value_t)]
    request_id: String,
}

impl Trigger {
    pub(super) async fn run(self, client: &Client, output: Output) -> Result<(), Failure> {
        let documents = document::read(&Source::from(self.file.as_str()))?;
        let [document] = &documents[..] else {
            let text = format!("{} holds more than one document; trigger one", self.file);
            return Err(Failure::Usage(text));
        };
        let Resource::Release(described) = &document.resource else {
            let text = format!("{} is not of `kind: Release`; apply it", document.place());
            return Err(Failure::Usage(text));
        };
        let mut wanted = described.clone();
        if let Some(at) = self.at {
            wanted.schedule_time = Some(time::timestamp(at));
        }
        if let Some(description) = self.description {
            wanted.description = description;
        }
        let conflict_policy = match self.on_conflict {
            OnConflict::Fail => v1::ConflictPolicy::Fail,
            OnConflict::Queue => v1::ConflictPolicy::Queue,
            OnConflict::Supersede => v1::ConflictPolicy::Supersede,
        };
        let named = self.id.unwrap_or_else(|| name::id(&wanted.name).to_owned());
        let request = v1::TriggerReleaseRequest {
            request_id: self.request_id,
            release_id: named,
            release: Some(*wanted),
            conflict_policy: conflict_policy.into(),
            validate_only: self.dry_run,
        };
        let refused = |error| Failure::in_document(document, error);
        if self.dry_run {
            let answer = client.plan_release(request).await.map_err(refused)?;
            if let Some(planned) = &answer.release {
                show_notice(planned);
            }
            for warning in &answer.warnings {
                note(&format!("warning: {}", warning.message));
            }
            let now = now(client).await;
            return output.show(&answer, || release::plan(&answer, now));
        }
        let triggered = client.trigger_release(request).await.map_err(refused)?;
        show_notice(&triggered);
        let now = now(client).await;
        output.show(&triggered, || standing(&triggered, now))?;
        let follow = release::next_step(&triggered).unwrap_or_else(|| {
            format!("follow it with `phasegate release watch {}`", name::id(&triggered.name))
        });
        note(&format!("next: {follow}"));
        Ok(())
    }
}

/// What the authors of the pipeline want people to know.
fn show_notice(triggered: &v1::Release) {
    let notice = triggered.pipeline_snapshot.as_ref().map(|pipeline| &*pipeline.trigger_notice);
    if let Some(notice) = notice.filter(|notice| !notice.is_empty()) {
        note(&format!("notice: {notice}"));
    }
}
