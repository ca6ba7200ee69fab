//! What is asked of sinks and their dead letters.

use super::{
    Rejected,
    fields::Fields,
    list::{self, Page},
};
use crate::v1;
use phasegate_engine::id::SinkId;
use prost::Message as _;

/// The size of a page unless told otherwise.
const PAGE_DEFAULT: i32 = 100;
/// Most ids in a request.
const IDS_MAX: usize = 1000;

/// What ListDeadLetters lists, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct ListDeadLetters {
    /// Of which sink.
    pub sink: SinkId,
    /// Which page: after this row.
    pub page: Page<u64>,
}

impl ListDeadLetters {
    /// The token of the page after this row.
    pub fn token(&self, last: u64) -> String {
        self.page.token_of(&last.to_string())
    }
}

/// Parses ListDeadLetters.
pub fn list_dead_letters(request: v1::ListDeadLettersRequest) -> Result<ListDeadLetters, Rejected> {
    let mut fields = Fields::default();
    let of_all =
        v1::ListDeadLettersRequest { page_size: 0, page_token: String::new(), ..request.clone() };
    let listing = list::hash(b"dead letters ".iter().copied().chain(of_all.encode_to_vec()));
    let sink = sink(&mut fields, &request.sink);
    let size = (request.page_size, PAGE_DEFAULT);
    let parse = |text: &str| text.parse().ok();
    let page = list::page(&mut fields, size, &request.page_token, listing, parse);
    list::finish_page(fields, page, |page| Some(ListDeadLetters { sink: sink?, page }))
}

/// Which dead letters are sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetters {
    /// All of the sink.
    All,
    /// Those with these ids.
    Ids(Vec<String>),
}

/// Parses ReplayDeadLetters.
pub fn replay_dead_letters(
    request: v1::ReplayDeadLettersRequest,
) -> Result<(SinkId, DeadLetters), Rejected> {
    let mut fields = Fields::default();
    let sink = sink(&mut fields, &request.sink);
    let which = fields.at("ids", |fields| match (request.all, request.ids.len()) {
        (true, 0) => Some(DeadLetters::All),
        (false, 1..=IDS_MAX) => Some(DeadLetters::Ids(request.ids)),
        (false, 0) | (true, _) => fields.refuse("either ids or all must be set"),
        (false, _) => fields.refuse(format!("must be at most {IDS_MAX}")),
    });
    fields.finish(sink.zip(which))
}

/// Parses SendTestNotification.
pub fn send_test_notification(
    request: v1::SendTestNotificationRequest,
) -> Result<SinkId, Rejected> {
    let mut fields = Fields::default();
    let sink = sink(&mut fields, &request.sink);
    fields.finish(sink)
}

fn sink(fields: &mut Fields, text: &str) -> Option<SinkId> {
    fields.at("sink", |fields| match SinkId::parse(text) {
        Ok(sink) => Some(sink),
        Err(invalid) => fields.refuse(invalid.to_string()),
    })
}
