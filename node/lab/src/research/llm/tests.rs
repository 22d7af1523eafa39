//! The client against a real HTTP server on this machine.

use std::{convert::Infallible, net::SocketAddr, time::Duration};

use tokio::sync::mpsc;
use warp::Filter as _;

use super::*;

/// A request as the server saw it.
#[derive(Debug)]
struct Seen {
    path: String,
    headers: warp::http::HeaderMap,
    body: Value,
}

/// A server that gives every request the same answer after a while.
async fn serve(status: u16, body: Vec<u8>, delay: Duration) -> (SocketAddr, mpsc::Receiver<Seen>) {
    let (seen, requests) = mpsc::channel(8);
    let route =
        warp::post().and(warp::path::full()).and(warp::header::headers_cloned()).and(warp::body::json()).and_then(
            move |path: warp::path::FullPath, headers, request: Value| {
                let (seen, body) = (seen.clone(), body.clone());
                async move {
                    seen.send(Seen { path: path.as_str().to_owned(), headers, body: request }).await.unwrap();
                    tokio::time::sleep(delay).await;
                    let code = warp::http::StatusCode::from_u16(status).unwrap();
                    Ok::<_, Infallible>(warp::reply::with_status(body, code))
                }
            },
        );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(warp::serve(route).incoming(listener).run());
    (address, requests)
}

fn client(name: Provider, address: SocketAddr, timeout: Duration) -> Client {
    let config = ProviderConfig {
        base_url: format!("http://{address}/v1"),
        model: "m1".into(),
        ..ProviderConfig::new(name, "sk-secret".into())
    };
    Client::with_timeout(config, timeout).unwrap()
}

const LONG: Duration = Duration::from_secs(30);

async fn answer_to(name: Provider, status: u16, body: &str) -> (Result<String, LlmError>, Seen) {
    let (address, mut requests) = serve(status, body.as_bytes().to_vec(), Duration::ZERO).await;
    let turns = [Turn::User("q".into()), Turn::Assistant("a".into()), Turn::User("again".into())];
    let answer = client(name, address, LONG).ask("be brief", &turns).await;
    (answer, requests.recv().await.unwrap())
}

#[tokio::test]
async fn openai_compatible_servers_are_asked_and_read() {
    let (answer, seen) =
        answer_to(Provider::Groq, 200, r#"{"choices":[{"message":{"role":"assistant","content":"hello"}}]}"#).await;
    assert_eq!(answer.unwrap(), "hello");
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.headers["authorization"], "Bearer sk-secret");
    assert_eq!(seen.body["model"], "m1");
    let roles: Vec<_> = seen.body["messages"].as_array().unwrap().iter().map(|m| m["role"].as_str().unwrap()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
}

#[tokio::test]
async fn anthropic_is_asked_and_read() {
    let body =
        r#"{"content":[{"type":"thinking","thinking":"hm"},{"type":"text","text":"hel"},{"type":"text","text":"lo"}]}"#;
    let (answer, seen) = answer_to(Provider::Anthropic, 200, body).await;
    assert_eq!(answer.unwrap(), "hello");
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!(seen.headers["x-api-key"], "sk-secret");
    assert!(seen.headers.contains_key("anthropic-version"));
    assert_eq!((seen.body["system"].as_str(), seen.body["messages"].as_array().unwrap().len()), (Some("be brief"), 3));
}

#[tokio::test]
async fn refusal_is_reported_without_the_key() {
    let (answer, _) = answer_to(Provider::OpenAi, 401, "{\"error\":\n \"Incorrect API key: sk-secret\"}").await;
    let text = "{\"error\": \"Incorrect API key: ***\"}".to_owned();
    assert_eq!(answer, Err(LlmError::Refused { status: 401, text }));
}

#[tokio::test]
async fn garbage_is_malformed_and_never_a_panic() {
    for body in [
        "",
        "not json",
        "[]",
        "null",
        r#"{"choices":[]}"#,
        r#"{"choices":[{"message":{"content":null}}]}"#,
        r#"{"choices":[{"message":{"content":"  "}}]}"#,
    ] {
        let (answer, _) = answer_to(Provider::Local, 200, body).await;
        assert!(matches!(answer, Err(LlmError::Malformed(_))), "{body}: {answer:?}");
        let (answer, _) = answer_to(Provider::Anthropic, 200, body).await;
        assert!(matches!(answer, Err(LlmError::Malformed(_))), "{body}: {answer:?}");
    }
}

#[tokio::test]
async fn an_endless_response_is_cut_off() {
    let (answer, _) = answer_to(Provider::Xai, 200, &"x".repeat(MAX_RESPONSE_BYTES + 1)).await;
    assert_eq!(answer, Err(LlmError::TooLarge));
}

#[tokio::test]
async fn timeout_and_unreachable_server_are_distinct_errors() {
    let (address, _requests) = serve(200, Vec::new(), Duration::from_secs(3600)).await;
    let answer = client(Provider::OpenRouter, address, Duration::from_millis(200)).ask("", &[]).await;
    assert_eq!(answer, Err(LlmError::Timeout));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let answer = client(Provider::OpenAi, closed, LONG).ask("", &[]).await;
    assert!(matches!(answer, Err(LlmError::Unreachable(_))), "{answer:?}");
}

#[tokio::test]
async fn redirect_does_not_carry_the_key_away() {
    let (address, _requests) = serve(307, Vec::new(), Duration::ZERO).await;
    let answer = client(Provider::OpenAi, address, LONG).ask("", &[]).await;
    assert!(matches!(answer, Err(LlmError::Refused { status: 307, .. })), "{answer:?}");
}

#[test]
fn key_is_never_shown() {
    let config = ProviderConfig::new(Provider::Anthropic, "sk-secret".into());
    assert!(!format!("{config:?} {:?}", Client::new(config.clone()).unwrap()).contains("sk-secret"));
}

#[test]
fn providers_have_names_that_read_back() {
    for provider in Provider::ALL {
        assert_eq!(provider.name().parse(), Ok(provider));
        assert!(!provider.base_url().ends_with('/'));
    }
    assert!("skynet".parse::<Provider>().unwrap_err().to_string().contains("openrouter"));
}
