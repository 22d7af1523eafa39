//! Empty stand-in for a wasm-only timer crate that is never compiled here; docs/adr/0003 tells why.
