//! An allocator that counts, so that a target can assert how much memory an input costs at most.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Most bytes of memory for each byte of input. The smallest JSON objects, `{"":0},`, come closest: each
/// takes a map node of 640 bytes, and the array around them grows by doubling.
const BYTES_PER_BYTE: usize = 160;
/// Most bytes of memory for an empty input: error texts and the fixed parts of an object.
const SLACK: usize = 64 * 1024;

/// Runs `read` on an input and asserts that it never holds more memory than the length of the input
/// allows.
///
/// # Panics
/// When `read` holds more memory. That is a finding.
pub fn bounded<T>(input: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = read(input);
    let used = PEAK.load(Relaxed).saturating_sub(before);
    let allowed = SLACK + BYTES_PER_BYTE * input.len();
    assert!(used <= allowed, "{used} bytes of memory for an input of {}; {allowed} allowed", input.len());
    result
}

/// Bytes that are allocated now. One thread runs the targets, so this need not change together with [`PEAK`].
static IN_USE: AtomicUsize = AtomicUsize::new(0);
/// Most bytes allocated since [`bounded`] was last called.
static PEAK: AtomicUsize = AtomicUsize::new(0);

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

impl Counting {
    fn take(bytes: usize) {
        let now = IN_USE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(now, Relaxed);
    }
}

// SAFETY: each call is passed unchanged to the system's allocator; counting does not touch the memory.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::take(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        IN_USE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Both blocks exist while the system copies one to the other.
        Self::take(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}
