//! Frontiers: what holds here, what holds when every signer counts alike, claims, and the reference's list.
//!
//! Results are comparable within a hardware class, so a frontier belongs to a class. Without a class, the lists of all
//! classes follow each other in the order of the classes' names.

use spore_protocol::{Goal, HardwareClass, frontier::FrontierKind};
use spore_storage::{PageDirection, RecordSummary, Span, TaskView};

use super::{
    StoreView,
    text::{DisplayNames, Extent},
};
use crate::{
    dto,
    paging::{ClassCursor, ListingKind, Wanted, page},
    problem::ApiError,
    query::Query,
};

const LISTING: ListingKind = ListingKind::Frontier;

/// Which list of a task's best records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrontierView {
    /// Records that hold here, and that no child that holds beats.
    #[default]
    Frontier,
    /// The same where every signer counts alike.
    Global,
    /// Records that are neither confirmed nor rejected here.
    Claims,
    /// Claims as the Python implementation lists them: of all classes together, whoever confirms them.
    Reference,
}

impl FrontierView {
    /// Every view, the frontier first.
    pub const ALL: [Self; 4] = [Self::Frontier, Self::Global, Self::Claims, Self::Reference];

    /// The name in requests and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Frontier => "frontier",
            Self::Global => "global",
            Self::Claims => "claims",
            Self::Reference => "reference",
        }
    }

    /// The view of a name. No name means the frontier.
    ///
    /// # Errors
    /// 400 for another name.
    pub fn parse(name: Option<&str>) -> Result<Self, ApiError> {
        let Some(name) = name else { return Ok(Self::default()) };
        Self::ALL.into_iter().find(|view| view.name() == name).ok_or_else(|| {
            ApiError::bad_request(format!("{name:.40} is no view of a frontier")).hint(
                "view=frontier lists what holds here, global what holds when every signer counts alike, claims what \
                     is neither confirmed nor rejected here, reference what the Python implementation shows",
            )
        })
    }

    /// The store's list of a class. The reference's list has no classes.
    fn of(self, class: HardwareClass) -> FrontierKind {
        match self {
            Self::Frontier => FrontierKind::Local(class),
            Self::Global => FrontierKind::Global(class),
            Self::Claims => FrontierKind::Claims(class),
            Self::Reference => FrontierKind::Reference,
        }
    }
}

impl StoreView {
    /// A list of a task's best records, best first: of a class, or of all classes one after the other.
    ///
    /// # Errors
    /// As [`StoreView::task`]. 400 for a class of the reference's list, which has none, and for a bad page.
    pub fn frontier(
        &self,
        id: &str,
        view: FrontierView,
        class: Option<&str>,
        query: &Query,
    ) -> Result<dto::Page<dto::Experiment>, ApiError> {
        let task = self.task_view(id)?;
        let kind = match (view, class) {
            (FrontierView::Reference, Some(_)) => {
                return Err(ApiError::bad_request("the reference's frontier has no hardware classes")
                    .hint("leave out `class`, or ask for view=claims"));
            }
            (FrontierView::Reference, None) => FrontierKind::Reference,
            (view, Some(class)) => view.of(HardwareClass::of(class)),
            (view, None) => return self.of_all_classes(&task, view, query),
        };
        let found = self.store().listing(&task.task_id, &kind, &query.span(LISTING)?)?;
        let mut names = DisplayNames::default();
        page(LISTING, &found, |summary| self.with_gain(summary, task.goal, &mut names))
    }

    fn with_gain(
        &self,
        record: &RecordSummary,
        goal: Goal,
        names: &mut DisplayNames,
    ) -> Result<dto::Experiment, ApiError> {
        let experiment = self.experiment_of(record, Extent::Listed, names)?;
        Ok(dto::Experiment { gain: self.gain_of(record, goal)?, ..experiment })
    }

    /// The lists of all classes, one after the other.
    fn of_all_classes(
        &self,
        task: &TaskView,
        view: FrontierView,
        query: &Query,
    ) -> Result<dto::Page<dto::Experiment>, ApiError> {
        let Wanted { after, direction, limit } = query.span_of_classes(LISTING)?;
        let mut classes: Vec<_> = task.classes.iter().map(|class| &class.class).collect();
        if direction == PageDirection::Backward {
            classes.reverse();
        }
        let passed = |class: &HardwareClass| {
            after.as_ref().is_some_and(|after| match direction {
                PageDirection::Forward => class.as_str() < after.class.as_str(),
                PageDirection::Backward => class.as_str() > after.class.as_str(),
            })
        };
        let (mut found, mut names) =
            (dto::Page { items: Vec::new(), first: None, next: None }, DisplayNames::default());
        // Nothing is in front of the beginning.
        if limit == 0 {
            return Ok(found);
        }
        for class in classes.into_iter().filter(|class| !passed(class)) {
            let at = |cursor| ClassCursor { class: class.as_str().to_owned(), cursor }.text(LISTING);
            let rest = limit - found.items.len();
            // A full page needs to know only whether something follows.
            let begin = after.as_ref().filter(|after| after.class == class.as_str()).and_then(|after| after.cursor);
            let span = Span { after: begin, direction, limit: rest.max(1) };
            let page = self.store().listing(&task.task_id, &view.of(class.clone()), &span)?;
            if rest == 0 {
                if !page.items.is_empty() {
                    found.next = Some(at(None));
                    break;
                }
                continue;
            }
            for summary in &page.items {
                found.items.push(self.with_gain(summary, task.goal, &mut names)?);
            }
            found.first = found.first.or_else(|| page.first.map(|cursor| at(Some(cursor))));
            if let Some(cursor) = page.next {
                found.next = Some(at(Some(cursor)));
                break;
            }
        }
        Ok(found)
    }
}
