//! Untrusted text in HTML, XML and SVG, and the times of feeds. A leaf.

/// Seconds of the last year that a date of four digits can name.
const LAST_SECOND: u64 = 253_402_300_799;
const SECONDS_OF_A_DAY: u64 = 86_400;

/// A text as it may stand in an element or in a quoted attribute. Characters that XML does not have are left out.
pub fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => {}
            c => out.push(c),
        }
    }
    out
}

/// A Unix time as `2026-01-31T12:00:00Z`. Times are untrusted: one after the year 9999 becomes the last of that year.
pub fn date_time(seconds: u64) -> String {
    let seconds = seconds.min(LAST_SECOND);
    let (days, rest) = (seconds / SECONDS_OF_A_DAY, seconds % SECONDS_OF_A_DAY);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a day since 1970, in years that begin in March so that the leap day comes last.
const fn civil(days: u64) -> (u64, u64, u64) {
    // Days since the first of March of the year 0.
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let january_or_february = if month <= 2 { 1 } else { 0 };
    (year_of_era + era * 400 + january_or_february, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_escaped_and_loses_characters_that_xml_does_not_have() {
        assert_eq!(escaped("<a b='\"c\"'>&\u{0}\u{1b}\u{ffff}"), "&lt;a b=&#39;&quot;c&quot;&#39;&gt;&amp;");
        assert_eq!(escaped("a\n\u{1f600}"), "a\n\u{1f600}");
    }

    #[test]
    fn times_are_written_as_dates_whatever_they_are() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_757_000_000, "2025-09-04T15:33:20Z"),
            (u64::MAX, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(date_time(seconds), expected);
        }
    }
}
