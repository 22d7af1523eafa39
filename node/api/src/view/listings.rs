//! Lists, page by page: each is one index of the store, converted.

use spore_protocol::{HardwareClass, Kind, RecordId, Status, TaskId};
use spore_storage::{Improvement, RecordSummary, Scope, Span};

use super::{
    StoreView,
    resolve::prefix,
    tasks::task_summary,
    text::{DisplayNames, Extent},
};
use crate::{
    dto,
    paging::{ListingKind, page},
    problem::ApiError,
    query::Query,
};

/// Fewest digits of an id that a search looks for: a word of a few letters is often a prefix of some id.
const LEAST_DIGITS: usize = 4;
/// Most records that a search returns by their id: more than these, and the digits say too little.
const MAX_BY_ID: usize = 8;

/// Most records that a filtered page looks at: some tens of milliseconds. A page of a rare class is shorter than it may
/// be, or empty, and has a `next`.
const MOST_SCANNED: usize = 5_000;
/// Records looked at in one step while a page has few.
const STEP: usize = 256;

/// Which records of a task a list has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    class: Option<HardwareClass>,
    /// Empty for all.
    statuses: Vec<Status>,
}

impl Filter {
    /// The parameters `class` and `status`. None without both.
    ///
    /// # Errors
    /// 400 for a status that there is not.
    pub fn parse(query: &Query) -> Result<Option<Self>, ApiError> {
        let class = query.get("class").map(HardwareClass::of);
        let named = |name: &str| {
            Status::ALL.into_iter().find(|status| status.name() == name).ok_or_else(|| {
                ApiError::bad_request(format!("{name:.40} is no status")).hint("status=keep,discard,crash")
            })
        };
        let statuses = query.get("status").map(|names| names.split(',').map(named).collect::<Result<Vec<_>, _>>());
        let statuses = statuses.transpose()?.unwrap_or_default();
        Ok((class.is_some() || !statuses.is_empty()).then_some(Self { class, statuses }))
    }

    fn fits(&self, record: &RecordSummary) -> bool {
        self.class.as_ref().is_none_or(|class| *class == record.class)
            && (self.statuses.is_empty() || self.statuses.contains(&record.status))
    }
}

impl StoreView {
    /// A task's records that pass a filter: by time or, as [`ListingKind::Best`], by metric. A page may be empty and have
    /// a `next`: see [`MOST_SCANNED`].
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn filtered(
        &self,
        task: &TaskId,
        listing: ListingKind,
        filter: &Filter,
        span: &Span,
    ) -> Result<dto::Page<dto::Experiment>, ApiError> {
        let mut at = *span;
        let mut found = spore_storage::Page { items: Vec::new(), first: None, next: None };
        let mut scanned = 0;
        while found.items.len() < span.limit && scanned < MOST_SCANNED {
            // A step has no more records than the page has room for, so that the page ends where the step does.
            at.limit = (span.limit - found.items.len()).min(STEP);
            let step = match listing {
                ListingKind::Best => self.store().by_metric(task, &at)?,
                _ => self.store().recent_page(Scope::Task(*task), &at)?,
            };
            scanned += at.limit;
            found.first = found.first.or(step.first);
            found.next = step.next;
            found.items.extend(step.items.into_iter().filter(|record| filter.fits(record)));
            match found.next {
                Some(next) => at.after = Some(next),
                None => break,
            }
        }
        self.records(listing, &found)
    }

    /// The tasks, the most active first. The first is the one that a node works on when its user chose none.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn tasks(&self, span: &Span) -> Result<dto::Page<dto::TaskSummary>, ApiError> {
        page(ListingKind::Tasks, &self.store().active_tasks(span)?, |task| Ok(task_summary(task, Extent::Listed)))
    }

    /// The nodes that took part in a task, or all nodes, by id.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn nodes(&self, task: Option<&str>, span: &Span) -> Result<dto::Page<dto::NodeSummary>, ApiError> {
        let task = task.map(|task| self.known_task(task)).transpose()?;
        page(ListingKind::Nodes, &self.store().nodes_page(task.as_ref(), span)?, |node| {
            self.node_summary(node, Extent::Listed)
        })
    }

    /// Records, the newest first: of a task, of a node, or all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn recent(&self, scope: Scope, span: &Span) -> Result<dto::Page<dto::Experiment>, ApiError> {
        self.records(ListingKind::Recent, &self.store().recent_page(scope, span)?)
    }

    /// A task's records that have a metric, by the metric as it was published, strays left out.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn best(&self, id: &str, span: &Span) -> Result<dto::Page<dto::Experiment>, ApiError> {
        self.records(ListingKind::Best, &self.store().by_metric(&self.known_task(id)?, span)?)
    }

    /// The records that are based on a record, oldest first.
    ///
    /// # Errors
    /// As [`StoreView::experiment`].
    pub fn children(&self, id: &str, span: &Span) -> Result<dto::Page<dto::Experiment>, ApiError> {
        let record = self.known_record(id)?;
        self.records(ListingKind::Children, &self.store().children_page(&record, span)?)
    }

    /// The records that hold and were the best so far, oldest first: of a class, or of all classes.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn improvements(
        &self,
        id: &str,
        class: Option<&str>,
        span: &Span,
    ) -> Result<dto::Page<dto::Improvement>, ApiError> {
        let task = self.known_task(id)?;
        let class = class.map(HardwareClass::of);
        let found = self.store().improvements(&task, class.as_ref(), span)?;
        page(ListingKind::Improvements, &found, |Improvement { id, timestamp, metric }| {
            Ok(dto::Improvement { id: id.to_string(), timestamp: *timestamp, metric: *metric })
        })
    }

    /// Records whose description and hypothesis hold all words of `text`, the last to arrive first. With `by_id`, the
    /// records whose id begins with `text` come before them.
    ///
    /// # Errors
    /// 400 for a text without a word; as [`StoreView::task`].
    pub fn search(
        &self,
        text: &str,
        task: Option<&str>,
        by_id: bool,
        span: &Span,
    ) -> Result<dto::Page<dto::Experiment>, ApiError> {
        if !text.chars().any(char::is_alphanumeric) {
            return Err(ApiError::bad_request("there is no word in `q`")
                .hint("give words of a description or hypothesis, or the first digits of an id: q=learning+rate"));
        }
        let task = task.map(|task| self.known_task(task)).transpose()?;
        let fits = |summary: &RecordSummary| task.is_none_or(|task| task == summary.task_id);
        let by_id = if by_id { self.by_id(text, span.limit, fits)? } else { Vec::new() };
        let rest = Span { limit: span.limit - by_id.len(), ..*span };
        let mut found = if rest.limit == 0 && !by_id.is_empty() {
            // The page is full. The matches by words begin on the next page.
            dto::Page { items: Vec::new(), first: None, next: Some(ListingKind::Search.beginning()) }
        } else {
            self.records(ListingKind::Search, &self.store().search(text, task.as_ref(), &rest)?)?
        };
        found.items.retain(|experiment| by_id.iter().all(|summary| summary.id.to_string() != experiment.id));
        found.items.splice(..0, self.experiments(&by_id)?);
        Ok(found)
    }

    /// The records whose id begins with `text`, if `text` consists of enough digits.
    fn by_id(
        &self,
        text: &str,
        limit: usize,
        fits: impl Fn(&RecordSummary) -> bool,
    ) -> Result<Vec<RecordSummary>, ApiError> {
        let Some(digits) = prefix(text.trim()).filter(|digits| digits.len() >= LEAST_DIGITS) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        for (kind, id) in self.store().resolve(&digits, MAX_BY_ID)? {
            if kind == Kind::Experiment && found.len() < limit {
                found.extend(self.store().summary(&RecordId::from(id))?.filter(&fits));
            }
        }
        Ok(found)
    }

    pub(super) fn records(
        &self,
        listing: ListingKind,
        found: &spore_storage::Page<RecordSummary>,
    ) -> Result<dto::Page<dto::Experiment>, ApiError> {
        let mut names = DisplayNames::default();
        page(listing, found, |summary| self.experiment_of(summary, Extent::Listed, &mut names))
    }
}
