//! All releases under way on a screen: who waits for a person first, then by what happens next.

use super::{
    Size, Text,
    clock::ServerClock,
    follow::{Link, lost},
    phases::bar,
    view, words,
};
use crate::{name::id, output::release, paint::Tone, time};
use chrono::{DateTime, Utc};
use phasegate_api::v1::{self, ReleaseState};
use phasegate_client::ReleasesUpdate;
use std::collections::HashMap;
use unicode_width::UnicodeWidthStr as _;

/// Title, counts, a blank line, the heading of the table; and the foot.
const AROUND: usize = 5;

/// Which line is meant, and how far it is scrolled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Move {
    Up,
    Down,
    PageUp,
    PageDown,
    Home,
    End,
}

/// What is filtered by, and whether it is being typed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Search {
    text: String,
    is_typed: bool,
}

/// All releases that are under way, in order.
#[derive(Debug)]
pub(crate) struct Board {
    server: String,
    pub(crate) clock: ServerClock,
    link: Link,
    releases: HashMap<String, v1::Release>,
    /// Names of those that the search finds, in order.
    order: Vec<String>,
    search: Search,
    /// By name, because the order changes under it.
    selected: Option<String>,
    at: usize,
    top: usize,
    page: usize,
    is_sorted: bool,
}

impl Board {
    pub(crate) fn new(server: String, clock: ServerClock) -> Self {
        Self {
            server,
            clock,
            link: Link::Up,
            releases: HashMap::new(),
            order: Vec::new(),
            search: Search::default(),
            selected: None,
            at: 0,
            top: 0,
            page: 1,
            is_sorted: false,
        }
    }

    /// Takes in what a watch told.
    pub(crate) fn take(&mut self, update: ReleasesUpdate) {
        match update {
            ReleasesUpdate::Snapshot { releases, server_time, .. } => {
                self.clock.hear(server_time.as_ref());
                self.releases = releases.into_iter().map(|r| (r.name.clone(), r)).collect();
                self.is_sorted = false;
                if self.link != Link::BegunAnew {
                    self.link = Link::Up;
                }
            }
            ReleasesUpdate::Changes { changes, server_time, .. } => {
                self.clock.hear(server_time.as_ref());
                for change in changes {
                    let Some(release) = change.release else { continue };
                    match change.removed {
                        true => self.releases.remove(&release.name),
                        false => self.releases.insert(release.name.clone(), release),
                    };
                }
                self.is_sorted = false;
                self.link = Link::Up;
            }
            ReleasesUpdate::Bookmark { server_time, .. } => self.clock.hear(server_time.as_ref()),
            ReleasesUpdate::Resumed => self.link.heal(),
            ReleasesUpdate::Interrupted(error) => {
                if let Some(link) = lost(&error) {
                    self.link = link;
                }
            }
            ReleasesUpdate::Restarted(_) => self.link = Link::BegunAnew,
            _ => {}
        }
    }

    /// The release that is selected.
    pub(crate) fn selected(&mut self) -> Option<&v1::Release> {
        self.sort();
        self.order.get(self.at).and_then(|name| self.releases.get(name))
    }

    pub(crate) fn select(&mut self, to: Move) {
        self.sort();
        let last = self.order.len().saturating_sub(1);
        self.at = match to {
            Move::Up => self.at.saturating_sub(1),
            Move::Down => self.at + 1,
            Move::PageUp => self.at.saturating_sub(self.page),
            Move::PageDown => self.at + self.page,
            Move::Home => 0,
            Move::End => last,
        }
        .min(last);
        self.selected = self.order.get(self.at).cloned();
    }

    /// Whether letters are typed into the search.
    pub(crate) fn is_searching(&self) -> bool {
        self.search.is_typed
    }

    /// Begins a search anew.
    pub(crate) fn search(&mut self) {
        self.search = Search { text: String::new(), is_typed: true };
        self.is_sorted = false;
    }

    pub(crate) fn type_letter(&mut self, letter: char) {
        self.search.text.push(letter);
        self.is_sorted = false;
    }

    pub(crate) fn rub_out(&mut self) {
        self.search.text.pop();
        self.is_sorted = false;
    }

    /// The search stands, and keys mean what they did.
    pub(crate) fn end_search(&mut self) {
        self.search.is_typed = false;
    }

    /// Everything is shown again. Whether there was a search to leave.
    pub(crate) fn leave_search(&mut self) -> bool {
        let was = !self.search.text.is_empty() || self.search.is_typed;
        self.search = Search::default();
        self.is_sorted = false;
        was
    }

    /// Deadlines are absolute, so the order changes with the releases only and never with time.
    fn sort(&mut self) {
        if self.is_sorted {
            return;
        }
        self.is_sorted = true;
        let wanted = self.search.text.to_lowercase();
        let found = self.releases.values().filter(|release| is_found(release, &wanted));
        let mut keys: Vec<_> = found.map(|release| (rank(release), &release.name)).collect();
        keys.sort_unstable();
        self.order = keys.into_iter().map(|(_, name)| name.clone()).collect();
        let last = self.order.len().saturating_sub(1);
        let again = self.selected.as_ref();
        let again = again.and_then(|name| self.order.iter().position(|one| one == name));
        self.at = again.unwrap_or_else(|| self.at.min(last));
    }

    /// All lines of a screen.
    pub(crate) fn lines(&mut self, size: Size) -> Vec<Text> {
        self.sort();
        let now = self.clock.now();
        self.page = size.height.saturating_sub(AROUND).max(1);
        self.top = self.top.clamp((self.at + 1).saturating_sub(self.page), self.at);
        let mut lines = self.head(size.width);
        let columns = Columns::of(size.width);
        lines.push(columns.heading());
        let shown = self.order.iter().enumerate().skip(self.top).take(self.page);
        for (n, name) in shown {
            let Some(release) = self.releases.get(name) else { continue };
            let row = columns.row(release, now).fit(size.width);
            lines.push(if n == self.at { row.cell(Tone::Plain, "", 0).selected() } else { row });
        }
        if self.order.is_empty() {
            lines.push(Text::of(
                Tone::Faint,
                match self.releases.is_empty() {
                    true => "no release is under way",
                    false => "none is found; Esc shows all",
                },
            ));
        }
        lines.resize(size.height.saturating_sub(1), Text::new());
        lines.push(self.foot(size.width));
        lines
    }

    /// The same for a pipe: everything, once.
    pub(crate) fn table(&mut self, width: usize) -> Vec<Text> {
        self.sort();
        let now = self.clock.now();
        let mut lines = self.head(width);
        let columns = Columns::of(width);
        lines.push(columns.heading());
        let releases = self.order.iter().filter_map(|name| self.releases.get(name));
        lines.extend(releases.map(|release| columns.row(release, now).fit(width)));
        lines
    }

    fn head(&self, width: usize) -> Vec<Text> {
        let title = Text::of(Tone::Strong, "releases under way")
            .and(Tone::Faint, format!("  {}", self.server));
        let title = view::with_clock(title, &self.clock, width);
        let mut counts = Text::of(Tone::Strong, self.releases.len().to_string());
        for (state, text) in [
            (ReleaseState::AwaitingApproval, "await approval"),
            (ReleaseState::Paused, "paused"),
            (ReleaseState::Baking, "baking"),
            (ReleaseState::AwaitingWindow, "await a window"),
            (ReleaseState::Pending, "pending"),
        ] {
            let n = self.releases.values().filter(|release| release.state() == state).count();
            if n > 0 {
                counts = counts
                    .and(Tone::Faint, " · ")
                    .and(Tone::of_release(state), format!("{n} {text}"));
            }
        }
        vec![title, counts, Text::new()]
    }

    fn foot(&self, width: usize) -> Text {
        if self.search.is_typed {
            return Text::plain(format!("/{}", self.search.text)).and(Tone::Faint, "▏");
        }
        let found = match self.search.text.is_empty() {
            true => String::new(),
            false => format!("/{} · ", self.search.text),
        };
        let at = if self.order.is_empty() { 0 } else { self.at + 1 };
        let keys = Text::of(Tone::Strong, found)
            .and(Tone::Faint, "↑↓ Enter shows one · / finds · q quits");
        view::link(&self.link, keys).right(
            Tone::Faint,
            &format!("{at} of {}", self.order.len()),
            width,
        )
    }
}

/// Who waits for an approval, the longest first; then by the next deadline; then who has none.
fn rank(release: &v1::Release) -> (u8, i64, i32) {
    let key = |rank, time: Option<&prost_types::Timestamp>| match time {
        Some(time) => (rank, time.seconds, time.nanos),
        None => (rank + 1, 0, 0),
    };
    let phase = words::position(release).map(|(_, phase)| phase);
    match release.state() {
        ReleaseState::AwaitingApproval => key(0, phase.and_then(|phase| phase.enter_time.as_ref())),
        ReleaseState::Baking => key(2, phase.and_then(|phase| phase.bake_end_time.as_ref())),
        ReleaseState::AwaitingWindow => {
            key(2, phase.and_then(|phase| phase.window_open_time.as_ref()))
        }
        ReleaseState::Pending => key(2, release.schedule_time.as_ref()),
        ReleaseState::Paused
        | ReleaseState::Unspecified
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => key(2, None),
    }
}

/// Whether what a person would look for is in what they see.
fn is_found(release: &v1::Release, wanted: &str) -> bool {
    let seen = [
        id(&release.name),
        id(&release.flag),
        &release.current_phase_id,
        release::short_state(release.state()),
    ];
    wanted.is_empty() || seen.iter().any(|text| text.to_lowercase().contains(wanted))
}

/// How wide each column is.
#[derive(Clone, Copy, Debug)]
struct Columns {
    name: usize,
    flag: usize,
    phase: usize,
    state: usize,
    bar: usize,
    left: usize,
    waits: usize,
}

impl Columns {
    fn of(width: usize) -> Self {
        // Sign and gaps aside. What a person looks for first keeps its space the longest.
        let (phase, state, bar, left) = match width {
            0..80 => (5, 8, 0, 12),
            80..110 => (5, 17, 0, 12),
            _ => (16, 17, 12, 12),
        };
        // Two columns before each, and two more between a bar and its time.
        let gaps = 2 * 6 + if bar > 0 { 2 } else { 0 };
        let rest = width.saturating_sub(phase + state + bar + left + gaps);
        let (name, flag) = match width {
            0..80 => (rest * 6 / 10, rest - rest * 6 / 10),
            80..110 => (rest * 4 / 10, rest * 3 / 10),
            _ => (rest * 2 / 5, rest * 3 / 10),
        };
        let waits = rest.saturating_sub(name + flag);
        Self { name, flag, phase, state, bar, left, waits }
    }

    fn heading(self) -> Text {
        let mut text = Text::new();
        for (word, width) in [
            ("RELEASE", self.name),
            ("FLAG", self.flag),
            ("PHASE", self.phase),
            ("STATE", self.state),
            ("LEFT", if self.bar > 0 { self.bar + 2 + self.left } else { self.left }),
            ("WAITS FOR", self.waits),
        ] {
            if width > 0 {
                text = text.and(Tone::Plain, "  ").cell(Tone::Faint, word, width);
            }
        }
        text
    }

    /// The state in the words that there is space for.
    fn state_of(self, release: &v1::Release) -> &'static str {
        let word = release::short_state(release.state());
        match word.split_once(' ') {
            Some((_, waited_for)) if word.width() > self.state => waited_for,
            Some(_) | None => word,
        }
    }

    fn row(self, release: &v1::Release, now: DateTime<Utc>) -> Text {
        let tone = Tone::of_release(release.state());
        let position = words::position(release);
        let phase = match position {
            Some((n, phase)) if self.phase > 5 => {
                format!("{n}/{} {}", release.phases.len(), phase.phase_id)
            }
            Some((n, _)) => format!("{n}/{}", release.phases.len()),
            None => format!("-/{}", release.phases.len()),
        };
        let mut text = Text::of(tone, sign(release.state()))
            .and(Tone::Plain, " ")
            .cell(Tone::Plain, id(&release.name), self.name)
            .and(Tone::Plain, "  ")
            .cell(Tone::Plain, id(&release.flag), self.flag)
            .and(Tone::Plain, "  ")
            .cell(Tone::Plain, &phase, self.phase)
            .and(Tone::Plain, "  ")
            .cell(tone, self.state_of(release), self.state)
            .and(Tone::Plain, "  ");
        let bake = position.and_then(|(_, phase)| words::bake(release, phase, now));
        if self.bar > 0 {
            text = match bake {
                Some(bake) => {
                    let (full, empty) = bar(bake.done, self.bar);
                    text.and(Tone::Busy, full).and(Tone::Faint, empty)
                }
                None => text.cell(Tone::Plain, "", self.bar),
            };
            text = text.and(Tone::Plain, "  ");
        }
        let left = deadline(release).map(|at| match words::left(at, now) {
            Some(left) => words::countdown(left),
            None => "due".to_owned(),
        });
        let left = left.or_else(|| bake.map(|bake| words::countdown(bake.left)));
        text = text.cell(Tone::Plain, &left.unwrap_or_default(), self.left);
        if self.waits > 0 {
            text = text.and(Tone::Plain, "  ").cell(Tone::Plain, &waits(release, now), self.waits);
        }
        text
    }
}

/// What counts down.
fn deadline(release: &v1::Release) -> Option<&prost_types::Timestamp> {
    let phase = words::position(release).map(|(_, phase)| phase);
    match release.state() {
        ReleaseState::AwaitingApproval => phase?.approval_expire_time.as_ref(),
        ReleaseState::AwaitingWindow => phase?.window_open_time.as_ref(),
        ReleaseState::Baking => phase?.bake_end_time.as_ref(),
        ReleaseState::Pending => release.schedule_time.as_ref(),
        ReleaseState::Unspecified
        | ReleaseState::Paused
        | ReleaseState::Succeeded
        | ReleaseState::Aborted
        | ReleaseState::Failed => None,
    }
}

/// What a release waits for, in a few words.
fn waits(release: &v1::Release, now: DateTime<Utc>) -> String {
    let phase = words::position(release).map(|(_, phase)| phase);
    match (release.state(), phase) {
        (ReleaseState::AwaitingApproval, Some(phase)) => match phase.approvals_missing {
            1 => "1 approval".to_owned(),
            n => format!("{n} approvals"),
        },
        (ReleaseState::AwaitingWindow, _) => "its window".to_owned(),
        (ReleaseState::Baking, Some(phase)) => {
            let is_over = phase.bake_end_time.as_ref().is_none_or(|end| time::instant(end) <= now);
            match &release::owing(release, phase)[..] {
                [] => "its bake".to_owned(),
                guards if is_over => format!("guard {}", guards.join(", ")),
                // Which of them have to pass is in the pipeline, which is not at hand here.
                _ => "its bake".to_owned(),
            }
        }
        (ReleaseState::Paused, _) => {
            let by = release.pause.as_ref().map(|pause| match pause.details.get("guardId") {
                Some(guard) => format!("paused by guard {guard}"),
                None => format!("paused by {}", release::who(pause.actor.as_ref())),
            });
            let why = words::pause_reason(release).map(|why| format!(": {why}"));
            by.unwrap_or_default() + &why.unwrap_or_default()
        }
        (ReleaseState::Pending, _) => match &release.schedule_time {
            Some(start) if time::instant(start) > now => "its time".to_owned(),
            Some(_) | None => "an older release".to_owned(),
        },
        _ => String::new(),
    }
}

fn sign(state: ReleaseState) -> &'static str {
    match state {
        ReleaseState::AwaitingApproval => "?",
        ReleaseState::AwaitingWindow => "…",
        ReleaseState::Baking => "◐",
        ReleaseState::Paused => "‖",
        ReleaseState::Succeeded => "✓",
        ReleaseState::Aborted | ReleaseState::Failed => "✗",
        ReleaseState::Pending | ReleaseState::Unspecified => "○",
    }
}
