//! Why the language model gave no answer, and what follows from each reason.
//!
//! Pure. Never here: waiting.

use std::time::Duration;

use spore_base::llm_health::LlmFault;

/// Why the language model gave no answer. No text contains the key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlmError {
    #[error("the server did not answer in time")]
    Timeout,
    /// With the address and every cause that is known.
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    /// The server's own status, or the one that the body of a successful response reports.
    #[error("the server refused with status {status}: {text}")]
    Refused {
        status: u16,
        text: String,
        /// How long the server asks to wait.
        retry_after: Option<Duration>,
    },
    /// The server says that the question does not fit. `limit`: tokens of the context, when the server names them.
    #[error("the question is larger than the model's context{}: {text}", in_tokens(*.limit))]
    TooLong { limit: Option<u64>, text: String },
    #[error("the response is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the response does not follow the API: {0}")]
    Malformed(&'static str),
    /// The configuration itself cannot be used.
    #[error("the configuration of the language model cannot be used: {0}")]
    Config(String),
}

fn in_tokens(limit: Option<u64>) -> String {
    limit.map(|limit| format!(" of {limit} tokens")).unwrap_or_default()
}

/// What follows from a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// Every further question fails in the same way: the model is not asked again.
    Stop,
    /// The server may be able to answer soon: the same question is asked again after a pause.
    Retry,
    /// This question is given up, and the next one waits.
    Rest,
}

impl LlmError {
    /// What follows. Statuses count by their class: a server may use any number of a class.
    pub const fn consequence(&self) -> Consequence {
        match self {
            // A key that is refused, a model or a path that is not there, and a server that moved.
            Self::Refused { status: 300..=399 | 401 | 403 | 404 | 405 | 410, .. } | Self::Config(_) => {
                Consequence::Stop
            }
            Self::Refused { status: 408 | 425 | 429 | 500..=599, .. } => Consequence::Retry,
            // The same request would be refused again: 400, 402 (no money left), 413, 422.
            Self::Refused { .. }
            | Self::TooLong { .. }
            | Self::Timeout
            | Self::Unreachable(_)
            | Self::TooLarge(_)
            | Self::Malformed(_) => Consequence::Rest,
        }
    }

    /// The kind of failure, for display.
    pub const fn fault(&self) -> LlmFault {
        match self {
            Self::Timeout => LlmFault::Timeout,
            Self::Unreachable(_) => LlmFault::Unreachable,
            Self::Refused { status: 401 | 403, .. } | Self::Config(_) => LlmFault::Key,
            Self::Refused { status: 300..=399 | 404 | 405 | 410, .. } => LlmFault::NotFound,
            Self::Refused { status: 402 | 429, .. } => LlmFault::Limit,
            Self::Refused { status: 408 | 425 | 500..=599, .. } => LlmFault::Server,
            Self::TooLong { .. } => LlmFault::Context,
            Self::Refused { .. } | Self::TooLarge(_) | Self::Malformed(_) => LlmFault::Request,
        }
    }

    /// How long the server asks to wait, if it does.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The most that a server's wish to wait is followed: a broken header must not end the use of the model.
const RETRY_AFTER_MOST: u64 = 3600;

/// Reads `retry-after`: seconds, or a date. `now`: Unix seconds.
pub fn retry_after(value: &str, now: u64) -> Option<Duration> {
    let value = value.trim();
    let seconds = match value.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => seconds.min(RETRY_AFTER_MOST as f64),
        Ok(_) => return None,
        Err(_) => http_date(value)?.saturating_sub(now).min(RETRY_AFTER_MOST) as f64,
    };
    Some(Duration::from_secs_f64(seconds))
}

/// The Unix seconds of an HTTP date such as `Sun, 06 Nov 1994 08:49:37 GMT` (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<u64> {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let (_, rest) = text.split_once(", ")?;
    let mut words = rest.split(' ');
    let day: u64 = words.next()?.parse().ok()?;
    let name = words.next()?;
    let month = MONTHS.iter().position(|month| *month == name)? as u64 + 1;
    let year: u64 = words.next()?.parse().ok()?;
    let mut clock = words.next()?.split(':').map(|part| part.parse::<u64>().ok());
    let (hours, minutes, seconds) = (clock.next()??, clock.next()??, clock.next()??);
    if !(1970..10_000).contains(&year) || !(1..=31).contains(&day) {
        return None;
    }
    // Days since the first of March of the year 0, so that a leap day is the last day of a year.
    let (y, m) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = y * 365 + y / 4 - y / 100 + y / 400 + (m * 153 + 2) / 5 + day - 1;
    // 719,468 days lie between that day and 1970.
    let days = days.checked_sub(719_468)?;
    Some(days * 86_400 + hours * 3600 + minutes * 60 + seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16) -> LlmError {
        LlmError::Refused { status, text: String::new(), retry_after: None }
    }

    #[test]
    fn status_decides_by_its_class() {
        for status in [301, 307, 401, 403, 404] {
            assert_eq!(refused(status).consequence(), Consequence::Stop, "{status}");
        }
        for status in [408, 429, 500, 502, 503, 504, 520, 529] {
            assert_eq!(refused(status).consequence(), Consequence::Retry, "{status}");
        }
        for status in [400, 402, 413, 422] {
            assert_eq!(refused(status).consequence(), Consequence::Rest, "{status}");
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_bounded() {
        let seconds = |value: &str| retry_after(value, 784_111_777 - 30).map(|wait| wait.as_secs());
        assert_eq!((seconds("3"), seconds(" 0 "), seconds("1.5")), (Some(3), Some(0), Some(1)));
        assert_eq!(seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(30));
        assert_eq!(seconds("Sun, 06 Nov 1984 08:49:37 GMT"), Some(0), "a date that is over");
        assert_eq!(seconds("999999999"), Some(3600));
        assert_eq!(seconds("Thu, 29 Feb 2096 00:00:00 GMT"), Some(3600));
        for bad in ["", "soon", "-1", "NaN", "inf", "Sun, 06 Foo 1994 08:49:37 GMT", "Sun, 6", ", 1 Jan 1 0:0:0"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
        assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
        assert_eq!(http_date("Tue, 29 Feb 2028 12:00:01 GMT"), Some(1_835_438_401));
    }
}
