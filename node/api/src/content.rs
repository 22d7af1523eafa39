//! An answer that is whole in memory. A leaf.

use std::sync::Arc;

/// The body of an answer and its media type.
#[derive(Clone, Debug)]
pub struct Content {
    pub content_type: &'static str,
    pub body: Arc<Vec<u8>>,
}
