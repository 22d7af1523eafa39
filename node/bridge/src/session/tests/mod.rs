//! Whole sessions, against each other and against peers that the tests play.

mod exchange;
mod hostile;
mod support;
