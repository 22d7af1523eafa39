//! Frames off a stream: bytes as they come, cut into bodies.
//!
//! A frame's memory grows with what has arrived of it, never with what its header announces.

use std::io;

use spore_protocol::{
    Reject,
    frame::{HEADER_BYTES, body_length},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits::{BUFFER_KEPT, READ_BYTES};

/// Reads frames. Bounded by the largest frame and one read.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the next frame starts.
    start: usize,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0 }
    }

    /// The next body, if all of it is here.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] for a header that announces too much; nothing can be read after it.
    pub fn next(&mut self) -> Result<Option<&[u8]>, Reject> {
        let rest = self.buffer.get(self.start..).unwrap_or_default();
        let Some(header) = rest.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
        let end = HEADER_BYTES + body_length(*header)?;
        let Some(body) = rest.get(HEADER_BYTES..end) else { return Ok(None) };
        self.start += end;
        Ok(Some(body))
    }

    /// Waits for more bytes, to be called when [`FrameReader::next`] has none: how many came; 0 at the
    /// stream's end. Loses nothing when it is dropped while it waits.
    ///
    /// # Errors
    /// The stream's.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.capacity() > BUFFER_KEPT && self.buffer.len() < READ_BYTES {
            self.buffer.shrink_to(READ_BYTES);
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            // In steps, and not doubled: the system moves large blocks without copying them.
            self.buffer.reserve_exact(READ_BYTES.max(self.buffer.len() / 8));
        }
        self.source.read_buf(&mut self.buffer).await
    }

    /// Bytes of a frame that has begun, after the last call of [`FrameReader::next`].
    pub fn begun(&self) -> usize {
        self.buffer.len() - self.start
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn next(reader: &mut FrameReader<tokio::io::DuplexStream>) -> Option<Vec<u8>> {
        loop {
            if let Some(body) = reader.next().unwrap() {
                return Some(body.to_vec());
            }
            if reader.fill().await.unwrap() == 0 {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn frames_come_out_whole_however_they_were_cut() {
        let bodies = [vec![1; 3], Vec::new(), vec![2; 100_000], vec![3; 1]];
        let mut bytes = Vec::new();
        for body in &bodies {
            bytes.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
            bytes.extend(body);
        }
        for piece in [1, 7, 4096, bytes.len()] {
            let (mut ours, theirs) = tokio::io::duplex(64);
            let mut reader = FrameReader::new(theirs);
            let all = bytes.clone();
            let writing = tokio::spawn(async move {
                for chunk in all.chunks(piece) {
                    ours.write_all(chunk).await.unwrap();
                }
            });
            for body in &bodies {
                assert_eq!(next(&mut reader).await.as_ref(), Some(body));
            }
            assert_eq!(next(&mut reader).await, None);
            writing.await.unwrap();
        }
    }

    #[tokio::test]
    async fn an_announced_length_costs_no_memory_and_too_long_a_one_is_refused() {
        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(theirs);
        ours.write_all(&(10 * 1024 * 1024_u32).to_be_bytes()).await.unwrap();
        ours.write_all(b"{").await.unwrap();
        while reader.begun() < 5 {
            assert_eq!(reader.next(), Ok(None));
            reader.fill().await.unwrap();
        }
        assert!(reader.buffer.capacity() <= 2 * READ_BYTES);

        let (mut ours, theirs) = tokio::io::duplex(64);
        let mut reader = FrameReader::new(theirs);
        ours.write_all(&(10 * 1024 * 1024 + 1_u32).to_be_bytes()).await.unwrap();
        while reader.fill().await.unwrap() < 4 && reader.begun() < 4 {}
        assert!(matches!(reader.next(), Err(Reject::TooLarge { .. })));
    }

    #[tokio::test]
    async fn a_large_frames_memory_is_given_back() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(theirs);
        let writing = tokio::spawn(async move {
            ours.write_all(&(4_u32 << 20).to_be_bytes()).await.unwrap();
            ours.write_all(&vec![0; 4 << 20]).await.unwrap();
            ours
        });
        assert_eq!(next(&mut reader).await.map(|body| body.len()), Some(4 << 20));
        let ours = writing.await.unwrap();
        drop(ours);
        assert_eq!(reader.fill().await.unwrap(), 0);
        assert!(reader.buffer.capacity() <= BUFFER_KEPT);
    }
}
