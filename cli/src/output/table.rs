//! Columns that stand under each other.

use unicode_width::UnicodeWidthStr;

/// Between columns.
const GAP: &str = "  ";

/// Rows of cells, each column as wide as its widest cell.
#[derive(Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
    indent: &'static str,
}

impl Table {
    pub(crate) fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(ToString::to_string).collect()], indent: "" }
    }

    /// Names and values, without a heading, set in by two.
    pub(crate) fn of_facts() -> Self {
        Self { rows: Vec::new(), indent: "  " }
    }

    pub(crate) fn indented(mut self) -> Self {
        self.indent = "  ";
        self
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = impl Into<String>>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }

    /// A name and a value, unless the value is empty.
    pub(crate) fn fact(&mut self, name: &str, value: impl Into<String>) {
        let value = value.into();
        if !value.is_empty() {
            self.row([name.to_owned(), value]);
        }
    }

    pub(crate) fn render(&self) -> String {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| width_of(cell)).max().unwrap_or_default()
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let mut text = String::new();
        for row in &self.rows {
            let mut line = self.indent.to_owned();
            for (cell, width) in row.iter().zip(&widths) {
                line.push_str(cell);
                let missing = width - width_of(cell);
                line.extend(std::iter::repeat_n(' ', missing));
                line.push_str(GAP);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

/// What a cell takes on a terminal, where escapes take nothing.
fn width_of(cell: &str) -> usize {
    anstream::adapter::strip_str(cell).map(UnicodeWidthStr::width).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other_and_no_line_ends_with_space() {
        let mut table = Table::new(&["NAME", "STATE"]);
        table.row(["a-long-name", "x"]);
        table.row(["ü", ""]);
        assert_eq!(table.render(), "NAME         STATE\na-long-name  x\nü\n");
    }

    #[test]
    fn a_colour_takes_no_space() {
        let mut table = Table::new(&["STATE", "FLAG"]);
        table.row([&crate::paint::Tone::Good.paint("done"), "f"]);
        let shown = anstream::adapter::strip_str(&table.render()).to_string();
        assert_eq!(shown, "STATE  FLAG\ndone   f\n");
    }

    #[test]
    fn facts_without_a_value_are_left_out() {
        let mut table = Table::of_facts();
        table.fact("flag", "flags/f");
        table.fact("reason", "");
        assert_eq!(table.render(), "  flag  flags/f\n");
    }
}
