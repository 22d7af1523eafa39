//! Reads frames from a stream: collects bytes and cuts them into bodies.
//!
//! The memory of a frame grows with the bytes that have arrived, never with the length that its header announces. A
//! frame that is somewhat longer than the limit is skipped, because an honest reference may send one.

use std::io;

use spore_protocol::{
    Reject,
    frame::{HEADER_BYTES, MAX_BODY_BYTES},
};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::limits::{BUFFER_KEPT, READ_BYTES, SKIPPED_TIMES};

/// One frame of a stream.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FrameBody<'a> {
    Whole(&'a [u8]),
    /// A body of this many bytes was too long to be kept, and has been skipped.
    Skipped(usize),
}

/// A body that is being skipped.
#[derive(Clone, Copy, Debug)]
struct SkippedBody {
    size: usize,
    left: usize,
}

/// Reads frames. Its memory is bounded by the largest frame and one read.
#[derive(Debug)]
pub(super) struct FrameReader<R> {
    source: R,
    buffer: Vec<u8>,
    /// Where the next frame starts.
    start: usize,
    skip: Option<SkippedBody>,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    pub fn new(source: R) -> Self {
        Self { source, buffer: Vec::new(), start: 0, skip: None }
    }

    /// The length of the next body in bytes, as its header announces it. None while the header is not here.
    pub fn announced(&self) -> Option<usize> {
        let header = self.buffer.get(self.start..)?.first_chunk::<HEADER_BYTES>().filter(|_| self.skip.is_none())?;
        Some(usize::try_from(u32::from_be_bytes(*header)).unwrap_or(usize::MAX))
    }

    /// The next body. None while not all of it is here.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] for a header that announces too much. Nothing can be read after it.
    pub fn next(&mut self) -> Result<Option<FrameBody<'_>>, Reject> {
        if self.skip.is_some() {
            return Ok(self.skip());
        }
        let Some(size) = self.announced() else { return Ok(None) };
        if size > SKIPPED_TIMES * MAX_BODY_BYTES {
            return Err(Reject::TooLarge { size, limit: MAX_BODY_BYTES });
        }
        if size > MAX_BODY_BYTES {
            self.start += HEADER_BYTES;
            self.skip = Some(SkippedBody { size, left: size });
            return Ok(self.skip());
        }
        let (begin, end) = (self.start + HEADER_BYTES, self.start + HEADER_BYTES + size);
        let Some(body) = self.buffer.get(begin..end) else { return Ok(None) };
        self.start = end;
        Ok(Some(FrameBody::Whole(body)))
    }

    /// Skips the bytes of a body that is too long. Returns its size once all of it has been skipped.
    fn skip(&mut self) -> Option<FrameBody<'static>> {
        let skip = self.skip.as_mut()?;
        let here = skip.left.min(self.buffer.len() - self.start);
        self.start += here;
        skip.left -= here;
        let size = skip.size;
        (skip.left == 0).then(|| {
            self.skip = None;
            FrameBody::Skipped(size)
        })
    }

    /// Waits for more bytes. To be called when [`FrameReader::next`] returns None. Returns how many bytes came; 0 at the
    /// end of the stream. The future may be dropped at any time: no byte is lost.
    ///
    /// # Errors
    /// An error of the stream.
    pub async fn fill(&mut self) -> io::Result<usize> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.buffer.capacity() > BUFFER_KEPT && self.buffer.len() < READ_BYTES {
            self.buffer.shrink_to(READ_BYTES);
        }
        if self.buffer.capacity() - self.buffer.len() < READ_BYTES / 2 {
            // In steps instead of doubling: the allocator moves large blocks without a copy.
            self.buffer.reserve_exact(READ_BYTES.max(self.buffer.len() / 8));
        }
        self.source.read_buf(&mut self.buffer).await
    }

    /// Bytes that are here of a frame that is not complete, as of the last call of [`FrameReader::next`].
    pub fn begun(&self) -> usize {
        let skipped = self.skip.map_or(0, |skip| HEADER_BYTES + skip.size - skip.left);
        self.buffer.len() - self.start + skipped
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    async fn next(reader: &mut FrameReader<tokio::io::DuplexStream>) -> Option<Vec<u8>> {
        loop {
            match reader.next().unwrap() {
                Some(FrameBody::Whole(body)) => return Some(body.to_vec()),
                Some(FrameBody::Skipped(size)) => panic!("{size} bytes are skipped"),
                None => {}
            }
            if reader.fill().await.unwrap() == 0 {
                return None;
            }
        }
    }

    #[tokio::test]
    async fn frames_are_whole_however_the_bytes_were_cut() {
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
    async fn announced_length_costs_no_memory_and_one_beyond_the_limit_is_refused() {
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
        ours.write_all(&(60 * 1024 * 1024 + 1_u32).to_be_bytes()).await.unwrap();
        while reader.fill().await.unwrap() < 4 && reader.begun() < 4 {}
        assert!(matches!(reader.next(), Err(Reject::TooLarge { .. })));
    }

    #[tokio::test]
    async fn body_that_is_too_long_is_skipped_without_being_kept() {
        let (mut ours, theirs) = tokio::io::duplex(1 << 20);
        let mut reader = FrameReader::new(theirs);
        let size = MAX_BODY_BYTES + 1;
        let writing = tokio::spawn(async move {
            ours.write_all(&u32::try_from(size).unwrap().to_be_bytes()).await.unwrap();
            ours.write_all(&vec![b' '; size]).await.unwrap();
            ours.write_all(&[0, 0, 0, 1, 7]).await.unwrap();
        });
        let mut before = 0;
        loop {
            match reader.next().unwrap() {
                Some(part) => break assert_eq!(part, FrameBody::Skipped(size)),
                None => assert!(reader.fill().await.unwrap() > 0),
            }
            assert!(reader.buffer.capacity() <= 2 * READ_BYTES);
            assert!(reader.begun() > before, "each byte counts as one that arrived");
            before = reader.begun().min(size);
        }
        assert_eq!(next(&mut reader).await, Some(vec![7]));
        writing.await.unwrap();
    }

    #[tokio::test]
    async fn memory_of_a_large_frame_is_given_back() {
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
