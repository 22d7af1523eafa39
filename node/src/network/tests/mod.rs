//! Networks of real nodes in one process.
