//! Strict JSON and its canonical form, which equals the output of Python's `json` byte for byte.
//!
//! General JSON libraries are not strict enough (docs/adr/0004). The spelling of a number is part of an
//! object's id, so `1` and `1.0` differ. Duplicate keys and lone surrogates must be errors with a name.
//! Integers beyond 64 bits must not become floats without an error.

mod canonical;
mod float;

use std::collections::{BTreeMap, btree_map::Entry};

pub(crate) use self::canonical::{Field, canonical_fields};
use crate::Reject;

/// Deepest nesting of arrays and objects.
pub const MAX_DEPTH: usize = 32;

/// Most values in one text. A signed object has about thirty. A parsed value takes up to eighty times
/// the bytes of its text, so without this limit a frame of 10 MiB could take almost 1 GiB of memory.
pub const MAX_VALUES: usize = 16_384;

/// A JSON object. `BTreeMap` keeps the keys in code point order, as canonical text needs them.
pub type Map = BTreeMap<String, Value>;

/// A JSON value that remembers whether a number was spelled as an integer.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    /// `i64::MIN..=u64::MAX`.
    Int(i128),
    /// Always finite.
    Float(f64),
    String(String),
    Array(Vec<Value>),
    Object(Map),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Int(number.into())
    }
}

impl Value {
    /// Reads one JSON text.
    ///
    /// # Errors
    /// A [`Reject`] for text that is not strict JSON, repeats a key in one object, nests deeper than
    /// [`MAX_DEPTH`], has more than [`MAX_VALUES`] values, or has a number that is not finite or does not
    /// fit 64 bits.
    pub fn parse(bytes: &[u8]) -> Result<Self, Reject> {
        let text =
            std::str::from_utf8(bytes).map_err(|e| Reject::NotJson { at: e.valid_up_to(), what: "invalid UTF-8" })?;
        let mut parser = Parser { text, at: 0, values: 0 };
        let value = parser.value(0)?;
        parser.blanks();
        if parser.at < text.len() { Err(parser.error("text after the value")) } else { Ok(value) }
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
    /// Number of values so far.
    values: usize,
}

impl Parser<'_> {
    fn error(&self, what: &'static str) -> Reject {
        Reject::NotJson { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8, what: &'static str) -> Result<(), Reject> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, Reject> {
        if !self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes())) {
            return Err(self.error("expected a value"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value, Reject> {
        if depth > MAX_DEPTH {
            return Err(Reject::TooDeep { limit: MAX_DEPTH });
        }
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Reject::TooManyValues { limit: MAX_VALUES });
        }
        self.blanks();
        match self.peek() {
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => self.string().map(Value::String),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(b'-' | b'0'..=b'9') => self.number(),
            Some(_) => Err(self.error("expected a value")),
            None => Err(self.error("the text ends before a value")),
        }
    }

    /// After a value inside brackets: reads a comma (true) or the closing bracket (false).
    fn more(&mut self, close: u8) -> Result<bool, Reject> {
        self.blanks();
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.error("expected a comma or the closing bracket")),
        }
    }

    /// Reads an opening bracket, and the closing one if it follows at once (true).
    fn empty(&mut self, close: u8) -> bool {
        self.at += 1;
        self.blanks();
        let empty = self.peek() == Some(close);
        self.at += usize::from(empty);
        empty
    }

    fn array(&mut self, depth: usize) -> Result<Value, Reject> {
        let mut items = Vec::new();
        if self.empty(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            if !self.more(b']')? {
                return Ok(Value::Array(items));
            }
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, Reject> {
        let mut map = Map::new();
        if self.empty(b'}') {
            return Ok(Value::Object(map));
        }
        loop {
            self.blanks();
            if self.peek() != Some(b'"') {
                return Err(self.error("expected a key in quotes"));
            }
            let key = self.string()?;
            self.blanks();
            self.take(b':', "expected a colon")?;
            let value = self.value(depth + 1)?;
            match map.entry(key) {
                Entry::Vacant(place) => place.insert(value),
                Entry::Occupied(first) => return Err(Reject::DuplicateKey(first.key().clone())),
            };
            if !self.more(b'}')? {
                return Ok(Value::Object(map));
            }
        }
    }

    fn string(&mut self) -> Result<String, Reject> {
        self.at += 1;
        let mut out = String::new();
        loop {
            let rest = self.text.get(self.at..).unwrap_or_default();
            let plain = rest
                .bytes()
                .position(|byte| byte == b'"' || byte == b'\\' || byte < b' ')
                .ok_or(Reject::NotJson { at: self.text.len(), what: "the text ends inside a string" })?;
            out.push_str(rest.get(..plain).unwrap_or_default());
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => out.push(self.escape()?),
                _ => return Err(self.error("a control character in a string is not escaped")),
            }
        }
    }

    fn escape(&mut self) -> Result<char, Reject> {
        let start = self.at;
        self.at += 1;
        let c = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'u') => return self.unicode_escape(start),
            _ => return Err(self.error("unknown escape")),
        };
        self.at += 1;
        Ok(c)
    }

    fn unicode_escape(&mut self, start: usize) -> Result<char, Reject> {
        let lone = Reject::LoneSurrogate { at: start };
        let first = self.hex4()?;
        let code = match first {
            0xd800..=0xdbff => {
                if self.text.get(self.at..self.at + 2) != Some("\\u") {
                    return Err(lone);
                }
                self.at += 1;
                let second = self.hex4()?;
                if !(0xdc00..=0xdfff).contains(&second) {
                    return Err(lone);
                }
                0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00)
            }
            _ => first,
        };
        char::from_u32(code).ok_or(lone)
    }

    /// Reads `u` and four hex digits.
    fn hex4(&mut self) -> Result<u32, Reject> {
        let digits = self.text.get(self.at + 1..self.at + 5).unwrap_or_default();
        if digits.len() != 4 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(self.error("expected four hex digits"));
        }
        self.at += 5;
        u32::from_str_radix(digits, 16).map_err(|_| self.error("expected four hex digits"))
    }

    fn digits(&mut self) -> Result<usize, Reject> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at == start { Err(self.error("expected a digit")) } else { Ok(self.at - start) }
    }

    fn number(&mut self) -> Result<Value, Reject> {
        let start = self.at;
        self.at += usize::from(self.peek() == Some(b'-'));
        let zero = self.peek() == Some(b'0');
        if self.digits()? > 1 && zero {
            return Err(self.error("a number starts with an extra zero"));
        }
        let mut float = false;
        if self.peek() == Some(b'.') {
            float = true;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            float = true;
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), Some(b'+' | b'-')));
            self.digits()?;
        }
        let text = self.text.get(start..self.at).unwrap_or_default();
        let out_of_range = Reject::NumberOutOfRange { at: start };
        if float {
            let x: f64 = text.parse().map_err(|_| out_of_range.clone())?;
            return if x.is_finite() { Ok(Value::Float(x)) } else { Err(out_of_range) };
        }
        let i: i128 = text.parse().map_err(|_| out_of_range.clone())?;
        if (i128::from(i64::MIN)..=i128::from(u64::MAX)).contains(&i) { Ok(Value::Int(i)) } else { Err(out_of_range) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(text: &str) -> Result<String, Reject> {
        Value::parse(text.as_bytes()).map(|v| v.canonical())
    }

    #[test]
    fn numbers_keep_their_spelling() {
        for (text, canonical) in [
            ("1", "1"),
            ("1.0", "1.0"),
            ("-0.0", "-0.0"),
            ("-0", "0"),
            ("0.0001", "0.0001"),
            ("1e-5", "1e-05"),
            ("1e15", "1000000000000000.0"),
            ("1e16", "1e+16"),
            ("0.00000015", "1.5e-07"),
            ("5e-324", "5e-324"),
            ("18446744073709551615", "18446744073709551615"),
            ("-9223372036854775808", "-9223372036854775808"),
            ("123456.789", "123456.789"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("100.0", "100.0"),
            // Half-way between two shortest texts: Python takes the even one, unless it is another number.
            ("2.00000762939453125", "2.0000076293945312"),
            ("2.00002288818359375", "2.0000228881835938"),
            ("-1751330234161755.126", "-1751330234161755.2"),
            ("5.9604644775390625e-8", "5.960464477539063e-08"),
        ] {
            assert_eq!(round(text).unwrap(), canonical);
        }
    }

    #[test]
    fn invalid_json_is_refused_with_a_name() {
        for (text, code) in [
            ("", "not_json"),
            ("01", "not_json"),
            ("1.", "not_json"),
            ("[1,]", "not_json"),
            ("{\"a\":1,}", "not_json"),
            ("NaN", "not_json"),
            ("Infinity", "not_json"),
            ("\"\t\"", "not_json"),
            ("1 2", "not_json"),
            ("{\"a\":1,\"a\":1}", "duplicate_key"),
            ("\"\\ud800\"", "lone_surrogate"),
            ("\"\\ud800\\u0041\"", "lone_surrogate"),
            ("\"\\udc00\"", "lone_surrogate"),
            ("1e400", "number_out_of_range"),
            ("18446744073709551616", "number_out_of_range"),
            ("\"\\u12\"", "not_json"),
            ("\"abc", "not_json"),
            ("tru", "not_json"),
            ("\"\\u00e\u{e9}\"", "not_json"),
        ] {
            assert_eq!(round(text).unwrap_err().code(), code, "{text}");
        }
        let deep = |n: usize| "[".repeat(n) + &"]".repeat(n);
        assert!(round(&deep(MAX_DEPTH + 1)).is_ok());
        assert_eq!(round(&deep(MAX_DEPTH + 2)).unwrap_err().code(), "too_deep");
        assert_eq!(round(&deep(100_000)).unwrap_err().code(), "too_deep");
        let many = |n: usize| format!("[{}0]", "0,".repeat(n - 2));
        assert!(round(&many(MAX_VALUES)).is_ok());
        assert_eq!(round(&many(MAX_VALUES + 1)).unwrap_err().code(), "too_many_values");
    }

    #[test]
    fn strings_are_ascii_with_surrogate_pairs() {
        assert_eq!(round("\"\u{1F344}\\/\u{7f}\\u001F\\b\"").unwrap(), "\"\\ud83c\\udf44/\\u007f\\u001f\\b\"");
        assert_eq!(round("{\"b\":[],\"a\":{}}").unwrap(), "{\"a\":{},\"b\":[]}");
    }

    proptest::proptest! {
        #[test]
        fn canonical_text_is_its_own_canonical_text(x in proptest::num::f64::NORMAL, text in ".*") {
            let value = Value::Array(vec![Value::Float(x), Value::String(text)]);
            let once = value.canonical();
            let again = Value::parse(once.as_bytes()).unwrap();
            proptest::prop_assert_eq!(&again, &value);
            proptest::prop_assert_eq!(again.canonical(), once);
        }

        #[test]
        fn parser_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = Value::parse(&bytes);
        }
    }
}
