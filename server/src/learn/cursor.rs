//! Opaque cursors: the list and the last row's key, so that a cursor of one list is refused by another.

use super::{LearnError, Page, Paged};
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

/// Most rows on a page.
const MAXIMUM_LIMIT: usize = 1000;

/// Which list a cursor belongs to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum List {
    /// Classes, oldest first.
    Classes,
    /// Examples, oldest first.
    Examples,
    /// What an audit found, the most pressing first.
    Findings,
    /// Images of the pool, oldest first.
    Images,
    /// Head versions, newest first.
    Heads,
    /// Jobs, newest first.
    Jobs,
}

impl List {
    fn name(self) -> &'static str {
        match self {
            List::Classes => "classes",
            List::Examples => "examples",
            List::Findings => "findings",
            List::Images => "images",
            List::Heads => "heads",
            List::Jobs => "jobs",
        }
    }

    /// The key after which the page starts, if it is not the first.
    pub(crate) fn after(self, page: &Page) -> Result<Option<i64>, LearnError> {
        page.after.as_deref().map(|cursor| self.decode(cursor).ok_or(LearnError::InvalidCursor)).transpose()
    }

    fn decode(self, cursor: &str) -> Option<i64> {
        let text = String::from_utf8(BASE64_URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        text.strip_prefix(self.name())?.strip_prefix(':')?.parse().ok().filter(|key| *key >= 0)
    }

    fn encode(self, key: i64) -> String {
        BASE64_URL_SAFE_NO_PAD.encode(format!("{}:{key}", self.name()))
    }

    /// Makes a page of up to `limit + 1` rows: the one too many only says that there is a next page.
    pub(crate) fn paged<R, T>(
        self,
        mut rows: Vec<R>,
        page: &Page,
        key: impl Fn(&R) -> i64,
        into: impl Fn(R) -> Result<T, LearnError>,
    ) -> Result<Paged<T>, LearnError> {
        let limit = limit(page);
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows.last().filter(|_| more).map(|last| self.encode(key(last)));
        Ok(Paged { data: rows.into_iter().map(into).collect::<Result<_, _>>()?, next })
    }
}

/// Rows asked for, at least one and at most a thousand.
pub(crate) fn limit(page: &Page) -> usize {
    page.limit.clamp(1, MAXIMUM_LIMIT)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn page(after: Option<String>, limit: usize) -> Page {
        Page { limit, after }
    }

    proptest! {
        #[test]
        fn pages_are_the_list_in_pieces(count in 0_i64..60, limit in 0_usize..20) {
            let mut seen = Vec::new();
            let mut after = None;
            loop {
                let page = page(after, limit);
                let start = List::Jobs.after(&page).unwrap().unwrap_or(-1);
                let rows: Vec<i64> = (start + 1..count).take(super::limit(&page) + 1).collect();
                let paged = List::Jobs.paged(rows, &page, |row| *row, Ok).unwrap();
                prop_assert!(paged.data.len() <= limit.max(1));
                seen.extend(paged.data);
                match paged.next {
                    Some(next) => after = Some(next),
                    None => break,
                }
            }
            prop_assert_eq!(seen, (0..count).collect::<Vec<_>>());
        }

        #[test]
        fn garbage_is_refused(cursor in ".{0,40}") {
            prop_assert!(matches!(List::Heads.after(&page(Some(cursor), 1)), Err(LearnError::InvalidCursor)));
        }
    }

    #[test]
    fn a_cursor_belongs_to_its_list() {
        let cursor = List::Heads.encode(7);
        assert_eq!(List::Heads.after(&page(Some(cursor.clone()), 1)).unwrap(), Some(7));
        assert!(matches!(List::Jobs.after(&page(Some(cursor), 1)), Err(LearnError::InvalidCursor)));
    }
}
