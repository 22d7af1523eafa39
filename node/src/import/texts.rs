//! Splits a file of signed objects into JSON texts, one in memory at a time. `spore import` and `spore inspect` read the
//! same files with it: objects one a line, several on a line, or over several lines.

use std::io::{self, BufRead};

use spore_protocol::Reject;

/// Splits a stream into JSON texts: objects by their braces, anything else by lines.
pub struct TextReader<R> {
    source: R,
    /// Most bytes of one text.
    limit: usize,
    /// The line on which the newest text began.
    pub line: u64,
    /// Line ends so far.
    newlines: u64,
    /// The newest byte ended a line.
    fresh: bool,
}

impl<R: BufRead> TextReader<R> {
    pub fn new(source: R, limit: usize) -> Self {
        Self { source, limit, line: 1, newlines: 0, fresh: true }
    }

    /// The next text. None at the end of the stream.
    ///
    /// # Errors
    /// When the source cannot be read.
    #[allow(clippy::should_implement_trait, reason = "an iterator could not report an error of the source once")]
    pub fn next(&mut self) -> io::Result<Option<Result<Vec<u8>, Reject>>> {
        let mut text = Vec::new();
        let mut scan = JsonPosition::default();
        let mut too_large = 0usize;
        loop {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let mut used = 0;
            let mut complete = false;
            for &byte in chunk {
                // An object that begins a line begins a new text: a missing brace spoils its own line only.
                let begun = !text.is_empty() || too_large > 0;
                if byte == b'{' && begun && std::mem::replace(&mut self.fresh, false) {
                    complete = true;
                    break;
                }
                self.fresh = byte == b'\n';
                used += 1;
                self.newlines += u64::from(byte == b'\n');
                if text.is_empty() && too_large == 0 && byte.is_ascii_whitespace() {
                    continue;
                }
                if text.is_empty() && too_large == 0 {
                    self.line = self.newlines + 1;
                }
                if text.len() < self.limit {
                    text.push(byte)
                } else {
                    too_large += 1
                }
                complete = scan.take(byte);
                if complete {
                    break;
                }
            }
            self.source.consume(used);
            if complete {
                break;
            }
        }
        if too_large > 0 {
            return Ok(Some(Err(Reject::TooLarge { size: text.len() + too_large, limit: self.limit })));
        }
        Ok(if text.is_empty() { None } else { Some(Ok(text)) })
    }
}

/// The position of the stream in a JSON text.
#[derive(Default)]
struct JsonPosition {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl JsonPosition {
    /// Advances by one byte. Returns whether the text ends with it.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            // No JSON string contains a line end, so a missing quote spoils its own line only.
            if closes || byte == b'\n' {
                self.in_string = false;
            }
            if byte != b'\n' {
                return false;
            }
            self.escaped = false;
            self.depth = 0;
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'\n' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    const LIMIT: usize = 1 << 20;

    fn texts(input: &str) -> Vec<String> {
        // The buffer is small, so that texts cross its edges.
        let mut objects = TextReader::new(BufReader::with_capacity(3, input.as_bytes()), LIMIT);
        let mut found = Vec::new();
        while let Some(text) = objects.next().unwrap() {
            found.push(String::from_utf8(text.unwrap()).unwrap().trim().to_owned());
        }
        found
    }

    #[test]
    fn objects_may_share_a_line_or_span_several() {
        assert_eq!(texts("{\n \"a\": {\"b\": \"}\\\"{\"}\n}\n"), ["{\n \"a\": {\"b\": \"}\\\"{\"}\n}"]);
        assert_eq!(texts("{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}"), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(texts("{\"a\":1} {\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(texts(" \n \n"), [""; 0]);
    }

    #[test]
    fn broken_line_spoils_no_other() {
        assert_eq!(texts("nonsense\n{\"a\":\"open\n{\"b\":2}\n"), ["nonsense", "{\"a\":\"open", "{\"b\":2}"]);
        assert_eq!(texts("{\"a\":{\"b\":1}\n{\"c\":2}\n"), ["{\"a\":{\"b\":1}", "{\"c\":2}"]);
    }

    #[test]
    fn too_long_text_is_rejected_and_the_next_one_found() {
        let big = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(LIMIT));
        let mut objects = TextReader::new(BufReader::new(big.as_bytes()), LIMIT);
        assert!(matches!(objects.next().unwrap(), Some(Err(Reject::TooLarge { .. }))));
        assert_eq!(objects.next().unwrap().unwrap().unwrap(), b"{}");
        assert_eq!(objects.line, 2);
    }
}
