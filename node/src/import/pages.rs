//! Reads and imports at the same time: a thread reads the source and sends its items in pages of bounded size.

use spore_ingest::BATCH;
use tokio::sync::mpsc;

use super::{ImportError, ImportItem, Importer};

/// Items of a page: one batch is verified while another is inserted.
const ITEMS: usize = 2 * BATCH;

/// Bytes of objects after which a page ends early. An object may have ten million.
const BYTES: usize = 16 << 20;

/// Pages that are read ahead. One is enough that neither side waits long for the other.
const AHEAD: usize = 1;

/// The importer stopped, and reports the reason itself.
pub(super) struct ImportStopped;

/// The place where a reader puts its items.
pub(super) struct Pages {
    sender: mpsc::Sender<Vec<ImportItem>>,
    page: Vec<ImportItem>,
    bytes: usize,
}

impl Pages {
    /// Adds an item.
    ///
    /// # Errors
    /// [`ImportStopped`]: the reader must stop too.
    pub fn push(&mut self, item: ImportItem) -> Result<(), ImportStopped> {
        self.bytes += item.object.as_ref().map_or(0, |object| object.canonical().len());
        self.page.push(item);
        if self.page.len() >= ITEMS || self.bytes >= BYTES { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), ImportStopped> {
        self.bytes = 0;
        self.sender.blocking_send(std::mem::take(&mut self.page)).map_err(|_| ImportStopped)
    }
}

/// Runs `read` on a thread and imports the items, up to the end of the source or its error. The inner result is the
/// result of `read`.
///
/// # Errors
/// When the items cannot be imported.
pub(super) async fn take_all<E: Send + 'static>(
    importer: &mut Importer<'_>,
    total: Option<u64>,
    read: impl FnOnce(&mut Pages) -> Result<(), E> + Send + 'static,
) -> Result<Result<(), E>, ImportError> {
    let (sender, mut pages) = mpsc::channel(AHEAD);
    let reading = tokio::task::spawn_blocking(move || {
        let mut pages = Pages { sender, page: Vec::new(), bytes: 0 };
        let ended = read(&mut pages);
        // An error means that the importer stopped, which reports the reason itself.
        let _ = pages.send();
        ended
    });
    while let Some(page) = pages.recv().await {
        let kind = page.last().map(|item: &ImportItem| item.kind);
        importer.take(page).await?;
        if let Some(kind) = kind {
            importer.progress(kind, total);
        }
    }
    match reading.await {
        Ok(ended) => Ok(ended),
        Err(_) => Err(ImportError::Failed("the thread that reads the source ended early".into())),
    }
}
