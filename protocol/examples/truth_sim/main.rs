//! Simulates a network with liars in it, under the real rules of verdicts and trust.
//!
//! `truth_sim [ROUNDS]`. One round is the time of one training run. Prints a table for each share of dishonest
//! identities: how many false records hold, how many honest ones fall, and for how long, by the global verdict, in the
//! view of one honest node that trusts only itself, and in that of one that trusts ten other operators as well.
//!
//! The liars collude, know the trusted keys and pay nothing: they copy true results to earn trust, sign with as many
//! new keys as they like, confirm each other's false records and refute honest ones. docs/verification.md has the
//! results.
#![allow(clippy::print_stdout, missing_docs)]

mod dice;
mod ledger;
mod network;
mod report;

use network::{Network, Setting};

/// Rounds when the caller names none: a day of runs of five minutes.
const ROUNDS: u64 = 288;
/// Dishonest identities of 1,000.
const SHARES: [usize; 4] = [100, 300, 500, 900];

fn main() {
    let rounds = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    println!("1,000 identities, {rounds} rounds, one run a round for each; liars publish and sign without running");
    for (attack, strategy) in
        [(true, "Liars confirm false records and refute honest ones:"), (false, "Liars only confirm false records:")]
    {
        println!("\n{strategy}\n");
        report::head();
        for dishonest in SHARES {
            let mut network = Network::new(&Setting { identities: 1000, dishonest, rounds, attack });
            for _ in 0..rounds {
                network.play();
            }
            report::rows(&network);
        }
    }
}
