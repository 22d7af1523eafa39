//! The reference's socket `/ws` (RFC 6455): each new record as a text, `{"event": "experiment", "data": RECORD}`.
//!
//! The server reads nothing from a client but pings and the wish to close. As with the event streams, the store's change
//! log is the only source of records: a slow client misses none, and delays itself only.

use std::{
    io,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use hyper_util::rt::TokioIo;
use spore_ingest::StoreEvent;
use spore_protocol::{Kind, RecordId};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::{
        broadcast::{self, error::RecvError},
        mpsc, watch,
    },
    time::interval,
};
use warp::{
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    hyper::upgrade::OnUpgrade,
    reply::Response,
};

use super::{sha1::sha1, shapes};
use crate::{connections::Busy, problem::ApiError, shares::Share, view::StoreView};

/// What a server's answer to the handshake is made with, as the standard has it.
const HANDSHAKE: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of the largest message of a client: it has nothing to say.
const MOST_RECEIVED: u64 = 16 << 10;
/// Changes read from the store in one step.
const PAGE: usize = 64;
/// Time between two pings, by which a dead connection is noticed.
const PING: Duration = Duration::from_secs(30);
/// Answers to pings that wait for their sending.
const PONGS: usize = 4;

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING_FRAME: u8 = 9;
const PONG: u8 = 10;

static OPEN: AtomicUsize = AtomicUsize::new(0);

/// Sockets that are open.
pub fn open_count() -> usize {
    OPEN.load(Relaxed)
}

/// What a socket sends, and what it holds while it is open.
pub struct Feed {
    pub view: StoreView,
    pub changes: broadcast::Receiver<StoreEvent>,
    pub shutdown: watch::Receiver<bool>,
    pub held: (Share, Busy),
}

/// Counts an open socket until it is dropped.
struct Counted;

impl Counted {
    fn new() -> Self {
        OPEN.fetch_add(1, Relaxed);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        OPEN.fetch_sub(1, Relaxed);
    }
}

/// Answers the handshake, after which the connection is a socket.
///
/// # Errors
/// 400 for a request that is no handshake.
pub fn open(headers: &HeaderMap, upgrade: Option<OnUpgrade>, feed: Feed) -> Result<Response, ApiError> {
    let refused =
        || ApiError::bad_request("this address is a WebSocket (version 13)").hint("open it with a WebSocket client");
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let is_handshake = text(header::UPGRADE).eq_ignore_ascii_case("websocket")
        && text(header::CONNECTION).split(',').any(|token| token.trim().eq_ignore_ascii_case("upgrade"))
        && text(header::SEC_WEBSOCKET_VERSION) == "13";
    let key = text(header::SEC_WEBSOCKET_KEY);
    let Some(upgrade) = upgrade.filter(|_| is_handshake && !key.is_empty()) else { return Err(refused()) };
    let accept = base64(&sha1(format!("{key}{HANDSHAKE}").as_bytes()));
    tokio::spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            let _open = Counted::new();
            serve(TokioIo::new(upgraded), feed).await;
        }
    });
    let mut response = Response::default();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(header::SEC_WEBSOCKET_ACCEPT, HeaderValue::from_str(&accept).map_err(|_| refused())?);
    Ok(response)
}

async fn serve(stream: impl AsyncRead + AsyncWrite, feed: Feed) {
    let Feed { view, changes, mut shutdown, held } = feed;
    let (mut reader, mut writer) = tokio::io::split(stream);
    let (pongs, to_answer) = mpsc::channel(PONGS);
    tokio::select! {
        _ = shutdown.wait_for(|stop| *stop) => {}
        ended = receive(&mut reader, pongs) => drop(ended),
        ended = send(&mut writer, view, changes, to_answer) => drop(ended),
    }
    let _ = writer.write_all(&frame(CLOSE, &[])).await;
    let _ = writer.shutdown().await;
    drop(held);
}

/// Reads frames until the client closes. Contents of pings go to `pongs`.
async fn receive(reader: &mut (impl AsyncRead + Unpin), pongs: mpsc::Sender<Vec<u8>>) -> io::Result<()> {
    loop {
        let [first, second] = [reader.read_u8().await?, reader.read_u8().await?];
        let length = match second & 0x7f {
            126 => u64::from(reader.read_u16().await?),
            127 => reader.read_u64().await?,
            short => u64::from(short),
        };
        // A client masks what it sends, so that no proxy between takes it for something else.
        if length > MOST_RECEIVED || second & 0x80 == 0 {
            return Ok(());
        }
        let mut mask = [0; 4];
        reader.read_exact(&mut mask).await?;
        let mut content = vec![0; usize::try_from(length).unwrap_or_default()];
        reader.read_exact(&mut content).await?;
        match first & 0x0f {
            CLOSE => return Ok(()),
            PING_FRAME => {
                for (byte, mask) in content.iter_mut().zip(mask.iter().cycle()) {
                    *byte ^= mask;
                }
                // A client that pings faster than it reads misses answers.
                let _ = pongs.try_send(content);
            }
            _ => {}
        }
    }
}

/// Sends new records, pings, and answers to pings.
async fn send(
    writer: &mut (impl AsyncWrite + Unpin),
    view: StoreView,
    mut changes: broadcast::Receiver<StoreEvent>,
    mut pongs: mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut at = view.store().sequence();
    let mut ping = interval(PING);
    ping.reset();
    loop {
        tokio::select! {
            change = changes.recv() => match change {
                Err(RecvError::Closed) => return Ok(()),
                // Some were missed: the change log has them.
                _ => at = send_records(writer, &view, at).await?,
            },
            Some(content) = pongs.recv() => writer.write_all(&frame(PONG, &content)).await?,
            _ = ping.tick() => writer.write_all(&frame(PING_FRAME, &[])).await?,
        }
        writer.flush().await?;
    }
}

/// Sends the records after a sequence number. Returns the newest number.
async fn send_records(writer: &mut (impl AsyncWrite + Unpin), view: &StoreView, after: u64) -> io::Result<u64> {
    let mut at = after;
    loop {
        let (view, from) = (view.clone(), at);
        let read = tokio::task::spawn_blocking(move || texts(&view, from)).await;
        let (next, texts) = read.map_err(io::Error::other)?.map_err(io::Error::other)?;
        for text in &texts {
            writer.write_all(&frame(TEXT, text.as_bytes())).await?;
        }
        if next == at {
            return Ok(at);
        }
        at = next;
    }
}

/// The new records after a sequence number as they are sent, of a page of changes, and the last number of the page.
fn texts(view: &StoreView, after: u64) -> Result<(u64, Vec<String>), ApiError> {
    let changes = view.store().changes_since(after, PAGE)?;
    let mut found = Vec::new();
    for change in changes.iter().filter(|change| change.kind == Kind::Experiment) {
        let Some(record) = shapes::record(view, &RecordId::from(change.id))? else { continue };
        let mut data = serde_json::to_value(&record).map_err(|e| ApiError::internal(e.to_string()))?;
        if let Some(members) = data.as_object_mut() {
            // The reference sends what the record itself says.
            for name in ["node_display_name", "node_avatar_url", "verified", "is_frontier"] {
                members.remove(name);
            }
        }
        found.push(serde_json::json!({ "event": "experiment", "data": data }).to_string());
    }
    Ok((changes.last().map_or(after, |change| change.sequence), found))
}

/// A frame of a server: whole, and not masked.
fn frame(kind: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80 | kind];
    match content.len() {
        short @ ..126 => out.push(u8::try_from(short).unwrap_or_default()),
        middle @ ..=0xffff => {
            out.push(126);
            out.extend(u16::try_from(middle).unwrap_or_default().to_be_bytes());
        }
        long => {
            out.push(127);
            out.extend((long as u64).to_be_bytes());
        }
    }
    out.extend(content);
    out
}

/// Bytes in base 64, as the handshake has them.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for three in bytes.chunks(3) {
        let bits = (0..3).fold(0u32, |bits, at| bits << 8 | u32::from(three.get(at).copied().unwrap_or_default()));
        for digit in 0..4u32 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            let known = digit as usize <= three.len();
            out.push(if known { DIGITS.get(value as usize).copied().map_or('=', char::from) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handshake_is_answered_as_in_the_standard() {
        let digest = sha1(format!("dGhlIHNhbXBsZSBub25jZQ=={HANDSHAKE}").as_bytes());
        assert_eq!(base64(&digest), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert_eq!((base64(b"a"), base64(b"ab"), base64(b"abc")), ("YQ==".into(), "YWI=".into(), "YWJj".into()));
    }

    #[test]
    fn frame_has_the_length_of_its_content() {
        assert_eq!(frame(TEXT, b"hi"), [0x81, 2, b'h', b'i']);
        assert_eq!(frame(TEXT, &[0; 126])[..4], [0x81, 126, 0, 126]);
        assert_eq!(frame(TEXT, &[0; 0x1_0000])[..10], [0x81, 127, 0, 0, 0, 0, 0, 1, 0, 0]);
    }

    #[tokio::test]
    async fn socket_answers_pings_and_ends_when_the_client_closes_or_says_too_much() {
        for (last, answered) in
            [(&[0x88, 0x80, 0, 0, 0, 0][..], true), (&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0][..], true)]
        {
            // A masked ping with two bytes.
            let sent = [&[0x89, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2][..], last].concat();
            let (pongs, mut answers) = mpsc::channel(PONGS);
            receive(&mut sent.as_slice(), pongs).await.unwrap();
            assert_eq!(answers.recv().await.is_some_and(|content| content == b"hi"), answered);
        }
    }
}
