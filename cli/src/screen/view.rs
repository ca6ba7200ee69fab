//! One release on a screen: where it stands, its phases, what happened last.

use super::{
    Size, Text,
    clock::{Pace, ServerClock},
    follow::{Followed, Link},
    phases::{Branch, Columns, tree},
    words,
};
use crate::{name::id, output::event, paint::Tone, time};
use chrono::{DateTime, Utc};
use phasegate_api::v1;
use unicode_width::UnicodeWidthStr as _;

/// How a view is left, which stands at its foot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leave {
    /// The program ends.
    Quit,
    /// Back to the board.
    Back,
}

/// What stands before who has the change, and before what comes next.
const LIVE: &str = "live  ";
const NEXT: &str = "next  ";

/// As many events as stay in the scrollback when a view has ended.
const EVENTS_LEFT: usize = 5;
/// So many lines an event list needs to be worth its heading.
const EVENTS_LEAST: usize = 1;

/// All lines of a screen.
pub(crate) fn lines(followed: &Followed, leave: Leave, size: Size) -> Vec<Text> {
    let now = followed.clock.now();
    let mut lines = head(followed, now, size.width);
    let foot = foot(followed, leave);
    let columns = Columns::of(&followed.release, size.width);
    let tree = tree(&followed.release, columns, now);
    // A blank line above the foot.
    let space = size.height.saturating_sub(lines.len() + 2);
    let wanted: usize = tree.iter().map(|branch| branch.lines.len()).sum();
    let for_events = match wanted + EVENTS_LEAST + 2 <= space {
        true => space - wanted - 1,
        false => 0,
    };
    let current = words::position(&followed.release).map_or(0, |(n, _)| n - 1);
    lines.extend(around(tree, current, space - if for_events > 0 { for_events + 1 } else { 0 }));
    if for_events > 0 {
        lines.push(Text::new());
        lines.extend(events(followed, columns, now, for_events));
    }
    lines.resize(size.height.saturating_sub(1), Text::new());
    lines.push(foot);
    lines
}

/// What is left in the scrollback.
pub(crate) fn last(followed: &Followed, width: usize) -> Vec<Text> {
    let now = followed.clock.now();
    let mut lines = head(followed, now, width);
    let columns = Columns::of(&followed.release, width);
    let tree = tree(&followed.release, columns, now);
    lines.extend(tree.into_iter().flat_map(|branch| branch.lines));
    lines.push(Text::new());
    lines.extend(events(followed, columns, now, EVENTS_LEFT + 1));
    lines.into_iter().map(|line| line.fit(width)).collect()
}

fn head(followed: &Followed, now: DateTime<Utc>, width: usize) -> Vec<Text> {
    let release = &followed.release;
    let title = Text::of(Tone::Strong, id(&release.name))
        .and(Tone::Faint, "  of flag ")
        .and(Tone::Plain, id(&release.flag));
    let title = with_clock(title, &followed.clock, width);
    let state = words::sentence(release, now);
    let mut lines = vec![title];
    let tone = Tone::of_release(release.state());
    lines.extend(wrapped(&state, width).into_iter().map(|part| Text::of(tone, part)));
    lines.push(Text::of(Tone::Faint, LIVE).and(Tone::Plain, words::live(release)));
    if let Some((tone, next)) = words::next(release) {
        let parts = wrapped(&next, width.saturating_sub(NEXT.len()));
        let labels = [NEXT, "      "].into_iter();
        let labelled = |(label, part)| Text::of(Tone::Faint, label).and(tone, part);
        lines.extend(labels.zip(parts).map(labelled));
    }
    lines.push(Text::new());
    lines
}

/// What time it is at the server, as exactly as there is space for.
pub(crate) fn with_clock(title: Text, clock: &ServerClock, width: usize) -> Text {
    let now = clock.now();
    let forms = match clock.pace() {
        Pace::Runs => ["%a %-d %b %H:%M:%S UTC", "%H:%M:%S UTC"],
        Pace::StandsStill => ["rehearsal, %a %-d %b %H:%M:%S UTC", "rehearsal %H:%M UTC"],
    };
    let texts = forms.map(|form| now.format(form).to_string());
    let fits = texts.iter().find(|text| title.width() + text.len() < width);
    match fits {
        Some(text) => title.right(Tone::Faint, text, width),
        None => title,
    }
}

/// A text in at most two lines: commands in it should not be cut.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    if text.width() <= width {
        return vec![text.to_owned()];
    }
    let mut first = String::new();
    let mut rest = text;
    while let Some((word, behind)) = rest.split_once(' ') {
        if first.width() + word.width() > width {
            break;
        }
        first.push_str(word);
        first.push(' ');
        rest = behind;
    }
    // One word that fills the line and more is cut where it stands.
    match first.is_empty() {
        true => vec![text.to_owned()],
        false => vec![first.trim_end().to_owned(), rest.to_owned()],
    }
}

/// As much of the tree as there is space for, around the current phase.
fn around(tree: Vec<Branch>, current: usize, space: usize) -> Vec<Text> {
    let lengths: Vec<usize> = tree.iter().map(|branch| branch.lines.len()).collect();
    let total: usize = lengths.iter().sum();
    let mut lines: Vec<Text> = tree.into_iter().flat_map(|branch| branch.lines).collect();
    if total <= space {
        return lines;
    }
    // The phase before the current one is shown too, if there is one.
    let start: usize = lengths.iter().take(current.saturating_sub(1)).sum();
    let first = start.min(total - space);
    let mut shown: Vec<Text> = lines.drain(first..).take(space).collect();
    let more = |n: usize, text: &str| Text::of(Tone::Faint, format!("⋮ {n} more lines {text}"));
    if first > 0
        && let Some(line) = shown.first_mut()
    {
        *line = more(first + 1, "above");
    }
    let below = total - first - shown.len();
    if below > 0
        && let Some(line) = shown.last_mut()
    {
        *line = more(below + 1, "below");
    }
    shown
}

/// A heading, and so many lines in all.
fn events(followed: &Followed, columns: Columns, now: DateTime<Utc>, space: usize) -> Vec<Text> {
    let shown: Vec<&v1::ReleaseEvent> =
        followed.newest_events().take(space.saturating_sub(1)).collect();
    let is_today = |event: &&v1::ReleaseEvent| {
        let day = |time| time::instant(time).date_naive();
        event.event_time.as_ref().is_none_or(|time| day(time) == now.date_naive())
    };
    let form = if shown.iter().all(is_today) { "%H:%M:%S" } else { "%-d %b %H:%M:%S" };
    let heading = Text::of(Tone::Faint, "what happened last");
    let line = |event: &v1::ReleaseEvent| {
        let at = event.event_time.as_ref().map(time::instant);
        let at = at.map(|at| at.format(form).to_string()).unwrap_or_default();
        Text::of(Tone::Faint, format!("{at:>form$}  ", form = width_of(form)))
            .cell(Tone::Plain, &event.phase_id, columns.name)
            .and(Tone::Plain, "  ")
            .and(tone(event), event::words(event))
    };
    std::iter::once(heading).chain(shown.into_iter().map(line)).collect()
}

/// How wide a time of this form is at most.
fn width_of(form: &str) -> usize {
    if form.starts_with("%-d") { "17 Jun 18:00:00".len() } else { "18:00:00".len() }
}

fn tone(event: &v1::ReleaseEvent) -> Tone {
    use v1::ReleaseEventType as Type;
    match event.event_type() {
        Type::ApprovalRecorded | Type::PhaseSucceeded | Type::Succeeded => Tone::Good,
        Type::ApprovalRejected | Type::Aborted | Type::Failed => Tone::Bad,
        Type::Paused => Tone::Waits,
        Type::GuardReported => match event.details.get("verdict").map(String::as_str) {
            Some("FAIL") => Tone::Bad,
            _ => Tone::Good,
        },
        Type::Unspecified
        | Type::Triggered
        | Type::Started
        | Type::PhaseEntered
        | Type::WindowOpened
        | Type::WindowOverridden
        | Type::PhaseApplied
        | Type::BakeElapsed
        | Type::BakeAdjusted
        | Type::PhaseSkipped
        | Type::Unpaused
        | Type::WindowRescheduled => Tone::Plain,
    }
}

fn foot(followed: &Followed, leave: Leave) -> Text {
    let keys = match leave {
        Leave::Quit => "q quits; the release goes on",
        Leave::Back => "Esc goes back, q quits",
    };
    link(&followed.link, Text::of(Tone::Faint, keys))
}

/// Whether the server is heard, then what else stands there, then why it is not heard.
pub(crate) fn link(link: &Link, between: Text) -> Text {
    let (tone, text) = match link {
        Link::Up => (Tone::Faint, "connected"),
        Link::Draining => (Tone::Bad, "the server is stopping; waiting for it"),
        Link::Lost(_) => (Tone::Bad, "connection lost, trying again"),
        Link::Healed => (Tone::Good, "connected again, nothing was missed"),
        Link::BegunAnew => (Tone::Waits, "begun anew, the log has what happened in between"),
    };
    let line = Text::of(tone, text).and(Tone::Faint, " · ").append(between);
    match link {
        Link::Lost(why) => line.and(Tone::Faint, format!(" · {why}")),
        Link::Up | Link::Draining | Link::Healed | Link::BegunAnew => line,
    }
}
