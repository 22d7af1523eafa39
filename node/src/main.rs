//! The `spore` program. Everything is in the library: [`spore_node::cli`].

/// Gives memory back to the system soon after it is free, so that a flood of large objects leaves nothing behind, and is
/// faster than the system's with many threads.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Of a page of 2 MiB the allocator often needs a few KiB, and gives none of it back: a relay took three times the
    // memory. A system without such pages refuses this, which changes nothing.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    spore_node::cli::main()
}
