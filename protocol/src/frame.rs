//! Frames of the legacy wire: a length of 4 bytes, big-endian, then the JSON of a type and a payload.

use crate::{
    Reject,
    json::{Map, Value},
};

/// Bytes of the header, which holds the length of the body.
pub const HEADER_BYTES: usize = 4;

/// Largest body in bytes, as in the reference.
pub const MAX_BODY_BYTES: usize = 10 * 1024 * 1024;

/// The content of one frame.
#[derive(Clone, Debug, PartialEq)]
pub struct Frame {
    /// Type of the message, such as `experiment` or `ping`.
    pub kind: String,
    pub payload: Value,
}

impl Frame {
    /// Reads the body of a frame. A missing payload is an empty one, as in the reference.
    ///
    /// # Errors
    /// What is wrong with the JSON, or a missing, unknown or ill-typed field.
    pub fn decode(body: &[u8]) -> Result<Self, Reject> {
        let Value::Object(mut map) = Value::parse(body)? else { return Err(Reject::NotAnObject) };
        let kind = match map.remove("type") {
            Some(Value::String(kind)) => kind,
            Some(_) => return Err(Reject::WrongType { field: "type".into(), expected: "text" }),
            None => return Err(Reject::MissingField("type".into())),
        };
        let payload = map.remove("payload").unwrap_or_else(|| Value::Object(Map::new()));
        match map.into_keys().next() {
            Some(field) => Err(Reject::UnknownField(field)),
            None => Ok(Self { kind, payload }),
        }
    }

    /// The bytes of the frame: header and body.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] when the body exceeds [`MAX_BODY_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, Reject> {
        let map = Map::from([
            ("type".to_owned(), Value::String(self.kind.clone())),
            ("payload".to_owned(), self.payload.clone()),
        ]);
        let body = Value::Object(map).canonical();
        let size = body.len();
        match u32::try_from(size) {
            Ok(length) if size <= MAX_BODY_BYTES => {
                let mut bytes = length.to_be_bytes().to_vec();
                bytes.extend_from_slice(body.as_bytes());
                Ok(bytes)
            }
            _ => Err(Reject::TooLarge { size, limit: MAX_BODY_BYTES }),
        }
    }
}
