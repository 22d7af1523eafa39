//! A stream of bytes that notes when bytes move, and ends when its reader is too slow.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};

use super::Activity;

/// Time in which a reader that keeps bytes waiting must take [`LEAST_TAKEN`] of them.
pub const SLOWEST: Duration = Duration::from_secs(30);
/// Bytes: at half a kilobyte a second, a reader is not a person's browser on the poorest link. The kernel's buffers take
/// more than this before the first byte waits.
const LEAST_TAKEN: usize = 16 << 10;

/// See the module.
pub struct Watched<S> {
    stream: S,
    activity: Activity,
    slowest: Duration,
    /// Set while bytes wait for the reader.
    waiting: Option<Waiting>,
}

/// Bytes wait for the reader.
struct Waiting {
    deadline: Pin<Box<Sleep>>,
    /// Bytes taken since the deadline was set.
    taken: usize,
}

impl Waiting {
    fn new(slowest: Duration) -> Self {
        Self { deadline: Box::pin(sleep(slowest)), taken: 0 }
    }
}

impl<S> Watched<S> {
    pub fn new(stream: S, activity: Activity) -> Self {
        Self::with_slowest(stream, activity, SLOWEST)
    }

    /// With another time than [`SLOWEST`].
    fn with_slowest(stream: S, activity: Activity, slowest: Duration) -> Self {
        Self { stream, activity, slowest, waiting: None }
    }

    /// Notes the outcome of a write. An error when the reader was too slow.
    fn written(&mut self, context: &mut Context<'_>, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(result) => {
                self.activity.moved();
                if let (Some(waiting), Ok(bytes)) = (&mut self.waiting, &result) {
                    waiting.taken += bytes;
                    if waiting.taken >= LEAST_TAKEN {
                        self.waiting = None;
                    }
                }
                Poll::Ready(result)
            }
            Poll::Pending => {
                let slowest = self.slowest;
                let waiting = self.waiting.get_or_insert_with(|| Waiting::new(slowest));
                ready!(waiting.deadline.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the reader is too slow")))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.moved();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Called when no byte waits any more.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;
    use crate::shares::Client;

    /// Bytes that the pipe holds.
    const PIPE: usize = 1 << 10;

    fn watched(stream: DuplexStream, slowest: Duration) -> Watched<DuplexStream> {
        Watched::with_slowest(stream, Activity::new(Client::at([127, 0, 0, 1].into())), slowest)
    }

    #[tokio::test]
    async fn a_reader_that_takes_nothing_or_drips_ends_the_connection() {
        for drip in [0, 16] {
            let (here, mut there) = duplex(PIPE);
            let reader = tokio::spawn(async move {
                let mut part = vec![0; drip];
                loop {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                    if drip > 0 && there.read_exact(&mut part).await.is_err() {
                        break;
                    }
                }
            });
            let mut stream = watched(here, Duration::from_millis(200));
            let ended = stream.write_all(&vec![0; 1 << 20]).await;
            assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::TimedOut, "{drip} bytes at a time");
            reader.abort();
        }
    }

    #[tokio::test]
    async fn bytes_that_are_taken_give_a_reader_new_time() {
        let mut stream = watched(duplex(PIPE).0, SLOWEST);
        let context = &mut Context::from_waker(Waker::noop());
        assert!(stream.written(context, Poll::Pending).is_pending());
        assert!(stream.written(context, Poll::Ready(Ok(LEAST_TAKEN - 1))).is_ready());
        assert!(stream.waiting.is_some(), "not enough yet");
        assert!(stream.written(context, Poll::Ready(Ok(1))).is_ready());
        assert!(stream.waiting.is_none());
    }

    #[tokio::test]
    async fn a_pause_between_two_answers_is_not_a_slow_reader() {
        let (here, mut there) = duplex(PIPE);
        let mut stream = watched(here, Duration::from_secs(1));
        let mut part = vec![0; 4 * PIPE];
        for _ in 0..2 {
            let bytes = vec![0; 4 * PIPE];
            let (sent, read) = tokio::join!(
                async { stream.write_all(&bytes).await.and(stream.flush().await) },
                there.read_exact(&mut part)
            );
            assert!(sent.is_ok() && read.is_ok());
            tokio::time::sleep(Duration::from_millis(1500)).await;
        }
    }
}
