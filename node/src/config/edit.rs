//! Changing one value of the file's text and leaving the rest as its owner wrote it.

use toml::{Table, Value};

/// Sets a key of a parsed file, or removes it.
pub(super) fn assign(table: &mut Table, section: &str, key: &str, value: Option<Value>) {
    let target = if section.is_empty() {
        table
    } else {
        let nested = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        match nested.as_table_mut() {
            Some(nested) => nested,
            None => return,
        }
    };
    match value {
        Some(value) => target.insert(key.to_owned(), value),
        None => target.remove(key),
    };
}

/// The text without a table: its header and its lines, but not the comments around it.
fn without_table(text: &str, header: &str) -> Option<String> {
    let lines: Vec<_> = text.lines().collect();
    let start = lines.iter().position(|line| line.trim() == header)?;
    let body = lines.iter().skip(start + 1).take_while(|line| !line.trim_start().starts_with('['));
    let end = start + 1 + body.count();
    let is_kept = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    // What stands right before the next header belongs to that one.
    let kept = lines.iter().take(end).skip(start + 1).rev().take_while(|line| is_kept(line)).count();
    let rest = lines.iter().take(start).chain(lines.iter().skip(end - kept));
    let text: String = rest.map(|line| format!("{line}\n")).collect();
    Some(format!("{}\n", text.trim_end()))
}

/// The text with one line of one section replaced, added or taken away, or one table taken away.
pub(super) fn edit(text: &str, section: &str, key: &str, value: Option<&Value>) -> String {
    if section.is_empty()
        && value.is_none()
        && let Some(rest) = without_table(text, &format!("[{key}]"))
    {
        return rest;
    }
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let header = format!("[{section}]");
    let start = if section.is_empty() {
        0
    } else if let Some(at) = lines.iter().position(|line| line.trim() == header) {
        at + 1
    } else {
        lines.extend([String::new(), header]);
        lines.len()
    };
    let rest = lines.iter().skip(start);
    let end = start + rest.take_while(|line| !line.trim_start().starts_with('[')).count();
    let names_key = |line: &String| line.split_once('=').is_some_and(|(name, _)| name.trim() == key);
    let found = lines.iter().take(end).skip(start).position(names_key).map(|at| start + at);
    let line = value.map(|value| format!("{key} = {value}"));
    match (found, line) {
        (Some(at), Some(line)) => {
            lines.splice(at..=at, [line]);
        }
        (Some(at), None) => {
            lines.remove(at);
        }
        (None, Some(line)) => {
            let blank = lines.iter().take(end).skip(start).rev().take_while(|line| line.trim().is_empty()).count();
            lines.insert(end - blank, line);
        }
        (None, None) => {}
    }
    lines.join("\n") + "\n"
}
