//! Which task a node follows when its user names none.
//!
//! Only the built-in task and tasks of the operator's seeds come into question. Among them it is the task
//! with the most distinct publishers of a record that holds locally, then the most records among its
//! newest [`ACTIVITY_WINDOW`], then the most keeps among them, then the newest record, then the lowest
//! id. The store keeps this order.

/// How many of a task's newest records are looked at. Stray records are among them and do not count.
pub const ACTIVITY_WINDOW: usize = 25;
