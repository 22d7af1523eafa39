//! Reading and taking in at the same time: a source is read on a thread of its own, and its entries
//! come over in pages of bounded size.

use spore_ingest::BATCH;
use tokio::sync::mpsc;

use super::{Entry, Feed, ImportError};

/// Entries of a page: one batch in the making while another is inserted.
const ENTRIES: usize = 2 * BATCH;

/// Bytes of objects after which a page ends early: each object may have ten million.
const BYTES: usize = 16 << 20;

/// Pages read ahead: one, so that neither side waits long for the other.
const AHEAD: usize = 1;

/// Whoever takes the entries has given up, and says why itself.
pub(super) struct GivenUp;

/// Where a reader puts its entries.
pub(super) struct Pages {
    sender: mpsc::Sender<Vec<Entry>>,
    page: Vec<Entry>,
    bytes: usize,
}

impl Pages {
    /// Adds an entry.
    ///
    /// # Errors
    /// [`GivenUp`]: there is no use in reading on.
    pub fn push(&mut self, entry: Entry) -> Result<(), GivenUp> {
        self.bytes += entry.object.as_ref().map_or(0, |object| object.canonical().len());
        self.page.push(entry);
        if self.page.len() >= ENTRIES || self.bytes >= BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), GivenUp> {
        self.bytes = 0;
        self.sender.blocking_send(std::mem::take(&mut self.page)).map_err(|_| GivenUp)
    }
}

/// Runs `read` on a thread of its own and takes in what it finds, to the last entry before its end or
/// its error, which is the inner result.
///
/// # Errors
/// When the entries cannot be taken in.
pub(super) async fn take_all<E: Send + 'static>(
    feed: &mut Feed<'_>,
    total: Option<u64>,
    read: impl FnOnce(&mut Pages) -> Result<(), E> + Send + 'static,
) -> Result<Result<(), E>, ImportError> {
    let (sender, mut pages) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let mut pages = Pages { sender, page: Vec::new(), bytes: 0 };
        let ended = read(&mut pages);
        // An error means that nobody takes it, which is told elsewhere.
        let _ = pages.send();
        ended
    });
    while let Some(page) = pages.recv().await {
        let part = page.last().map(|entry: &Entry| entry.part);
        feed.take(page).await?;
        if let Some(part) = part {
            feed.progress(part, total);
        }
    }
    match reading.await {
        Ok(ended) => Ok(ended),
        Err(_) => Err(ImportError::Failed("the thread that reads ended early".into())),
    }
}
