//! Reads the fields of a signed object: each once, by name and type, with none left over.

use std::str::FromStr;

use crate::{
    Reject,
    json::{Map, Value},
};

/// The fields of an object that have not been read yet. Only the objects of this crate read them.
pub struct FieldReader(pub(crate) Map);

impl FieldReader {
    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    fn take(&mut self, name: &str) -> Result<Value, Reject> {
        self.0.remove(name).ok_or_else(|| Reject::MissingField(name.to_owned()))
    }

    pub(crate) fn text(&mut self, name: &str) -> Result<String, Reject> {
        match self.take(name)? {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "text")),
        }
    }

    pub(crate) fn unsigned(&mut self, name: &str) -> Result<u64, Reject> {
        let expected = "an integer of at least 0 that fits 64 bits";
        match self.take(name)? {
            Value::Int(i) => u64::try_from(i).map_err(|_| wrong(name, expected)),
            _ => Err(wrong(name, expected)),
        }
    }

    /// A number in either spelling, as integer or as float.
    #[allow(clippy::cast_precision_loss, reason = "Python's own conversion rounds the same way")]
    pub(crate) fn number(&mut self, name: &str) -> Result<f64, Reject> {
        match self.take(name)? {
            Value::Int(i) => Ok(i as f64),
            Value::Float(x) => Ok(x),
            _ => Err(wrong(name, "a number")),
        }
    }

    /// A list of numbers, each in either spelling.
    #[allow(clippy::cast_precision_loss, reason = "Python's own conversion rounds the same way")]
    pub(crate) fn numbers(&mut self, name: &str) -> Result<Vec<f64>, Reject> {
        let Value::Array(items) = self.take(name)? else { return Err(wrong(name, "a list of numbers")) };
        let number = |item: &Value| match item {
            Value::Int(i) => Ok(*i as f64),
            Value::Float(x) => Ok(*x),
            _ => Err(wrong(name, "a list of numbers")),
        };
        items.iter().map(number).collect()
    }

    pub(crate) fn object(&mut self, name: &str) -> Result<Map, Reject> {
        match self.take(name)? {
            Value::Object(map) => Ok(map),
            _ => Err(wrong(name, "an object")),
        }
    }

    pub(crate) fn id<T: FromStr>(&mut self, name: &str) -> Result<T, Reject> {
        self.text(name)?.parse().map_err(|_| wrong(name, "64 lower-case hex digits"))
    }

    /// An id. None if the text is empty.
    pub(crate) fn optional_id<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Reject> {
        let text = self.text(name)?;
        if text.is_empty() {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| wrong(name, "64 lower-case hex digits, or empty"))
    }

    /// An id. None if the value is null.
    pub(crate) fn nullable_id<T: FromStr>(&mut self, name: &str) -> Result<Option<T>, Reject> {
        match self.take(name)? {
            Value::Null => Ok(None),
            Value::String(text) => text.parse().map(Some).map_err(|_| wrong(name, "64 lower-case hex digits, or null")),
            _ => Err(wrong(name, "64 lower-case hex digits, or null")),
        }
    }

    /// One word out of a fixed set, which `expected` lists for the error.
    pub(crate) fn word<T: FromStr>(&mut self, name: &str, expected: &'static str) -> Result<T, Reject> {
        self.text(name)?.parse().map_err(|_| wrong(name, expected))
    }

    /// Checks that all fields have been read.
    ///
    /// # Errors
    /// [`Reject::UnknownField`] for a field that is left.
    pub(crate) fn finish(self) -> Result<(), Reject> {
        match self.0.into_keys().next() {
            Some(name) => Err(Reject::UnknownField(name)),
            None => Ok(()),
        }
    }
}

/// The signed text of an optional id: empty if there is none.
pub fn text_or_empty<T: ToString>(id: Option<T>) -> Value {
    Value::String(id.map(|id| id.to_string()).unwrap_or_default())
}

fn wrong(field: &str, expected: &'static str) -> Reject {
    Reject::WrongType { field: field.to_owned(), expected }
}
