//! Takes the response of a server apart: by what the APIs say, and by what servers are known to send.
//!
//! Pure. A successful status says little: gateways report the failure of a model's server in the body. Never here: the
//! meaning of the text that the model wrote ([`super::answer`]).

use std::time::Duration;

use serde_json::Value;

use super::{error::LlmError, provider::Dialect};

/// More tokens than any context has, by far. Four billion sums of so many fit their type.
const TOKENS_MOST: u64 = 1 << 32;

/// Why the model stopped writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// It was done.
    Whole,
    /// A limit of tokens ended it.
    Cut,
    /// The provider withheld the rest.
    Withheld,
}

/// Tokens as the server counts them. None where it does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub prompt: Option<u64>,
    pub answer: Option<u64>,
}

/// The model's turn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the model wrote, reasoning in its text included. Empty when all tokens went into reasoning.
    pub text: String,
    pub finish: Finish,
    pub usage: Usage,
}

/// A response before it is taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    pub status: u16,
    pub retry_after: Option<Duration>,
    pub body: &'a [u8],
}

/// Reads a response. `safe` makes a server's text fit to be shown.
///
/// # Errors
/// The failure that the status or the body reports.
pub fn read(dialect: Dialect, response: &Response<'_>, safe: &dyn Fn(&str) -> String) -> Result<Answer, LlmError> {
    let value: Option<Value> = serde_json::from_slice(response.body).ok();
    let success = (200..300).contains(&response.status);
    if !success {
        let text = value.as_ref().and_then(message).unwrap_or_else(|| String::from_utf8_lossy(response.body).into());
        let status = response.status;
        return Err(refusal(status, &text, value.as_ref(), response.retry_after, safe));
    }
    let value = value.ok_or(LlmError::Malformed("it is not JSON"))?;
    if let Some(error) = reported_error(&value) {
        let text = message(error).or_else(|| message(&value)).unwrap_or_default();
        return Err(refusal(status_of(error), &text, Some(&value), response.retry_after, safe));
    }
    let answer = match dialect {
        Dialect::Anthropic => anthropic(&value),
        Dialect::OpenAi => openai(&value),
    }
    .ok_or(LlmError::Malformed("it holds no text"))?;
    // A cut answer without text has spent all tokens on reasoning: that is an answer, of a kind.
    match answer.text.trim().is_empty() && answer.finish == Finish::Whole {
        true => Err(LlmError::Malformed("it holds no text")),
        false => Ok(answer),
    }
}

fn refusal(
    status: u16,
    text: &str,
    value: Option<&Value>,
    retry_after: Option<Duration>,
    safe: &dyn Fn(&str) -> String,
) -> LlmError {
    match value.filter(|_| matches!(status, 400 | 413 | 422 | 500)).and_then(|value| too_long(text, value)) {
        Some(limit) => LlmError::TooLong { limit, text: safe(text) },
        None if text.trim().is_empty() => LlmError::Refused { status, text: "no reason given".into(), retry_after },
        None => LlmError::Refused { status, text: safe(text), retry_after },
    }
}

/// The error that a successful response reports, if it does: `error` at the top or at the choice, or the form
/// `{"object": "error"}`.
fn reported_error(value: &Value) -> Option<&Value> {
    let set =
        |value: &&Value| !value.is_null() && **value != Value::Bool(false) && **value != Value::String(String::new());
    let of_choice = || value.pointer("/choices/0/error").filter(set);
    let object = || ["object", "type"].iter().any(|key| value.get(key).is_some_and(|v| v == "error")).then_some(value);
    value.get("error").filter(set).or_else(of_choice).or_else(object)
}

/// The text of an error, in the forms that servers use.
fn message(value: &Value) -> Option<String> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let of = |value: &Value| ["message", "detail", "msg"].iter().find_map(|key| text(value.get(key)?));
    let error = value.get("error");
    let found = error.and_then(of).or_else(|| error.and_then(text)).or_else(|| of(value)).or_else(|| text(value));
    // `detail` may be a list of faults: `[{"msg": "Field required"}]`.
    found.or_else(|| value.get("detail")?.get(0).and_then(of))
}

/// The status that an error in a successful response means: its code, or what the name of its type says.
fn status_of(error: &Value) -> u16 {
    let fields = ["code", "status", "type"].map(|key| error.get(key));
    let number = |value: &Value| match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    let code = fields.iter().flatten().find_map(|value| number(value)).and_then(|code| u16::try_from(code).ok());
    if let Some(code) = code.filter(|code| (300..600).contains(code)) {
        return code;
    }
    let names: Vec<&str> = fields.iter().flatten().filter_map(|value| value.as_str()).collect();
    let says = |part: &str| names.iter().any(|name| name.contains(part));
    match () {
        () if says("auth") || says("api_key") => 401,
        () if says("permission") || says("forbidden") => 403,
        () if says("not_found") || says("model_not") => 404,
        () if says("rate_limit") || says("quota") || says("too_many") => 429,
        () if says("overloaded") => 529,
        () if says("invalid") || says("bad_request") => 400,
        // The gateway reached a server that failed.
        () => 502,
    }
}

/// Whether an error says that the question is larger than the context, and if so, the context in tokens where it is
/// named.
fn too_long(text: &str, value: &Value) -> Option<Option<u64>> {
    let error = value.get("error").unwrap_or(value);
    if let Some(limit) = error.get("n_ctx").and_then(tokens) {
        return Some(Some(limit));
    }
    let small = text.to_ascii_lowercase();
    let named = error.get("code").or_else(|| error.get("type")).and_then(Value::as_str).unwrap_or_default();
    let says = named.contains("context_length")
        || named.contains("exceed_context")
        || ["context length", "context size", "context window", "prompt is too long", "too many tokens"]
            .iter()
            .any(|phrase| small.contains(phrase));
    says.then(|| limit_in(&small))
}

/// The number of tokens that follows the word for the context: `maximum context length is 4096 tokens`.
fn limit_in(text: &str) -> Option<u64> {
    let from = ["context length", "context size", "context window", "maximum", "max"]
        .iter()
        .find_map(|word| text.find(word).and_then(|at| text.get(at..)))?;
    let digits = |c: char| c.is_ascii_digit();
    let start = from.find(digits)?;
    let number: String =
        from.get(start..)?.chars().take_while(|c| digits(*c) || *c == ',').filter(|c| *c != ',').collect();
    number.parse().ok().filter(|limit| (256..=TOKENS_MOST).contains(limit))
}

fn openai(value: &Value) -> Option<Answer> {
    let choice = value.pointer("/choices/0")?;
    let message = choice.get("message").unwrap_or(choice);
    let text = text_of(message.get("content").filter(|content| !content.is_null()).or_else(|| choice.get("text")));
    let refusal = message.get("refusal").and_then(Value::as_str).unwrap_or_default();
    let finish = match choice.get("finish_reason").and_then(Value::as_str).unwrap_or_default() {
        "length" | "max_tokens" | "model_length" | "MAX_TOKENS" => Finish::Cut,
        "content_filter" | "refusal" | "safety" | "SAFETY" => Finish::Withheld,
        _ if text.is_empty() && !refusal.is_empty() => Finish::Withheld,
        _ => Finish::Whole,
    };
    let tokens = |key: &str| tokens(value.get("usage")?.get(key)?);
    let usage = Usage { prompt: tokens("prompt_tokens"), answer: tokens("completion_tokens") };
    Some(Answer { text: if text.is_empty() { refusal.to_owned() } else { text }, finish, usage })
}

fn anthropic(value: &Value) -> Option<Answer> {
    let text = text_of(value.get("content"));
    let finish = match value.get("stop_reason").and_then(Value::as_str).unwrap_or_default() {
        "max_tokens" | "model_context_window_exceeded" => Finish::Cut,
        "refusal" => Finish::Withheld,
        _ => Finish::Whole,
    };
    let tokens = |key: &str| tokens(value.get("usage")?.get(key)?);
    // Tokens that were read from a cache, or written to one, are part of the question.
    let cached = [tokens("cache_read_input_tokens"), tokens("cache_creation_input_tokens")];
    let prompt = tokens("input_tokens").map(|own| own + cached.iter().flatten().sum::<u64>());
    Some(Answer { text, finish, usage: Usage { prompt, answer: tokens("output_tokens") } })
}

/// A number of tokens that can be one. A server may say any number, and sums of these must fit.
fn tokens(value: &Value) -> Option<u64> {
    value.as_u64().filter(|tokens| *tokens <= TOKENS_MOST)
}

/// The text of a content: a text itself, or the text parts of a list. Parts of reasoning are left out.
fn text_of(content: Option<&Value>) -> String {
    match content {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => parts.iter().filter_map(part).collect(),
        Some(part_alone @ Value::Object(_)) => part(part_alone).unwrap_or_default().to_owned(),
        _ => String::new(),
    }
}

fn part(part: &Value) -> Option<&str> {
    match part {
        Value::String(text) => Some(text),
        _ => {
            let kind = part.get("type").and_then(Value::as_str).unwrap_or("text");
            if !matches!(kind, "text" | "output_text") {
                return None;
            }
            part.get("text").and_then(Value::as_str)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn response(status: u16, body: &Value) -> Result<Answer, LlmError> {
        let body = body.to_string();
        let response = Response { status, retry_after: None, body: body.as_bytes() };
        read(Dialect::OpenAi, &response, &|text| text.to_owned())
    }

    fn refused(status: u16, text: &str) -> Result<Answer, LlmError> {
        Err(LlmError::Refused { status, text: text.into(), retry_after: None })
    }

    #[test]
    fn error_in_a_successful_response_is_that_error() {
        let cases = [
            (json!({"error": {"message": "no endpoints", "code": 429}}), 429, "no endpoints"),
            (json!({"error": {"message": "slow down", "code": "429"}, "choices": null}), 429, "slow down"),
            (json!({"error": {"message": "m", "type": "overloaded_error"}}), 529, "m"),
            (json!({"type": "error", "error": {"type": "authentication_error", "message": "m"}}), 401, "m"),
            (
                json!({"choices": [{"error": {"code": 502, "message": "upstream"}, "finish_reason": "error"}]}),
                502,
                "upstream",
            ),
            (json!({"object": "error", "message": "no model", "code": 404}), 404, "no model"),
            (json!({"error": "model 'x' not found"}), 502, "model 'x' not found"),
            (json!({"error": {"code": "invalid_api_key", "message": "m"}}), 401, "m"),
            (json!({"error": {"code": "insufficient_quota", "message": "m"}}), 429, "m"),
        ];
        for (body, status, text) in cases {
            assert_eq!(response(200, &body), refused(status, text), "{body}");
        }
        let fine = json!({"error": null, "choices": [{"message": {"content": "a"}}]});
        assert_eq!(response(200, &fine).unwrap().text, "a");
    }

    #[test]
    fn message_of_a_refusal_is_found_in_every_form() {
        for body in [
            json!({"error": {"message": "why"}}),
            json!({"error": "why"}),
            json!({"message": "why", "request_id": "1"}),
            json!({"detail": "why"}),
            json!({"detail": [{"type": "missing", "loc": ["body"], "msg": "why"}]}),
        ] {
            assert_eq!(response(403, &body), refused(403, "why"), "{body}");
        }
    }

    #[test]
    fn content_is_text_or_a_list_of_parts() {
        let parts = json!([{"type": "thinking", "thinking": [{"type": "text", "text": "no"}]}, {"type": "text", "text": "a"}, "b"]);
        for (content, text) in [(json!("ab"), "ab"), (parts, "ab"), (json!({"type": "text", "text": "ab"}), "ab")] {
            let body = json!({"choices": [{"message": {"content": content}}]});
            assert_eq!(response(200, &body).unwrap().text, text, "{body}");
        }
        assert_eq!(response(200, &json!({"choices": [{"text": "old"}]})).unwrap().text, "old");
    }

    #[test]
    fn reason_of_the_end_and_usage_are_read() {
        let body = |reason: &str, content: &str| {
            json!({"choices": [{"message": {"content": content}, "finish_reason": reason}],
                "usage": {"prompt_tokens": 7, "completion_tokens": 3}})
        };
        let answer = response(200, &body("length", "half")).unwrap();
        assert_eq!((answer.finish, answer.usage), (Finish::Cut, Usage { prompt: Some(7), answer: Some(3) }));
        assert_eq!(response(200, &body("length", "")).unwrap().finish, Finish::Cut, "all of it was reasoning");
        assert_eq!(response(200, &body("content_filter", "")).unwrap().finish, Finish::Withheld);
        assert_eq!(response(200, &body("stop", "all")).unwrap().finish, Finish::Whole);
        assert!(response(200, &body("stop", " ")).is_err());
    }

    #[test]
    fn number_that_cannot_be_tokens_is_none() {
        let anthropic = |usage: Value| {
            let body = json!({"content": [{"text": "a"}], "usage": usage}).to_string();
            let response = Response { status: 200, retry_after: None, body: body.as_bytes() };
            read(Dialect::Anthropic, &response, &|text| text.to_owned()).unwrap().usage
        };
        let most = u64::MAX;
        let usage = json!({"input_tokens": most, "output_tokens": most, "cache_read_input_tokens": most});
        assert_eq!(anthropic(usage), Usage::default());
        assert_eq!(anthropic(json!({"input_tokens": 5, "cache_read_input_tokens": most})).prompt, Some(5));
        let openai = json!({"choices": [{"text": "a"}], "usage": {"prompt_tokens": most, "completion_tokens": -1}});
        assert_eq!(response(200, &openai).unwrap().usage, Usage::default());
        let error = json!({"error": {"message": format!("maximum context length is {most}"), "n_ctx": most}});
        assert!(matches!(response(400, &error), Err(LlmError::TooLong { limit: None, .. })));
    }

    #[test]
    fn answer_without_text_that_was_withheld_is_no_other_api() {
        let body = json!({"content": null, "stop_reason": "refusal"}).to_string();
        let response = Response { status: 200, retry_after: None, body: body.as_bytes() };
        let answer = read(Dialect::Anthropic, &response, &|text| text.to_owned()).unwrap();
        assert_eq!((answer.finish, answer.text.as_str()), (Finish::Withheld, ""));
    }

    #[test]
    fn question_that_is_too_long_names_the_context() {
        let limit = |body: &Value| match response(400, body) {
            Err(LlmError::TooLong { limit, .. }) => Some(limit),
            _ => None,
        };
        let vllm =
            "This model's maximum context length is 4096 tokens. However, you requested 5200 tokens in the messages.";
        assert_eq!(limit(&json!({"object": "error", "message": vllm, "code": 400})), Some(Some(4096)));
        assert_eq!(limit(&json!({"error": {"code": "context_length_exceeded", "message": "m"}})), Some(None));
        let llama =
            json!({"error": {"code": 400, "message": "too big", "type": "exceed_context_size_error", "n_ctx": 2048}});
        assert_eq!(limit(&llama), Some(Some(2048)));
        let anthropic = json!({"type": "error", "error": {"type": "invalid_request_error",
            "message": "prompt is too long: 208310 tokens > 200,000 maximum"}});
        assert_eq!(limit(&anthropic), Some(None));
        assert_eq!(limit(&json!({"error": {"message": "temperature must be 1"}})), None);
    }
}
