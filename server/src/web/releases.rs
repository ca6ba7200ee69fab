//! The list of releases: what is under way, what waits for somebody, what is over.

use super::{
    page::{Moment, Page, Region},
    paging::Shown,
    release::{self, chip},
    time, words,
};
use maud::{Markup, html};
use phasegate_engine::{
    Among,
    release::{Release, ReleaseState},
    time::Timestamp,
};
use serde::{Deserialize, Deserializer};
use std::{cmp::Reverse, collections::BTreeMap, sync::Arc};

/// Which releases, and which page of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(super) struct Query {
    state: Tab,
    flag: String,
    pipeline: String,
    who: String,
    text: String,
    #[serde(deserialize_with = "page_number")]
    page: usize,
}

/// A form sends what is empty as an empty text.
pub(super) fn page_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() { Ok(0) } else { text.parse().map_err(serde::de::Error::custom) }
}

/// One of the tabs above the list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Tab {
    #[default]
    #[serde(alias = "")]
    Unfinished,
    Approval,
    Window,
    Baking,
    Paused,
    Pending,
    Succeeded,
    Aborted,
    Failed,
    All,
}

impl Tab {
    const ALL: [(Self, &'static str, &'static str); 10] = [
        (Self::Unfinished, "unfinished", "Under way"),
        (Self::Approval, "approval", "Awaiting approval"),
        (Self::Window, "window", "Awaiting window"),
        (Self::Baking, "baking", "Baking"),
        (Self::Paused, "paused", "Paused"),
        (Self::Pending, "pending", "Pending"),
        (Self::Succeeded, "succeeded", "Succeeded"),
        (Self::Aborted, "aborted", "Aborted"),
        (Self::Failed, "failed", "Failed"),
        (Self::All, "all", "All"),
    ];

    fn slug(self) -> &'static str {
        Self::ALL.iter().find(|(tab, _, _)| *tab == self).map_or("", |(_, slug, _)| slug)
    }

    fn has(self, state: ReleaseState) -> bool {
        match self {
            Self::Unfinished => !state.is_final(),
            Self::Approval => state == ReleaseState::AwaitingApproval,
            Self::Window => state == ReleaseState::AwaitingWindow,
            Self::Baking => state == ReleaseState::Baking,
            Self::Paused => state == ReleaseState::Paused,
            Self::Pending => state == ReleaseState::Pending,
            Self::Succeeded => state == ReleaseState::Succeeded,
            Self::Aborted => state == ReleaseState::Aborted,
            Self::Failed => state == ReleaseState::Failed,
            Self::All => true,
        }
    }
}

impl Query {
    /// The same, as texts are searched for it.
    fn small_letters(&self) -> Self {
        Self {
            flag: self.flag.to_lowercase(),
            pipeline: self.pipeline.to_lowercase(),
            who: self.who.to_lowercase(),
            text: self.text.to_lowercase(),
            ..*self
        }
    }

    /// Whether a release matches what is in small letters, its state left aside.
    fn matches(&self, release: &Release) -> bool {
        let proposal = &release.proposal;
        let labels = || proposal.labels.iter().flat_map(|(key, value)| [&**key, &**value]);
        contains(proposal.flag.as_str(), &self.flag)
            && contains(proposal.pipeline.id.as_str(), &self.pipeline)
            && contains(proposal.creator.as_str(), &self.who)
            && (contains(&proposal.description, &self.text)
                || contains(proposal.id.as_str(), &self.text)
                || contains(proposal.flag.as_str(), &self.text)
                || labels().any(|text| contains(text, &self.text)))
    }

    fn is_filtered(&self) -> bool {
        [&self.flag, &self.pipeline, &self.who, &self.text].iter().any(|text| !text.is_empty())
    }

    /// The address of the list with these filters, another tab and another page.
    fn href(&self, tab: Tab, page: usize) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        if tab != Tab::Unfinished {
            query.append_pair("state", tab.slug());
        }
        let texts = [
            ("flag", &self.flag),
            ("pipeline", &self.pipeline),
            ("who", &self.who),
            ("text", &self.text),
        ];
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            query.append_pair(name, text);
        }
        if page > 0 {
            query.append_pair("page", &page.to_string());
        }
        let query = query.finish();
        if query.is_empty() { "/releases".to_owned() } else { format!("/releases?{query}") }
    }
}

/// The list as of a moment.
pub(super) fn page(moment: &Moment, query: &Query) -> Page {
    let mut counts: BTreeMap<ReleaseState, usize> = BTreeMap::new();
    let mut by_urgency: BTreeMap<u8, Vec<&Arc<Release>>> = BTreeMap::new();
    let parts = query.small_letters();
    let shows_final = ReleaseState::FINAL.into_iter().any(|state| query.state.has(state));
    // There may be many that are over: they are looked at only where they are asked for, and then in one
    // pass, in whatever order is quickest.
    let among: Box<dyn Iterator<Item = &Arc<Release>>> = if shows_final || query.is_filtered() {
        Box::new(moment.state.releases())
    } else {
        counts.extend(ReleaseState::FINAL.map(|state| (state, moment.state.count(state))));
        moment.state.releases_before(Among::Unfinished, None)
    };
    for release in among.filter(|release| parts.matches(release)) {
        let state = release.state();
        *counts.entry(state).or_default() += 1;
        if query.state.has(state) {
            by_urgency.entry(urgency(state)).or_default().push(release);
        }
    }
    let listed: Vec<&Arc<Release>> = by_urgency.into_values().flat_map(newest_first).collect();
    let shown = Shown::of(&listed, query.page);
    let in_tab = |tab: Tab| {
        counts.iter().filter(|(state, _)| tab.has(**state)).map(|(_, count)| count).sum::<usize>()
    };
    let (waiting, counts) = (in_tab(Tab::Approval), Tab::ALL.map(|(tab, _, _)| in_tab(tab)));
    Page {
        title: if waiting > 0 { format!("({waiting}) Releases") } else { "Releases".to_owned() },
        regions: vec![
            Region::new("filters", filters(query)),
            Region::new("tabs", tabs(query, &counts)),
            Region::new("list", list(moment, query, &shown)),
        ],
    }
}

/// Whether a text, however it is capitalised, has a part, which is in small letters.
pub(super) fn contains(text: &str, part: &str) -> bool {
    part.is_empty() || text.to_lowercase().contains(part)
}

/// Releases by creation.
fn newest_first(mut releases: Vec<&Arc<Release>>) -> Vec<&Arc<Release>> {
    releases.sort_by_cached_key(|release| Reverse(release.proposal.created));
    releases
}

/// What needs a person comes first, what is over last.
fn urgency(state: ReleaseState) -> u8 {
    match state {
        ReleaseState::AwaitingApproval => 0,
        ReleaseState::Paused => 1,
        ReleaseState::AwaitingWindow | ReleaseState::Baking => 2,
        ReleaseState::Pending => 3,
        ReleaseState::Succeeded | ReleaseState::Aborted | ReleaseState::Failed => 4,
    }
}

fn filters(query: &Query) -> Markup {
    let field = |id: &str, label: &str, value: &str| {
        html! {
            div.field {
                label for=(id) { (label) }
                input id=(id) name=(id) value=(value) type="search" autocomplete="off" spellcheck="false";
            }
        }
    };
    html! {
        h1 { "Releases" }
        form.filters method="get" action="/releases" role="search" {
            @if query.state != Tab::Unfinished { input type="hidden" name="state" value=(query.state.slug()); }
            (field("text", "Text", &query.text))
            (field("flag", "Flag", &query.flag))
            (field("pipeline", "Pipeline", &query.pipeline))
            (field("who", "Started by", &query.who))
            div.field.buttons {
                button { "Filter" }
                @if query.is_filtered() {
                    a.button href=(Query { state: query.state, ..Query::default() }.href(query.state, 0)) { "Clear" }
                }
            }
        }
    }
}

fn tabs(query: &Query, counts: &[usize]) -> Markup {
    html! {
        nav.tabs aria-label="State" {
            @for ((tab, slug, label), count) in Tab::ALL.iter().zip(counts) {
                a href=(query.href(*tab, 0)) id={ "tab-" (slug) } aria-current=[(*tab == query.state).then_some("page")]
                    .urgent[*tab == Tab::Approval && *count > 0] {
                    (label) " " span.count { (count) }
                }
            }
        }
    }
}

fn list(moment: &Moment, query: &Query, shown: &Shown<'_, &Arc<Release>>) -> Markup {
    if shown.items.is_empty() {
        return nothing(moment, query);
    }
    html! {
        table.list {
            thead { tr {
                th scope="col" { "State" }
                th scope="col" { "Release" }
                th scope="col" { "Phases" }
                th scope="col" { "Waits for" }
                th scope="col" { "Started by" }
            } }
            tbody { @for release in shown.items { (row(release, moment.now)) } }
        }
        (shown.nav("Newer", "Older", |page| query.href(query.state, page)))
    }
}

fn nothing(moment: &Moment, query: &Query) -> Markup {
    let is_new = moment.state.releases().next().is_none();
    html! {
        div.empty {
            @if is_new {
                p { strong { "No release yet." } }
                p { "A release takes one change of one flag along a pipeline, phase by phase. Apply a pipeline and a flag, then trigger one:" }
                pre { "phasegate apply -f examples/quick/pipeline.yaml -f examples/quick/flag.yaml\n" "phasegate release trigger -f examples/quick/release.yaml" }
                p { "Or trigger one from the page of a " a href="/flags" { "flag" } "." }
            } @else if query.is_filtered() {
                p { strong { "No release matches." } }
                p { a href=(Query::default().href(query.state, 0)) { "Clear the filters" } }
            } @else {
                p { strong { "None here." } }
                @if query.state == Tab::Unfinished {
                    p { "Every release is over. " a href=(query.href(Tab::All, 0)) { "Look at all of them" } "." }
                }
            }
        }
    }
}

fn row(release: &Release, now: Timestamp) -> Markup {
    let proposal = &release.proposal;
    html! {
        tr {
            td.state { (chip(release.state())) }
            td.what {
                a.name href={ "/releases/" (proposal.id) } { (proposal.flag) }
                span.sub { (proposal.id) }
                @if !proposal.description.is_empty() { span.description { (proposal.description) } }
            }
            td.track { (dots(release)) }
            td.waits { (release::waits(release, now)) }
            td.who {
                span { (proposal.creator) }
                span.sub { (time::ago(proposal.create_time, now)) }
                span.sub { "along " (proposal.pipeline.id) }
            }
        }
    }
}

/// The phases as a row of signs.
fn dots(release: &Release) -> Markup {
    let current = release.current();
    html! {
        ol.dots {
            @for (index, (phase, progress)) in release.phases().iter().zip(&release.progress.phases).enumerate() {
                @let (class, sign, word) = words::phase_state(progress.state);
                @let is_current = current.is_some_and(|current| current.get() == index);
                li.{ "s-" (class) } .current[is_current] title={ (phase.id) ": " (word) } {
                    span aria-hidden="true" { (sign) }
                    span.out-of-sight { (phase.id) ": " (word) }
                }
            }
        }
        @if let Some(index) = current { span.sub { (release.phase(index).id) } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_what_differs_from_the_plain_list() {
        let query = Query { flag: "a&b".into(), ..Query::default() };
        assert_eq!(Query::default().href(Tab::Unfinished, 0), "/releases");
        assert_eq!(query.href(Tab::Unfinished, 0), "/releases?flag=a%26b");
        assert_eq!(query.href(Tab::Approval, 2), "/releases?state=approval&flag=a%26b&page=2");
    }

    #[test]
    fn every_state_is_under_one_tab_of_its_own_and_under_all() {
        for state in [
            ReleaseState::Pending,
            ReleaseState::AwaitingApproval,
            ReleaseState::AwaitingWindow,
            ReleaseState::Baking,
            ReleaseState::Paused,
            ReleaseState::Succeeded,
            ReleaseState::Aborted,
            ReleaseState::Failed,
        ] {
            let tabs = Tab::ALL.iter().filter(|(tab, _, _)| tab.has(state));
            let tabs: Vec<Tab> = tabs.map(|(tab, _, _)| *tab).collect();
            let expected = if state.is_final() { 2 } else { 3 };
            assert_eq!(tabs.len(), expected, "{state:?}: {tabs:?}");
        }
    }
}
