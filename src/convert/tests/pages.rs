//! Pages, their tokens, and filters.

use super::{check, sample::*};
use crate::{
    convert::{
        EventOrder, ListFlags, LogPosition, Rejected, list_flags, list_pipelines,
        list_release_events, list_releases,
    },
    v1,
};
use phasegate_engine::{
    Among,
    id::{FlagId, PipelineId, ReleaseId, Revision},
};
use std::fmt::Debug;

const NEGATIVE: &[&str] = &["page_size must not be negative"];

#[test]
fn listings_are_checked_field_by_field() {
    check(
        list_flags,
        v1::ListFlagsRequest::default(),
        &[
            (|r| r.page_size = -1, NEGATIVE),
            (|r| r.page_size = i32::MIN, NEGATIVE),
            (|r| r.pipeline = "standard".to_owned(), &["pipeline must be pipelines/ and an id"]),
        ],
    );
    check(list_pipelines, v1::ListPipelinesRequest::default(), &[(|r| r.page_size = -1, NEGATIVE)]);
    fn filter(request: &mut v1::ListReleasesRequest) -> &mut v1::ReleaseFilter {
        request.filter.get_or_insert_default()
    }
    check(
        list_releases,
        v1::ListReleasesRequest::default(),
        &[
            (|r| r.page_size = -1, NEGATIVE),
            (|r| filter(r).flags = vec!["flags/a".to_owned(); 100], &[]),
            (
                |r| filter(r).flags = vec!["flags/a".to_owned(); 101],
                &["filter.flags must have at most 100, and has 101"],
            ),
            (
                |r| filter(r).flags = vec!["flags/a".to_owned(), "a".to_owned()],
                &["filter.flags[1] must be flags/ and an id"],
            ),
            (|r| filter(r).pipelines = vec![String::new()], &["filter.pipelines[0] is required"]),
            (|r| filter(r).states = (1..=8).collect(), &[]),
            (|r| filter(r).states = vec![9], &["filter.states[0] has no value of the number 9"]),
            (
                |r| filter(r).labels = [(String::new(), text(257))].into(),
                &[r#"filter.labels[""] must have a key of 1 to 63 characters"#],
            ),
        ],
    );
    check(
        list_release_events,
        v1::ListReleaseEventsRequest { parent: "releases/-".to_owned(), ..Default::default() },
        &[
            (|r| r.parent = "releases/r1".to_owned(), &[]),
            (|r| r.parent.clear(), &["parent is required"]),
            (|r| r.parent = "-".to_owned(), &["parent must be releases/ and an id"]),
            (
                |r| {
                    r.page_size = -1;
                    r.after_revision = -1;
                },
                &["after_revision must not be negative", "page_size must not be negative"],
            ),
        ],
    );
}

#[test]
fn a_page_has_the_default_size_or_at_most_1000() {
    let check = |asked, flags, events| {
        let page_size = asked;
        let request = v1::ListFlagsRequest { page_size, ..Default::default() };
        assert_eq!(list_flags(request).unwrap().page.size, flags);
        let parent = "releases/-".to_owned();
        let request = v1::ListReleaseEventsRequest { parent, page_size, ..Default::default() };
        assert_eq!(list_release_events(request).unwrap().page.size, events);
    };
    check(0, 50, 100);
    check(1, 1, 1);
    check(1000, 1000, 1000);
    check(1001, 1000, 1000);
    check(i32::MAX, 1000, 1000);
}

fn flags(pipeline: &str, page_token: &str) -> Result<ListFlags, Rejected> {
    list_flags(v1::ListFlagsRequest {
        page_size: 10,
        page_token: page_token.to_owned(),
        pipeline: pipeline.to_owned(),
    })
}

#[test]
fn a_token_leads_to_the_next_page_of_the_same_listing_only() {
    let last = FlagId::parse("team.new_Checkout-2").unwrap();
    let token = flags("pipelines/a", "").unwrap().token(&last);
    assert_eq!(flags("pipelines/a", &token).unwrap().page.after, Some(last.clone()));
    let other_size = v1::ListFlagsRequest {
        page_size: 3,
        page_token: token.clone(),
        pipeline: "pipelines/a".to_owned(),
    };
    assert_eq!(list_flags(other_size).unwrap().page.after, Some(last));

    assert_eq!(flags("pipelines/b", &token), Err(Rejected::InvalidPageToken));
    assert_eq!(flags("", &token), Err(Rejected::InvalidPageToken));
    let request = v1::ListPipelinesRequest { page_token: token, ..Default::default() };
    assert_eq!(list_pipelines(request), Err(Rejected::InvalidPageToken));
}

#[test]
fn a_token_that_is_not_ours_is_refused() {
    let token = flags("", "").unwrap().token(&FlagId::parse("a").unwrap());
    // The hash of the listing comes first.
    for at in 0..16 {
        let mut spoilt = token.clone().into_bytes();
        spoilt[at] = if spoilt[at] == b'f' { b'0' } else { b'f' };
        let spoilt = String::from_utf8(spoilt).unwrap();
        assert_eq!(flags("", &spoilt), Err(Rejected::InvalidPageToken), "{spoilt}");
    }
    let nonsense = ["x", "é", "\0", &token[..16], &token[..17], &format!("{token}0"), &text(5000)];
    for token in nonsense {
        assert_eq!(flags("", token), Err(Rejected::InvalidPageToken), "{token}");
    }
}

#[test]
fn a_token_goes_into_a_url_as_it_is() {
    let request =
        || v1::ListReleaseEventsRequest { parent: "releases/-".to_owned(), ..Default::default() };
    let position = LogPosition { revision: Revision::new(7), release: release("r-1"), ordinal: 3 };
    let token = list_release_events(request()).unwrap().token(&position);
    assert!(token.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{token}");
    let next = v1::ListReleaseEventsRequest { page_token: token, ..request() };
    assert_eq!(list_release_events(next).unwrap().page.after, Some(position));
}

fn release(id: &str) -> ReleaseId {
    ReleaseId::parse(id).unwrap()
}

/// Asserts that a token made for `request` is good for it, and for none of the others.
fn check_token<R: Clone, T: Debug + PartialEq>(
    parse: impl Fn(R) -> Result<T, Rejected>,
    token: impl Fn(&T) -> String,
    with: impl Fn(&mut R, String),
    request: R,
    others: &[fn(&mut R)],
) {
    let token = token(&parse(request.clone()).unwrap());
    let mut again = request.clone();
    with(&mut again, token.clone());
    assert!(parse(again).is_ok());
    for (index, edit) in others.iter().enumerate() {
        let mut other = request.clone();
        edit(&mut other);
        assert!(parse(other.clone()).is_ok(), "request {index}");
        with(&mut other, token.clone());
        assert_eq!(parse(other), Err(Rejected::InvalidPageToken), "request {index}");
    }
}

#[test]
fn a_token_counts_every_other_field_but_the_size() {
    check_token(
        list_releases,
        |list| list.token((Revision::new(5), Revision::new(9))),
        |request, token| request.page_token = token,
        v1::ListReleasesRequest::default(),
        &[
            |r| r.filter.get_or_insert_default().unfinished_only = true,
            |r| r.filter.get_or_insert_default().flags.push("flags/a".to_owned()),
            |r| r.filter.get_or_insert_default().pipelines.push("pipelines/a".to_owned()),
            |r| r.filter.get_or_insert_default().states.push(1),
            |r| r.filter.get_or_insert_default().labels = [("a".to_owned(), "b".to_owned())].into(),
        ],
    );
    check_token(
        list_release_events,
        |list| {
            let revision = Revision::new(7);
            list.token(&LogPosition { revision, release: release("r1"), ordinal: 0 })
        },
        |request, token| request.page_token = token,
        v1::ListReleaseEventsRequest { parent: "releases/-".to_owned(), ..Default::default() },
        &[
            |r| r.parent = "releases/r1".to_owned(),
            |r| r.after_revision = 1,
            |r| r.newest_first = true,
        ],
    );
    check_token(
        list_pipelines,
        |list| list.token(&PipelineId::parse("a").unwrap()),
        |request, token| request.page_token = token,
        v1::ListPipelinesRequest::default(),
        &[],
    );
}

#[test]
fn a_filter_that_is_empty_is_the_same_listing_as_none() {
    let position = (Revision::new(5), Revision::new(9));
    let page_token = list_releases(Default::default()).unwrap().token(position);
    let filter = Some(v1::ReleaseFilter::default());
    let request = v1::ListReleasesRequest { filter, page_token, ..Default::default() };
    assert_eq!(list_releases(request).unwrap().page.after, Some(position));
}

#[test]
fn violations_come_before_a_wrong_token() {
    let page_token = "x".to_owned();
    let request = v1::ListFlagsRequest { page_size: -1, page_token, ..Default::default() };
    assert_eq!(super::violations(list_flags(request)), *NEGATIVE);
}

#[test]
fn events_are_listed_of_one_release_or_of_all() {
    let list = |parent: &str, newest_first| {
        let parent = parent.to_owned();
        let after_revision = 8;
        let request = v1::ListReleaseEventsRequest {
            parent,
            newest_first,
            after_revision,
            ..Default::default()
        };
        list_release_events(request).unwrap()
    };
    let all = list("releases/-", false);
    assert_eq!((all.release, all.order), (None, EventOrder::OldestFirst));
    let one = list("releases/r1", true);
    assert_eq!((one.release, one.order), (Some(release("r1")), EventOrder::NewestFirst));
    assert_eq!(one.after, Revision::new(8));
}

#[test]
fn a_filter_has_only_those_looked_at_that_it_may_want() {
    let flag = FlagId::parse("checkout").unwrap();
    let flags = vec!["flags/checkout".to_owned()];
    let states = |states: &[v1::ReleaseState]| states.iter().map(|state| (*state).into()).collect();
    let baking = states(&[v1::ReleaseState::Baking, v1::ReleaseState::Paused]);
    let either = states(&[v1::ReleaseState::Baking, v1::ReleaseState::Failed]);
    let any = v1::ReleaseFilter::default;
    let of_flag = std::slice::from_ref(&flag);
    for (filter, among) in [
        (any(), Among::All),
        (v1::ReleaseFilter { pipelines: vec!["pipelines/web".to_owned()], ..any() }, Among::All),
        (v1::ReleaseFilter { states: either, ..any() }, Among::All),
        (v1::ReleaseFilter { states: baking, ..any() }, Among::Unfinished),
        (v1::ReleaseFilter { unfinished_only: true, ..any() }, Among::Unfinished),
        (v1::ReleaseFilter { flags: flags.clone(), ..any() }, Among::OfFlags(of_flag)),
        (v1::ReleaseFilter { flags, unfinished_only: true, ..any() }, Among::UnfinishedOf(of_flag)),
    ] {
        let request =
            v1::ListReleasesRequest { filter: Some(filter.clone()), ..Default::default() };
        assert_eq!(list_releases(request).unwrap().filter.among(), among, "{filter:?}");
    }
}
