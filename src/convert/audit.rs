//! What is asked of the audit chain.

use super::{
    Rejected,
    fields::Fields,
    list::{self, Page},
};
use crate::v1;
use phasegate_engine::{id::Principal, time::Timestamp};
use prost::Message as _;
use std::sync::Arc;

/// Longest principal and longest name of a resource in a filter.
const NAME_BYTES_MAX: usize = 256;
/// Longest name of an RPC in a filter.
const METHOD_BYTES_MAX: usize = 64;
/// The size of a page unless told otherwise.
const PAGE_DEFAULT: i32 = 50;

/// What ListAuditEntries lists, newest first.
#[derive(Clone, Debug, PartialEq)]
pub struct ListAuditEntries {
    /// Which page: below this entry.
    pub page: Page<u64>,
    /// Only of this principal.
    pub principal: Option<Principal>,
    /// Only about this resource.
    pub resource: Option<Arc<str>>,
    /// Only of this RPC.
    pub method: Option<Arc<str>>,
    /// Only with this outcome.
    pub outcome: Option<AuditOutcome>,
    /// Only from this time on.
    pub start: Option<Timestamp>,
    /// Only before this time.
    pub end: Option<Timestamp>,
}

/// What came of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// It was done.
    Accepted,
    /// It was refused.
    Refused,
}

impl ListAuditEntries {
    /// The token of the page below this entry.
    pub fn token(&self, last: u64) -> String {
        self.page.token_of(&last.to_string())
    }
}

/// Parses ListAuditEntries.
pub fn list_audit_entries(
    request: v1::ListAuditEntriesRequest,
) -> Result<ListAuditEntries, Rejected> {
    let mut fields = Fields::default();
    let of_all =
        v1::ListAuditEntriesRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let listing = list::hash(b"audit ".iter().copied().chain(of_all.encode_to_vec()));
    let principal = fields.filter_text("principal", request.principal, NAME_BYTES_MAX);
    let resource = fields.filter_text("resource", request.resource, NAME_BYTES_MAX);
    let method = fields.filter_text("method", request.method, METHOD_BYTES_MAX);
    let outcome = match v1::AuditOutcome::try_from(request.outcome) {
        Ok(v1::AuditOutcome::Unspecified) => Some(None),
        Ok(v1::AuditOutcome::Accepted) => Some(Some(AuditOutcome::Accepted)),
        Ok(v1::AuditOutcome::Refused) => Some(Some(AuditOutcome::Refused)),
        Err(_) => fields.unknown("outcome", request.outcome),
    };
    let start = fields.optional_time("start_time", request.start_time);
    let end = fields.optional_time("end_time", request.end_time);
    if let (Some(Some(start)), Some(Some(end))) = (start, end)
        && end <= start
    {
        fields.at("end_time", |fields| fields.complain("must be after start_time"));
    }
    let size = (request.page_size, PAGE_DEFAULT);
    let parse = |text: &str| text.parse().ok();
    let page = list::page(&mut fields, size, &request.page_token, listing, parse);
    list::finish_page(fields, page, |page| {
        Some(ListAuditEntries {
            page,
            principal: principal?.map(Principal::new),
            resource: resource?,
            method: method?,
            outcome: outcome?,
            start: start?,
            end: end?,
        })
    })
}

/// What WatchAuditEntries follows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchAuditEntries {
    /// Begin after this entry.
    pub after: u64,
    /// The store that it is of.
    pub store_id: Option<String>,
}

/// Parses WatchAuditEntries.
pub fn watch_audit_entries(
    request: v1::WatchAuditEntriesRequest,
) -> Result<WatchAuditEntries, Rejected> {
    let mut fields = Fields::default();
    let after = u64::try_from(request.after_sequence)
        .ok()
        .or_else(|| fields.at("after_sequence", |fields| fields.refuse("must not be negative")));
    let store_id = fields.filter_text("store_id", request.store_id, METHOD_BYTES_MAX);
    let parsed = after.zip(store_id).map(|(after, store_id)| WatchAuditEntries {
        after,
        store_id: store_id.map(|id| id.to_string()),
    });
    fields.finish(parsed)
}

impl Fields {
    /// A text that something is compared with; empty: with nothing.
    fn filter_text(&mut self, field: &str, text: String, most: usize) -> Option<Option<Arc<str>>> {
        if text.len() > most {
            return self
                .at(field, |fields| fields.refuse(format!("must have at most {most} bytes")));
        }
        Some(Some(text).filter(|text| !text.is_empty()).map(Arc::from))
    }

    fn optional_time(
        &mut self,
        field: &str,
        time: Option<prost_types::Timestamp>,
    ) -> Option<Option<Timestamp>> {
        match time {
            None => Some(None),
            Some(time) => self.timestamp(field, time).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(request: v1::ListAuditEntriesRequest) -> Vec<String> {
        match list_audit_entries(request) {
            Err(Rejected::Invalid(violations)) => violations.into_iter().map(|v| v.field).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_listing_of_the_chain_is_parsed_and_its_token_is_good_for_it_only() {
        let request = v1::ListAuditEntriesRequest {
            page_size: 7,
            principal: "ann".into(),
            resource: "flags/f".into(),
            outcome: v1::AuditOutcome::Refused.into(),
            ..Default::default()
        };
        let list = list_audit_entries(request.clone()).unwrap();
        assert_eq!((list.page.size, list.page.after), (7, None));
        assert_eq!(list.principal, Some(Principal::new("ann")));
        assert_eq!((list.method.clone(), list.outcome), (None, Some(AuditOutcome::Refused)));
        let page_token = list.token(41);
        let next = v1::ListAuditEntriesRequest { page_token, page_size: 9, ..request };
        assert_eq!(list_audit_entries(next.clone()).unwrap().page.after, Some(41));
        let other = v1::ListAuditEntriesRequest { principal: "bob".into(), ..next };
        assert_eq!(list_audit_entries(other), Err(Rejected::InvalidPageToken));
    }

    #[test]
    fn all_that_is_wrong_with_a_listing_of_the_chain_is_said_at_once() {
        let time = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let request = v1::ListAuditEntriesRequest {
            page_size: -1,
            principal: "p".repeat(257),
            resource: "r".repeat(257),
            method: "m".repeat(65),
            outcome: 9,
            start_time: time(-1),
            ..Default::default()
        };
        let fields = ["principal", "resource", "method", "outcome", "start_time", "page_size"];
        assert_eq!(violations(request), fields);
        let request = v1::ListAuditEntriesRequest {
            start_time: time(5),
            end_time: time(5),
            ..Default::default()
        };
        assert_eq!(violations(request), ["end_time"]);
    }

    #[test]
    fn a_watch_of_the_chain_begins_where_it_is_told() {
        let request = v1::WatchAuditEntriesRequest { after_sequence: 4, store_id: "x".into() };
        let expected = WatchAuditEntries { after: 4, store_id: Some("x".into()) };
        assert_eq!(watch_audit_entries(request), Ok(expected));
        let request = v1::WatchAuditEntriesRequest { after_sequence: -1, ..Default::default() };
        assert!(matches!(watch_audit_entries(request), Err(Rejected::Invalid(_))));
    }
}
