//! Whole sessions, against each other and against peers that the tests control.

mod exchange;
mod hostile;
mod support;
