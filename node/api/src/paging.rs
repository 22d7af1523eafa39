//! Pages of listings: what a request asks for, and the one shape of every answer.
//!
//! A listing is read from a cursor on, in both directions, and no answer holds more than one page.
//! A cursor is opaque text that names its listing, so that one of another listing is refused rather
//! than misread; it stays good whatever is stored meanwhile.

use spore_storage::{Cursor, Direction, Span};

use super::{
    dto,
    problem::ApiError,
    query::{MAX_LIST, Query},
};

/// Length of a list when none is asked for.
const DEFAULT_LIST: usize = 50;
/// Given as `before`: the last page of a listing.
const END: &str = "end";

/// The listings, and with them their orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listing {
    /// Tasks, the most active first.
    Tasks,
    /// Nodes, by id.
    Nodes,
    /// Records, the newest first.
    Recent,
    /// A task's records, the best first.
    Best,
    /// A frontier, the best first.
    Frontier,
    /// Records built on one, by time.
    Children,
    /// A best-so-far series, by time.
    Improvements,
    /// Records by words, the last to arrive first.
    Search,
}

impl Listing {
    /// What its cursors begin with.
    const fn tag(self) -> char {
        match self {
            Self::Tasks => 't',
            Self::Nodes => 'n',
            Self::Recent => 'r',
            Self::Best => 'b',
            Self::Frontier => 'f',
            Self::Children => 'c',
            Self::Improvements => 'i',
            Self::Search => 's',
        }
    }

    /// A cursor as it is given out.
    pub fn text(self, cursor: &Cursor) -> String {
        format!("{}{cursor}", self.tag())
    }

    /// The cursor in front of the first entry.
    pub fn beginning(self) -> String {
        self.tag().to_string()
    }

    /// None for that of the beginning.
    fn parse(self, name: &str, text: &str) -> Result<Option<Cursor>, ApiError> {
        let wrong = || {
            ApiError::bad_request(format!("`{name}` is not a cursor of this listing"))
                .hint("take `first` or `next` of an earlier answer to the same question, or leave it out")
        };
        let rest = text.strip_prefix(self.tag()).ok_or_else(wrong)?;
        if rest.is_empty() {
            return Ok(None);
        }
        rest.parse().map(Some).map_err(|_| wrong())
    }
}

impl Query {
    /// How many entries are asked for, `most` at most.
    ///
    /// # Errors
    /// 400 for what is no number of that range.
    pub fn limit(&self, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIST) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| {
            ApiError::bad_request(format!("`limit` must be a number from 1 to {most}"))
                .hint("ask for what lies beyond it with `after` and the answer's `next`")
        })
    }

    /// The part of a listing that is asked for by `after`, `before` and `limit`.
    ///
    /// # Errors
    /// 400 for a cursor that this listing did not give, for two of them, and for a bad limit.
    pub fn span(&self, listing: Listing) -> Result<Span, ApiError> {
        let limit = self.limit(MAX_LIST)?;
        let (after, direction) = match (self.get("after"), self.get("before")) {
            (None, None) => (None, Direction::Forward),
            (Some(after), None) => (listing.parse("after", after)?, Direction::Forward),
            (None, Some(END)) => (None, Direction::Backward),
            (None, Some(before)) => match listing.parse("before", before)? {
                // Nothing stands before the beginning.
                None => return Ok(Span { after: None, direction: Direction::Backward, limit: 0 }),
                cursor => (cursor, Direction::Backward),
            },
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("`after` and `before` exclude each other")
                    .hint("a page is read from one cursor on, in one direction"));
            }
        };
        Ok(Span { after, direction, limit })
    }
}

/// A page as it is sent.
///
/// # Errors
/// Those of `convert`.
pub fn page<T, U>(
    listing: Listing,
    found: &spore_storage::Page<T>,
    convert: impl FnMut(&T) -> Result<U, ApiError>,
) -> Result<dto::Page<U>, ApiError> {
    Ok(dto::Page {
        items: found.items.iter().map(convert).collect::<Result<_, _>>()?,
        first: found.first.map(|cursor| listing.text(&cursor)),
        next: found.next.map(|cursor| listing.text(&cursor)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(query: &str) -> Result<Span, ApiError> {
        Query::parse(query).span(Listing::Recent)
    }

    #[test]
    fn a_cursor_goes_both_ways_and_belongs_to_its_listing() {
        let cursor: Cursor = "00ff".parse().unwrap();
        let text = Listing::Recent.text(&cursor);
        assert_eq!(span(&format!("after={text}&limit=7")).unwrap(), Span::after(cursor, 7));
        assert_eq!(span(&format!("before={text}")).unwrap(), Span::before(cursor, DEFAULT_LIST));
        assert_eq!(span("").unwrap(), Span::first(DEFAULT_LIST));
        assert_eq!(span("limit=7").unwrap(), Span::first(7));
        assert_eq!(span(&format!("after={}", Listing::Recent.beginning())).unwrap(), Span::first(DEFAULT_LIST));
        let last = Span { after: None, direction: Direction::Backward, limit: MAX_LIST };
        assert_eq!(span("before=end&limit=500").unwrap(), last);
        for wrong in [
            format!("after={}", Listing::Best.text(&cursor)),
            format!("after={text}&before={text}"),
            "after=00ff".into(),
            "after=rxyz".into(),
            format!("before=r{}", "00".repeat(99)),
            "limit=x".into(),
            "limit=0".into(),
            "limit=501".into(),
            "limit=-1".into(),
        ] {
            let error = span(&wrong).unwrap_err();
            assert!(error.status == 400 && error.hint.is_some(), "{wrong}: {error:?}");
        }
    }
}
