//! Asks the language model with patience: again after a failure that may pass, later after one that may last, and never
//! again after one that will not change. What it learns is in the model's [`LlmHealth`].
//!
//! Never here: what is asked ([`super::prompt`]), or whether a script is any good.

use std::time::{Duration, Instant};

use spore_base::{
    backoff::Backoff,
    clock::unix_now,
    llm_health::{LlmFault, LlmHealth, LlmState},
    random,
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    client::{Client, Conversation},
    error::{Consequence, LlmError},
    provider::ProviderConfig,
    reply::{Answer, Finish, Usage},
    spending::{Capped, Ledger},
};

/// Requests for one answer, when the server asks for patience.
const REQUESTS: u32 = 5;
/// Characters of English or of a script in a token, at most, for every tokenizer in use: code has three to four, so a
/// server that counts fewer tokens than this has not read the whole question.
const CHARS_PER_TOKEN_MOST: u64 = 7;
/// The smallest context of a server that is in use.
const CONTEXT_LEAST: u64 = 1024;

/// How long to wait after failures.
#[derive(Clone, Copy, Debug)]
pub struct Pauses {
    /// After the first failure. A request a second is the fastest that is polite.
    pub first: Duration,
    /// Between failures in a row, at most.
    pub most: Duration,
    /// The longest pause within one question. Meanwhile nothing trains, so after a longer one another proposer goes on.
    pub within_question: Duration,
}

impl Pauses {
    const USUAL: Self = Self {
        first: Duration::from_secs(2),
        most: Duration::from_secs(600),
        within_question: Duration::from_secs(20),
    };
}

/// A language model and what is known of it.
#[derive(Debug)]
pub struct Asker {
    client: Client,
    pauses: Pauses,
    backoff: Backoff,
    health: watch::Sender<Option<LlmHealth>>,
    /// What is shown in `health`.
    known: LlmHealth,
    /// That the server cuts questions was logged.
    cut_is_told: bool,
    /// The last question that was answered.
    before: Option<Question>,
    /// What the model may cost, and has cost.
    ledger: Ledger,
}

/// The size of a question, as this node and the server count it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Question {
    tokens: u64,
    chars: u64,
}

impl Asker {
    /// A client with its health, which it publishes from now on.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn new(config: ProviderConfig, health: watch::Sender<Option<LlmHealth>>) -> Result<Self, LlmError> {
        Ok(Self::with(Client::new(config)?, Pauses::USUAL, health))
    }

    pub(super) fn with(client: Client, pauses: Pauses, health: watch::Sender<Option<LlmHealth>>) -> Self {
        let config = client.config();
        let known = LlmHealth {
            provider: config.name.name().to_owned(),
            model: config.model.clone(),
            context: config.context,
            tokens_by_day: config.caps.tokens_by_day,
            cost_by_day: config.caps.cost_by_day,
            ..LlmHealth::default()
        };
        let ledger = Ledger::open(config.caps, config.ledger.clone());
        let backoff = Backoff::new(pauses.first, pauses.most);
        let asker = Self { client, pauses, backoff, health, known, cut_is_told: false, before: None, ledger };
        let mut asker = asker;
        asker.note_spent();
        asker.show();
        asker
    }

    /// The model's name, for records.
    pub fn model(&self) -> &str {
        &self.known.model
    }

    /// Whether the model may be asked now.
    pub fn is_ready(&self, now: Instant) -> bool {
        self.known.state != LlmState::Stopped && self.known.retry_at.is_none_or(|at| at <= now)
    }

    /// Asks, and asks again when the server says that it may answer soon. `question` makes the conversation for a
    /// context of so many tokens. None when there is no answer; the reason is in the health.
    pub async fn ask(&mut self, question: impl Fn(Option<u64>) -> Conversation) -> Option<Answer> {
        for request in 1..=REQUESTS {
            let conversation = question(self.known.context);
            self.known.shortened = conversation.shortened;
            let most = self.client.config().max_tokens;
            if let Err(capped) = self.ledger.allows(unix_now(), conversation.chars(), most) {
                self.capped(&capped);
                return None;
            }
            self.known.asked += 1;
            let error = match self.client.ask(&conversation).await {
                Ok(answer) => {
                    self.answered(&answer, &conversation);
                    return Some(answer);
                }
                Err(error) => error,
            };
            debug!(%error, request, "the language model gave no answer");
            if error.fault() == LlmFault::Timeout {
                // The server may go on, and charge for it.
                self.ledger.add(unix_now(), None, None, (conversation.chars(), 0));
                self.note_spent();
            }
            if self.learned(&error) && request < REQUESTS {
                // The question fits itself to the context that the server named.
                continue;
            }
            let pause = self.failed(&error, request)?;
            tokio::time::sleep(pause).await;
        }
        None
    }

    /// Notes whether the answers to a question held a script that can be run.
    pub fn judged(&mut self, usable: Result<(), (LlmFault, String)>) {
        match usable {
            Ok(()) => {
                if self.known.failures > 0 {
                    info!(failures = self.known.failures, "the language model proposes again");
                }
                self.known.answered += 1;
                self.known.failures = 0;
                self.known.state = LlmState::Ok;
                self.known.fault = None;
                self.known.failure.clear();
                self.show();
            }
            Err((fault, reason)) => self.count(LlmState::Failing, fault, reason),
        }
    }

    /// An answer came, whatever it holds.
    fn answered(&mut self, answer: &Answer, conversation: &Conversation) {
        self.backoff.reset();
        self.known.retry_at = None;
        self.known.prompt_tokens = self.known.prompt_tokens.saturating_add(answer.usage.prompt.unwrap_or_default());
        self.known.answer_tokens = self.known.answer_tokens.saturating_add(answer.usage.answer.unwrap_or_default());
        let (chars, before) = (conversation.chars(), self.before);
        let answer_chars = answer.text.chars().count() as u64;
        self.ledger.add(unix_now(), answer.usage.prompt, answer.usage.answer, (chars, answer_chars));
        self.note_spent();
        self.before = answer.usage.prompt.map(|tokens| Question { tokens, chars });
        if let Some(context) = context_of_cut(answer, chars, before) {
            let smaller = self.known.context.is_none_or(|known| context < known);
            self.known.context = if smaller { Some(context) } else { self.known.context };
            if !self.cut_is_told {
                self.cut_is_told = true;
                warn!(
                    context,
                    characters = chars,
                    "the server's context is smaller than the question, which it cut without a word: raise its context length \
                     (in Ollama: OLLAMA_CONTEXT_LENGTH=16384, or `PARAMETER num_ctx 16384` in a Modelfile). The question \
                     is shortened from now on"
                );
            }
        }
        self.show();
    }

    /// Whether a failure told how large the context is, and it was not known to be as small.
    fn learned(&mut self, error: &LlmError) -> bool {
        let LlmError::TooLong { limit, .. } = error else { return false };
        let known = self.known.context;
        // A server that does not name its context is tried with half of what it refused.
        let context = limit.or_else(|| known.map(|known| known / 2)).unwrap_or(CONTEXT_LEAST * 8).max(CONTEXT_LEAST);
        if known.is_some_and(|known| context >= known) {
            return false;
        }
        info!(context, "the question is fitted to the model's context");
        self.known.context = Some(context);
        true
    }

    /// Notes that the next question could pass a cap: the model is asked again on the next day.
    fn capped(&mut self, capped: &Capped) {
        self.note_spent();
        self.known.retry_at = Some(Instant::now() + Duration::from_secs(Ledger::until_tomorrow(unix_now())));
        self.count(LlmState::Failing, LlmFault::Cap, capped.to_string());
    }

    fn note_spent(&mut self) {
        let spent = self.ledger.today(unix_now());
        (self.known.tokens_today, self.known.cost_today) = (spent.tokens, spent.cost);
    }

    /// Notes a failure. Returns how long to wait before the same question is asked again, or None to give it up.
    fn failed(&mut self, error: &LlmError, request: u32) -> Option<Duration> {
        let consequence = error.consequence();
        if consequence == Consequence::Stop {
            self.known.retry_at = None;
            self.count(LlmState::Stopped, error.fault(), error.to_string());
            return None;
        }
        let random = random::number();
        let pause = self.pause(error, random);
        if consequence == Consequence::Retry && request < REQUESTS && pause <= self.pauses.within_question {
            return Some(pause);
        }
        self.known.retry_at = Some(Instant::now() + pause);
        self.count(LlmState::Failing, error.fault(), error.to_string());
        None
    }

    /// The pause after a failure: as the server wishes, at least the backoff.
    fn pause(&mut self, error: &LlmError, random: u64) -> Duration {
        let own = self.backoff.next(random).max(self.pauses.first / 2);
        // A little later than asked for, each node by another while, so that they do not come back together.
        let wished = error.retry_after().map(|wish| wish.mul_f64(1.0 + (random % 1024) as f64 / 10_240.0));
        wished.map_or(own, |wished| wished.max(own))
    }

    /// Counts a question without a usable answer, and says so now and then.
    fn count(&mut self, state: LlmState, fault: LlmFault, reason: String) {
        let health = &mut self.known;
        health.state = state;
        health.failures += 1;
        let (failures, fault_name) = (health.failures, fault.name());
        if state == LlmState::Stopped {
            warn!(%reason, fault = fault_name, "the language model is not asked again: every question would fail like this. The built-in proposer stands in");
        } else if is_told(failures) {
            warn!(%reason, fault = fault_name, failures, "the language model had no usable answer; the built-in proposer stands in");
        } else {
            debug!(%reason, fault = fault_name, failures, "the language model had no usable answer");
        }
        health.fault = Some(fault);
        health.failure = reason;
        self.show();
    }

    fn show(&self) {
        self.health.send_replace(Some(self.known.clone()));
    }
}

/// Whether the failure of this number in a row has a line in the log: the first, the tenth, and then each time that the
/// number has doubled.
const fn is_told(failures: u64) -> bool {
    failures == 1 || failures.is_multiple_of(10) && (failures / 10).is_power_of_two()
}

/// The size of the context in tokens when an answer shows that the server cut the question. `chars`: characters of the
/// question.
///
/// Servers that cut say nothing. They count exactly as many tokens as their context has, which is a power of two, or far
/// too few for the question. One whole answer to so many tokens may be chance: `before` is the question before, and two
/// questions of different length and one such count are none.
fn context_of_cut(answer: &Answer, chars: u64, before: Option<Question>) -> Option<u64> {
    let Usage { prompt: Some(prompt), answer: completion } = answer.usage else { return None };
    let again = before.is_some_and(|before| before.tokens == prompt && before.chars != chars);
    if is_context(prompt) && (answer.finish == Finish::Cut || again) {
        return Some(prompt);
    }
    // Question and answer together fill the context.
    let total = prompt + completion.unwrap_or_default();
    if answer.finish == Finish::Cut && is_context(total) {
        return Some(total);
    }
    (prompt > 0 && chars / prompt > CHARS_PER_TOKEN_MOST).then(|| prompt.next_power_of_two().max(CONTEXT_LEAST))
}

/// Whether a number of tokens is one that servers have as their context.
const fn is_context(tokens: u64) -> bool {
    tokens >= CONTEXT_LEAST && tokens.is_power_of_two()
}

/// The size of the context in tokens when one answer lets suspect that the server cut the question of so many
/// characters.
pub fn suspected_cut(answer: &Answer, chars: u64) -> Option<u64> {
    context_of_cut(answer, chars, None).or(answer.usage.prompt.filter(|tokens| is_context(*tokens)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(prompt: u64, completion: u64, finish: Finish) -> Answer {
        let usage = Usage { prompt: Some(prompt), answer: Some(completion) };
        Answer { text: "a".into(), finish, usage }
    }

    #[test]
    fn cut_question_is_noticed() {
        let context_of_cut = |answer: &Answer, chars| context_of_cut(answer, chars, None);
        assert_eq!(context_of_cut(&answer(4096, 50, Finish::Cut), 15_755), Some(4096));
        assert_eq!(context_of_cut(&answer(3000, 1096, Finish::Cut), 10_000), Some(4096), "both together fill it");
        assert_eq!(context_of_cut(&answer(1900, 50, Finish::Whole), 15_755), Some(2048), "too few for the text");
        assert_eq!(context_of_cut(&answer(4800, 900, Finish::Whole), 15_755), None);
        assert_eq!(context_of_cut(&answer(0, 0, Finish::Whole), 15_755), None);
        let suspected = |tokens| suspected_cut(&answer(tokens, 50, Finish::Whole), 15_755);
        assert_eq!((suspected(4096), suspected(4100), suspected(1900)), (Some(4096), None, Some(2048)));
        let silent = Answer { usage: Usage::default(), ..answer(0, 0, Finish::Cut) };
        assert_eq!(context_of_cut(&silent, 15_755), None);
    }

    #[test]
    fn one_question_of_a_power_of_two_tokens_is_no_cut() {
        let whole = answer(4096, 50, Finish::Whole);
        assert_eq!(context_of_cut(&whole, 15_755, None), None);
        let before = |tokens, chars| Some(Question { tokens, chars });
        assert_eq!(context_of_cut(&whole, 15_755, before(4090, 15_700)), None, "the numbers differ, as they should");
        assert_eq!(context_of_cut(&whole, 15_755, before(4096, 15_755)), None, "the same question");
        assert_eq!(context_of_cut(&whole, 15_755, before(4096, 15_100)), Some(4096));
    }

    #[test]
    fn failures_in_a_row_are_summed_up() {
        let told: Vec<u64> = (1..=200).filter(|failures| is_told(*failures)).collect();
        assert_eq!(told, [1, 10, 20, 40, 80, 160]);
    }
}
