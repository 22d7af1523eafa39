//! The connection to a language model: one request, one answer.
//!
//! A reply is untrusted text: its size is bounded here, and a worker process traces its script before anything else
//! happens with it. The key is never logged. Never here: asking again ([`super::asker`]).

use std::{error::Error, time::Duration};

use reqwest::{Url, header::HeaderMap};
use serde_json::{Value, json};
use spore_base::clock::unix_now;

use super::{
    answer::one_line,
    error::{self, LlmError},
    provider::{Dialect, Provider, ProviderConfig, clean_key, is_near},
    reply::{self, Answer, Response},
};

/// Time for a whole answer. Reasoning models take minutes.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Time to reach the server, with its handshake. Two lost packets are sent again within it.
const CONNECT_WITHIN: Duration = Duration::from_secs(8);
/// Most bytes of a response: a script of the largest size as JSON, with reasoning around it.
pub const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// Most characters of a server's error text that are shown.
const MAX_ERROR_CHARS: usize = 300;
/// Most tokens of an answer, for APIs that require a number. The reference asks for as many.
pub const MAX_TOKENS: u32 = 16_384;
/// Most causes of a failed connection that are shown: the innermost one names the system's error.
const MAX_CAUSES: usize = 6;

/// A turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    User(String),
    Assistant(String),
}

impl Turn {
    /// The text of the turn.
    pub fn text(&self) -> &str {
        match self {
            Self::User(text) | Self::Assistant(text) => text,
        }
    }
}

/// A question: the role of the model, and the turns so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    pub system: String,
    pub turns: Vec<Turn>,
    /// Parts were left out, because the model's context is small.
    pub shortened: bool,
}

impl Conversation {
    /// Characters of all texts.
    pub fn chars(&self) -> u64 {
        let turns = self.turns.iter().map(|turn| turn.text().chars().count());
        (self.system.chars().count() + turns.sum::<usize>()) as u64
    }
}

/// The connection to a language model.
#[derive(Clone, Debug)]
pub struct Client {
    config: ProviderConfig,
    http: reqwest::Client,
}

impl Client {
    /// # Errors
    /// [`LlmError::Config`] for a base URL or a key that cannot be used, or when TLS cannot be set up.
    pub fn new(config: ProviderConfig) -> Result<Self, LlmError> {
        Self::with_timeout(config, ANSWER_WITHIN)
    }

    pub(super) fn with_timeout(mut config: ProviderConfig, timeout: Duration) -> Result<Self, LlmError> {
        let wrong = |error: &dyn std::fmt::Display| LlmError::Config(error.to_string());
        let url = Url::parse(&config.base_url).map_err(|error| wrong(&format!("the base URL: {error}")))?;
        if !config.key.is_empty() {
            config.key = clean_key(&config.key).map_err(|error| wrong(&error))?;
        }
        if config.model.trim().is_empty() {
            return Err(wrong(&"no model is named"));
        }
        // An error means that another part of the program has installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_WITHIN)
            // A redirect would carry the key to another server.
            .redirect(reqwest::redirect::Policy::none());
        if is_near(&url) {
            http = http.no_proxy();
        }
        let http = http.build().map_err(|error| wrong(&error))?;
        Ok(Self { config, http })
    }

    pub const fn config(&self) -> &ProviderConfig {
        &self.config
    }

    /// Sends a conversation and returns the model's turn.
    ///
    /// # Errors
    /// [`LlmError`]; none of its texts contains the key.
    pub async fn ask(&self, conversation: &Conversation) -> Result<Answer, LlmError> {
        let dialect = self.config.name.dialect();
        let request = match dialect {
            Dialect::Anthropic => self.anthropic(conversation),
            Dialect::OpenAi => self.openai(conversation),
        };
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status().as_u16();
        let retry_after = retry_after(response.headers());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(&error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(LlmError::TooLarge(MAX_RESPONSE_BYTES));
            }
            body.extend_from_slice(&chunk);
        }
        reply::read(dialect, &Response { status, retry_after, body: &body }, &|text| self.safe(text))
    }

    fn openai(&self, conversation: &Conversation) -> reqwest::RequestBuilder {
        let mut messages = vec![json!({"role": "system", "content": conversation.system})];
        messages.extend(conversation.turns.iter().map(message));
        let mut body = json!({"model": self.config.model, "messages": messages});
        if let Some(most) = self.config.max_tokens {
            // OpenAI's own models refuse the old name, and other servers do not know the new one.
            let name = if self.config.name == Provider::OpenAi { "max_completion_tokens" } else { "max_tokens" };
            put(&mut body, name, json!(most));
        }
        self.put_temperature(&mut body);
        let request = self.http.post(format!("{}/chat/completions", self.config.base_url)).json(&body);
        if self.config.key.is_empty() { request } else { request.bearer_auth(&self.config.key) }
    }

    fn anthropic(&self, conversation: &Conversation) -> reqwest::RequestBuilder {
        let messages: Vec<_> = conversation.turns.iter().map(message).collect();
        let most = self.config.max_tokens.unwrap_or(MAX_TOKENS);
        let mut body = json!({"model": self.config.model, "max_tokens": most, "system": conversation.system, "messages": messages});
        self.put_temperature(&mut body);
        self.http
            .post(format!("{}/messages", self.config.base_url))
            .header("x-api-key", &self.config.key)
            .header("anthropic-version", "2023-06-01")
            .json(&body)
    }

    fn put_temperature(&self, body: &mut Value) {
        if let Some(temperature) = self.config.temperature {
            put(body, "temperature", json!(temperature));
        }
    }

    fn transport(&self, error: &reqwest::Error) -> LlmError {
        if error.is_timeout() {
            return LlmError::Timeout;
        }
        // The outer texts name the kind of failure, the inner ones what the system said.
        let mut causes: Vec<String> = Vec::new();
        let mut cause: Option<&dyn Error> = error.source();
        while let Some(error) = cause.filter(|_| causes.len() < MAX_CAUSES) {
            let text = error.to_string();
            if !causes.iter().any(|known| known.contains(&text)) {
                causes.push(text);
            }
            cause = error.source();
        }
        LlmError::Unreachable(self.safe(&format!("{}: {}", self.config.base_url, causes.join(": "))))
    }

    /// A server's text on one line, bounded. The key is hidden in case the server repeats it.
    fn safe(&self, text: &str) -> String {
        let hidden = if self.config.key.is_empty() { text.to_owned() } else { text.replace(&self.config.key, "***") };
        one_line(&hidden, MAX_ERROR_CHARS)
    }
}

fn put(body: &mut Value, name: &str, value: Value) {
    if let Some(fields) = body.as_object_mut() {
        fields.insert(name.to_owned(), value);
    }
}

fn message(turn: &Turn) -> Value {
    match turn {
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant(text) => json!({"role": "assistant", "content": text}),
    }
}

/// How long the headers of a response ask to wait.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let milliseconds = text("retry-after-ms").and_then(|text| text.trim().parse::<u64>().ok());
    match milliseconds {
        Some(milliseconds) => error::retry_after(&(milliseconds as f64 / 1000.0).to_string(), 0),
        None => error::retry_after(text("retry-after")?, unix_now()),
    }
}
