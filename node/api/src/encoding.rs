//! Compression of answers: gzip, for clients that accept it.
//!
//! Only answers that are in memory whole are compressed, on the thread that made them and with its permit, so that the
//! work is bounded as the reading is. Answers hold no secrets, so their lengths tell a page of another origin nothing.

use std::{io::Write as _, sync::Arc};

use flate2::{Compression, write::GzEncoder};
use warp::http::{HeaderMap, HeaderValue, header};

/// Bytes of the smallest answer that is compressed: a smaller one fits one packet either way.
pub const LEAST: usize = 1 << 10;
/// Bytes of the largest answer that is compressed, some tenths of a second of one core: the largest artifact.
const MOST: usize = 16 << 20;

/// Level for an answer to one reader. Level 1 has no codes of its own for the answer: a graph is 12 % longer with it.
const ONCE_FOR_A_READER: u32 = 2;

/// Whether a client accepts gzip.
pub fn is_accepted(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT_ENCODING).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let named = |wanted: &str| {
        accepted.split(',').find_map(|coding| {
            let mut parts = coding.split(';');
            let is_it = parts.next().is_some_and(|name| name.trim().eq_ignore_ascii_case(wanted));
            is_it.then(|| !parts.any(is_refusal))
        })
    };
    named("gzip").or_else(|| named("*")).unwrap_or(false)
}

/// Whether a parameter of a coding says that it is not acceptable: `q=0`, also with decimals.
fn is_refusal(parameter: &str) -> bool {
    let value = parameter.trim().strip_prefix("q=").or_else(|| parameter.trim().strip_prefix("Q="));
    value.and_then(|value| value.trim().parse::<f32>().ok()).is_some_and(|quality| quality <= 0.0)
}

/// The bytes in gzip. None where that is not worth it: for few bytes, for very many, and where it saves nothing.
pub fn gzip(bytes: &[u8]) -> Option<Arc<Vec<u8>>> {
    packed(bytes, Compression::new(ONCE_FOR_A_READER))
}

/// As [`gzip`], with more work for fewer bytes: for what many readers share.
pub fn gzip_shared(bytes: &[u8]) -> Option<Arc<Vec<u8>>> {
    packed(bytes, Compression::default())
}

fn packed(bytes: &[u8], level: Compression) -> Option<Arc<Vec<u8>>> {
    if !(LEAST..=MOST).contains(&bytes.len()) {
        return None;
    }
    let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 3), level);
    encoder.write_all(bytes).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < bytes.len()).then(|| Arc::new(packed))
}

/// Says in an answer's headers that it is in gzip.
pub fn mark(headers: &mut HeaderMap) {
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
}

/// Says in an answer's headers that it depends on what the client accepts: caches keep both forms apart.
pub fn vary(headers: &mut HeaderMap) {
    headers.insert(header::VARY, HeaderValue::from_static("accept, accept-encoding"));
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn gzip_is_accepted_when_the_request_lists_it_and_does_not_refuse_it() {
        let with = |value| HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]);
        for value in ["gzip", "br, GZIP;q=0.5", "*", "deflate, gzip", "*;q=0, gzip"] {
            assert!(is_accepted(&with(value)), "{value}");
        }
        for value in ["", "br", "gzip;q=0", "gzip;q=0.000, *", "identity, *;q=0", "xgzip"] {
            assert!(!is_accepted(&with(value)), "{value}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }

    #[test]
    fn answer_is_compressed_only_where_that_saves_bytes() {
        let text = "spore ".repeat(1000);
        for packed in [gzip(text.as_bytes()), gzip_shared(text.as_bytes())].map(Option::unwrap) {
            let mut back = String::new();
            flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut back).unwrap();
            assert!(back == text && packed.len() < text.len() / 10);
        }
        assert!(gzip(&[7; LEAST - 1]).is_none(), "small");
        let noise: Vec<u8> = (0..64u64).flat_map(|n| spore_protocol::Cid::of(&n.to_le_bytes()).0).collect();
        assert!(gzip(&noise).is_none(), "noise");
    }
}
