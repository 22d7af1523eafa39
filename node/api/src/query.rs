//! The query of a request: the parameters behind the `?` of its address.
//!
//! A leaf: the server parses queries, and the command line writes them.

use std::{collections::BTreeMap, fmt};

/// Longest list in one answer.
pub const MAX_LIST: usize = 500;

/// The parameters of a request, decoded. An empty value counts as absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, String>);

impl Query {
    /// Parses `a=1&b=x%20y`. Of a name that is given twice, the last value counts.
    pub fn parse(text: &str) -> Self {
        Self(form_urlencoded::parse(text.as_bytes()).into_owned().collect())
    }

    /// Adds a parameter, or replaces the one of the same name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Self {
        self.0.insert(name.to_owned(), value.to_string());
        self
    }

    /// The value of a parameter. None when the parameter is absent or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether the request has no parameter.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes the query as it stands behind the `?`.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&form_urlencoded::Serializer::new(String::new()).extend_pairs(&self.0).finish())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn query_is_decoded_and_the_last_of_equal_names_counts() {
        let query = Query::parse("a=1&b=x%20y+z&c=&d&e=%zz&a=2");
        assert_eq!(
            (query.get("a"), query.get("b"), query.get("c"), query.get("d"), query.get("e")),
            (Some("2"), Some("x y z"), None, None, Some("%zz"))
        );
    }

    proptest! {
        #[test]
        fn query_is_parsed_as_it_was_written(name: String, value: String) {
            let query = Query::default().with("limit", 7).with(&name, &value);
            prop_assert_eq!(Query::parse(&query.to_string()), query);
        }
    }
}
