//! A node's HTTP API, as any client sees it.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

/// The page's answers come in milliseconds; a machine that trains two models is slower.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The one client of a test process.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // Another test of this process may have installed it; there is only this one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().connect_timeout(REQUEST_LIMIT).no_proxy().build().expect("an HTTP client")
    })
}

/// `GET url`: status and body.
///
/// # Errors
/// No connection, no answer in time.
pub async fn get(url: &str) -> Result<(u16, String), String> {
    send(client().get(url)).await
}

/// Sends a request: status and body.
///
/// # Errors
/// No connection, no answer in time.
pub async fn send(request: reqwest::RequestBuilder) -> Result<(u16, String), String> {
    let answer = request.timeout(REQUEST_LIMIT).send().await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(|e| format!("{e:?}"))?))
}

/// `GET url`, which must answer 200 with JSON.
///
/// # Errors
/// Anything else, told with the body.
pub async fn get_json(url: &str) -> Result<Value, String> {
    match get(url).await? {
        (200, body) => serde_json::from_str(&body).map_err(|e| format!("{url}: {e}: {body}")),
        (status, body) => Err(format!("{url}: {status}: {body}")),
    }
}
