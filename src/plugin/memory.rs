#![expect(
    unsafe_code,
    reason = "the allocator's settings and a range's pages have no safe API"
)]

use std::{hint::black_box, ops::Range, sync::atomic::AtomicU8};

use nix::libc;

/// Gives all threads one heap, which does not shrink: a short process has no use for more. Before there is another thread.
pub(super) fn one_heap() {
    // SAFETY: no pointer is passed.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Populates memory that is always used (the start of the heap, the top of this thread's stack, the program's own variables) by one system
/// call each instead of a page fault for each page. If that fails, pages are faulted in as usual.
pub(super) fn prepare() {
    const STACK: usize = 48 << 10;
    let first = Box::new(0u8);
    // SAFETY: it only asks where the heap ends.
    let end = unsafe { libc::sbrk(0) }.addr();
    populate((&raw const *first).addr()..end);
    let here = (&raw const end).addr();
    populate(here.saturating_sub(STACK)..here);
    populate((&raw const VARIABLE).addr()..(&raw const _end).addr());
}

/// Populates the heap that a redirection needs beyond its start. Not earlier, since a call that waits for its pod is charged for it.
pub(super) fn prepare_redirection() {
    const NEEDED: usize = 112 << 10;
    // SAFETY: it only asks where the heap ends, before and after.
    let end = || unsafe { libc::sbrk(0) }.addr();
    let before = end();
    drop(black_box(Vec::<u8>::with_capacity(NEEDED)));
    populate(before..end().min(before + NEEDED));
}

/// One of the program's variables, where they begin.
static VARIABLE: AtomicU8 = AtomicU8::new(1);

unsafe extern "C" {
    /// Where they end, as the linker names it.
    static _end: u8;
}

fn populate(range: Range<usize>) {
    /// `MADV_POPULATE_WRITE` of linux/mman.h, since Linux 5.14.
    const POPULATE_WRITE: i32 = 23;
    /// The most bytes that are populated; a larger range would be a mistake.
    const LARGEST: usize = 256 << 10;
    const PAGE: usize = 4096;
    let begin = range.start / PAGE * PAGE;
    let length = range
        .end
        .checked_sub(begin)
        .filter(|length| *length <= LARGEST);
    if let Some(length) = length {
        let begin = std::ptr::with_exposed_provenance_mut(begin);
        // SAFETY: it changes no contents: these pages of this process come now instead of later.
        unsafe { libc::madvise(begin, length.next_multiple_of(PAGE), POPULATE_WRITE) };
    }
}
