//! Changes keys of the file and keeps everything else: comments, order and layout.
//!
//! `toml_edit` attaches a comment to the entry that follows it, or to the end of the file. When an entry goes, its
//! comment moves on to the next entry, because only the user knows what the comment is about.

use serde::Serialize as _;
use toml_edit::{Array, DocumentMut, Item, Table, TomlError, Value, ser};

/// Parses the text of a file.
///
/// # Errors
/// When the text is not TOML.
pub(super) fn document(text: &str) -> Result<DocumentMut, TomlError> {
    text.parse()
}

/// A value in the form in which it is written.
///
/// # Errors
/// When TOML cannot express the value.
pub(super) fn value(value: &toml::Value) -> Result<Value, ser::Error> {
    value.serialize(ser::ValueSerializer::new())
}

/// Sets a key. A new key or table goes to the end of the file, behind the comments there.
pub(super) fn put(document: &mut DocumentMut, section: &str, key: &str, new: Value) {
    if section.is_empty() {
        match document.get_mut(key).and_then(Item::as_value_mut) {
            Some(old) => replace(old, new),
            None => put_at_top(document, key, new),
        }
        return;
    }
    if !document.contains_key(section) {
        let mut table = Table::new();
        let before = take_trailing(document);
        let gap = if before.is_empty() && document.is_empty() { "" } else { "\n" };
        table.decor_mut().set_prefix(format!("{before}{gap}"));
        document.insert(section, Item::Table(table));
    }
    if let Some(table) = document.get_mut(section).and_then(Item::as_table_like_mut) {
        match table.get_mut(key).and_then(Item::as_value_mut) {
            Some(old) => replace(old, new),
            None => drop(table.insert(key, Item::Value(new))),
        }
    }
}

/// Removes a key, or a whole table of the top level.
pub(super) fn remove(document: &mut DocumentMut, section: &str, key: &str) {
    let holder = if section.is_empty() { Some(document.as_table_mut()) } else { table_mut(document, section) };
    let Some(holder) = holder else {
        // An inline table holds no comments.
        if let Some(table) = document.get_mut(section).and_then(Item::as_table_like_mut) {
            table.remove(key);
        }
        return;
    };
    let next = holder.iter().skip_while(|(name, _)| *name != key).skip(1).find(|(_, item)| item.is_value());
    let next = next.map(|(name, _)| name.to_owned());
    let Some((name, item)) = holder.remove_entry(key) else { return };
    let position = item.as_table().map_or(holder.position(), Table::position);
    let decor = item.as_table().map_or(name.leaf_decor(), Table::decor);
    let comment = decor.prefix().and_then(|text| text.as_str()).unwrap_or_default().to_owned();
    // Blank lines alone are layout of the entry that went.
    if comment.trim().is_empty() {
        return;
    }
    if let Some(mut next) = next.filter(|_| !item.is_table()).and_then(|next| holder.key_mut(&next)) {
        let after = next.leaf_decor().prefix().and_then(|text| text.as_str()).unwrap_or_default().to_owned();
        next.leaf_decor_mut().set_prefix(format!("{comment}{after}"));
        return;
    }
    match next_table(document, position) {
        Some(table) => {
            let after = table.decor().prefix().and_then(|text| text.as_str()).unwrap_or("\n").to_owned();
            table.decor_mut().set_prefix(format!("{comment}{after}"));
        }
        None => {
            let after = document.trailing().as_str().unwrap_or_default().to_owned();
            document.set_trailing(format!("{}\n{after}", comment.trim_end()));
        }
    }
}

fn table_mut<'a>(document: &'a mut DocumentMut, section: &str) -> Option<&'a mut Table> {
    document.get_mut(section).and_then(Item::as_table_mut)
}

/// The first table of the top level that stands behind a position of the file.
fn next_table(document: &mut DocumentMut, position: Option<isize>) -> Option<&mut Table> {
    let tables = document.iter_mut().filter_map(|(_, item)| item.as_table_mut());
    tables.filter(|table| table.position() > position).min_by_key(|table| table.position())
}

/// Adds a key behind all keys that belong to no table.
fn put_at_top(document: &mut DocumentMut, key: &str, new: Value) {
    let has_tables = document.iter().any(|(_, item)| item.is_table() || item.is_array_of_tables());
    let before = if has_tables { String::new() } else { take_trailing(document) };
    document.insert(key, Item::Value(new));
    if let Some(mut key) = document.key_mut(key).filter(|_| !before.is_empty()) {
        key.leaf_decor_mut().set_prefix(before);
    }
}

/// Takes the comments at the end of the file, to put them in front of a new last entry.
fn take_trailing(document: &mut DocumentMut) -> String {
    let text = document.trailing().as_str().unwrap_or_default().to_owned();
    document.set_trailing("");
    text
}

/// Puts a new value in the place of an old one, with the comment behind it.
fn replace(old: &mut Value, mut new: Value) {
    if let (Value::Array(old), Value::Array(new)) = (&mut *old, &new)
        && merge(old, new)
    {
        return;
    }
    *new.decor_mut() = old.decor().clone();
    *old = new;
}

/// Turns a list of texts into another one and keeps the comments between the texts. Returns false, with the old list
/// possibly changed, when the lists hold other things or differ in their order.
fn merge(old: &mut Array, new: &Array) -> bool {
    let Some(wanted) = new.iter().map(Value::as_str).collect::<Option<Vec<_>>>() else { return false };
    old.retain(|value| value.as_str().is_some_and(|text| wanted.contains(&text)));
    let indent = old.iter().last().and_then(|last| last.decor().prefix()?.as_str()?.rsplit_once('\n'));
    let indent = indent.map(|(_, spaces)| format!("\n{spaces}"));
    for text in wanted.iter().skip(old.len()) {
        match &indent {
            Some(indent) => old.push_formatted(Value::from(*text).decorated(indent, "")),
            None => old.push(*text),
        }
    }
    old.iter().map(Value::as_str).eq(wanted.iter().map(|text| Some(*text)))
}
