//! A worker process by itself, as the `spore worker` command is: for tests of the supervisor.

use std::process::ExitCode;

fn main() -> ExitCode {
    spore_trainer::worker::main(std::io::stdin(), std::io::stdout())
}
