//! Canonical text: of a parsed value, and of an object's fields without a [`Value`] in between.

use std::fmt::Write as _;

use super::{Map, Value, float};

impl Value {
    /// The canonical text: sorted keys, no blanks, ASCII only, numbers as Python prints them.
    pub fn canonical(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut String) {
        match self {
            Self::Null => out.push_str("null"),
            Self::Bool(true) => out.push_str("true"),
            Self::Bool(false) => out.push_str("false"),
            Self::Int(i) => {
                let _ = write!(out, "{i}");
            }
            Self::Float(x) => float::write(*x, out),
            Self::String(text) => write_string(text, out),
            Self::Array(items) => {
                out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(',');
                    }
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(map) => write_object(map, out),
        }
    }
}

fn write_object(map: &Map, out: &mut String) {
    out.push('{');
    for (i, (key, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(',');
        }
        write_string(key, out);
        out.push(':');
        value.write(out);
    }
    out.push('}');
}

/// The value of a field, borrowed from its object.
pub(crate) enum Field<'a> {
    Null,
    Text(&'a str),
    /// 32 bytes, written as hex.
    Id([u8; 32]),
    Int(u64),
    Float(f64),
}

impl Field<'_> {
    fn write(&self, out: &mut String) {
        match self {
            Self::Null => Value::Null.write(out),
            Self::Text(text) => write_string(text, out),
            Self::Id(id) => {
                let mut text = [0; 64];
                // Never fails: 32 bytes are 64 hex digits.
                let _ = hex::encode_to_slice(id, &mut text);
                out.push('"');
                out.push_str(std::str::from_utf8(&text).unwrap_or_default());
                out.push('"');
            }
            Self::Int(number) => Value::from(*number).write(out),
            Self::Float(number) => Value::Float(*number).write(out),
        }
    }
}

impl From<Field<'_>> for Value {
    fn from(field: Field<'_>) -> Self {
        match field {
            Field::Null => Self::Null,
            Field::Text(text) => text.into(),
            Field::Id(id) => Self::String(hex::encode(id)),
            Field::Int(number) => number.into(),
            Field::Float(number) => Self::Float(number),
        }
    }
}

/// The canonical text of an object with these fields: the same as that of [`Value::canonical`], and
/// faster. The caller passes the fields sorted by name, with names that need no escapes.
pub(crate) fn canonical_fields<'a>(fields: impl IntoIterator<Item = (&'static str, Field<'a>)>) -> String {
    let mut out = String::with_capacity(1024);
    let mut between = '{';
    for (name, field) in fields {
        out.push(between);
        out.push('"');
        out.push_str(name);
        out.push_str("\":");
        field.write(&mut out);
        between = ',';
    }
    out.push('}');
    out
}

fn write_string(text: &str, out: &mut String) {
    let plain = |byte: u8| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\';
    out.push('"');
    let mut rest = text;
    // Copies runs of plain characters at once: most text is plain.
    while let Some(at) = rest.bytes().position(|byte| !plain(byte)) {
        let (before, special) = rest.split_at_checked(at).unwrap_or((rest, ""));
        out.push_str(before);
        let mut chars = special.chars();
        if let Some(c) = chars.next() {
            write_escape(c, out);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
    out.push('"');
}

fn write_escape(c: char, out: &mut String) {
    let short = match c {
        '"' | '\\' => c,
        '\n' => 'n',
        '\r' => 'r',
        '\t' => 't',
        '\u{8}' => 'b',
        '\u{c}' => 'f',
        _ => {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{unit:04x}");
            }
            return;
        }
    };
    out.push('\\');
    out.push(short);
}
