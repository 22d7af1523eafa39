//! Proposals by a language model: its configuration, the question, and the answer.
//!
//! [`prompt`] writes the question out of the task and its records, [`Client::ask`] sends it, [`answer`] reads a script
//! and two lines of reasoning out of the reply. A reply is untrusted text: its size is bounded, and a worker process
//! traces its script before anything else happens with it. The key is never logged.

pub mod answer;
pub mod prompt;
#[cfg(test)]
mod tests;

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Time for a whole answer. Reasoning models take minutes.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);
/// Time to reach the server.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// Most bytes of a response: a script of the largest size as JSON, with reasoning around it.
const MAX_RESPONSE_BYTES: usize = 1 << 20;
/// Most characters of a server's error text that are shown.
const MAX_ERROR_CHARS: usize = 300;
/// Most tokens of an answer, for APIs that require a number.
const MAX_TOKENS: u32 = 16_384;

/// A provider of language models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    Anthropic,
    Groq,
    /// A server on this machine that speaks OpenAI's API.
    Local,
    OpenAi,
    OpenRouter,
    Xai,
}

/// No such provider.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown provider {0:?}: one of anthropic, groq, local, openai, openrouter, xai")]
pub struct UnknownProvider(pub String);

impl Provider {
    pub const ALL: [Self; 6] = [Self::Anthropic, Self::Groq, Self::Local, Self::OpenAi, Self::OpenRouter, Self::Xai];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Anthropic => "anthropic",
            Self::Groq => "groq",
            Self::Local => "local",
            Self::OpenAi => "openai",
            Self::OpenRouter => "openrouter",
            Self::Xai => "xai",
        }
    }

    /// The base URL of the API, including the version.
    pub const fn base_url(self) -> &'static str {
        match self {
            Self::Anthropic => "https://api.anthropic.com/v1",
            Self::Groq => "https://api.groq.com/openai/v1",
            Self::Local => "http://127.0.0.1:11434/v1",
            Self::OpenAi => "https://api.openai.com/v1",
            Self::OpenRouter => "https://openrouter.ai/api/v1",
            Self::Xai => "https://api.x.ai/v1",
        }
    }

    /// The model that is used when none is configured.
    pub const fn default_model(self) -> &'static str {
        match self {
            Self::Anthropic => "claude-sonnet-4-5",
            Self::Groq => "llama-3.3-70b-versatile",
            Self::Local => "qwen2.5-coder",
            Self::OpenAi => "gpt-5",
            Self::OpenRouter => "openrouter/auto",
            Self::Xai => "grok-4",
        }
    }
}

impl FromStr for Provider {
    type Err = UnknownProvider;

    fn from_str(text: &str) -> Result<Self, UnknownProvider> {
        Self::ALL.into_iter().find(|p| p.name() == text).ok_or_else(|| UnknownProvider(text.to_owned()))
    }
}

/// The language model that proposes, and how to reach it.
#[derive(Clone, PartialEq, Eq)]
pub struct ProviderConfig {
    pub name: Provider,
    /// The base URL of the API, including the version, without a slash at the end.
    pub base_url: String,
    pub model: String,
    /// Secret. Empty when the server needs no key.
    pub key: String,
}

impl ProviderConfig {
    /// The provider with its own base URL and default model.
    pub fn new(name: Provider, key: String) -> Self {
        Self { name, base_url: name.base_url().to_owned(), model: name.default_model().to_owned(), key }
    }
}

impl fmt::Debug for ProviderConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {} ({})", self.model, self.base_url, self.name.name())
    }
}

/// Why the language model gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LlmError {
    #[error("the server did not answer in time")]
    Timeout,
    #[error("the server cannot be reached: {0}")]
    Unreachable(String),
    #[error("the server refused with status {status}: {text}")]
    Refused { status: u16, text: String },
    #[error("the response is larger than {MAX_RESPONSE_BYTES} bytes")]
    TooLarge,
    #[error("the response does not follow the API: {0}")]
    Malformed(&'static str),
}

/// A turn of the conversation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Turn {
    User(String),
    Assistant(String),
}

/// The connection to a language model.
#[derive(Clone, Debug)]
pub struct Client {
    config: ProviderConfig,
    http: reqwest::Client,
}

impl Client {
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(config: ProviderConfig) -> Result<Self, LlmError> {
        Self::with_timeout(config, ANSWER_WITHIN)
    }

    fn with_timeout(config: ProviderConfig, timeout: Duration) -> Result<Self, LlmError> {
        // An error means that another part of the program has installed a provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .timeout(timeout)
            .connect_timeout(CONNECT_WITHIN)
            // A redirect would carry the key to another server.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| LlmError::Unreachable(error.to_string()))?;
        Ok(Self { config, http })
    }

    /// The model's name, for records.
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// Sends a conversation and returns the text of the model's turn.
    ///
    /// # Errors
    /// [`LlmError`]; none of its texts contains the key.
    pub async fn ask(&self, system: &str, turns: &[Turn]) -> Result<String, LlmError> {
        let request = match self.config.name {
            Provider::Anthropic => self.anthropic(system, turns),
            _ => self.openai(system, turns),
        };
        let mut response = request.send().await.map_err(|error| self.transport(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.transport(&error))? {
            if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
                return Err(LlmError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        if !status.is_success() {
            let text = String::from_utf8_lossy(&body);
            return Err(LlmError::Refused { status: status.as_u16(), text: self.safe(&text) });
        }
        let value: Value = serde_json::from_slice(&body).map_err(|_| LlmError::Malformed("it is not JSON"))?;
        let text = match self.config.name {
            Provider::Anthropic => anthropic_text(&value),
            _ => value.pointer("/choices/0/message/content").and_then(Value::as_str).map(str::to_owned),
        };
        text.filter(|text| !text.trim().is_empty()).ok_or(LlmError::Malformed("it holds no text"))
    }

    fn openai(&self, system: &str, turns: &[Turn]) -> reqwest::RequestBuilder {
        let mut messages = vec![json!({"role": "system", "content": system})];
        messages.extend(turns.iter().map(message));
        let body = json!({"model": self.config.model, "messages": messages});
        let request = self.http.post(format!("{}/chat/completions", self.config.base_url)).json(&body);
        if self.config.key.is_empty() { request } else { request.bearer_auth(&self.config.key) }
    }

    fn anthropic(&self, system: &str, turns: &[Turn]) -> reqwest::RequestBuilder {
        let messages: Vec<_> = turns.iter().map(message).collect();
        let body =
            json!({"model": self.config.model, "max_tokens": MAX_TOKENS, "system": system, "messages": messages});
        self.http
            .post(format!("{}/messages", self.config.base_url))
            .header("x-api-key", &self.config.key)
            .header("anthropic-version", "2023-06-01")
            .json(&body)
    }

    fn transport(&self, error: &reqwest::Error) -> LlmError {
        if error.is_timeout() {
            return LlmError::Timeout;
        }
        let cause = std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
        LlmError::Unreachable(self.safe(&cause))
    }

    /// A server's text on one line, bounded. The key is hidden in case the server repeats it.
    fn safe(&self, text: &str) -> String {
        let hidden = if self.config.key.is_empty() { text.to_owned() } else { text.replace(&self.config.key, "***") };
        answer::one_line(&hidden, MAX_ERROR_CHARS)
    }
}

fn message(turn: &Turn) -> Value {
    match turn {
        Turn::User(text) => json!({"role": "user", "content": text}),
        Turn::Assistant(text) => json!({"role": "assistant", "content": text}),
    }
}

/// The text blocks of an Anthropic message; thinking blocks are left out.
fn anthropic_text(value: &Value) -> Option<String> {
    let blocks = value.get("content")?.as_array()?;
    Some(blocks.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect())
}
