//! Cursor paging: `?limit=&after=` in, `{"data", "has_more", "next"}` out.

use super::problem::{Code, Problem};
use crate::learn::{Page, Paged};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

const DEFAULT_LIMIT: usize = 50;
const LARGEST_LIMIT: usize = 1000;

/// Which part of a list to answer.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PageQuery {
    /// Rows in this page; 50 unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// `next` of the page before; the first page unless given.
    #[param(nullable = false)]
    after: Option<String>,
}

/// Checks a limit and makes a page of it.
pub(super) fn page(limit: Option<usize>, after: Option<String>) -> Result<Page, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=LARGEST_LIMIT => Ok(Page { limit, after }),
        limit => Err(Problem::new(
            Code::InvalidQuery,
            format!("`limit` is {limit}. It has to be 1 to {LARGEST_LIMIT}; use `after` for the next page."),
        )),
    }
}

impl PageQuery {
    pub(super) fn page(self) -> Result<Page, Problem> {
        page(self.limit, self.after)
    }
}

/// One page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct ListOf<T> {
    /// Rows in stable order.
    pub data: Vec<T>,
    /// There is a further page.
    pub has_more: bool,
    /// Cursor of the further page, for `after`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl<T> ListOf<T> {
    /// A page of rows as callers see them.
    pub(super) fn from_paged<R: Into<T>>(paged: Paged<R>) -> Self {
        Self {
            data: paged.data.into_iter().map(Into::into).collect(),
            has_more: paged.next.is_some(),
            next: paged.next,
        }
    }
}
