//! `AuditService`.
//!
//! Everything is read from the store, through the writer, in short stretches. A watch is a cursor: it
//! reads when the client takes what came before, so a slow one costs a number.

use super::{Api, caller::caller, status};
use crate::driver::{Act, AuditContent, AuditEntry, AuditHead, AuditQuery, Handle, Order, Outcome};
use crate::watch::{WatchEnd, WatchRefusal};
use futures_util::stream::BoxStream;
use phasegate_api::{
    convert::{self, AuditOutcome, ListAuditEntries},
    v1::{
        self, GetAuditHeadRequest, GetAuditHeadResponse, ListAuditEntriesRequest,
        ListAuditEntriesResponse, WatchAuditEntriesRequest, WatchAuditEntriesResponse, audit_entry,
        audit_service_server::AuditService,
    },
};
use prost::Message as _;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tonic::{Request, Response, Status};

/// Entries that are read at once: the writer does other things in between.
const STRETCH: usize = 256;
/// A page ends after so many entries were looked at, even if few match.
const SCAN_MAX: usize = 20_000;
/// A page ends before it is larger than this.
const PAGE_BYTES_MAX: usize = 3 << 20;
/// Watches of the chain at a time. Each costs a read for every batch of entries.
pub(super) const WATCHES_MAX: usize = 100;
/// Silence is broken after this.
const BOOKMARK: Duration = Duration::from_secs(15);
/// Watches end after this, so that they come back to a server that is balanced anew.
const AGE_MAX: Duration = Duration::from_secs(3600);

#[tonic::async_trait]
impl AuditService for Api {
    type WatchAuditEntriesStream = BoxStream<'static, Result<WatchAuditEntriesResponse, Status>>;

    async fn list_audit_entries(
        &self,
        request: Request<ListAuditEntriesRequest>,
    ) -> Result<Response<ListAuditEntriesResponse>, Status> {
        let driver = self.driver()?;
        let caller = self.grants(request.metadata(), request.extensions());
        let list = convert::list_audit_entries(request.into_inner());
        let (_, list) = status::both(caller, list)?;
        list_entries(driver, &list).await.map(Response::new)
    }

    async fn watch_audit_entries(
        &self,
        request: Request<WatchAuditEntriesRequest>,
    ) -> Result<Response<Self::WatchAuditEntriesStream>, Status> {
        let driver = self.driver()?.clone();
        let caller = self.grants(request.metadata(), request.extensions());
        let asked = convert::watch_audit_entries(request.into_inner());
        let (_, asked) = status::both(caller, asked)?;
        let store_id = driver.store_id().to_string();
        if asked.store_id.is_some_and(|asked| asked != store_id) {
            return Err(status::watch_refused(WatchRefusal::StoreReplaced));
        }
        let mut head = driver.audit_head();
        let newest = head.borrow_and_update().sequence;
        if asked.after > newest {
            return Err(status::audit_in_future(newest));
        }
        let slot = Arc::clone(&self.audit_watches).try_acquire_owned().map_err(|_| {
            status::too_many_watches("too many watches of the audit chain are open")
        })?;
        let draining = self.draining();
        let expires = Instant::now() + AGE_MAX;
        let mut after = asked.after;
        let stream = async_stream::stream! {
            let _slot = slot;
            loop {
                let read = stretch_up(&driver, after).await;
                let entries = match read {
                    Ok(entries) => entries,
                    Err(error) => {
                        yield Err(error);
                        return;
                    }
                };
                let is_idle = entries.is_empty();
                for entry in entries {
                    after = entry.sequence;
                    let store_id = store_id.clone();
                    let sequence = number(after);
                    let entry = Some(to_wire(&entry));
                    yield Ok(WatchAuditEntriesResponse { entry, sequence, store_id });
                }
                if is_idle {
                    let wake = async {
                        tokio::select! {
                            () = draining.cancelled() => Some(status::draining()),
                            woken = wait(&mut head, after, expires) => woken,
                        }
                    };
                    match wake.await {
                        Some(end) => {
                            yield Err(end);
                            return;
                        }
                        None if head.borrow().sequence <= after => {
                            let (sequence, store_id) = (number(after), store_id.clone());
                            yield Ok(WatchAuditEntriesResponse { entry: None, sequence, store_id });
                        }
                        None => {}
                    }
                } else if draining.is_cancelled() {
                    yield Err(status::draining());
                    return;
                }
            }
        };
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_audit_head(
        &self,
        request: Request<GetAuditHeadRequest>,
    ) -> Result<Response<GetAuditHeadResponse>, Status> {
        let driver = self.driver()?;
        caller(request.metadata()).map_err(status::invalid)?;
        let AuditHead { sequence, hash } = *driver.audit_head().borrow();
        Ok(Response::new(GetAuditHeadResponse {
            sequence: number(sequence),
            hash: hash.to_string(),
            store_id: driver.store_id().to_string(),
        }))
    }
}

/// Waits for an entry above `after`, or for the time of a bookmark. Says why the watch ends, if it
/// does.
async fn wait(
    head: &mut watch::Receiver<AuditHead>,
    after: u64,
    expires: Instant,
) -> Option<Status> {
    let bookmark = Instant::now() + BOOKMARK;
    match timeout_at(bookmark.min(expires), head.wait_for(|head| head.sequence > after)).await {
        Ok(Ok(_)) => None,
        Ok(Err(_)) => Some(status::draining()),
        Err(_) if Instant::now() >= expires => Some(status::watch_ended(WatchEnd::Expired)),
        Err(_) => None,
    }
}

async fn stretch_up(driver: &Handle, after: u64) -> Result<Vec<AuditEntry>, Status> {
    let query = AuditQuery { after, up_to: u64::MAX, order: Order::OldestFirst, limit: STRETCH };
    driver.audit(query).await.map_err(status::log_failed)
}

/// A page, newest first.
async fn list_entries(
    driver: &Handle,
    list: &ListAuditEntries,
) -> Result<ListAuditEntriesResponse, Status> {
    let (mut entries, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
    let mut up_to = list.page.after.map_or(u64::MAX, |after| after.saturating_sub(1));
    let page = |entries, next: Option<u64>| ListAuditEntriesResponse {
        entries,
        next_page_token: next.map(|last| list.token(last)).unwrap_or_default(),
    };
    loop {
        let query = AuditQuery { after: 0, up_to, order: Order::NewestFirst, limit: STRETCH };
        let stretch = driver.audit(query).await.map_err(status::log_failed)?;
        let Some(lowest) = stretch.last().map(|entry| entry.sequence) else {
            return Ok(page(entries, None));
        };
        for entry in &stretch {
            // The next page begins below what was looked at before this one.
            let here = entry.sequence + 1;
            if looked_at == SCAN_MAX {
                return Ok(page(entries, Some(here)));
            }
            looked_at += 1;
            let content = entry.content().ok();
            match (&content, list.start) {
                // Times may fall a little where a clock was stepped back, so this does not end it.
                (Some(content), Some(start)) if content.time < start => continue,
                _ => {}
            }
            if !matches(list, content.as_ref()) {
                continue;
            }
            if entries.len() == list.page.size {
                return Ok(page(entries, Some(here)));
            }
            let wire = to_wire(entry);
            bytes += wire.encoded_len();
            if bytes > PAGE_BYTES_MAX && !entries.is_empty() {
                return Ok(page(entries, Some(here)));
            }
            entries.push(wire);
        }
        if lowest <= 1 {
            return Ok(page(entries, None));
        }
        up_to = lowest - 1;
    }
}

/// Whether an entry is one of those that were asked for. One that this version cannot read is, if
/// everything was asked for.
fn matches(list: &ListAuditEntries, content: Option<&AuditContent>) -> bool {
    let Some(content) = content else {
        return list.principal.is_none()
            && list.resource.is_none()
            && list.method.is_none()
            && list.outcome.is_none()
            && list.start.is_none()
            && list.end.is_none();
    };
    if list.end.is_some_and(|end| content.time >= end) {
        return false;
    }
    let (principal, resource, method, outcome) = match &content.act {
        Act::Call(call) => {
            let outcome = match call.outcome {
                Outcome::Accepted { .. } => AuditOutcome::Accepted,
                Outcome::Refused { .. } => AuditOutcome::Refused,
            };
            (Some(&call.principal), Some(&call.resource), Some(&call.method), Some(outcome))
        }
        Act::Suppressed(suppressed) => {
            (suppressed.principal.as_ref(), None, None, Some(AuditOutcome::Refused))
        }
        Act::Imported { .. } => (None, None, None, None),
    };
    let authenticated = match &content.act {
        Act::Call(call) => call.authenticated.as_ref(),
        Act::Suppressed(_) | Act::Imported { .. } => None,
    };
    list.principal
        .as_ref()
        .is_none_or(|asked| principal == Some(asked) || authenticated == Some(asked))
        && list.resource.as_ref().is_none_or(|asked| resource == Some(asked))
        && list.method.as_ref().is_none_or(|asked| method == Some(asked))
        && list.outcome.is_none_or(|asked| outcome == Some(asked))
}

fn to_wire(entry: &AuditEntry) -> v1::AuditEntry {
    let mut wire = v1::AuditEntry {
        sequence: number(entry.sequence),
        previous_hash: entry.previous.to_string(),
        hash: entry.hash.to_string(),
        json: entry.json.to_string(),
        ..Default::default()
    };
    // What a newer server wrote is still to be had as bytes.
    if let Ok(content) = entry.content() {
        wire.time = Some(convert::timestamp_to_wire(content.time));
        wire.store_id = content.store.to_string();
        wire.act = Some(act_to_wire(content.act));
    }
    wire
}

fn act_to_wire(act: Act) -> audit_entry::Act {
    let text = |text: Option<Arc<str>>| text.map(|text| text.to_string()).unwrap_or_default();
    match act {
        Act::Call(call) => {
            let (outcome, revision, refusal) = match call.outcome {
                Outcome::Accepted { revision } => {
                    (v1::AuditOutcome::Accepted, revision, String::new())
                }
                Outcome::Refused { reason } => {
                    (v1::AuditOutcome::Refused, None, reason.to_string())
                }
            };
            audit_entry::Act::Call(v1::AuditedCall {
                method: call.method.to_string(),
                resource: call.resource.to_string(),
                principal: call.principal.to_string(),
                authenticated: call.authenticated.map(|id| id.to_string()).unwrap_or_default(),
                vouched: text(call.vouched),
                peer: text(call.peer),
                groups: call.groups.iter().map(ToString::to_string).collect(),
                request_id: call.request_id.map(|id| id.to_string()).unwrap_or_default(),
                reason: call.reason.to_string(),
                asked: call.asked.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect(),
                outcome: outcome.into(),
                revision: revision.map(convert::revision_to_wire).unwrap_or_default(),
                refusal,
                traceparent: text(call.trace),
            })
        }
        Act::Suppressed(suppressed) => audit_entry::Act::Suppressed(v1::SuppressedRefusals {
            principal: suppressed.principal.map(|id| id.to_string()).unwrap_or_default(),
            peer: text(suppressed.peer),
            reason: text(suppressed.reason),
            count: number(suppressed.count),
        }),
        Act::Imported { from, revision } => audit_entry::Act::Imported(v1::ImportedStore {
            from_store_id: from.to_string(),
            revision: convert::revision_to_wire(revision),
        }),
    }
}

/// Numbers of entries are below 2^53, and counts are no larger in any life of a server.
fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
