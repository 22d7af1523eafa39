//! The `spore` program. Everything is in the library: [`spore_node::cli`].

/// Gives memory back to the system soon after it is free, so that a flood of large objects leaves nothing behind, and is
/// faster than the system's with many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    spore_node::cli::main()
}
