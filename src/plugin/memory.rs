#![expect(
    unsafe_code,
    reason = "the allocator's settings and a range's pages have no safe API"
)]

use std::{ops::Range, sync::atomic::AtomicU8};

use nix::libc;

/// Makes a short process's memory cheap: one heap for all threads; and the start of the heap, the top of the stack and the program's own
/// variables, all of which are surely used, come in a system call each instead of a page fault for each page. Where it fails, memory comes as
/// always.
pub(super) fn prepare() {
    const STACK: usize = 48 << 10;
    // SAFETY: no pointer is passed.
    unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) };
    let first = Box::new(0u8);
    // SAFETY: it only asks where the heap ends.
    let end = unsafe { libc::sbrk(0) }.addr();
    populate((&raw const *first).addr()..end);
    let here = (&raw const end).addr();
    populate(here.saturating_sub(STACK)..here);
    populate((&raw const VARIABLE).addr()..(&raw const _end).addr());
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
    /// More is not what it is taken for.
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
