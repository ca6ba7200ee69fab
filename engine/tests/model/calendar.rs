//! Windows, looked at the simple way: an instant is inside a span or it is not, and the next opening is
//! the first of all instants at which one could begin.

use crate::words::{DAY, HORIZON, MINUTE, Ms, Window};

impl Window {
    /// The spans that start on the day of an instant, moved by some days.
    fn spans(&self, day: Ms) -> impl Iterator<Item = (Ms, Ms)> + '_ {
        // 1970-01-01 was a Thursday.
        let weekday = (day + 3).rem_euclid(7);
        let on_day = self
            .weekly
            .iter()
            .filter(move |(days, ..)| days.iter().any(|d| Ms::from(*d) == weekday));
        on_day.map(move |(_, start, end)| {
            let end = if end <= start { end + 1440 } else { *end };
            (day * DAY + start * MINUTE, day * DAY + end * MINUTE)
        })
    }

    /// May a phase be applied at `at`?
    pub(crate) fn is_open(&self, at: Ms) -> bool {
        let day = at.div_euclid(DAY);
        let inside = |(start, end): (Ms, Ms)| start <= at && at < end;
        let is_in_span =
            self.weekly.is_empty() || self.spans(day - 1).chain(self.spans(day)).any(inside);
        is_in_span && !self.blackouts.iter().copied().any(inside)
    }

    /// The first instant from `from` on, within the horizon, at which it is open.
    pub(crate) fn next_open(&self, from: Ms) -> Option<Ms> {
        if self.is_open(from) {
            return Some(from);
        }
        let ends = self.blackouts.iter().map(|(_, end)| *end).filter(|end| *end > from);
        let after_blackout = ends.filter(|end| self.is_open(*end)).min();
        let first = from.div_euclid(DAY);
        let in_span = (first..=first + HORIZON / DAY).find_map(|day| {
            let starts = self.spans(day).map(|(start, _)| start).filter(|start| *start > from);
            starts.filter(|start| self.is_open(*start)).min()
        });
        let opening = after_blackout.into_iter().chain(in_span).min()?;
        (opening <= from + HORIZON).then_some(opening)
    }

    /// Instants at which it may open or close: of a day, and of all blackouts.
    pub(crate) fn edges(&self, at: Ms) -> impl Iterator<Item = Ms> + '_ {
        let spans = self.spans(at.div_euclid(DAY)).chain(self.blackouts.iter().copied());
        spans.flat_map(|(start, end)| [start, end])
    }
}
