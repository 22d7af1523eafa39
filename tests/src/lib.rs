//! The test network: real `spore` processes on this machine, driven as a user drives them.
//!
//! [`TestNet`] starts nodes in temporary directories on free ports and ends them, with everything
//! they started, when it is dropped; [`command`] runs one command to its end; [`http`] asks a
//! node's API; [`wait`] waits for something to become true, with a deadline and a report of what
//! was seen instead; [`worker`] talks to a training process as the node does; [`seed`] makes data
//! directories with a past; [`reference`] drives the existing network's own program and
//! [`legacy`] is a bare peer on its wire; [`picture`] compares what nodes of both programs know;
//! [`lab`] puts nodes behind routers; [`abuse`] attacks a node, [`flood`] drowns it in valid objects, [`probe`] measures what its honest peers notice, [`ordeal`] does both, and
//! [`tree`] and [`process`] serve such measurements; [`source`] and [`code`] read this repository's own files, for
//! the tidy rules; [`world`] is what the page is tested in.
//!
//! Never here: knowledge of a crate's inside. These tests know the command line, the HTTP API,
//! the protocol's objects and the files of a data directory.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must say so and stop"
)]

pub mod abuse;
pub mod code;
pub mod command;
pub mod flood;
pub mod http;
pub mod lab;
pub mod legacy;
pub mod net;
pub mod ordeal;
pub mod picture;
pub mod probe;
pub mod process;
pub mod reference;
pub mod seed;
pub mod skip;
pub mod source;
pub mod tree;
pub mod wait;
pub mod worker;
pub mod world;

pub use command::{Output, binary, spore};
pub use net::{Node, TestNet};
pub use wait::wait_for;
