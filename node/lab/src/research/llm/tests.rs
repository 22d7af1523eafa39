//! The client and the asker against a real HTTP server on this machine, which plays a script.

mod providers;

use std::{
    collections::VecDeque,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use spore_base::llm_health::{LlmFault, LlmHealth, LlmState};
use tokio::sync::watch;
use warp::Filter as _;

use super::{
    asker::Pauses,
    client::{Conversation, MAX_RESPONSE_BYTES, Turn},
    reply::{Answer, Finish},
    *,
};

/// A request as the server saw it.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: warp::http::HeaderMap,
    body: Value,
    at: Instant,
}

/// A response of the script.
#[derive(Clone, Debug)]
struct Scene {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    delay: Duration,
}

impl Scene {
    fn new(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.as_bytes().to_vec(), delay: Duration::ZERO }
    }

    fn json(status: u16, body: &Value) -> Self {
        Self::new(status, &body.to_string())
    }

    fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    /// An answer of OpenAI's form.
    fn says(content: &str) -> Self {
        Self::json(
            200,
            &json!({"choices": [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]}),
        )
    }
}

/// A server that plays scenes, one for each request; the last one again and again.
#[derive(Clone)]
struct Scripted {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    async fn start(scenes: Vec<Scene>) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (requests, scenes) = (seen.clone(), Arc::new(Mutex::new(VecDeque::from(scenes))));
        let route = warp::post()
            .and(warp::path::full())
            .and(warp::header::headers_cloned())
            .and(warp::body::json())
            .and_then(move |path: warp::path::FullPath, headers, body: Value| {
                requests.lock().unwrap().push(Seen { path: path.as_str().into(), headers, body, at: Instant::now() });
                let mut scenes = scenes.lock().unwrap();
                let scene = if scenes.len() > 1 { scenes.pop_front() } else { scenes.front().cloned() };
                let scene = scene.unwrap();
                async move {
                    tokio::time::sleep(scene.delay).await;
                    let mut response = warp::http::Response::builder().status(scene.status);
                    for (name, value) in &scene.headers {
                        response = response.header(*name, value);
                    }
                    Ok::<_, Infallible>(response.body(scene.body).unwrap())
                }
            });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(warp::serve(route).incoming(listener).run());
        Self { address, seen }
    }

    fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    fn config(&self, name: Provider) -> ProviderConfig {
        ProviderConfig {
            base_url: format!("http://{}/v1", self.address),
            model: "m1".into(),
            ..ProviderConfig::new(name, "sk-secret".into())
        }
    }

    fn client(&self, name: Provider) -> Client {
        Client::with_timeout(self.config(name), LONG).unwrap()
    }

    /// An asker that waits for hundredths of a second.
    fn asker(&self, name: Provider) -> (Asker, watch::Receiver<Option<LlmHealth>>) {
        asker(self.client(name))
    }
}

fn asker(client: Client) -> (Asker, watch::Receiver<Option<LlmHealth>>) {
    let pauses = Pauses {
        first: Duration::from_millis(20),
        most: Duration::from_millis(200),
        within_question: Duration::from_secs(20),
    };
    let (health, shown) = watch::channel(None);
    (Asker::with(client, pauses, health), shown)
}

const LONG: Duration = Duration::from_secs(30);

fn conversation() -> Conversation {
    let turns = vec![Turn::User("q".into()), Turn::Assistant("a".into()), Turn::User("again".into())];
    Conversation { system: "be brief".into(), turns, shortened: false }
}

/// A conversation of so many characters for every context.
fn long(chars: usize) -> Conversation {
    Conversation { system: "x".repeat(chars), turns: Vec::new(), shortened: false }
}

async fn answer_to(name: Provider, scene: Scene) -> (Result<Answer, LlmError>, Seen) {
    let server = Scripted::start(vec![scene]).await;
    let answer = server.client(name).ask(&conversation()).await;
    (answer, server.seen()[0].clone())
}

fn health(shown: &watch::Receiver<Option<LlmHealth>>) -> LlmHealth {
    shown.borrow().clone().unwrap()
}

#[tokio::test]
async fn garbage_is_malformed_and_never_a_panic() {
    for body in [
        "",
        "not json",
        "[]",
        "null",
        r#"{"choices":[]}"#,
        r#"{"choices":null}"#,
        r#"{"choices":[{"message":{"content":null}}]}"#,
        r#"{"choices":[{"message":{"content":"  "}}]}"#,
        r#"{"choices":[{"message":{"content":[1,{},null]}}]}"#,
    ] {
        for name in [Provider::Local, Provider::Anthropic] {
            let (answer, _) = answer_to(name, Scene::new(200, body)).await;
            assert!(matches!(answer, Err(LlmError::Malformed(_))), "{body}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn endless_response_is_cut_off() {
    let (answer, _) = answer_to(Provider::Xai, Scene::new(200, &"x".repeat(MAX_RESPONSE_BYTES + 1))).await;
    assert_eq!(answer, Err(LlmError::TooLarge(MAX_RESPONSE_BYTES)));
}

#[tokio::test]
async fn timeout_and_unreachable_server_are_distinct_errors() {
    let slow = Scene { delay: Duration::from_secs(3600), ..Scene::says("late") };
    let server = Scripted::start(vec![slow]).await;
    let client = Client::with_timeout(server.config(Provider::OpenRouter), Duration::from_millis(200)).unwrap();
    assert_eq!(client.ask(&conversation()).await, Err(LlmError::Timeout));
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let nobody = Scripted { address: closed, seen: Arc::default() };
    let Err(LlmError::Unreachable(text)) = nobody.client(Provider::OpenAi).ask(&conversation()).await else { panic!() };
    assert!(text.contains(&closed.to_string()) && text.contains("refused"), "address and cause are named: {text}");
}

#[tokio::test]
async fn redirect_does_not_carry_the_key_away() {
    let (answer, _) = answer_to(Provider::OpenAi, Scene::new(307, "").header("location", "http://192.0.2.1/")).await;
    assert!(matches!(answer, Err(LlmError::Refused { status: 307, .. })), "{answer:?}");
}

#[test]
fn key_is_never_shown_and_a_bad_one_is_refused_before_a_request() {
    let config = ProviderConfig::new(Provider::Anthropic, "sk-secret".into());
    assert!(!format!("{config:?} {:?}", Client::new(config.clone()).unwrap()).contains("sk-secret"));
    let error = Client::new(ProviderConfig { key: "sk-\r\nsecret".into(), ..config.clone() }).unwrap_err();
    assert!(
        matches!(&error, LlmError::Config(text) if text.contains("API key") && !text.contains("secret")),
        "{error}"
    );
    for (base_url, model) in [("nonsense", "m"), ("http://127.0.0.1:1/v1", " ")] {
        let wrong = ProviderConfig { base_url: base_url.into(), model: model.into(), ..config.clone() };
        assert!(matches!(Client::new(wrong), Err(LlmError::Config(_))), "{base_url} {model}");
    }
}

#[tokio::test]
async fn key_with_a_line_break_around_it_is_sent_without() {
    let server = Scripted::start(vec![Scene::says("a")]).await;
    let config = ProviderConfig { key: " sk-secret\r\n".into(), ..server.config(Provider::OpenAi) };
    Client::new(config).unwrap().ask(&conversation()).await.unwrap();
    assert_eq!(server.seen()[0].headers["authorization"], "Bearer sk-secret");
}

#[tokio::test]
async fn overloaded_server_is_asked_again_after_the_time_that_it_names() {
    let busy = || {
        Scene::new(529, r#"{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}"#)
            .header("retry-after", "1")
    };
    let fine = Scene::json(200, &json!({"content": [{"type": "text", "text": "hello"}], "stop_reason": "end_turn"}));
    let server = Scripted::start(vec![busy(), busy(), fine]).await;
    let (mut asker, shown) = server.asker(Provider::Anthropic);
    assert_eq!(asker.ask(|_| conversation()).await.unwrap().text, "hello");
    let at: Vec<_> = server.seen().iter().map(|seen| seen.at).collect();
    assert!(at.len() == 3 && at.windows(2).all(|pair| pair[1] - pair[0] >= Duration::from_secs(1)), "{at:?}");
    assert_eq!((health(&shown).asked, health(&shown).failures), (3, 0));
}

#[tokio::test]
async fn every_status_of_a_passing_failure_is_retried_with_a_bound() {
    for status in [429, 500, 502, 503, 529] {
        let server = Scripted::start(vec![Scene::new(status, "busy")]).await;
        let (mut asker, shown) = server.asker(Provider::Groq);
        assert_eq!(asker.ask(|_| conversation()).await, None);
        assert_eq!(server.seen().len(), 5, "{status}");
        let health = health(&shown);
        assert_eq!((health.state, health.failures), (LlmState::Failing, 1), "one failure of one question");
        assert!(!asker.is_ready(Instant::now()) && asker.is_ready(Instant::now() + LONG));
    }
}

#[tokio::test]
async fn long_wish_to_wait_lets_another_proposer_go_on() {
    let server = Scripted::start(vec![Scene::new(429, "tomorrow").header("retry-after", "600")]).await;
    let (mut asker, shown) = server.asker(Provider::OpenRouter);
    assert_eq!(asker.ask(|_| conversation()).await, None);
    assert_eq!((server.seen().len(), health(&shown).fault), (1, Some(LlmFault::Limit)));
    let now = Instant::now();
    assert!(!asker.is_ready(now + Duration::from_secs(590)) && asker.is_ready(now + Duration::from_secs(700)));
}

#[tokio::test]
async fn refused_key_and_unknown_model_end_the_questions() {
    for (status, fault) in [(401, LlmFault::Key), (403, LlmFault::Key), (404, LlmFault::NotFound)] {
        let server = Scripted::start(vec![Scene::new(status, "no")]).await;
        let (mut asker, shown) = server.asker(Provider::OpenAi);
        assert_eq!(asker.ask(|_| conversation()).await, None);
        assert_eq!((server.seen().len(), health(&shown).state), (1, LlmState::Stopped), "{status}");
        assert_eq!(health(&shown).fault, Some(fault));
        assert!(health(&shown).failure.contains(&status.to_string()));
        assert!(!asker.is_ready(Instant::now() + Duration::from_secs(1_000_000)), "for ever");
    }
}

#[tokio::test]
async fn model_that_recovers_is_used_without_a_restart() {
    let server = Scripted::start(vec![Scene::says("prose")]).await;
    let (mut asker, shown) = server.asker(Provider::Local);
    for round in 1..=34 {
        assert!(asker.ask(|_| conversation()).await.is_some());
        asker.judged(Err((LlmFault::Unusable, "no script".into())));
        assert!(asker.is_ready(Instant::now()), "the server does its best");
        assert_eq!(health(&shown).failures, round);
    }
    asker.judged(Ok(()));
    let health = health(&shown);
    assert_eq!((health.state, health.failures, health.answered, health.asked), (LlmState::Ok, 0, 1, 34));
    assert_eq!((health.fault, health.failure.as_str()), (None, ""));
}

#[tokio::test]
async fn configured_tokens_and_temperature_are_sent() {
    let server = Scripted::start(vec![Scene::says("a")]).await;
    for (name, key) in [(Provider::OpenAi, "max_completion_tokens"), (Provider::Custom, "max_tokens")] {
        let config = ProviderConfig { max_tokens: Some(512), temperature: Some(0.5), ..server.config(name) };
        Client::new(config).unwrap().ask(&conversation()).await.unwrap();
        let body = server.seen().last().unwrap().body.clone();
        assert_eq!((body[key].as_u64(), body["temperature"].as_f64()), (Some(512), Some(0.5)), "{body}");
    }
    server.client(Provider::Custom).ask(&conversation()).await.unwrap();
    let body = server.seen().last().unwrap().body.clone();
    assert!(body.get("max_tokens").is_none() && body.get("temperature").is_none(), "{body}");
}
