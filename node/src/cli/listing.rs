//! Reading a listing of the API to a length, page after page: no answer holds more than one page.

use std::ops::RangeInclusive;

use clap::builder::RangedI64ValueParser;
use serde::de::DeserializeOwned;
use spore_api::{dto::Page, paging::MAX_LIST, read::encode};

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

/// The first entries of the listing at a path of the API, at most `limit` of them.
///
/// # Errors
/// The API's own.
pub async fn read<T: DeserializeOwned>(
    source: &Source,
    path: &str,
    query: &[(&str, &str)],
    limit: u32,
) -> Result<Listed<T>, CliError> {
    let limit = limit as usize;
    let given: String = query.iter().map(|(name, value)| format!("&{name}={}", encode(value))).collect();
    let (mut items, mut after) = (Vec::new(), String::new());
    loop {
        let size = (limit - items.len()).min(MAX_LIST);
        let page: Page<T> = source.get(&format!("{path}?limit={size}{given}{after}")).await?;
        items.extend(page.items);
        items.truncate(limit);
        let Some(next) = page.next else { return Ok(Listed { items, more: false }) };
        if items.len() >= limit {
            return Ok(Listed { items, more: true });
        }
        after = format!("&after={}", encode(&next));
    }
}
