//! What a language model may cost in a day, and what it has cost: tokens and money, by day (UTC).
//!
//! The caps are hard: a question is not asked when the question and the longest answer could pass one. What was spent
//! is kept in a file, so that a restart does not begin a new day. Never here: asking.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use spore_base::private_file::{read_text, write_private};
use tracing::warn;

/// Seconds of a day.
const DAY: u64 = 86_400;
/// Tokens for which a price is told.
const PRICED: f64 = 1e6;
/// Characters in a token, at least, where the server does not count.
const CHARS_PER_TOKEN: u64 = 3;
/// Tokens of an answer that is not limited, at most, for the estimate before a question: the largest script and some
/// reasoning.
const ANSWER_MOST: u64 = 32_768;

/// What the operator allows in a day, and what tokens cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Caps {
    pub tokens_by_day: Option<u64>,
    /// In the currency of the prices.
    pub cost_by_day: Option<f64>,
    /// Price of a million tokens of questions, and of answers. 0 where none is configured.
    pub price_prompt: f64,
    pub price_answer: f64,
}

impl Caps {
    fn cost(&self, prompt: u64, answer: u64) -> f64 {
        (prompt as f64 * self.price_prompt + answer as f64 * self.price_answer) / PRICED
    }
}

/// What was spent on a day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Days since 1970 (UTC).
    day: u64,
    pub tokens: u64,
    pub cost: f64,
}

/// Why a question is not asked.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
pub enum Capped {
    #[error("another question could pass the cap of {cap} tokens a day, of which {spent} are used")]
    Tokens { cap: u64, spent: u64 },
    #[error("another question could cost more than the cap of {cap} a day, of which {spent:.4} are used")]
    Cost { cap: f64, spent: f64 },
}

/// The caps, with what was spent.
#[derive(Debug, Default)]
pub struct Ledger {
    caps: Caps,
    spent: Spent,
    file: Option<PathBuf>,
}

impl Ledger {
    /// The ledger of a file. Without a file it is forgotten with the process. A file that cannot be read counts as empty,
    /// and says so.
    pub fn open(caps: Caps, file: Option<PathBuf>) -> Self {
        let spent = file.as_deref().and_then(|path| match read_text(path) {
            Ok(text) => serde_json::from_str(&text?)
                .inspect_err(|error| warn!(%error, "what the language model cost today cannot be read"))
                .ok(),
            Err(error) => {
                warn!(%error, "what the language model cost today cannot be read");
                None
            }
        });
        Self { caps, spent: spent.unwrap_or_default(), file }
    }

    /// What was spent on the day of `now`, in Unix seconds.
    pub fn today(&self, now: u64) -> Spent {
        let day = now / DAY;
        // A clock that was set back does not begin a new day.
        if self.spent.day >= day { self.spent } else { Spent { day, ..Spent::default() } }
    }

    /// Seconds until the next day begins.
    pub fn until_tomorrow(now: u64) -> u64 {
        DAY - now % DAY
    }

    /// Whether a question of so many characters may be asked.
    ///
    /// # Errors
    /// The cap that it could pass.
    pub fn allows(&self, now: u64, chars: u64, answer_most: Option<u32>) -> Result<(), Capped> {
        let spent = self.today(now);
        let (prompt, answer) = (chars / CHARS_PER_TOKEN, answer_most.map_or(ANSWER_MOST, u64::from));
        if let Some(cap) = self.caps.tokens_by_day
            && spent.tokens.saturating_add(prompt).saturating_add(answer) > cap
        {
            return Err(Capped::Tokens { cap, spent: spent.tokens });
        }
        match self.caps.cost_by_day {
            Some(cap) if spent.cost + self.caps.cost(prompt, answer) > cap => {
                Err(Capped::Cost { cap, spent: spent.cost })
            }
            _ => Ok(()),
        }
    }

    /// Notes a question that was sent. Where the server counts no tokens, they are estimated by the characters.
    pub fn add(&mut self, now: u64, prompt: Option<u64>, answer: Option<u64>, chars: (u64, u64)) {
        let prompt = prompt.unwrap_or(chars.0 / CHARS_PER_TOKEN);
        let answer = answer.unwrap_or(chars.1 / CHARS_PER_TOKEN);
        let today = self.today(now);
        self.spent = Spent {
            day: today.day,
            tokens: today.tokens.saturating_add(prompt).saturating_add(answer),
            cost: today.cost + self.caps.cost(prompt, answer),
        };
        let Some(file) = &self.file else { return };
        let written = serde_json::to_vec(&self.spent).map(|bytes| write_private(file, &bytes));
        if let Ok(Err(error)) = written {
            warn!(%error, "what the language model cost today cannot be noted");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: u64 = 20_000 * DAY + DAY / 2;

    #[test]
    fn caps_are_hard_and_end_with_the_day() {
        let caps = Caps { tokens_by_day: Some(10_000), ..Caps::default() };
        let mut ledger = Ledger::open(caps, None);
        assert_eq!(ledger.allows(NOON, 3000, Some(1000)), Ok(()));
        ledger.add(NOON, Some(7000), Some(1500), (0, 0));
        assert_eq!(ledger.allows(NOON, 3000, Some(1000)), Err(Capped::Tokens { cap: 10_000, spent: 8500 }));
        assert!(ledger.allows(NOON, 300, None).is_err(), "an answer without a limit may be long");
        assert_eq!(ledger.allows(NOON, 300, Some(500)), Ok(()));
        assert!(ledger.allows(NOON - DAY, 3000, Some(1000)).is_err(), "a clock that was set back");
        assert_eq!(ledger.allows(NOON + Ledger::until_tomorrow(NOON), 3000, Some(1000)), Ok(()));
    }

    #[test]
    fn cost_follows_from_the_prices_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let file = Some(dir.path().join("spent.json"));
        let caps = Caps { cost_by_day: Some(1.0), price_prompt: 3.0, price_answer: 15.0, ..Caps::default() };
        let mut ledger = Ledger::open(caps, file.clone());
        ledger.add(NOON, Some(100_000), Some(40_000), (0, 0));
        let again = Ledger::open(caps, file);
        assert!((again.today(NOON).cost - 0.9).abs() < 1e-9 && again.today(NOON).tokens == 140_000);
        assert_eq!(again.allows(NOON, 3000, Some(1000)), Ok(()));
        assert!(matches!(again.allows(NOON, 3000, Some(10_000)), Err(Capped::Cost { .. })));
    }

    #[test]
    fn tokens_that_a_server_does_not_count_are_estimated() {
        let mut ledger = Ledger::open(Caps::default(), None);
        ledger.add(NOON, None, None, (3000, 600));
        assert_eq!(ledger.today(NOON).tokens, 1200);
    }
}
