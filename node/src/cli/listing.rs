//! Reading a listing of the API to a length, page after page: no answer holds more than one page.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;
use serde::de::DeserializeOwned;
use spore_api::{
    dto::Page,
    query::{MAX_LIST, Query},
    route::Route,
};

use super::{CliError, source::Source};

/// What `--limit` may be: a command holds and prints that many.
const LIMITS: RangeInclusive<i64> = 1..=100_000;

/// How `--limit` is read.
pub fn limits() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(LIMITS)
}

/// The beginning of a listing.
pub struct Listed<T> {
    pub items: Vec<T>,
    /// There is more behind them.
    pub more: bool,
}

/// The first entries of the listing at a route of the API, at most `limit` of them.
///
/// # Errors
/// The API's own.
pub async fn read<T: DeserializeOwned>(
    source: &Source,
    route: &Route,
    query: &Query,
    limit: u32,
) -> Result<Listed<T>, CliError> {
    let limit = limit as usize;
    let (mut items, mut query) = (Vec::new(), query.clone());
    loop {
        let size = (limit - items.len()).min(MAX_LIST);
        let page: Page<T> = source.get_with(route, &query.clone().with("limit", size)).await?;
        items.extend(page.items);
        items.truncate(limit);
        let Some(next) = page.next else { return Ok(Listed { items, more: false }) };
        if items.len() >= limit {
            return Ok(Listed { items, more: true });
        }
        query = query.with("after", next);
    }
}
