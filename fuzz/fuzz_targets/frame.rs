//! Target: any byte stream as frames of the legacy wire, in chunks of any size.
//!
//! The first byte of the input is the seed of the chunk sizes, the rest is the stream.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use spore_fuzz::{Chunks, bounded};
use spore_protocol::{
    Reject,
    frame::{Frame, HEADER_BYTES, MAX_BODY_BYTES},
    oracle::body_length,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((&seed, stream)) = bytes.split_first() else { return };
    bounded(bytes, |_| {
        let frames = frames(stream, seed);
        // Written and read again in other chunks, the frames are the same.
        let whole: Vec<u8> =
            frames.iter().flat_map(|frame| frame.encode().expect("the frame had this size before")).collect();
        assert_eq!(self::frames(&whole, !seed), frames);
    });
});

/// The frames up to the first invalid one, as a session reads them.
fn frames(stream: &[u8], seed: u8) -> Vec<Frame> {
    let mut stream = Chunks::new(stream, seed);
    let mut frames = Vec::new();
    let mut header = [0; HEADER_BYTES];
    while stream.read_exact(&mut header).is_ok() {
        let length = match body_length(header) {
            Ok(length) => length,
            Err(reject) => {
                assert!(matches!(reject, Reject::TooLarge { .. }));
                break;
            }
        };
        assert!(length <= MAX_BODY_BYTES);
        // The peer may announce any length, so memory is allocated as the body arrives.
        let mut body = Vec::new();
        let read = stream.by_ref().take(length as u64).read_to_end(&mut body).expect("memory can be read");
        if read < length {
            break;
        }
        match Frame::decode(&body) {
            Ok(frame) => frames.push(frame),
            Err(_) => break,
        }
    }
    frames
}
