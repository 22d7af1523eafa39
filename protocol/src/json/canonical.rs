//! The canonical text of a value, and of an object's fields without making the value first.

use std::fmt::Write as _;

use super::{Map, Value, float};

impl Value {
    /// Canonical text: sorted keys, no blanks, ASCII only, numbers as Python prints them.
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

/// A field's value before it is written, borrowed from the object that has it.
pub(crate) enum Field<'a> {
    Null,
    Text(&'a str),
    /// Thirty-two bytes, in hex.
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
                // The lengths fit, and hex digits are ASCII.
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

/// The canonical text of an object of these fields, which come in code point order and need no
/// escape in their names: what [`Value::canonical`] gives, without making the values first.
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
    // Most of a text is plain, and copied in one go.
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
