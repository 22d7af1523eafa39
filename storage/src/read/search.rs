//! StoreFinding records by the words ([`crate::words`]) of their description and hypothesis.

use std::{borrow::Cow, ops::ControlFlow};

use spore_protocol::TaskId;

use super::listing::IndexListing;
use crate::{
    columns::Column,
    db::{DbSnapshot, KeyOrder, KeyReader},
    error::Result,
    keys,
    lookup::{listed, placing},
    store::Store,
    types::{Cursor, MAX_PAGE, Page, RecordSummary, Span},
    words::words,
};

/// Most words of a query that are searched for.
const MAX_QUERY_WORDS: usize = 8;
/// Most records and blocks of word uses that are read for one page, so that common words that never occur together
/// take some 50 ms at most. The page is short then, and its cursor continues.
const MAX_READ: usize = 20_000;
/// Most uses of a word that are counted to find the rarest word of a query.
const MAX_COUNTED: usize = 1_000;

/// The different words of a query.
fn query_words(text: &str) -> Vec<Cow<'_, str>> {
    let mut query_words = Vec::with_capacity(MAX_QUERY_WORDS);
    for word in words(text) {
        if query_words.len() >= MAX_QUERY_WORDS {
            break;
        }
        if !query_words.contains(&word) {
            query_words.push(word);
        }
    }
    query_words
}

impl Store {
    /// The records whose description and hypothesis contain every one of these words, in a task or in all tasks, the
    /// last to arrive first. A page may be short, even empty, and still have a next page.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn search(&self, text: &str, task: Option<&TaskId>, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let mut words = query_words(text);
        let Some(rarest) = take_rarest(&view, &mut words)? else { return Ok(Page::default()) };
        let prefix = keys::word(&rarest);
        let way =
            IndexListing { column: Column::Words, prefix: &prefix, order: KeyOrder::Descending }.way(span.direction);
        let after = span.after.and_then(|cursor| keys::number_at(cursor.bytes(), 0).ok());
        let from = after.map(|number| keys::word_uses(&rarest, keys::word_use(number).0));
        let mut page = Page::default();
        let (mut last, mut more, mut reads) = (None, false, 0);
        view.walk(Column::Words, &prefix, from.as_deref(), way, &mut |key, uses| {
            let block = keys::last_number(key)?;
            reads += words.len();
            let mut others = Vec::with_capacity(words.len());
            for word in &words {
                others.push(view.get(Column::Words, &keys::word_uses(word, block))?.unwrap_or_default());
            }
            for (number, low) in numbers(block, uses, after, way) {
                if page.items.len() >= span.limit.min(MAX_PAGE) || reads >= MAX_READ {
                    more = true;
                    return Ok(ControlFlow::Break(()));
                }
                reads += 1;
                last = Cursor::of(&number.to_be_bytes());
                if !others.iter().all(|uses| uses.contains(&low)) {
                    continue;
                }
                if let Some(task) = task
                    && placing(&view, number)?.task_id != *task
                {
                    continue;
                }
                page.first = page.first.or(last);
                page.items.push(listed(&view, number)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        page.next = last.filter(|_| more);
        Ok(page)
    }
}

/// The numbers of a block after `after`, in this order, each with its last byte.
fn numbers(block: u64, uses: &[u8], after: Option<u64>, way: KeyOrder) -> impl Iterator<Item = (u64, u8)> {
    let mut numbers: Vec<_> = uses.iter().map(|low| (block << 8 | u64::from(*low), *low)).collect();
    match way {
        KeyOrder::Ascending => numbers.retain(|(number, _)| after.is_none_or(|after| *number > after)),
        KeyOrder::Descending => {
            numbers.retain(|(number, _)| after.is_none_or(|after| *number < after));
            numbers.reverse();
        }
    }
    numbers.into_iter()
}

/// Removes and returns the word that the fewest records use, as far as uses are counted.
fn take_rarest<'a>(view: &DbSnapshot<'_>, words: &mut Vec<Cow<'a, str>>) -> Result<Option<Cow<'a, str>>> {
    let mut counts = Vec::with_capacity(words.len());
    for word in words.iter() {
        let mut count = 0;
        view.walk(Column::Words, &keys::word(word), None, KeyOrder::Descending, &mut |_, uses| {
            count += uses.len();
            Ok(if count < MAX_COUNTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        counts.push(count.min(MAX_COUNTED));
    }
    let least = counts.iter().zip(0..).min().map(|(_, place)| place);
    Ok(least.map(|place| words.swap_remove(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_keeps_each_word_once() {
        assert_eq!(query_words("to be or not to be"), ["to", "be", "or", "not"]);
    }
}
