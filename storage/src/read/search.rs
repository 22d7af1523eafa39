//! Looking for records by the words of their description and hypothesis.
//!
//! A word is a run of letters and digits (of any script), in lower case, cut to [`MAX_WORD`] bytes;
//! the first [`MAX_WORDS`] different words of a record are indexed.

use std::{collections::BTreeSet, ops::ControlFlow};

use spore_protocol::TaskId;

use super::{listing::List, row};
use crate::{
    columns::Column,
    db::{Source, View, Way},
    error::Result,
    keys,
    store::Store,
    types::{Cursor, MAX_PAGE, Page, RecordSummary, Span},
};

/// Different words indexed of one record: a few sentences. A record that is all words would
/// otherwise cost more index than text.
const MAX_WORDS: usize = 32;
/// Bytes of a word that count: longer ones are mostly hashes and runs of nonsense.
const MAX_WORD: usize = 24;
/// Words of a question that are looked at.
const MAX_QUESTION: usize = 8;
/// Records looked at for one page, so that common words with nothing in common take some 50 ms at
/// most. The page is short then, and its cursor goes on.
const MAX_LOOKED_AT: usize = 20_000;
/// Uses counted to tell which word of a question is the rarest.
const MAX_COUNTED: usize = 1_000;

/// The words of some texts that are indexed.
pub fn words(texts: &[&str]) -> BTreeSet<String> {
    let mut words = BTreeSet::new();
    for word in texts.iter().flat_map(|text| text.split(|c: char| !c.is_alphanumeric())) {
        if word.is_empty() {
            continue;
        }
        if words.len() >= MAX_WORDS {
            break;
        }
        let mut word = word.to_lowercase();
        word.truncate(word.floor_char_boundary(MAX_WORD));
        words.insert(word);
    }
    words
}

impl Store {
    /// The records whose description and hypothesis hold every one of these words, of a task or of
    /// all, the last to arrive first. A page may be short, even empty, and yet have a next one.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn search(&self, text: &str, task: Option<&TaskId>, span: &Span) -> Result<Page<RecordSummary>> {
        let view = self.view();
        let mut words: Vec<_> = words(&[text]).into_iter().take(MAX_QUESTION).collect();
        let Some(rarest) = take_rarest(&view, &mut words)? else { return Ok(Page::default()) };
        let prefix = keys::word(&rarest);
        let list = List { column: Column::Words, prefix: &prefix, order: Way::Down };
        let from = span.after.map(|cursor| [&prefix, cursor.bytes()].concat());
        let limit = span.limit.min(MAX_PAGE);
        let mut page = Page::default();
        let (mut last, mut more, mut looked_at) = (None, false, 0);
        let way = list.way(span.direction);
        view.walk(Column::Words, &prefix, from.as_deref(), way, &mut |key, _| {
            if from.as_deref() == Some(key) {
                return Ok(ControlFlow::Continue(()));
            }
            if page.items.len() >= limit || looked_at >= MAX_LOOKED_AT {
                more = true;
                return Ok(ControlFlow::Break(()));
            }
            looked_at += 1;
            let number = keys::last_number(key)?;
            last = Cursor::of(&number.to_be_bytes());
            for word in &words {
                if !view.has(Column::Words, &keys::word_use(word, number))? {
                    return Ok(ControlFlow::Continue(()));
                }
            }
            let found = row(&view, number)?.summary;
            if task.is_none_or(|task| *task == found.task_id) {
                page.first = page.first.or(last);
                page.items.push(found);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        page.next = last.filter(|_| more);
        Ok(page)
    }
}

/// Takes the word out that the fewest records use, as far as is counted.
fn take_rarest(view: &View<'_>, words: &mut Vec<String>) -> Result<Option<String>> {
    let mut counts = Vec::with_capacity(words.len());
    for word in words.iter() {
        let list = List { column: Column::Words, prefix: &keys::word(word), order: Way::Down };
        counts.push(list.head(view, MAX_COUNTED, |_, _| Ok(()))?.len());
    }
    let least = counts.iter().zip(0..).min().map(|(_, place)| place);
    Ok(least.map(|place| words.swap_remove(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_lower_case_runs_of_letters_and_digits_of_bounded_length_and_number() {
        let found = words(&["Ein größerer ÄRMEL, lr=0.003", &"x".repeat(99)]);
        let long = "x".repeat(MAX_WORD);
        let expected = ["0", "003", "ein", "größerer", "lr", long.as_str(), "ärmel"];
        assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), expected);
        let many: Vec<_> = (0..99).map(|n| n.to_string()).collect();
        assert_eq!(words(&[&many.join(" ")]).len(), MAX_WORDS);
        assert!(words(&["数学".repeat(20).as_str()]).iter().all(|word| word.len() <= MAX_WORD));
    }
}
