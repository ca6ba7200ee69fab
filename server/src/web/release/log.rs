//! What happened to a release, newest first.

use crate::{
    driver::{LogQuery, Order},
    grpc::status,
    web::{page::Moment, time, words},
};
use maud::{Markup, html};
use phasegate_engine::{event::ReleaseEvent, id::Revision, release::Release, time::Timestamp};
use tonic::Status;

/// Commits that are shown. The API has all of them.
const COMMITS_MAX: usize = 100;

/// The newest events.
pub(super) async fn region(moment: &Moment, release: &Release) -> Result<Markup, Status> {
    let query = LogQuery {
        after: Revision::ZERO,
        // Not what is newer than the rest of the page.
        up_to: moment.state.revision(),
        release: Some(release.id().clone()),
        order: Order::NewestFirst,
        limit: COMMITS_MAX,
    };
    let entries = moment.driver.log(query).await.map_err(status::log_failed)?;
    let reaches_back = entries.last().is_some_and(|entry| entry.change.before.is_none());
    Ok(html! {
        h2 { "What happened" }
        @if entries.is_empty() {
            p.hint { "The log no longer reaches back to this release." }
        } @else {
            table.log {
                thead { tr { th scope="col" { "When" } th scope="col" { "Phase" } th scope="col" { "What" } th scope="col" { "Who and why" } } }
                tbody {
                    @for entry in &entries {
                        @for event in entry.change.events.iter().rev() {
                            (row(release, event, entry.change.time))
                        }
                    }
                }
            }
            @if !reaches_back {
                p.hint { "Older events: " code { "phasegate release events " (release.id()) } }
            }
        }
    })
}

fn row(release: &Release, event: &ReleaseEvent, at: Timestamp) -> Markup {
    let phase = event.phase().map(|phase| release.phase(phase).id.as_str());
    html! {
        tr {
            td.when { (time::at(at)) }
            td.at { (phase.unwrap_or_default()) }
            td.what { (words::happened(release, event)) }
            td.who {
                (words::actor(&event.actor))
                @if !event.reason.is_empty() { span.reason { "“" (event.reason) "”" } }
            }
        }
    }
}
