//! Six servers, each with its own form and its own way to fail.

use super::*;

const SCRIPT: &str = "Hypothesis: h\nDescription: d\n```\ntrain(1)\n```";

#[tokio::test]
async fn openai_is_asked_and_its_failures_are_read() {
    let answer = json!({"choices": [{"message": {"role": "assistant", "content": SCRIPT}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 6100, "completion_tokens": 800, "total_tokens": 6900}});
    let (read, seen) = answer_to(Provider::OpenAi, Scene::json(200, &answer)).await;
    let read = read.unwrap();
    assert_eq!((read.finish, read.usage.prompt, read.usage.answer), (Finish::Whole, Some(6100), Some(800)));
    assert_eq!(answer::of(&read, "").unwrap().script, "train(1)\n");
    assert_eq!((seen.path.as_str(), &seen.body["model"]), ("/v1/chat/completions", &json!("m1")));
    assert_eq!(seen.headers["authorization"], "Bearer sk-secret");
    let roles: Vec<_> = seen.body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);

    // The key that the server repeats is hidden.
    let wrong = json!({"error": {"message": "Incorrect API key\nprovided: sk-secret", "code": "invalid_api_key"}});
    let (read, _) = answer_to(Provider::OpenAi, Scene::json(401, &wrong)).await;
    let text = "Incorrect API key provided: ***".to_owned();
    assert_eq!(read, Err(LlmError::Refused { status: 401, text, retry_after: None }));
    let poor = json!({"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}});
    let (read, _) = answer_to(Provider::OpenAi, Scene::json(429, &poor).header("retry-after-ms", "1500")).await;
    assert_eq!(read.unwrap_err().retry_after(), Some(Duration::from_millis(1500)));
}

#[tokio::test]
async fn anthropic_is_asked_and_its_failures_are_read() {
    let answer = json!({"content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}],
        "stop_reason": "end_turn", "usage": {"input_tokens": 5, "cache_read_input_tokens": 6000, "output_tokens": 9}});
    let (read, seen) = answer_to(Provider::Anthropic, Scene::json(200, &answer)).await;
    let read = read.unwrap();
    assert_eq!((read.text.as_str(), read.usage.prompt, read.usage.answer), ("hello", Some(6005), Some(9)));
    assert_eq!((seen.path.as_str(), &seen.headers["x-api-key"]), ("/v1/messages", &"sk-secret".parse().unwrap()));
    assert!(seen.headers.contains_key("anthropic-version") && seen.body["max_tokens"].as_u64().unwrap() > 1000);
    assert_eq!((seen.body["system"].as_str(), seen.body["messages"].as_array().unwrap().len()), (Some("be brief"), 3));

    let cut = json!({"content": [{"type": "text", "text": SCRIPT}], "stop_reason": "max_tokens"});
    let (read, _) = answer_to(Provider::Anthropic, Scene::json(200, &cut)).await;
    let read = read.unwrap();
    assert_eq!(read.finish, Finish::Cut);
    assert!(
        answer::of(&read, "").unwrap_err().contains("cut off"),
        "a whole script in a cut answer is not trained either"
    );
    let refusal = json!({"content": [], "stop_reason": "refusal"});
    let (read, _) = answer_to(Provider::Anthropic, Scene::json(200, &refusal)).await;
    assert!(answer::of(&read.unwrap(), "").unwrap_err().contains("withheld"));
}

#[tokio::test]
async fn error_of_openrouter_in_a_successful_response_is_that_error() {
    let body = json!({"error": {"message": "No endpoints found", "code": 429, "metadata": {}}, "user_id": "u"});
    let server = Scripted::start(vec![Scene::json(200, &body).header("retry-after", "0"), Scene::says(SCRIPT)]).await;
    let (mut asker, _shown) = server.asker(Provider::OpenRouter);
    assert_eq!(asker.ask(|_| conversation()).await.unwrap().text, SCRIPT, "it is treated as the 429 that it is");
    assert_eq!(server.seen().len(), 2);
    let (read, _) = answer_to(Provider::OpenRouter, Scene::json(200, &body)).await;
    assert_eq!(read.unwrap_err().to_string(), "the server refused with status 429: No endpoints found");
    let broken = json!({"choices": [{"finish_reason": "error", "error": {"code": 502, "message": "Provider returned error"}, "message": {"content": ""}}]});
    let (read, _) = answer_to(Provider::OpenRouter, Scene::json(200, &broken)).await;
    assert!(matches!(read, Err(LlmError::Refused { status: 502, .. })), "{read:?}");
    // Comments of a stream that a gateway sends before the body are blank lines in the end.
    let (read, _) = answer_to(
        Provider::OpenRouter,
        Scene::new(200, &format!("\n\n   {}", json!({"choices": [{"message": {"content": "a"}}]}))),
    )
    .await;
    assert_eq!(read.unwrap().text, "a");
}

#[tokio::test]
async fn parts_of_mistral_are_joined_without_its_thinking() {
    let content = json!([
        {"type": "thinking", "thinking": [{"type": "text", "text": "```\ntrain(wrong)\n```"}]},
        {"type": "text", "text": "Description: d\n```\n"}, {"type": "text", "text": "train(right)\n```"}]);
    let body = json!({"choices": [{"message": {"content": content}, "finish_reason": "stop"}]});
    let (read, _) = answer_to(Provider::Custom, Scene::json(200, &body)).await;
    assert_eq!(answer::of(&read.unwrap(), "").unwrap().script, "train(right)\n");
    let cut = json!({"choices": [{"message": {"content": content}, "finish_reason": "model_length"}]});
    let (read, _) = answer_to(Provider::Custom, Scene::json(200, &cut)).await;
    assert_eq!(read.unwrap().finish, Finish::Cut);
    let wrong = json!({"detail": [{"type": "missing", "loc": ["body", "model"], "msg": "Field required"}]});
    let (read, _) = answer_to(Provider::Custom, Scene::json(422, &wrong)).await;
    assert_eq!(read.unwrap_err().to_string(), "the server refused with status 422: Field required");
    let (read, _) =
        answer_to(Provider::Custom, Scene::json(401, &json!({"message": "Unauthorized", "request_id": "1"}))).await;
    assert_eq!(read.unwrap_err().to_string(), "the server refused with status 401: Unauthorized");
}

#[tokio::test]
async fn question_that_ollama_cut_is_noticed_and_fitted_from_then_on() {
    let half = json!({"choices": [{"message": {"content": "Sure! Let us"}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 4096, "completion_tokens": 12, "total_tokens": 4108}});
    let server = Scripted::start(vec![Scene::json(200, &half)]).await;
    let (mut asker, shown) = server.asker(Provider::Local);
    let question = |context: Option<u64>| Conversation { shortened: context.is_some(), ..long(24_000) };
    let answer = asker.ask(question).await.unwrap();
    assert!(answer::of(&answer, "").unwrap_err().contains("cut off after 12 tokens"));
    assert_eq!((health(&shown).context, health(&shown).shortened), (Some(4096), false));
    asker.ask(question).await.unwrap();
    assert!(health(&shown).shortened, "the second question knows the context");
    let unknown = json!({"error": {"message": "model \"m1\" not found, try pulling it first", "type": "api_error"}});
    let (read, _) = answer_to(Provider::Local, Scene::json(404, &unknown)).await;
    assert_eq!(read.unwrap_err().fault(), LlmFault::NotFound);
    let loading = json!({"choices": [{"message": {"content": ""}, "finish_reason": "load"}]});
    let (read, _) = answer_to(Provider::Local, Scene::json(200, &loading)).await;
    assert_eq!(read, Err(LlmError::Malformed("it holds no text")));
}

#[tokio::test]
async fn question_that_vllm_refuses_is_fitted_to_its_context_at_once() {
    let refused = json!({"object": "error", "type": "BadRequestError", "code": 400,
        "message": "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens."});
    let server = Scripted::start(vec![Scene::json(400, &refused), Scene::says(SCRIPT)]).await;
    let (mut asker, shown) = server.asker(Provider::Custom);
    let sizes = Mutex::new(Vec::new());
    let answer = asker.ask(|context| {
        sizes.lock().unwrap().push(context);
        conversation()
    });
    assert_eq!(answer.await.unwrap().text, SCRIPT);
    assert_eq!(*sizes.lock().unwrap(), [None, Some(8192)]);
    assert_eq!((server.seen().len(), health(&shown).failures, health(&shown).context), (2, 0, Some(8192)));

    // What does not shrink is given up.
    let server = Scripted::start(vec![Scene::json(400, &refused)]).await;
    let (mut asker, shown) = server.asker(Provider::Custom);
    assert_eq!(asker.ask(|_| conversation()).await, None);
    assert_eq!((server.seen().len(), health(&shown).fault), (2, Some(LlmFault::Context)));
    // Reasoning without its opening tag, as a chat template leaves it.
    let thought = format!("I could write\n```\ntrain(wrong)\n</think>\n{SCRIPT}");
    let (read, _) = answer_to(Provider::Custom, Scene::says(&thought)).await;
    assert_eq!(answer::of(&read.unwrap(), "").unwrap().script, "train(1)\n");
    let error =
        json!({"object": "error", "message": "The model `m2` does not exist.", "type": "NotFoundError", "code": 404});
    let (read, _) = answer_to(Provider::Custom, Scene::json(404, &error)).await;
    assert!(read.unwrap_err().to_string().ends_with("status 404: The model `m2` does not exist."));
}
