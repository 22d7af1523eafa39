//! Finding and repairing damage: [`check`] and [`files`] find it, [`rebuild`] makes a new database from everything
//! that can still be read, and [`crate::layout::swap`] puts it in the old one's place.
//!
//! Every column follows from the objects. A repair therefore inserts the objects again ([`replay`]) in the order of
//! their sequence numbers ([`walk`]). Objects that cannot be read are reported and left out. Other nodes send them
//! again, because nodes compare what each has really stored.

mod check;
mod examine;
mod files;
mod rebuild;
mod replay;
mod walk;

pub use self::{
    check::{CheckReport, StoreFinding},
    files::FilesReport,
    rebuild::RepairReport,
    replay::Fault,
};
