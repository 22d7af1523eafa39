//! The look of values in a terminal.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use comfy_table::{ContentArrangement, Table, presets};
use indicatif::{HumanBytes, HumanDuration};
use spore_base::clock::unix_now;

/// Digits of an id in tables: enough to be unique among millions, and accepted as a prefix.
const SHORT_ID: usize = 12;

/// The first digits of an id.
pub fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

/// A table without borders. Long cells are wrapped at the width of the terminal; without a terminal, at `COLUMNS`.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    let columns = || std::env::var("COLUMNS").ok()?.parse().ok();
    if let Some(width) = (!io::stdout().is_terminal()).then(columns).flatten() {
        table.set_width(width);
    }
    table
}

/// One line of untrusted text, without the characters that could control the terminal.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// Several lines of untrusted text, see [`line`].
pub fn lines(text: &str) -> String {
    text.lines().map(|one| line(&one.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A metric, with a few digits more than its tolerance makes meaningful.
pub fn metric(value: f64) -> String {
    format!("{value:.6}")
}

/// The rough time since a timestamp, such as `3h ago`.
pub fn ago(timestamp: u64) -> String {
    if timestamp == 0 {
        return "never".into();
    }
    format!("{} ago", duration(unix_now().saturating_sub(timestamp)))
}

/// A rough duration, such as `45s`, `3h` or `2w`.
pub fn duration(seconds: u64) -> String {
    format!("{:#}", HumanDuration(Duration::from_secs(seconds)))
}

/// A number of bytes, such as `1.50 MiB`.
pub fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// A number of things, such as `1 record` or `2 records`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// The output of a function, for the tests of commands.
#[cfg(test)]
pub fn printed(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_control_the_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(lines("a\n\u{7}b"), "a\n b");
    }

    #[test]
    fn durations_and_sizes_have_one_unit() {
        assert_eq!([0, 59, 120, 7200, 200_000].map(duration), ["0s", "59s", "2m", "2h", "2d"]);
        assert_eq!([0, 1023, 3 << 19, 20 << 30].map(size), ["0 B", "1023 B", "1.50 MiB", "20.00 GiB"]);
    }
}
