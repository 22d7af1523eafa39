//! Any bytes as a message of our own network: CBOR of an object or of its announcement.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spore_fuzz::bounded;
use spore_protocol::wire::{MAX_MESSAGE_BYTES, Message, decode_object, encode_object};

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, |bytes| {
        if let Ok(message) = Message::decode(bytes) {
            let again = message.encode().expect("the parts are plain bytes");
            assert_eq!(Message::decode(&again).as_ref(), Ok(&message));
        }
        if let Ok(object) = decode_object(bytes, MAX_MESSAGE_BYTES) {
            let again = encode_object(&object).expect("the parts are plain bytes");
            assert_eq!(decode_object(&again, again.len()), Ok(object));
        }
    });
});
