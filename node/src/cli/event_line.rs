//! A line about an event of the running node: with its time where a file keeps it, with a colour on a terminal.

use anstyle::{AnsiColor, Style};
use spore_base::clock::unix_now;

/// Seconds of a day.
const DAY: u64 = 86_400;

/// The line of an event. `terminal`: a person reads along, and needs no time.
pub fn event_line(text: &str, terminal: bool) -> String {
    if !terminal {
        return format!("{} {text}", utc(unix_now()));
    }
    let Some(color) = color(text) else { return text.to_owned() };
    let style = Style::new().fg_color(Some(color.into()));
    let styled = format!("{style}{text}{style:#}");
    // `anstream` decides from the environment whether this terminal wants colours.
    if anstream::AutoStream::choice(&std::io::stdout()) == anstream::ColorChoice::Never {
        text.to_owned()
    } else {
        styled
    }
}

/// Green for a better result, red for a crash, nothing for the rest.
fn color(text: &str) -> Option<AnsiColor> {
    let word = |word: &str| text.split_whitespace().any(|part| part.trim_matches(':') == word);
    if word("kept") {
        Some(AnsiColor::Green)
    } else if word("crashed") {
        Some(AnsiColor::Red)
    } else {
        None
    }
}

/// A time in the form of the log: `2026-01-31T12:00:00Z`.
fn utc(seconds: u64) -> String {
    let (days, rest) = (seconds / DAY, seconds % DAY);
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", rest / 3600, rest / 60 % 60, rest % 60)
}

/// Year, month and day of a number of days since 1970, by the Gregorian rule of 400 years with 146 097 days. Years begin
/// in March here, so that the leap day is the last one.
const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    (year + 400 * era + if month <= 2 { 1 } else { 0 }, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_in_a_file_has_its_time() {
        let line = event_line("kept: wider", false);
        assert!(line.ends_with("Z kept: wider") && line.starts_with("20"), "{line}");
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_827_696, "2000-02-29T12:34:56Z"),
            (1_795_910_399, "2026-11-28T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
        ] {
            assert_eq!(utc(seconds), expected);
        }
    }

    #[test]
    fn result_decides_the_colour() {
        assert_eq!(color("Alice: kept 2.5, wider"), Some(AnsiColor::Green));
        assert_eq!(color("crashed: ten layers"), Some(AnsiColor::Red));
        assert_eq!(color("discarded 2.9"), None);
    }
}
