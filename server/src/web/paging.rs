//! Pages of a list.

use maud::{Markup, html};

/// Items on one page of a list.
pub(super) const PAGE_SIZE: usize = 50;

/// One page of a list.
#[derive(Debug)]
pub(super) struct Shown<'a, T> {
    /// What is on it.
    pub(super) items: &'a [T],
    page: usize,
    pages: usize,
    total: usize,
}

impl<'a, T> Shown<'a, T> {
    /// A page, counted from 0; the last one if there are not so many.
    pub(super) fn of(found: &'a [T], page: usize) -> Self {
        let (total, pages) = (found.len(), found.len().div_ceil(PAGE_SIZE));
        let page = page.min(pages.saturating_sub(1));
        let items = &found[page * PAGE_SIZE..total.min((page + 1) * PAGE_SIZE)];
        Self { items, page, pages, total }
    }

    /// The way to the pages before and after, if there are any.
    pub(super) fn nav(&self, before: &str, after: &str, href: impl Fn(usize) -> String) -> Markup {
        let from = self.page * PAGE_SIZE + 1;
        html! {
            @if self.pages > 1 {
                nav.pages aria-label="Pages" {
                    @if self.page > 0 { a.button rel="prev" href=(href(self.page - 1)) { (before) } }
                    span { (from) "–" (from + self.items.len() - 1) " of " (self.total) }
                    @if self.page + 1 < self.pages { a.button rel="next" href=(href(self.page + 1)) { (after) } }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_beyond_the_last_is_the_last() {
        let found: Vec<usize> = (0..120).collect();
        let check = |page| Shown::of(&found, page).items.to_vec();
        assert_eq!(check(0), (0..50).collect::<Vec<_>>());
        assert_eq!(check(2), (100..120).collect::<Vec<_>>());
        assert_eq!(check(9), check(2));
        assert!(Shown::of(&found[..0], 3).items.is_empty());
    }

    #[test]
    fn the_way_leads_to_pages_that_there_are() {
        let found: Vec<usize> = (0..120).collect();
        let nav = |page| Shown::of(&found, page).nav("B", "A", |page| format!("/{page}")).0;
        assert!(nav(0).contains("1–50 of 120") && nav(0).contains("/1") && !nav(0).contains(">B<"));
        assert!(nav(1).contains("href=\"/0\"") && nav(1).contains("href=\"/2\""));
        assert!(nav(2).contains("101–120 of 120") && !nav(2).contains(">A<"));
        assert!(Shown::of(&found[..50], 0).nav("B", "A", |_| String::new()).0.is_empty());
    }
}
