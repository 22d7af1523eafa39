//! The tasks whose topics are followed: places for tasks that matter here, and a few for new ones.
//!
//! Tasks cost nothing to make. A task is kept when it was asked for, when a trusted key signed its manifest, or when
//! somebody has a result in it that holds here. New tasks share [`NEW_TASKS`] places, of which the oldest one gives way.

use std::collections::{BTreeSet, VecDeque};

use spore_protocol::{TaskId, topic::Topic};

use crate::limits::{MAX_TASKS, NEW_TASK_CHANGES, NEW_TASKS};

/// A task of the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownTask {
    pub task: TaskId,
    /// Somebody has a result in it that holds here, or a trusted key signed its manifest.
    pub kept: bool,
}

/// A topic to subscribe to, or to leave.
#[derive(Clone, Debug, PartialEq)]
pub enum TopicChange {
    Subscribe(Topic),
    Unsubscribe(Topic),
}

/// Followed tasks.
#[derive(Debug, Default)]
pub struct Followed {
    pub all: BTreeSet<TaskId>,
    /// Tasks that somebody asked for. Their number is that of the node's own wishes.
    pub asked: BTreeSet<TaskId>,
    /// Followed tasks that need not be kept, the oldest first.
    new: VecDeque<TaskId>,
    /// New tasks that took another's place since the last look.
    changes: usize,
    /// New tasks since the last look for which there was no place.
    left_out: u64,
}

impl Followed {
    /// Looks at the tasks of the store: returns those that are followed from now on.
    pub fn refresh(&mut self, tasks: &[KnownTask], topics: &mut Vec<TopicChange>) -> Vec<TaskId> {
        if self.left_out > 0 {
            tracing::info!(tasks = self.left_out, "new tasks are not followed; they come by catch-up alone");
        }
        (self.changes, self.left_out) = (0, 0);
        let kept: BTreeSet<_> = tasks.iter().filter(|known| known.kept).map(|known| known.task).collect();
        let new: BTreeSet<_> = self.new.iter().copied().collect();
        for task in &self.all {
            if !new.contains(task) && !kept.contains(task) && !self.asked.contains(task) {
                // It was followed for longer than the new ones, as far as is known.
                self.new.push_front(*task);
            }
        }
        while self.new.len() > NEW_TASKS {
            self.unfollow_oldest(topics);
        }
        tasks.iter().filter(|known| self.follow(**known, topics)).map(|known| known.task).collect()
    }

    /// Subscribes to a task's topics. True when the task was not followed before and there is a place for it.
    pub fn follow(&mut self, known: KnownTask, topics: &mut Vec<TopicChange>) -> bool {
        let KnownTask { task, kept } = known;
        let kept = kept || self.asked.contains(&task);
        let kept = kept && self.all.len() - self.new.len() < MAX_TASKS - NEW_TASKS;
        if self.all.contains(&task) {
            if kept && let Some(at) = self.new.iter().position(|new| *new == task) {
                self.new.remove(at);
            }
            return false;
        }
        if !kept {
            if self.new.len() >= NEW_TASKS {
                if self.changes >= NEW_TASK_CHANGES {
                    self.left_out += 1;
                    return false;
                }
                self.changes += 1;
                self.unfollow_oldest(topics);
            }
            self.new.push_back(task);
        }
        self.all.insert(task);
        topics.extend(Topic::of_task(task).into_iter().map(TopicChange::Subscribe));
        true
    }

    fn unfollow_oldest(&mut self, topics: &mut Vec<TopicChange>) {
        if let Some(task) = self.new.pop_front() {
            self.all.remove(&task);
            topics.extend(Topic::of_task(task).into_iter().map(TopicChange::Unsubscribe));
        }
    }
}
