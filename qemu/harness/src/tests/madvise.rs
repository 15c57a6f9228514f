// SPDX-License-Identifier: GPL-2.0 OR MIT
//! madvise(2) and other calls on mappings, with clones between: populating, dropping, protecting,
//! moving, locking.

use std::sync::atomic::Ordering::SeqCst;

use crate::case::{case, worker, Case, Test};
use crate::failure::{expect, expect_eq, expect_errno, Context, Outcome, Sys};
use crate::filesystem::CLONES;
use crate::mapping::{Mapping, READ, WRITE};
use crate::pattern::{blocks, pattern, BLOCK, BLOCK64};
use crate::process::{count_signals, in_child};
use crate::sys::{check, new_clone, File};

pub const CASES: &[Case] = &[
    case!(populating_shows_the_file_and_changes_nothing),
    case!(populating_to_write_keeps_the_clone).needs(CLONES),
    case!(populating_behind_the_end_is_an_error),
    case!(dropping_a_private_copy_shows_the_file_again),
    case!(removing_through_a_mapping_keeps_the_clone).needs(CLONES),
    case!(a_mapping_made_writable_after_a_clone_keeps_it).needs(CLONES),
    case!(a_mapping_of_a_reader_cannot_be_made_writable),
    case!(a_moved_mapping_shows_the_same_blocks).needs(CLONES),
    case!(a_private_mapping_moves_with_its_copies),
    case!(a_locked_mapping_can_be_cloned).needs(CLONES),
    case!(msync_works_and_checks_its_flags),
    case!(a_guard_page_stays_beside_loads_and_stores),
    case!(guard_pages_come_and_go_beside_stores),
];

const COUNT: usize = 80;

fn subject(t: &Test) -> Outcome<(File, Vec<u8>)> {
    let data = blocks(1, COUNT);
    Ok((t.create_with("file", &data)?, data))
}

fn populating_shows_the_file_and_changes_nothing(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let before = file.data_blocks()?;
    for (protection, flags) in [
        (READ, libc::MAP_SHARED),
        (READ | WRITE, libc::MAP_SHARED),
        (READ, libc::MAP_PRIVATE),
        (READ | WRITE, libc::MAP_PRIVATE),
    ] {
        let what = format!("a mapping of protection {protection}, flags {flags}");
        let map = Mapping::try_new(&file, 0, data.len(), protection, flags | libc::MAP_POPULATE)
            .or_fail(&what)?;
        expect(
            map.load_all() == data,
            format_args!("{what}, populated at once"),
        )?;
        let map = Mapping::try_new(&file, 0, data.len(), protection, flags).or_fail(&what)?;
        map.advise(libc::MADV_POPULATE_READ)
            .or_fail("MADV_POPULATE_READ")?;
        expect(
            map.load_all() == data,
            format_args!("{what}, populated to read"),
        )?;
        let written = map.advise(libc::MADV_POPULATE_WRITE);
        if protection & WRITE != 0 {
            written.or_fail("MADV_POPULATE_WRITE")?;
        } else {
            expect_errno(
                written,
                libc::EINVAL,
                "MADV_POPULATE_WRITE without PROT_WRITE",
            )?;
        }
        expect(
            map.load_all() == data,
            format_args!("{what}, populated to write"),
        )?;
    }
    file.expect_contents(&data, "in the end")?;
    if !matches!(
        t.filesystem,
        crate::filesystem::Btrfs | crate::filesystem::Xfs
    ) {
        expect_eq(file.data_blocks()?, before, "blocks")?;
    }
    Ok(())
}

fn populating_to_write_keeps_the_clone(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let clone = new_clone(&file, t.path("clone"))?;
    let map = Mapping::shared(&clone, data.len())?;
    map.advise(libc::MADV_POPULATE_WRITE)
        .or_fail("MADV_POPULATE_WRITE")?;
    map.store(0, &pattern(5, data.len()));
    file.expect_contents(&data, "the source")?;
    clone.expect_contents(&pattern(5, data.len()), "the clone")?;
    // And once more: populated blocks are shared again.
    let again = new_clone(&clone, t.path("again"))?;
    map.store(7, b"changed");
    again.expect_contents(&pattern(5, data.len()), "a clone of the clone")
}

fn populating_behind_the_end_is_an_error(t: &Test) -> Outcome {
    let file = t.create_with("file", &blocks(1, 2))?;
    let map = Mapping::shared(&file, 4 * BLOCK)?;
    for advice in [libc::MADV_POPULATE_READ, libc::MADV_POPULATE_WRITE] {
        expect_errno(
            map.advise(advice),
            libc::EFAULT,
            "populating behind the end",
        )?;
    }
    file.expect_contents(&blocks(1, 2), "after EFAULT")?;
    // MAP_LOCKED beyond the limit is no error for mmap(2).
    let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
    let map = Mapping::try_new(&file, 0, 4 * BLOCK, READ, flags).or_fail("MAP_POPULATE")?;
    expect(map.load(0, 2 * BLOCK) == blocks(1, 2), "its mapped part")
}

fn dropping_a_private_copy_shows_the_file_again(t: &Test) -> Outcome {
    let (file, mut data) = subject(t)?;
    let private = Mapping::private(&file, data.len())?;
    private.store(0, &pattern(6, data.len()));
    file.write_at(b"new", 10)?;
    data[10..13].copy_from_slice(b"new");
    private
        .advise(libc::MADV_DONTNEED)
        .or_fail("MADV_DONTNEED")?;
    expect(private.load_all() == data, "the file shows again")?;
    let shared = Mapping::shared(&file, data.len())?;
    shared.store(100, b"stored");
    data[100..106].copy_from_slice(b"stored");
    shared
        .advise(libc::MADV_DONTNEED)
        .or_fail("MADV_DONTNEED")?;
    expect(shared.load_all() == data, "a shared mapping loses nothing")?;
    file.expect_contents(&data, "the file")
}

fn removing_through_a_mapping_keeps_the_clone(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let clone = new_clone(&file, t.path("clone"))?;
    let map = Mapping::shared(&file, data.len())?;
    map.load_all();
    // SAFETY: within the mapping.
    check(unsafe { libc::madvise(map.at(5 * BLOCK).cast(), 20 * BLOCK, libc::MADV_REMOVE) })
        .or_fail("MADV_REMOVE")?;
    let mut holed = data.clone();
    holed[5 * BLOCK..25 * BLOCK].fill(0);
    expect(map.load_all() == holed, "the mapping")?;
    file.expect_contents(&holed, "the file")?;
    clone.expect_contents(&data, "the clone")
}

fn a_mapping_made_writable_after_a_clone_keeps_it(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let map = Mapping::shared_read(&file, data.len())?;
    map.load_all();
    let clone = new_clone(&file, t.path("clone"))?;
    map.load_all();
    map.protect(0, data.len(), READ | WRITE)
        .or_fail("mprotect")?;
    map.store(3 * BLOCK, &pattern(5, 2 * BLOCK));
    clone.expect_contents(&data, "the clone")?;
    let mut changed = data.clone();
    changed[3 * BLOCK..5 * BLOCK].copy_from_slice(&pattern(5, 2 * BLOCK));
    file.expect_contents(&changed, "the file")?;
    // Back and forth, with a clone between.
    map.protect(0, data.len(), READ).or_fail("mprotect")?;
    let again = new_clone(&file, t.path("again"))?;
    map.protect(0, data.len(), READ | WRITE)
        .or_fail("mprotect")?;
    map.store(3 * BLOCK, b"once more");
    again.expect_contents(&changed, "the second clone")
}

fn a_mapping_of_a_reader_cannot_be_made_writable(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let reader = file.reopen(libc::O_RDONLY)?;
    let map = Mapping::shared_read(&reader, data.len())?;
    let refused = map.protect(0, BLOCK, READ | WRITE);
    expect_errno(refused, libc::EACCES, "mprotect of a shared mapping")?;
    let private = Mapping::try_new(&reader, 0, data.len(), READ, libc::MAP_PRIVATE);
    let private = private.or_fail("mmap")?;
    private
        .protect(0, BLOCK, READ | WRITE)
        .or_fail("mprotect of a private mapping")?;
    private.store(0, b"mine");
    file.expect_contents(&data, "the file")
}

fn a_moved_mapping_shows_the_same_blocks(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let mut map = Mapping::shared(&file, data.len() / 2)?;
    map.store(0, &data[..BLOCK]);
    let clone = new_clone(&file, t.path("clone"))?;
    map.remap(data.len(), libc::MREMAP_MAYMOVE)?;
    expect(map.load_all() == data, "grown")?;
    map.store(50 * BLOCK, b"behind");
    map.store(5, b"before");
    let mut changed = data.clone();
    changed[50 * BLOCK..][..6].copy_from_slice(b"behind");
    changed[5..11].copy_from_slice(b"before");
    file.expect_contents(&changed, "the file")?;
    clone.expect_contents(&data, "the clone")?;
    map.remap(BLOCK, libc::MREMAP_MAYMOVE)?;
    map.store(5, b"again!");
    changed[5..11].copy_from_slice(b"again!");
    file.expect_contents(&changed, "the file, the mapping shrunk")?;
    clone.expect_contents(&data, "the clone")
}

fn a_private_mapping_moves_with_its_copies(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let mut map = Mapping::private(&file, 10 * BLOCK)?;
    map.store(3 * BLOCK, b"mine");
    map.remap(COUNT * BLOCK, libc::MREMAP_MAYMOVE)?;
    let mut expected = data.clone();
    expected[3 * BLOCK..][..4].copy_from_slice(b"mine");
    expect(map.load_all() == expected, "moved and grown")?;
    file.expect_contents(&data, "the file")
}

fn a_locked_mapping_can_be_cloned(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let map = Mapping::shared(&file, data.len())?;
    let lock = |unlock: bool| -> Sys {
        // SAFETY: within the mapping.
        check(unsafe {
            let (at, len) = (map.at(0).cast(), map.len());
            if unlock {
                libc::munlock(at, len)
            } else {
                libc::mlock(at, len)
            }
        })
        .map(|_| ())
    };
    lock(false).or_fail("mlock")?;
    let clone = new_clone(&file, t.path("clone"))?;
    map.store(0, &pattern(5, data.len()));
    clone.expect_contents(&data, "the clone")?;
    file.expect_contents(&pattern(5, data.len()), "the file")?;
    file.truncate(10 * BLOCK64)?;
    file.truncate(data.len() as u64)?;
    expect(
        map.load(20 * BLOCK, BLOCK) == [0; BLOCK],
        "cut off and grown, still locked",
    )?;
    lock(true).or_fail("munlock")?;
    let locked = Mapping::try_new(
        &clone,
        0,
        data.len(),
        READ,
        libc::MAP_SHARED | libc::MAP_LOCKED,
    );
    expect(
        locked.or_fail("mmap(MAP_LOCKED)")?.load_all() == data,
        "a mapping locked at once",
    )
}

fn msync_works_and_checks_its_flags(t: &Test) -> Outcome {
    let (file, mut data) = subject(t)?;
    let map = Mapping::shared(&file, data.len())?;
    for (i, flags) in [
        libc::MS_SYNC,
        libc::MS_ASYNC,
        libc::MS_SYNC | libc::MS_INVALIDATE,
    ]
    .into_iter()
    .enumerate()
    {
        map.store(i * 10, b"stored");
        data[i * 10..][..6].copy_from_slice(b"stored");
        map.sync(flags).or_fail("msync")?;
        file.expect_contents(&data, "after msync")?;
        expect(map.load_all() == data, "the mapping after msync")?;
    }
    let both = map.sync(libc::MS_SYNC | libc::MS_ASYNC);
    expect_errno(both, libc::EINVAL, "msync both ways")
}

// Since Linux 6.13; libc does not have them yet.
const MADV_GUARD_INSTALL: i32 = 102;
const MADV_GUARD_REMOVE: i32 = 103;

fn a_guard_page_stays_beside_loads_and_stores(t: &Test) -> Outcome {
    const GUARDED: usize = 5;
    for stores in [false, true] {
        let (file, data) = subject(t)?;
        let map = Mapping::shared(&file, data.len())?;
        // SAFETY: a page of the mapping, which nothing else touches.
        check(unsafe { libc::madvise(map.at(GUARDED * BLOCK).cast(), BLOCK, MADV_GUARD_INSTALL) })
            .or_fail("MADV_GUARD_INSTALL")?;
        // Fault-around may map neighbours of the first page, too.
        if stores {
            map.store(0, b"x");
        } else {
            map.load(0, 1);
        }
        expect_errno(
            map.kernel_can_read(GUARDED * BLOCK)?,
            libc::EFAULT,
            "a load from the guard page",
        )?;
    }
    Ok(())
}

/// A store to a guard page is a SIGSEGV, and is tried again; stores to other pages are no SIGBUS.
fn guard_pages_come_and_go_beside_stores(t: &Test) -> Outcome {
    let (file, data) = subject(t)?;
    let map = Mapping::shared(&file, data.len())?;
    in_child(|| {
        count_signals(libc::SIGSEGV);
        t.race(vec![
            worker("guards", || {
                map.advise(MADV_GUARD_INSTALL)
                    .or_fail("MADV_GUARD_INSTALL")?;
                map.advise(MADV_GUARD_REMOVE).or_fail("MADV_GUARD_REMOVE")
            }),
            worker("loads and stores", || {
                for page in 0..COUNT {
                    // Some pages are mapped and become writable, others are mapped writable at
                    // once.
                    if page % 2 == 0 {
                        map.word(page * BLOCK).load(SeqCst);
                    }
                    map.word(page * BLOCK).store(page as u64, SeqCst);
                }
                Ok(())
            }),
        ])
    })?;
    for page in 0..COUNT {
        let stored = file.read_at((page * BLOCK) as u64, 8)?;
        expect(
            stored == (page as u64).to_le_bytes(),
            format_args!("page {page}"),
        )?;
    }
    Ok(())
}
