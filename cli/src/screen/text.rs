//! One line of a screen: pieces of text, each with its tone, cut to a width with an ellipsis.

use crate::paint::Tone;
use ratatui::{
    style::{Color, Modifier, Style},
    text::{Line, Span},
};
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Whether colours are shown. Bold and dim text is shown either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Colours {
    Shown,
    Hidden,
}

/// A line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    pieces: Vec<(Tone, String)>,
    /// It is the line that a key press would act on.
    selected: bool,
}

impl Text {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    pub(crate) fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self::new().and(tone, text)
    }

    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self::of(Tone::Plain, text)
    }

    /// The line with one more piece.
    pub(crate) fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        let text = text.into();
        if !text.is_empty() {
            self.pieces.push((tone, clean(text)));
        }
        self
    }

    /// The line with another behind it.
    pub(crate) fn append(mut self, other: Self) -> Self {
        self.pieces.extend(other.pieces);
        self
    }

    /// The line with one more piece of exactly this width.
    pub(crate) fn cell(self, tone: Tone, text: &str, width: usize) -> Self {
        let text = cut(text, width);
        let missing = width.saturating_sub(text.width());
        self.and(tone, text).and(Tone::Plain, " ".repeat(missing))
    }

    /// The line with something at its right edge, which gives way if there is no space.
    pub(crate) fn right(self, tone: Tone, text: &str, width: usize) -> Self {
        let (left, right) = (self.width(), text.width());
        match width.checked_sub(left + right) {
            Some(gap) if gap > 0 => self.and(Tone::Plain, " ".repeat(gap)).and(tone, text),
            Some(_) | None => self,
        }
    }

    pub(crate) fn selected(mut self) -> Self {
        self.selected = true;
        self
    }

    pub(crate) fn width(&self) -> usize {
        self.pieces.iter().map(|(_, text)| text.width()).sum()
    }

    /// The line without what does not fit.
    pub(crate) fn fit(self, width: usize) -> Self {
        if self.width() <= width {
            return self;
        }
        let mut left = width;
        let mut pieces = Vec::new();
        for (tone, text) in self.pieces {
            let wide = text.width();
            if wide < left {
                left -= wide;
                pieces.push((tone, text));
            } else {
                // One more column, so that the cut is shown also where a piece just fits.
                let longer = format!("{text} ");
                pieces.push((tone, cut(&longer, left)));
                break;
            }
        }
        Self { pieces, selected: self.selected }
    }

    /// For a terminal that scrolls: with escapes, which the printer takes out if need be.
    pub(crate) fn to_ansi(&self) -> String {
        let painted = self.pieces.iter().map(|(tone, text)| tone.paint(text));
        painted.collect::<String>().trim_end().to_owned()
    }

    pub(crate) fn to_line(&self, colours: Colours) -> Line<'static> {
        let spans = self.pieces.iter().map(|(tone, text)| {
            let style = style(*tone, colours);
            Span::styled(text.clone(), style)
        });
        let line = Line::from_iter(spans);
        match self.selected {
            true => line.style(Style::new().add_modifier(Modifier::REVERSED)),
            false => line,
        }
    }
}

fn style(tone: Tone, colours: Colours) -> Style {
    let (colour, modifier) = match tone {
        Tone::Plain => (None, Modifier::empty()),
        Tone::Strong => (None, Modifier::BOLD),
        Tone::Faint => (None, Modifier::DIM),
        Tone::Good => (Some(Color::Green), Modifier::empty()),
        Tone::Busy => (Some(Color::Cyan), Modifier::empty()),
        Tone::Waits => (Some(Color::Magenta), Modifier::BOLD),
        Tone::Bad => (Some(Color::Red), Modifier::BOLD),
    };
    let style = Style::new().add_modifier(modifier);
    match (colours, colour) {
        (Colours::Shown, Some(colour)) => style.fg(colour),
        (Colours::Shown, None) | (Colours::Hidden, _) => style,
    }
}

/// What others wrote may hold anything; a terminal must see no escapes of theirs.
fn clean(text: String) -> String {
    match text.contains(char::is_control) {
        true => text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        false => text,
    }
}

/// The text in at most so many columns; where something is missing it ends with an ellipsis.
pub(crate) fn cut(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let mut short = String::new();
    let mut used = 0;
    for letter in text.chars() {
        let wide = letter.width().unwrap_or_default();
        if used + wide + 1 > width {
            break;
        }
        used += wide;
        short.push(letter);
    }
    if width > 0 {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_cut_with_an_ellipsis() {
        for (text, width, expected) in [
            ("checkout", 8, "checkout"),
            ("checkout", 7, "checko…"),
            ("checkout", 1, "…"),
            ("checkout", 0, ""),
            ("日本語", 6, "日本語"),
            ("日本語", 5, "日本…"),
            ("日本語", 4, "日…"),
        ] {
            assert_eq!(cut(text, width), expected, "{text} in {width}");
        }
    }

    #[test]
    fn a_line_is_cut_in_the_piece_that_does_not_fit() {
        let line = || Text::of(Tone::Good, "done").and(Tone::Plain, "  prod-eu");
        assert_eq!(line().fit(13), line());
        assert_eq!(line().fit(9), Text::of(Tone::Good, "done").and(Tone::Plain, "  pr…"));
        assert_eq!(line().fit(4), Text::of(Tone::Good, "don…"));
    }

    #[test]
    fn what_stands_at_the_right_gives_way() {
        let line = || Text::plain("name");
        assert_eq!(line().right(Tone::Plain, "flag", 10).width(), 10);
        assert_eq!(line().right(Tone::Plain, "flag", 8), line());
    }

    #[test]
    fn escapes_in_what_others_wrote_do_not_reach_the_terminal() {
        assert_eq!(Text::plain("a\u{1b}[2Jb\n"), Text::plain("a [2Jb "));
    }
}
