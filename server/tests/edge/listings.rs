//! Pages, from the first to the last.

use crate::server::{Server, create_flag, create_pipeline, trigger};
use phasegate_api::v1;

/// The ids of all pages of a listing, and how many pages there were.
async fn all_events(
    server: &Server,
    request: v1::ListReleaseEventsRequest,
) -> (Vec<String>, usize) {
    let mut releases = server.releases().await;
    let mut request = request;
    let (mut names, mut pages) = (Vec::new(), 0);
    loop {
        let page = releases.list_release_events(request.clone()).await.unwrap().into_inner();
        pages += 1;
        names.extend(page.events.into_iter().map(|event| event.name));
        if page.next_page_token.is_empty() {
            return (names, pages);
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn flags_and_pipelines_are_listed_by_name_and_by_pages() {
    let server = Server::start().await;
    server.pipelines().await.create_pipeline(create_pipeline()).await.unwrap();
    let mut flags = server.flags().await;
    for id in ["c", "a", "b"] {
        let mut request = create_flag(id);
        if id != "b" {
            request.flag.as_mut().unwrap().pipeline = "pipelines/p".into();
        }
        flags.create_flag(request).await.unwrap();
    }
    let mut list = async |request: v1::ListFlagsRequest| {
        let page = flags.list_flags(request).await.unwrap().into_inner();
        let names: Vec<_> = page.flags.into_iter().map(|flag| flag.name).collect();
        (names.join(" "), page.next_page_token)
    };
    let (names, token) = list(v1::ListFlagsRequest::default()).await;
    assert_eq!((&*names, &*token), ("flags/a flags/b flags/c", ""));
    let page_size = 2;
    let first = v1::ListFlagsRequest { page_size, ..Default::default() };
    let (names, token) = list(first).await;
    assert_eq!(names, "flags/a flags/b");
    let rest = v1::ListFlagsRequest { page_size, page_token: token, ..Default::default() };
    let (names, token) = list(rest).await;
    assert_eq!((&*names, &*token), ("flags/c", ""));
    let attached = v1::ListFlagsRequest { pipeline: "pipelines/p".into(), ..Default::default() };
    assert_eq!(list(attached).await.0, "flags/a flags/c");

    let request = v1::ListPipelinesRequest::default();
    let page = server.pipelines().await.list_pipelines(request).await.unwrap().into_inner();
    assert_eq!(page.pipelines.len(), 1);
    assert_eq!(page.next_page_token, "");
    server.stop().await;
}

#[tokio::test]
async fn releases_are_listed_newest_first_and_keep_the_revision_of_the_first_page() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    for id in ["one", "two", "three"] {
        server.trigger(id).await;
        server.abort(id).await;
    }
    let mut releases = server.releases().await;
    let first = v1::ListReleasesRequest { page_size: 2, ..Default::default() };
    let page = releases.list_releases(first.clone()).await.unwrap().into_inner();
    let names: Vec<_> = page.releases.iter().map(|release| &*release.name).collect();
    assert_eq!(names, ["releases/three", "releases/two"]);
    assert!(page.releases.iter().all(|release| release.change.is_none()), "left out of lists");

    server.trigger("four").await;
    let rest = v1::ListReleasesRequest { page_token: page.next_page_token, ..first };
    let rest = releases.list_releases(rest).await.unwrap().into_inner();
    let names: Vec<_> = rest.releases.iter().map(|release| &*release.name).collect();
    assert_eq!((names, &*rest.next_page_token), (vec!["releases/one"], ""));
    assert_eq!(rest.revision, page.revision);

    let filter = v1::ReleaseFilter { unfinished_only: true, ..Default::default() };
    let request = v1::ListReleasesRequest { filter: Some(filter), ..Default::default() };
    let page = releases.list_releases(request).await.unwrap().into_inner();
    assert_eq!(page.releases.len(), 1);
    assert_eq!(page.releases[0].name, "releases/four");
    server.stop().await;
}

#[tokio::test]
async fn events_are_the_same_by_pages_of_any_size_and_in_both_orders() {
    let server = Server::start().await.with_flag_and_pipeline().await;
    server.trigger("one").await;
    server.pause("one").await;
    // One commit with events of two releases.
    let mut supersede = trigger("two");
    supersede.set_conflict_policy(v1::ConflictPolicy::Supersede);
    server.releases().await.trigger_release(supersede).await.unwrap();
    server.abort("two").await;

    let all = v1::ListReleaseEventsRequest { parent: "releases/-".into(), ..Default::default() };
    let (names, pages) = all_events(&server, all.clone()).await;
    assert_eq!(pages, 1);
    let of = |id: &str| names.iter().filter(|name| name.contains(id)).cloned().collect::<Vec<_>>();
    assert!(of("releases/one/").len() >= 3 && of("releases/two/").len() >= 3, "{names:?}");
    let mut reversed = names.clone();
    reversed.reverse();
    for page_size in 1..=7 {
        let request = v1::ListReleaseEventsRequest { page_size, ..all.clone() };
        let (by_pages, pages) = all_events(&server, request.clone()).await;
        assert_eq!(by_pages, names, "pages of {page_size}");
        assert_eq!(pages, names.len().div_ceil(page_size as usize));
        let request = v1::ListReleaseEventsRequest { newest_first: true, ..request };
        assert_eq!(all_events(&server, request).await.0, reversed, "pages of {page_size}");
    }
    let one = v1::ListReleaseEventsRequest { parent: "releases/one".into(), ..all.clone() };
    assert_eq!(all_events(&server, one).await.0, of("releases/one/"));

    let paused = server.releases().await;
    let mut paused = paused;
    let page = paused.list_release_events(all.clone()).await.unwrap().into_inner();
    assert_eq!(page.oldest_revision, 0, "nothing was compacted");
    let after_revision = page.events[0].revision;
    let later = v1::ListReleaseEventsRequest { after_revision, ..all };
    let expected = page.events.iter().filter(|event| event.revision > after_revision).count();
    assert_eq!(all_events(&server, later).await.0.len(), expected);
    server.stop().await;
}
