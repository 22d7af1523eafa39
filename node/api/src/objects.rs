//! Signed objects as lines, page by page: what an export writes, beside a running node and without one.
//!
//! A line is the body of the frame in which the existing network sends the object, with a line feed. Kinds follow each
//! other: manifests before records, and records before events about them, so that an import has few pending records.
//! Within a kind, objects are in the order of (timestamp, id). Pending records are not among them.

use serde::{Deserialize, Serialize};
use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject, TaskId,
    frame::{Frame, HEADER_BYTES},
    json::Value,
    legacy::ObjectFrame,
};
use spore_storage::{Position, Store, StoreError, SyncScope};
use utoipa::ToSchema;

use crate::{
    problem::{ApiError, ProblemKind},
    query::{MAX_LIST, Query},
    view::StoreView,
};

/// The order of the kinds.
const ORDER: [Kind; 4] = [Kind::Task, Kind::Experiment, Kind::Control, Kind::Profile];
/// Bytes of lines after which a page ends: the answer stays small beside one object, which may have several megabytes.
const MAX_PAGE_BYTES: usize = 1 << 20;

/// A page of signed objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectLines {
    /// Kind of the objects: `task`, `experiment`, `control` or `profile`.
    pub kind: String,
    /// The objects, a line of JSON each, with the line feed: exactly what an export writes.
    pub lines: Vec<String>,
    /// Pass it as `after` to get the next page. Absent on the last page. A page that is not the last may be empty.
    pub next: Option<String>,
}

/// Which objects are listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ObjectFilter {
    /// One kind only.
    pub kind: Option<Kind>,
    /// The manifest, the records and the events of one task only.
    pub task: Option<TaskId>,
}

impl ObjectFilter {
    fn kinds(self) -> impl Iterator<Item = Kind> {
        // No profile belongs to a task.
        let of_task = self.task.is_some();
        ORDER
            .into_iter()
            .filter(move |kind| self.kind.is_none_or(|wanted| wanted == *kind) && !(of_task && *kind == Kind::Profile))
    }
}

/// The place in the list that a page begins after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    kind: Kind,
    /// None at the beginning of the kind.
    after: Option<Position>,
}

impl Place {
    fn text(self) -> String {
        match self.after {
            None => self.kind.name().to_owned(),
            Some((timestamp, id)) => format!("{}.{timestamp}.{id}", self.kind.name()),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let kind = parts.next()?.parse().ok()?;
        let after = match (parts.next(), parts.next(), parts.next()) {
            (None, ..) => None,
            (Some(timestamp), Some(id), None) => Some((timestamp.parse().ok()?, id.parse().ok()?)),
            _ => return None,
        };
        Some(Self { kind, after })
    }
}

impl StoreView {
    /// A page of signed objects, as `kind`, `task`, `after` and `limit` ask for.
    ///
    /// # Errors
    /// 400 for an unknown kind, a bad limit or text that is no cursor of this list; as [`StoreView::task`].
    pub(crate) fn objects(&self, query: &Query) -> Result<ObjectLines, ApiError> {
        let kind = query.get("kind").map(str::parse::<Kind>).transpose().map_err(ApiError::bad_request)?;
        let task = query.get("task").map(|task| self.known_task(task)).transpose()?;
        let limit = query.limit(MAX_LIST)?;
        page(self.store(), ObjectFilter { kind, task }, query.get("after"), limit)
    }
}

/// A page of at most `limit` signed objects. `after` is the `next` of the page before.
///
/// # Errors
/// 400 for text that is no cursor of this list; when the store cannot be read.
pub fn page(store: &Store, filter: ObjectFilter, after: Option<&str>, limit: usize) -> Result<ObjectLines, ApiError> {
    let mut kinds = filter.kinds();
    let first = kinds.next();
    let place = match (after, first) {
        (Some(text), _) => Place::parse(text).filter(|place| filter.kinds().any(|kind| kind == place.kind)),
        (None, Some(kind)) => Some(Place { kind, after: None }),
        // Profiles of a task were asked for, of which there are none.
        (None, None) => return Ok(ObjectLines { kind: Kind::Profile.name().into(), lines: Vec::new(), next: None }),
    };
    let place = place.ok_or_else(|| ApiError::bad_request("`after` is not the `next` of an earlier page"))?;
    let kind = place.kind;
    let found = positions(store, kind, filter.task, place.after, limit)?;
    let (mut lines, mut bytes, mut last) = (Vec::new(), 0, None);
    for position in &found {
        if bytes >= MAX_PAGE_BYTES {
            break;
        }
        // An object may be gone since the positions were read, such as a profile that was replaced.
        if let Some(line) = line(store, kind, &position.1)? {
            bytes += line.len();
            lines.push(line);
        }
        last = Some(*position);
    }
    let rest = last.filter(|last| found.len() >= limit || found.last() != Some(last));
    let next = match rest {
        Some(last) => Some(Place { kind, after: Some(last) }),
        None => filter.kinds().skip_while(|one| *one != kind).nth(1).map(|kind| Place { kind, after: None }),
    };
    Ok(ObjectLines { kind: kind.name().into(), lines, next: next.map(Place::text) })
}

/// The places of at most `limit` objects of a kind, of all tasks or of one.
fn positions(
    store: &Store,
    kind: Kind,
    task: Option<TaskId>,
    after: Option<Position>,
    limit: usize,
) -> Result<Vec<Position>, StoreError> {
    let Some(task) = task else { return store.page(kind, after, limit) };
    let scope = match kind {
        Kind::Task => {
            let manifest = store.task(&task)?.and_then(|view| view.manifest).filter(|_| after.is_none());
            return Ok(manifest.map(|manifest| (manifest.timestamp, task.into())).into_iter().collect());
        }
        Kind::Experiment => SyncScope::Records(task),
        Kind::Control => SyncScope::Controls(task),
        Kind::Profile => return Ok(Vec::new()),
    };
    let set = store.sync_set(scope)?;
    let mut begin = 0;
    if let Some((timestamp, id)) = after {
        begin = set.place_of(timestamp, &id)?;
        // The item itself may be gone.
        begin += usize::from(set.get(begin)? == after);
    }
    let mut found = Vec::new();
    set.each(begin, begin.saturating_add(limit), &mut |timestamp, id, _| {
        found.push((timestamp, id));
        Ok(true)
    })?;
    Ok(found)
}

/// The line of a stored object. None when the store does not have it.
fn line(store: &Store, kind: Kind, id: &ObjectId) -> Result<Option<String>, ApiError> {
    let mut line = Vec::new();
    let appended = if kind == Kind::Experiment {
        let Some((summary, text)) = store.record_text(&(*id).into())? else { return Ok(None) };
        let derived = (summary.version <= 1).then_some(summary.task_id);
        append_frame(&ObjectFrame::record(*id, &text.canonical, &text.signature, derived), &mut line)
    } else {
        let Some(object) = store.object(kind, id)? else { return Ok(None) };
        append_line(&object, None, &mut line)
    };
    let damaged = |what: String| ApiError::new(ProblemKind::DamagedStore, format!("object {id}: {what}"));
    appended.map_err(|reject| damaged(reject.to_string()))?;
    Ok(Some(String::from_utf8(line).map_err(|error| damaged(error.to_string()))?))
}

/// Appends the line of an object. `task` is the derived task of a version 1 record.
///
/// # Errors
/// [`Reject::TooLarge`]. A stored object is never too large.
pub fn append_line(object: &SignedObject, task: Option<TaskId>, out: &mut Vec<u8>) -> Result<(), Reject> {
    match (ObjectFrame::of(object, task), object) {
        (Some(frame), _) => append_frame(&frame, out),
        // An event of a type that only a later version knows.
        (None, object) => {
            let kind = match object {
                SignedObject::Control(event) => event.kind.name().to_owned(),
                other => other.kind().name().to_owned(),
            };
            let payload = Value::parse(object.to_json().as_bytes())?;
            let bytes = Frame { kind, payload }.encode()?;
            out.extend(bytes.iter().skip(HEADER_BYTES));
            out.push(b'\n');
            Ok(())
        }
    }
}

fn append_frame(frame: &ObjectFrame<'_>, out: &mut Vec<u8>) -> Result<(), Reject> {
    let start = out.len();
    frame.append_to(out)?;
    out.drain(start..start + HEADER_BYTES);
    out.push(b'\n');
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_is_read_as_it_was_written() {
        for after in [None, Some((7, ObjectId([9; 32])))] {
            for kind in Kind::ALL {
                let place = Place { kind, after };
                assert_eq!(Place::parse(&place.text()), Some(place));
            }
        }
        for wrong in ["", "records", "task.7", "task.x.00", "task.7.00", "task.7.00.1", "r00ff"] {
            assert_eq!(Place::parse(wrong), None, "{wrong}");
        }
    }
}
