//! Target: any bytes as JSON. They are parsed or refused by name, and canonical text is its own canonical
//! text.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spore_fuzz::bounded;
use spore_protocol::json::Value;

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, |bytes| match Value::parse(bytes) {
        Ok(value) => {
            let canonical = value.canonical();
            assert!(canonical.is_ascii());
            let again = Value::parse(canonical.as_bytes()).expect("canonical text is JSON");
            assert_eq!(again, value);
            assert_eq!(again.canonical(), canonical);
        }
        Err(reject) => assert!(!reject.code().is_empty() && !reject.to_string().is_empty()),
    });
});
