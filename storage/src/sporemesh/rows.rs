//! The rows of a table as signed objects.
//!
//! Rows are read in pages of bounded size, ordered so that parents are mostly before their children. The order is
//! calculated once, in a temporary table of row numbers that SQLite keeps on disk. Each row is then read by its
//! number, so that a damaged row does not affect others.

use std::collections::{BTreeMap, VecDeque};

use rusqlite::{Connection, OptionalExtension, Statement, types::Value as Cell};
use spore_protocol::{
    Kind, Reject, Signed, SignedObject,
    json::{Map, Value},
    signed::MAX_OBJECT_BYTES,
};

use super::{BadRow, Result, SourceRow, SporemeshError, database::Database};

/// Most rows read at once.
const PAGE_ROWS: usize = 256;

/// Bytes of rows after which a page ends. An object may have ten million bytes.
const PAGE_BYTES: usize = 16 << 20;

/// The temporary table of row numbers, in reading order.
const ORDER: &str = "temp.spore_order";

const EXPERIMENT: [&str; 24] = [
    "id",
    "parent",
    "depth",
    "task_id",
    "code_cid",
    "diff",
    "dataset_cid",
    "prepare_cid",
    "time_budget",
    "val_bpb",
    "peak_vram_mb",
    "num_steps",
    "num_params",
    "status",
    "description",
    "hypothesis",
    "agent_model",
    "gpu_model",
    "cuda_version",
    "torch_version",
    "node_id",
    "timestamp",
    "signature",
    "version",
];
const PROFILE: [&str; 10] = [
    "node_id",
    "id",
    "display_name",
    "bio",
    "website",
    "avatar_url",
    "donation_address",
    "timestamp",
    "signature",
    "schema_version",
];

/// Columns that older databases do not have, and the value that their rows have implicitly.
const LATER: [(&str, Cell); 2] = [("task_id", Cell::Text(String::new())), ("version", Cell::Integer(1))];

/// How a table contains objects.
struct SourceTable {
    name: &'static str,
    filter: &'static str,
    order: &'static str,
    /// The column with the object's id.
    id: &'static str,
    columns: &'static [&'static str],
    read: fn(Cells) -> std::result::Result<SignedObject, BadRow>,
}

/// A row's columns by name.
type Cells = BTreeMap<&'static str, Cell>;

impl SourceTable {
    const fn of(kind: Kind) -> Self {
        match kind {
            Kind::Experiment => Self {
                name: "experiment",
                filter: "1",
                order: "depth, timestamp, rowid",
                id: "id",
                columns: &EXPERIMENT,
                read: experiment,
            },
            Kind::Task => Self {
                name: "task",
                filter: "source = 'manifest'",
                order: "timestamp, rowid",
                id: "task_id",
                columns: &["task_id", "manifest_json"],
                read: |cells| from_text(Kind::Task, "manifest_json", cells),
            },
            Kind::Control => Self {
                name: "control_event",
                filter: "1",
                order: "timestamp, rowid",
                id: "event_id",
                columns: &["event_id", "payload"],
                read: |cells| from_text(Kind::Control, "payload", cells),
            },
            Kind::Profile => Self {
                name: "node_profile",
                filter: "1",
                order: "timestamp, rowid",
                id: "node_id",
                columns: &PROFILE,
                read: |cells| Ok(SignedObject::from_value_as(Kind::Profile, Value::Object(fields(cells)?))?),
            },
        }
    }
}

/// The rows of one table. The first error ends it.
pub struct SourceRows {
    database: Database,
    table: SourceTable,
    /// The columns that the table has.
    columns: Vec<&'static str>,
    total: u64,
    /// The place, in the order, of the last row read.
    last: i64,
    page: VecDeque<SourceRow>,
    ended: bool,
}

impl SourceRows {
    /// None where the database has no such table, because its node never opened it.
    pub(super) fn new(database: Database, kind: Kind) -> Result<Option<Self>> {
        let table = SourceTable::of(kind);
        let failed = || SporemeshError::sqlite(&database.path);
        let present = columns_of(&database.connection, table.name).map_err(failed())?;
        if present.is_empty() {
            return Ok(None);
        }
        let is_there = |name: &str| present.iter().any(|column| column == name);
        let later = |name: &str| LATER.iter().any(|(column, _)| *column == name);
        if let Some(lacking) = table.columns.iter().find(|name| !is_there(name) && !later(name)) {
            let what = format!("table {} has no column {lacking}", table.name);
            return Err(SporemeshError::Database { path: database.path, what });
        }
        let (name, filter, order) = (table.name, table.filter, table.order);
        let sort =
            format!("CREATE TABLE {ORDER} AS SELECT rowid AS number FROM main.{name} WHERE {filter} ORDER BY {order}");
        database.connection.execute_batch(&sort).map_err(failed())?;
        let count = format!("SELECT count(*) FROM {ORDER}");
        let total: i64 = database.connection.query_row(&count, [], |row| row.get(0)).map_err(failed())?;
        let columns = table.columns.iter().copied().filter(|name| is_there(name)).collect();
        let total = total.unsigned_abs();
        Ok(Some(Self { database, table, columns, total, last: 0, page: VecDeque::new(), ended: false }))
    }

    /// How many rows there are.
    pub fn total(&self) -> u64 {
        self.total
    }

    fn read_page(&mut self) -> Result<()> {
        let failed = || SporemeshError::sqlite(&self.database.path);
        let connection = &self.database.connection;
        let numbers = format!("SELECT rowid, number FROM {ORDER} WHERE rowid > ? ORDER BY rowid LIMIT {PAGE_ROWS}");
        let mut numbers = connection.prepare(&numbers).map_err(failed())?;
        let numbers = numbers.query_map([self.last], |row| Ok((row.get(0)?, row.get(1)?))).map_err(failed())?;
        let numbers: Vec<(i64, i64)> = numbers.collect::<rusqlite::Result<_>>().map_err(failed())?;
        self.ended = numbers.is_empty();
        let (name, list) = (self.table.name, self.columns.join(", "));
        let sizes: Vec<_> = self.columns.iter().map(|column| format!("ifnull(octet_length({column}), 0)")).collect();
        let size = format!("SELECT {} FROM main.{name} WHERE rowid = ?", sizes.join(" + "));
        let mut size = connection.prepare(&size).map_err(failed())?;
        let named = format!("SELECT {} FROM main.{name} WHERE rowid = ?", self.table.id);
        let mut named = connection.prepare(&named).map_err(failed())?;
        let cells = format!("SELECT {list} FROM main.{name} WHERE rowid = ?");
        let mut cells = connection.prepare(&cells).map_err(failed())?;
        let mut bytes = 0;
        for (place, number) in numbers {
            let (object, taken) = match measured(&mut size, number) {
                Ok(taken) => (self.read_cells(&mut cells, number).and_then(self.table.read), taken),
                Err(bad) => (Err(bad), 0),
            };
            self.page.push_back(SourceRow { id: name_of(&mut named, number), object });
            self.last = place;
            bytes += taken;
            if bytes >= PAGE_BYTES {
                break;
            }
        }
        Ok(())
    }

    fn read_cells(&self, statement: &mut Statement<'_>, number: i64) -> std::result::Result<Cells, BadRow> {
        let read = statement.query_row([number], |row| {
            let cell = |(at, name): (usize, &&'static str)| Ok((*name, row.get::<_, Cell>(at)?));
            self.columns.iter().enumerate().map(cell).collect::<rusqlite::Result<Cells>>()
        });
        let mut cells = read.map_err(|error| BadRow::Unreadable(error.to_string()))?;
        for (name, meant) in LATER {
            if self.table.columns.contains(&name) {
                cells.entry(name).or_insert(meant);
            }
        }
        Ok(cells)
    }
}

impl Iterator for SourceRows {
    type Item = Result<SourceRow>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.is_empty() && !self.ended {
            let read = self.read_page();
            let checked = read.and_then(|()| if self.ended { self.database.check_unchanged() } else { Ok(()) });
            if let Err(error) = checked {
                self.ended = true;
                return Some(Err(error));
            }
        }
        self.page.pop_front().map(Ok)
    }
}

/// How many tasks have no manifest.
pub(super) fn derived_tasks(database: &Database) -> Result<u64> {
    let failed = || SporemeshError::sqlite(&database.path);
    if columns_of(&database.connection, "task").map_err(failed())?.is_empty() {
        return Ok(0);
    }
    let count = "SELECT count(*) FROM main.task WHERE source <> 'manifest'";
    let count: i64 = database.connection.query_row(count, [], |row| row.get(0)).map_err(failed())?;
    database.check_unchanged()?;
    Ok(count.unsigned_abs())
}

/// A table's columns. Empty when there is no such table.
fn columns_of(connection: &Connection, table: &str) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare("SELECT name FROM pragma_table_info(?)")?;
    let names = statement.query_map([table], |row| row.get(0))?;
    names.collect()
}

/// A row's size in bytes, without reading it into memory.
fn measured(statement: &mut Statement<'_>, number: i64) -> std::result::Result<usize, BadRow> {
    let size: rusqlite::Result<i64> = statement.query_row([number], |row| row.get(0));
    let size = size.map_err(|error| BadRow::Unreadable(error.to_string()))?;
    let size = usize::try_from(size).unwrap_or_default();
    if size > MAX_OBJECT_BYTES { Err(Reject::TooLarge { size, limit: MAX_OBJECT_BYTES }.into()) } else { Ok(size) }
}

/// The object's id as the table claims it, or the row's number where the id cannot be read.
fn name_of(statement: &mut Statement<'_>, number: i64) -> String {
    /// Longer text is no id, and would only fill a report.
    const LONGEST: usize = 100;
    let name = statement.query_row([number], |row| {
        let text = row.get_ref(0)?;
        Ok(text.as_str().ok().filter(|text| text.len() <= LONGEST).map(str::to_owned))
    });
    name.optional().ok().flatten().flatten().unwrap_or_else(|| format!("row {number}"))
}

/// An object that is in a column as JSON text.
fn from_text(kind: Kind, column: &'static str, mut cells: Cells) -> std::result::Result<SignedObject, BadRow> {
    match cells.remove(column) {
        Some(Cell::Text(text)) => Ok(SignedObject::from_json(text.as_bytes(), Some(kind))?),
        _ => Err(BadRow::Column { column, holds: "no text" }),
    }
}

/// The columns as an object's fields. The protocol checks their types.
fn fields(cells: Cells) -> std::result::Result<Map, BadRow> {
    let field = |(column, cell): (&'static str, Cell)| {
        let value = match cell {
            Cell::Null => Value::Null,
            Cell::Integer(number) => Value::Int(number.into()),
            Cell::Real(number) if number.is_finite() => Value::Float(number),
            Cell::Real(_) => return Err(BadRow::Column { column, holds: "a number that is not finite" }),
            Cell::Text(text) => Value::String(text),
            Cell::Blob(_) => return Err(BadRow::Column { column, holds: "bytes" }),
        };
        Ok((column.to_owned(), value))
    };
    cells.into_iter().map(field).collect()
}

/// A record made from its columns.
fn experiment(cells: Cells) -> std::result::Result<SignedObject, BadRow> {
    Ok(SignedObject::Experiment(Signed::from_any_spelling(Value::Object(fields(cells)?))?))
}
