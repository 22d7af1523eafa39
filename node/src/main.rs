//! The `spore` program. Everything is in the library: [`spore_node::cli`].

fn main() -> std::process::ExitCode {
    spore_node::cli::main()
}
