//! The keys of the file: where they stand, what their values may be, and which one a misspelt key means.

use std::ops::Range;

use super::{LLM_CONTEXT_LEAST, LLM_TEMPERATURE_MOST, LLM_TOKENS_LEAST};
use toml_edit::{Document, Item, TableLike};

/// All keys, as a user writes them with the name of their table.
const KEYS: [&str; 40] = [
    "host",
    "port",
    "p2p_port",
    "web_port",
    "web_host",
    "listen",
    "peer",
    "task",
    "resource",
    "device",
    "verify_rate",
    "trust",
    "cache",
    "cache.max_age_days",
    "cache.max_size",
    "store",
    "store.max",
    "llm",
    "llm.provider",
    "llm.api_key",
    "llm.model",
    "llm.base_url",
    "llm.max_tokens",
    "llm.max_token",
    "llm.temperature",
    "llm.context",
    "llm.tokens_by_day",
    "llm.cost_by_day",
    "llm.price_prompt",
    "llm.price_answer",
    "web",
    "web.names",
    "web.proxies",
    "webhook",
    "webhook.url",
    "webhook.class",
    "admin",
    "admin.port",
    "admin.host",
    "task_id",
];

/// All keys, and the tables that hold some of them.
pub(super) const fn all() -> &'static [&'static str] {
    &KEYS
}

/// Edits from a misspelt key to the key that was meant: more would suggest another word.
const MOST_EDITS: usize = 2;

/// The key whose value covers a place of the file, such as `llm.model`. None outside all values.
pub(super) fn key_at(text: &str, place: usize) -> Option<String> {
    let document = Document::parse(text).ok()?;
    let mut path = Vec::new();
    descend(document.as_table(), place, &mut path);
    if path.is_empty() { None } else { Some(path.join(".")) }
}

fn descend(table: &dyn TableLike, place: usize, path: &mut Vec<String>) {
    let holds = |item: &Item| item.span().is_some_and(|span| (span.start..=span.end).contains(&place));
    for (key, item) in table.iter() {
        if let Some(inner) = item.as_table_like() {
            let before = path.len();
            path.push(key.to_owned());
            descend(inner, place, path);
            if path.len() > before + 1 || holds(item) {
                return;
            }
            path.truncate(before);
        } else if holds(item) {
            path.push(key.to_owned());
            return;
        }
    }
}

/// The place of a key in the file. None when the file does not have the key.
pub(super) fn span_of(text: &str, dotted: &str) -> Option<Range<usize>> {
    let document = Document::parse(text).ok()?;
    let mut table: &dyn TableLike = document.as_table();
    let mut parts = dotted.split('.').peekable();
    while let Some(part) = parts.next() {
        let (key, item) = table.get_key_value(part)?;
        if parts.peek().is_none() {
            return key.span();
        }
        table = item.as_table_like()?;
    }
    None
}

/// The known key that a misspelt one means, if one is near enough.
pub(super) fn nearest(key: &str) -> Option<&'static str> {
    let edits = KEYS.into_iter().map(|known| (edits(key, known), known));
    edits.filter(|(edits, known)| *edits <= MOST_EDITS && *edits < known.len()).min().map(|(_, known)| known)
}

/// Inserted, removed, replaced and exchanged characters between two texts.
fn edits(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    let at = |rows: &[Vec<usize>], i: usize, j: usize| {
        rows.get(i).and_then(|row| row.get(j)).copied().unwrap_or(usize::MAX / 2)
    };
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let changed = at(&rows, i, j) + usize::from(x != y);
            let left = row.last().copied().unwrap_or_default() + 1;
            let mut least = changed.min(at(&rows, i, j + 1) + 1).min(left);
            let before = |list: &[char], at: usize| at.checked_sub(1).and_then(|at| list.get(at)).copied();
            if before(&a, i) == Some(*y) && before(&b, j) == Some(*x) {
                least = least.min(at(&rows, i.saturating_sub(1), j.saturating_sub(1)) + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    at(&rows, a.len(), b.len())
}

/// What a key takes, to stand after "must be". None for a key whose values have a message of their own, or no bound.
pub(super) fn takes(key: &str) -> Option<String> {
    let bound = match key {
        "port" | "p2p_port" | "web_port" | "admin.port" => format!("a port from 0 to {}", u16::MAX),
        "resource" => "a percentage from 1 to 100".into(),
        "device" => "auto, wgpu or flex".into(),
        "verify_rate" => "a share from 0.0 to 1.0".into(),
        "cache.max_age_days" => "a number of days of at least 1".into(),
        "llm.max_tokens" | "llm.max_token" => format!("a number of tokens of at least {LLM_TOKENS_LEAST}"),
        "llm.context" => format!("a number of tokens of at least {LLM_CONTEXT_LEAST}"),
        "llm.cost_by_day" | "llm.price_prompt" | "llm.price_answer" => "a number of at least 0".into(),
        "llm.temperature" => format!("a number from 0.0 to {LLM_TEMPERATURE_MOST:.1}"),
        _ => return None,
    };
    Some(bound)
}

/// The parser's words about the value of `key`, in words for people.
pub(super) fn in_words(key: Option<&str>, message: &str) -> String {
    let Some(of_a_value) = message.strip_prefix("invalid type: ").or(message.strip_prefix("invalid value: ")) else {
        return message.to_owned();
    };
    let Some((found, expected)) = of_a_value.rsplit_once(", expected ") else { return message.to_owned() };
    if let Some(takes) = key.and_then(takes) {
        return format!("{found} is not {takes}");
    }
    let expected = match expected {
        "u8" | "u16" | "u32" | "u64" => "a whole number that fits",
        "f64" => "a number",
        "a sequence" => "a list, such as [\"a\", \"b\"]",
        "a string" => "a text in quotes",
        other => other,
    };
    format!("{found} is not {expected}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "port = 1\nlisten = [\n  \"a\",\n  7,\n]\n[llm]\nprovider = \"groq\"\nmodel = 3\n";

    #[test]
    fn key_is_found_by_the_place_of_its_value() {
        let key = |part: &str| key_at(TEXT, TEXT.find(part).unwrap());
        assert_eq!(key("1\n").as_deref(), Some("port"));
        assert_eq!(key("7,").as_deref(), Some("listen"));
        assert_eq!(key("3\n").as_deref(), Some("llm.model"));
        assert_eq!(key_at("= =", 0), None);
    }

    #[test]
    fn place_is_found_by_the_key() {
        let start = |key: &str| span_of(TEXT, key).map(|span| span.start);
        assert_eq!(start("listen"), TEXT.find("listen"));
        assert_eq!(start("llm.model"), TEXT.find("model"));
        assert_eq!(start("llm.heat"), None);
    }

    #[test]
    fn misspelt_key_names_the_nearest_one() {
        for (key, expected) in [
            ("prot", Some("port")),
            ("p2pport", Some("p2p_port")),
            ("llm.modle", Some("llm.model")),
            ("cache.max_sise", Some("cache.max_size")),
            ("colour", None),
            ("x", None),
        ] {
            assert_eq!(nearest(key), expected, "{key}");
        }
    }

    #[test]
    fn types_of_the_program_are_told_in_words() {
        assert_eq!(in_words(None, "host must be an IP address"), "host must be an IP address");
        assert_eq!(
            in_words(Some("listen"), "invalid type: integer `7`, expected a string"),
            "integer `7` is not a text in quotes"
        );
        // No key with a bound is told by a type of the program, whose limits are not those of the key.
        for key in KEYS {
            for kind in ["u8", "u16", "u32", "u64", "f64"] {
                let told = in_words(Some(key), &format!("invalid value: integer `-1`, expected {kind}"));
                assert!(!told.contains(kind), "{key}: {told}");
            }
        }
    }
}
