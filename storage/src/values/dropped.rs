//! What the store remembers of an object that it dropped.

use super::bytes::{ValueReader, ValueWriter};
use crate::{
    error::{Damage, Result},
    types::WhyDropped,
};

/// The entry of a dropped object. On disk: order (8), reason (1), then the item's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DroppedEntry {
    /// Of one reason, those of the lowest order are forgotten first.
    pub order: u64,
    pub why: WhyDropped,
    /// The key in the timeline that nodes compare. None for an object that belongs to no such list.
    pub item: Option<Vec<u8>>,
}

impl DroppedEntry {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter::default();
        w.fixed(&self.order.to_be_bytes());
        w.byte(self.why.code());
        [w.0.as_slice(), self.item.as_deref().unwrap_or_default()].concat()
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        let order = u64::from_be_bytes(r.fixed()?);
        let why = match r.byte()? {
            0 => WhyDropped::Room,
            1 => WhyDropped::Operator,
            _ => return Err(Damage::Value("an object was dropped for no known reason").into()),
        };
        Ok(Self { order, why, item: Some(r.0.to_vec()).filter(|item| !item.is_empty()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_is_read_back_as_it_was_written() {
        for why in [WhyDropped::Room, WhyDropped::Operator] {
            for item in [None, Some(vec![1, 2, 3])] {
                let entry = DroppedEntry { order: 7, why, item };
                assert_eq!(DroppedEntry::decode(&entry.encode()).unwrap(), entry);
            }
        }
        assert!(DroppedEntry::decode(&[0; 5]).is_err());
    }
}
