//! How values look in a terminal.

use std::time::{SystemTime, UNIX_EPOCH};

use comfy_table::{ContentArrangement, Table, presets};

/// Digits of an id in tables: enough to be unique among millions, and accepted as a prefix.
const SHORT_ID: usize = 12;

pub fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

/// A table without borders, that fits the terminal.
pub fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic).set_header(header);
    table
}

/// One line of text, without what a stranger could use to write all over the terminal.
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

/// A text over several lines, made harmless line by line.
pub fn lines(text: &str) -> String {
    text.lines().map(|one| line(&one.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A metric with as many digits as its tolerance makes meaningful, and some.
pub fn metric(value: f64) -> String {
    format!("{value:.6}")
}

/// How long ago, roughly.
pub fn ago(timestamp: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    if timestamp == 0 {
        return "never".into();
    }
    format!("{} ago", duration(now.saturating_sub(timestamp)))
}

/// Seconds, in the largest unit that fits.
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..86_400 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Bytes, in MiB.
pub fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// A count of things, in words.
pub fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// What is written, for the tests of commands.
#[cfg(test)]
pub fn told(show: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    show(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strangers_text_cannot_drive_the_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(lines("a\n\u{7}b"), "a\n b");
    }

    #[test]
    fn durations_are_rough() {
        assert_eq!([0, 59, 60, 7200, 200_000].map(duration), ["0 s", "59 s", "1 min", "2 h", "2 d"]);
    }
}
