//! Pages of any index, with keyset cursors in both directions.

use std::ops::ControlFlow;

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::Result,
    types::{Cursor, MAX_PAGE, Page, PageDirection, Span},
};

/// Bytes of objects after which a page ends. Its last object may exceed that by at most 10 MiB.
const MAX_PAGE_BYTES: usize = 16 << 20;

/// A listing of an index, or of the part of an index under a prefix.
#[derive(Clone, Copy)]
pub struct IndexListing<'a> {
    pub column: Column,
    pub prefix: &'a [u8],
    /// Order of the keys in the forward direction: ascending when the best or lowest key comes first, descending when
    /// the newest does.
    pub order: KeyOrder,
}

impl IndexListing<'_> {
    pub const fn way(&self, direction: PageDirection) -> KeyOrder {
        match (self.order, direction) {
            (KeyOrder::Ascending, PageDirection::Forward) | (KeyOrder::Descending, PageDirection::Backward) => {
                KeyOrder::Ascending
            }
            _ => KeyOrder::Descending,
        }
    }

    /// One page. Each item is made from its key and value.
    pub fn page<T>(
        &self,
        source: &dyn KeyReader,
        span: &Span,
        item: impl FnMut(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Page<T>> {
        self.page_of(source, span, item, |_| 0)
    }

    /// As [`IndexListing::page`], for items that may be large: a page also ends after [`MAX_PAGE_BYTES`].
    pub fn page_of<T>(
        &self,
        source: &dyn KeyReader,
        span: &Span,
        mut item: impl FnMut(&[u8], &[u8]) -> Result<T>,
        size: impl Fn(&T) -> usize,
    ) -> Result<Page<T>> {
        let from = span.after.map(|cursor| [self.prefix, cursor.bytes()].concat());
        let limit = span.limit.min(MAX_PAGE);
        let mut page = Page::default();
        let (mut last, mut more, mut bytes) = (None, false, 0);
        let way = self.way(span.direction);
        source.walk(self.column, self.prefix, from.as_deref(), way, &mut |key, value| {
            if from.as_deref() == Some(key) {
                return Ok(ControlFlow::Continue(()));
            }
            if page.items.len() >= limit || bytes >= MAX_PAGE_BYTES {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            last = Cursor::of(key.get(self.prefix.len()..).unwrap_or_default());
            page.first = page.first.or(last);
            let item = item(key, value)?;
            bytes += size(&item);
            page.items.push(item);
            Ok(ControlFlow::Continue(()))
        })?;
        page.next = last.filter(|_| more);
        Ok(page)
    }

    /// The first `limit` items, without a maximum.
    pub fn head<T>(
        &self,
        source: &dyn KeyReader,
        limit: usize,
        mut item: impl FnMut(&[u8], &[u8]) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut items = Vec::new();
        if limit == 0 {
            return Ok(items);
        }
        source.walk(self.column, self.prefix, None, self.order, &mut |key, value| {
            items.push(item(key, value)?);
            Ok(if items.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        Ok(items)
    }
}
