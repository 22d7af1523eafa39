//! A client of a node's HTTP API.

use std::{sync::OnceLock, time::Duration};

use serde_json::Value;

/// Answers take milliseconds, but a machine that trains two models is slower.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// The one client of a test process.
pub fn client() -> &'static reqwest::Client {
    static CLIENT: OnceLock<reqwest::Client> = OnceLock::new();
    CLIENT.get_or_init(|| {
        // An error means that another test of this process has installed the provider already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder().connect_timeout(REQUEST_LIMIT).no_proxy().build().expect("an HTTP client")
    })
}

/// Sends `GET url`. Returns status and body.
///
/// # Errors
/// When there is no connection, or no answer in time.
pub async fn get(url: &str) -> Result<(u16, String), String> {
    send(client().get(url)).await
}

/// Sends a request. Returns status and body.
///
/// # Errors
/// When there is no connection, or no answer in time.
pub async fn send(request: reqwest::RequestBuilder) -> Result<(u16, String), String> {
    let answer = request.timeout(REQUEST_LIMIT).send().await.map_err(|e| format!("{e:?}"))?;
    let status = answer.status().as_u16();
    Ok((status, answer.text().await.map_err(|e| format!("{e:?}"))?))
}

/// Sends `GET url` and returns the JSON of the answer.
///
/// # Errors
/// Any answer but 200 with JSON, with its body.
pub async fn get_json(url: &str) -> Result<Value, String> {
    match get(url).await? {
        (200, body) => serde_json::from_str(&body).map_err(|e| format!("{url}: {e}: {body}")),
        (status, body) => Err(format!("{url}: {status}: {body}")),
    }
}
