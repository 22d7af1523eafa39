//! Target: any bytes as a message of our own network, the CBOR of an object or of an announcement. A message
//! has one encoding only.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spore_fuzz::bounded;
use spore_protocol::wire::{MAX_MESSAGE_BYTES, Message, decode_object, encode_object};

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, |bytes| {
        if let Ok(message) = Message::decode(bytes) {
            assert_eq!(message.encode().expect("plain bytes always encode"), bytes);
        }
        if let Ok(object) = decode_object(bytes, MAX_MESSAGE_BYTES) {
            assert_eq!(encode_object(&object).expect("plain bytes always encode"), bytes);
        }
    });
});
