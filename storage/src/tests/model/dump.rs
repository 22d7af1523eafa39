//! The columns without local values, so that two stores can be compared byte for byte.

use std::collections::BTreeMap;

use crate::{
    Store,
    columns::Column,
    db::KeyReader,
    keys,
    values::{self, PendingEntry, Placing, Totals},
};

/// Every entry that must not depend on the order of arrival. Sequence numbers are replaced by ids; arrival times and
/// the change log are left out.
pub fn dump(store: &Store) -> BTreeMap<(Column, Vec<u8>), Vec<u8>> {
    let view = store.view();
    let mut names = BTreeMap::new();
    for key in view.keys(Column::Ids, &[]).unwrap() {
        names.insert(view.get(Column::Ids, &key).unwrap().unwrap(), key);
    }
    let named = |number: &[u8]| names.get(number).cloned().unwrap_or_else(|| panic!("number {number:?} is nobody's"));
    let mut dump = BTreeMap::new();
    for column in Column::ALL {
        for key in view.keys(column, &[]).unwrap() {
            let value = view.get(column, &key).unwrap().unwrap();
            let last = key.len().saturating_sub(8);
            let (key, value) = match column {
                Column::Log | Column::LogByTask | Column::Moved | Column::PendingByAge | Column::RefusedByAge => {
                    continue;
                }
                Column::Meta if key == keys::SEQUENCE => continue,
                Column::Meta if key == keys::TALLY => {
                    let tally: Totals = values::decode(&value).unwrap();
                    (key, values::encode(&Totals { next_pending: 0, next_refused: 0, ..tally }).unwrap())
                }
                Column::Ids => (key, Vec::new()),
                Column::Objects | Column::Awards => (named(&key), value),
                Column::Records => (named(&key), placing_without_numbers(&value)),
                Column::Words => {
                    for low in value {
                        let number = [&key[last + 1..], &[low]].concat();
                        dump.insert((column, [&key[..last], &named(&number)].concat()), Vec::new());
                    }
                    continue;
                }
                Column::Children => ([named(&key[..8]), key[8..last].to_vec(), named(&key[last..])].concat(), value),
                Column::Timeline if key[0] == 1 => (key, [named(&value[..8]), value[16..].to_vec()].concat()),
                Column::Timeline if matches!(key[0], 0 | 2 | 3) => {
                    ([key[..last].to_vec(), named(&key[last..])].concat(), value)
                }
                Column::Works => ([named(&key[..8]), key[8..].to_vec()].concat(), value),
                Column::Metrics | Column::ClassRecords | Column::Frontier | Column::Series | Column::WorksOf => {
                    ([key[..last].to_vec(), named(&key[last..])].concat(), value)
                }
                Column::About => (key, [named(&value[..8]), value[8..].to_vec()].concat()),
                Column::Pending => {
                    let held: PendingEntry = values::decode(&value).unwrap();
                    (key, values::encode(&PendingEntry { order: 0, received_at: 0, ..held }).unwrap())
                }
                Column::PendingByParent => ([&key[..32], &key[40..]].concat(), value),
                Column::Refused => (key, value[8..].to_vec()),
                _ => (key, value),
            };
            assert!(dump.insert((column, key), value).is_none(), "{}: two keys for one thing", column.name());
        }
    }
    dump
}

fn placing_without_numbers(value: &[u8]) -> Vec<u8> {
    let mut placing = Placing::decode(value).unwrap();
    (placing.received_at, placing.parent_number) = (0, 0);
    placing.encode()
}
