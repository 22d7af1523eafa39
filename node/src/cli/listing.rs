//! Reads the first items of a listing of the API, page by page.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;
use serde::de::DeserializeOwned;
use spore_api::{
    dto::Page,
    query::{MAX_LIST, Query},
    route::Route,
};

use super::{CliError, access::NodeAccess};

/// Range of `--limit`. The command holds and prints that many items.
const LIMITS: RangeInclusive<i64> = 1..=100_000;

/// The parser of `--limit`.
pub fn limits() -> RangedI64ValueParser<u32> {
    RangedI64ValueParser::new().range(LIMITS)
}

/// The first items of a listing.
pub struct Listed<T> {
    pub items: Vec<T>,
    /// The listing goes on.
    pub more: bool,
}

/// Reads at most `limit` items of the listing at a route of the API.
///
/// # Errors
/// The error of the API.
pub async fn read<T: DeserializeOwned>(
    source: &NodeAccess,
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
