//! Looking after a store that may be damaged: finding out ([`check`], [`files`]), building every
//! column anew from what can still be read ([`rebuild`]), and putting the result in place ([`swap`]).
//!
//! Everything but the objects follows from the objects, so there is one way to repair: insert them
//! again ([`replay`]), in the order of their numbers ([`walk`]). What cannot be read is named and left out; other nodes bring it back, since what two
//! nodes compare is computed from what is really there.

mod check;
mod files;
mod rebuild;
mod replay;
mod walk;

pub use self::{
    check::{CheckReport, Finding},
    files::FilesReport,
    rebuild::RepairReport,
    replay::Fault,
};
