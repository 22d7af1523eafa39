//! Memory in use, counted, so that a target can assert a bound on what an input costs.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// Bytes of memory that a byte of input may cost at most. The smallest JSON objects, `{"":0},`,
/// come closest: a map's node of 640 bytes each, and an array that grows by doubling beside it.
const BYTES_PER_BYTE: usize = 160;
/// What may be used for an input of no length: error texts, an object's fixed parts.
const SLACK: usize = 64 * 1024;

/// Runs `read` on an input and asserts that it never held more memory than the input's length
/// allows.
///
/// # Panics
/// When it did, which is a finding.
pub fn bounded<T>(input: &[u8], read: impl FnOnce(&[u8]) -> T) -> T {
    let before = IN_USE.load(Relaxed);
    PEAK.store(before, Relaxed);
    let result = read(input);
    let used = PEAK.load(Relaxed).saturating_sub(before);
    let allowed = SLACK + BYTES_PER_BYTE * input.len();
    assert!(used <= allowed, "{used} bytes of memory for an input of {}; {allowed} allowed", input.len());
    result
}

/// Bytes that are allocated now, and the most since [`bounded`] last began. One thread runs the
/// targets, so that the two need not change together.
static IN_USE: AtomicUsize = AtomicUsize::new(0);
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

// SAFETY: each call is passed to the system's allocator as it came; counting changes nothing.
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
        // Both exist while the system moves one to the other.
        Self::take(size);
        IN_USE.fetch_sub(layout.size(), Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}
