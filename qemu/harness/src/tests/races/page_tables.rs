// SPDX-License-Identifier: GPL-2.0 OR MIT
//! Mappings and page tables that change while the file does.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect_eq, Context, Outcome};
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{BLOCK, BLOCK64};
use crate::tests::fallocate::{fallocate, PUNCH};

pub const CASES: &[Case] = &[
    case!(what_is_punched_leaves_a_mapping_that_grows),
    case!(stores_go_on_while_page_tables_are_freed),
];

/// While a VMA grows or shrinks in place, the kernel takes it out of the file's tree of mappings,
/// entries and all: without the tree's lock the file seems not to be mapped.
fn what_is_punched_leaves_a_mapping_that_grows(t: &Test) -> Outcome {
    /// Where nothing else is mapped, so that it can grow.
    const START: *mut libc::c_void = (1usize << 36) as *mut _;

    let file = t.create_with("file", &[1; 8 * BLOCK])?;
    // SAFETY: a new mapping, which replaces none.
    let mapped = unsafe {
        libc::mmap(
            START,
            2 * BLOCK,
            READ | WRITE,
            libc::MAP_SHARED | libc::MAP_FIXED_NOREPLACE,
            file.as_raw_fd(),
            0,
        )
    };
    expect_eq(mapped, START, "where the file is mapped")?;
    // SAFETY: the word stays mapped until the end of the test.
    let word = unsafe { &*START.cast::<AtomicU64>() };
    let resize = |from: usize, to: usize| {
        // SAFETY: it grows or shrinks where it is, and its first page stays.
        let moved = unsafe { libc::mremap(START, from * BLOCK, to * BLOCK, 0) };
        expect_eq(moved, START, "mremap(2)")
    };
    let mut value = 0;
    t.race(vec![
        worker("grows and shrinks the mapping", || {
            resize(2, 4)?;
            resize(4, 2)
        }),
        worker("stores, punches, and looks", || {
            value += 1;
            word.store(value, SeqCst);
            fallocate(&file, PUNCH, 0, BLOCK64).or_fail("punch")?;
            expect_eq(word.load(SeqCst), 0, "a word that was punched")
        }),
    ])
}

/// MADV_DONTNEED of a whole page table frees it (CONFIG_PT_RECLAIM) while faults in it go on.
fn stores_go_on_while_page_tables_are_freed(t: &Test) -> Outcome {
    const TABLE: usize = 512 * BLOCK;

    let file = t.create("file")?;
    file.truncate(3 * TABLE as u64)?;
    let map = Mapping::shared(&file, 3 * TABLE)?;
    let mut value = 0;
    t.race(vec![
        worker("drops all entries", || {
            map.advise(libc::MADV_DONTNEED).or_fail("MADV_DONTNEED")
        }),
        worker("stores, and looks", || {
            value += 1;
            for page in (0..3).map(|table| table * TABLE + TABLE / 2) {
                map.word(page).store(value, SeqCst);
                expect_eq(map.word(page).load(SeqCst), value, "a word just stored")?;
            }
            Ok(())
        }),
    ])
}
