//! Sizes as users write them: `500 MiB`.
//!
//! The crate `bytesize` is not used here: it reads `K` and `MB` as powers of ten, and the bound of a cache in an existing
//! `config.toml` must not change its meaning.

use serde::{Deserialize, Deserializer, de::Error};

/// Reads a size in bytes. K and KB mean KiB, M and MB mean MiB, and so on.
///
/// # Errors
/// A sentence that says why the text is not a size.
pub fn parse(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = lower.get(digits.len()..).unwrap_or_default().trim();
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{unit:.20} is not a unit; use KiB, MiB, GiB or TiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "not a whole number with a unit, such as 500MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

/// Reads the disk budget of the store.
///
/// # Errors
/// A sentence that says why the text is not one.
pub fn parse_budget(text: &str) -> Result<u64, String> {
    let bytes = parse(text)?;
    let least = super::STORE_LEAST;
    if bytes < least { Err(format!("must be at least {} MiB", least >> 20)) } else { Ok(bytes) }
}

/// Reads a size from a text such as `20 GiB`, or from a number of bytes.
pub(super) fn or_none<'de, D: Deserializer<'de>>(value: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Bytes(u64),
        Text(String),
    }
    match Option::<Written>::deserialize(value)? {
        None => Ok(None),
        Some(Written::Bytes(bytes)) => Ok(Some(bytes)),
        Some(Written::Text(text)) => parse(&text).map(Some).map_err(D::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let read = |text| parse(text).ok();
        assert_eq!([read("0"), read("123"), read("7b")], [Some(0), Some(123), Some(7)]);
        assert_eq!([read("2KiB"), read("500 MB"), read("1g")], [Some(2048), Some(500 << 20), Some(1 << 30)]);
        assert_eq!([read(""), read("MiB"), read("1.5G"), read("-1"), read("1 light year")], [None; 5]);
        assert_eq!(read("99999999999TiB"), None);
    }
}
