//! Pages of lists: which page a request asks for, and the shape of the answer.
//!
//! A list is read from a cursor in both directions, and an answer holds one page. A cursor is opaque text that begins
//! with the kind of its list, so that a cursor of another list is refused and not misread. A cursor stays valid when
//! objects are stored later.

use spore_storage::{Cursor, PageDirection, Span};

use super::{
    dto,
    problem::ApiError,
    query::{MAX_LIST, Query},
};

/// Items of a page when the request gives no limit.
const DEFAULT_LIST: usize = 50;
/// Value of `before` for the last page of a list.
const END: &str = "end";

/// The kinds of lists, each in its order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListingKind {
    /// Tasks, the most active first.
    Tasks,
    /// Nodes, by id.
    Nodes,
    /// Records, the newest first.
    Recent,
    /// A task's records, by the published metric.
    Best,
    /// A frontier, the best first.
    Frontier,
    /// Records that are based on a record, oldest first.
    Children,
    /// Records that hold and were the best so far, oldest first.
    Improvements,
    /// Records by words, the last to arrive first.
    Search,
}

impl ListingKind {
    /// The first character of the list's cursors.
    const fn letter(self) -> char {
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

    /// A cursor as answers contain it.
    pub fn text(self, cursor: &Cursor) -> String {
        format!("{}{cursor}", self.letter())
    }

    /// The cursor in front of the first item.
    pub fn beginning(self) -> String {
        self.letter().to_string()
    }

    /// Reads a cursor from the parameter `name`. None for [`ListingKind::beginning`].
    fn parse(self, name: &str, text: &str) -> Result<Option<Cursor>, ApiError> {
        let rest = text.strip_prefix(self.letter()).ok_or_else(|| no_cursor(name))?;
        if rest.is_empty() {
            return Ok(None);
        }
        rest.parse().map(Some).map_err(|_| no_cursor(name))
    }

    /// As [`ListingKind::parse`], for a list that goes through the classes.
    fn parse_in_class(self, name: &str, text: &str) -> Result<Option<ClassCursor>, ApiError> {
        let rest = text.strip_prefix(self.letter()).ok_or_else(|| no_cursor(name))?;
        if rest.is_empty() {
            return Ok(None);
        }
        ClassCursor::parse(rest).map(Some).ok_or_else(|| no_cursor(name))
    }
}

fn no_cursor(name: &str) -> ApiError {
    ApiError::bad_request(format!("`{name}` is not a cursor of this list"))
        .hint("take `first` or `next` of an earlier page of the same list, or leave it out")
}

/// A place in a list that is made of one list for each hardware class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCursor {
    /// The name of the class.
    pub class: String,
    /// None for the end of that class's list where the direction begins.
    pub cursor: Option<Cursor>,
}

impl ClassCursor {
    /// The cursor as answers contain it.
    pub fn text(&self, listing: ListingKind) -> String {
        let cursor = self.cursor.map(|cursor| cursor.to_string()).unwrap_or_default();
        format!("{}{}.{cursor}", listing.letter(), hex::encode(&self.class))
    }

    fn parse(text: &str) -> Option<Self> {
        let (class, cursor) = text.split_once('.')?;
        let class = String::from_utf8(hex::decode(class).ok()?).ok()?;
        let cursor = if cursor.is_empty() { None } else { Some(cursor.parse().ok()?) };
        Some(Self { class, cursor })
    }
}

/// The page of a list that a request asks for, with cursors of type `C`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted<C> {
    /// The last item seen, see [`Span::after`].
    pub after: Option<C>,
    pub direction: PageDirection,
    pub limit: usize,
}

impl Query {
    /// The parameter `limit`: how many items the answer may hold.
    ///
    /// # Errors
    /// 400 when `limit` is no number from 1 to `most`.
    pub fn limit(&self, most: usize) -> Result<usize, ApiError> {
        let Some(text) = self.get("limit") else { return Ok(DEFAULT_LIST) };
        let limit = text.parse().ok().filter(|limit| (1..=most).contains(limit));
        limit.ok_or_else(|| {
            ApiError::bad_request(format!("`limit` must be a number from 1 to {most}"))
                .hint("get further items with `after` and the `next` of the answer")
        })
    }

    /// The parameter `before` of the activity: only changes with a smaller sequence number are listed. Without it, all are.
    ///
    /// # Errors
    /// 400 when it is no sequence number.
    pub fn sequence(&self) -> Result<u64, ApiError> {
        let Some(text) = self.get("before") else { return Ok(u64::MAX) };
        text.parse().map_err(|_| {
            ApiError::bad_request("`before` must be a sequence number").hint("take the `sequence` of the last item")
        })
    }

    /// The page that `after`, `before` and `limit` ask for.
    ///
    /// # Errors
    /// 400 for a cursor of another list, for two cursors, and for a bad limit.
    pub fn span(&self, listing: ListingKind) -> Result<Span, ApiError> {
        let Wanted { after, direction, limit } = self.wanted(|name, text| listing.parse(name, text))?;
        Ok(Span { after, direction, limit })
    }

    /// As [`Query::span`], for a list that goes through the classes.
    ///
    /// # Errors
    /// As [`Query::span`].
    pub fn span_of_classes(&self, listing: ListingKind) -> Result<Wanted<ClassCursor>, ApiError> {
        self.wanted(|name, text| listing.parse_in_class(name, text))
    }

    fn wanted<C>(&self, parse: impl Fn(&str, &str) -> Result<Option<C>, ApiError>) -> Result<Wanted<C>, ApiError> {
        let limit = self.limit(MAX_LIST)?;
        let (after, direction) = match (self.get("after"), self.get("before")) {
            (None, None) => (None, PageDirection::Forward),
            (Some(after), None) => (parse("after", after)?, PageDirection::Forward),
            (None, Some(END)) => (None, PageDirection::Backward),
            (None, Some(before)) => match parse("before", before)? {
                // There is nothing in front of the beginning.
                None => return Ok(Wanted { after: None, direction: PageDirection::Backward, limit: 0 }),
                cursor => (cursor, PageDirection::Backward),
            },
            (Some(_), Some(_)) => {
                return Err(ApiError::bad_request("`after` and `before` exclude each other")
                    .hint("a page begins at one cursor and has one direction"));
            }
        };
        Ok(Wanted { after, direction, limit })
    }
}

/// Converts a page of the store.
///
/// # Errors
/// Those of `convert`.
pub fn page<T, U>(
    listing: ListingKind,
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
        Query::parse(query).span(ListingKind::Recent)
    }

    #[test]
    fn cursor_works_in_both_directions_and_in_its_own_list_only() {
        let cursor: Cursor = "00ff".parse().unwrap();
        let text = ListingKind::Recent.text(&cursor);
        assert_eq!(span(&format!("after={text}&limit=7")).unwrap(), Span::after(cursor, 7));
        assert_eq!(span(&format!("before={text}")).unwrap(), Span::before(cursor, DEFAULT_LIST));
        assert_eq!(span("").unwrap(), Span::first(DEFAULT_LIST));
        assert_eq!(span("limit=7").unwrap(), Span::first(7));
        assert_eq!(span(&format!("after={}", ListingKind::Recent.beginning())).unwrap(), Span::first(DEFAULT_LIST));
        let last = Span { after: None, direction: PageDirection::Backward, limit: MAX_LIST };
        assert_eq!(span("before=end&limit=500").unwrap(), last);
        for wrong in [
            format!("after={}", ListingKind::Best.text(&cursor)),
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
            assert!(error.status() == 400 && error.hint.is_some(), "{wrong}: {error:?}");
        }
    }
}
