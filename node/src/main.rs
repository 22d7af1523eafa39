//! The `spore` program. Everything is in the library: [`spore_node::cli`].

/// Faster than the system's with many threads, and gives free pages back within a second. The store's own memory is not
/// its business: RocksDB has the system's allocator.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    // Of a page of 2 MiB the allocator often needs a few KiB, and gives none of it back: a relay took three times the
    // memory. A system without such pages refuses this, which changes nothing.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    spore_node::cli::main()
}
